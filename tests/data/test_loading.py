"""Datasets of the schema: splits, columns, labels by protocol, and the fingerprint of their content."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import datasets
import numpy as np
import pytest
from PIL import Image

from liver_landmark.curves import get_protocol, rasterize_landmarks
from liver_landmark.data.loading import dataset_fingerprint, load_landmark_dataset, spread_frames
from tiny_datasets import HEIGHT, WIDTH, make_dataset, polylines, schema_row


@pytest.fixture(scope="module", autouse=True)
def datasets_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """`datasets` caches in a folder of the tests, not in the user's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))
        yield


def drawn(landmarks: list, protocol: str) -> np.ndarray:
    return rasterize_landmarks(landmarks, WIDTH, HEIGHT, get_protocol(protocol))


def labeled_row(index: int, split: str) -> dict:
    landmarks = polylines(index)
    mask = drawn(landmarks, "synthetic")
    mask[:3] = 255
    patient = f"{split} {index}"
    return schema_row(f"{split}-{index}", landmarks, label=Image.fromarray(mask), patient_id=patient)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sets") / "whole"
    folder.mkdir()
    for split, count in (("train", 3), ("validation", 2), ("test", 2)):
        rows = [labeled_row(index, split) for index in range(count)]
        make_dataset(rows).to_parquet(folder / f"{split}-00000-of-00001.parquet")
    return folder


def write_split(folder: Path, rows: list[dict], split: str = "train") -> Path:
    folder.mkdir()
    make_dataset(rows).to_parquet(folder / f"{split}-00000-of-00001.parquet")
    return folder


def test_all_splits_are_those_of_plain_load_dataset(folder: Path) -> None:
    ours, plain = load_landmark_dataset(folder), datasets.load_dataset(str(folder))
    assert {name: len(rows) for name, rows in ours.items()} == {"train": 3, "validation": 2, "test": 2}
    assert ours["train"].features == plain["train"].features
    for name in plain:
        assert ours[name]["frame_id"] == plain[name]["frame_id"]
        assert np.array_equal(ours[name][0]["label"], plain[name][0]["label"])


def test_one_split_reads_no_file_of_another(tmp_path: Path) -> None:
    folder = write_split(tmp_path / "set", [labeled_row(0, "train")])
    (folder / "test-00000-of-00001.parquet").write_bytes(b"not Parquet")
    assert len(load_landmark_dataset(folder, "train")) == 1
    with pytest.raises(ValueError, match="cannot be read") as error:
        load_landmark_dataset(folder)
    assert "\n" not in str(error.value)


def test_missing_split_is_named_with_those_there_are(tmp_path: Path) -> None:
    folder = write_split(tmp_path / "set", [labeled_row(0, "train")])
    with pytest.raises(ValueError, match=r"no split 'validation' \(there are: train\)"):
        load_landmark_dataset(folder, "validation")


def test_unknown_split_is_refused(folder: Path) -> None:
    with pytest.raises(ValueError, match="split 'val' is unknown: choose one of train, validation, test"):
        load_landmark_dataset(folder, "val")


def test_missing_column_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    rows = make_dataset([labeled_row(0, "train")]).remove_columns("patient_id")
    rows.to_parquet(folder / "train-00000-of-00001.parquet")
    with pytest.raises(ValueError, match="column 'patient_id' is missing"):
        load_landmark_dataset(folder, "train")


@pytest.mark.parametrize("front_matter", ["configs: 3", "configs: [", "- a", "dataset_info: [{features: 3}]"])
def test_a_card_that_cannot_be_understood_is_named(tmp_path: Path, front_matter: str) -> None:
    folder = write_split(tmp_path / "set", [labeled_row(0, "train")])
    (folder / "README.md").write_text(f"---\n{front_matter}\n---\n")
    with pytest.raises(ValueError, match="set: its card cannot be understood") as error:
        load_landmark_dataset(folder, "train")
    assert "\n" not in str(error.value)


def test_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere") as error:
        load_landmark_dataset(tmp_path / "nowhere", "train")
    assert "\n" not in str(error.value)


def test_unknown_protocol_is_refused(folder: Path) -> None:
    with pytest.raises(ValueError, match="protocol 'wide' is unknown"):
        load_landmark_dataset(folder, "train", protocol="wide")


def test_another_protocol_redraws_the_labels_and_keeps_what_is_ignored(folder: Path) -> None:
    rows = load_landmark_dataset(folder, "train", protocol="slippa")
    for index, row in enumerate(rows):
        expected = drawn(polylines(index), "slippa")
        expected[:3] = 255
        assert np.array_equal(np.asarray(row["label"]), expected)
        assert row["protocol"] == "slippa"
        assert row["stroke_width"] == 12
    assert not np.array_equal(rows[0]["label"], load_landmark_dataset(folder, "train")[0]["label"])


def test_the_stored_protocol_leaves_the_labels_as_stored(folder: Path) -> None:
    plain = datasets.load_dataset(str(folder))["train"]
    for row, stored in zip(load_landmark_dataset(folder, "train", protocol="synthetic"), plain, strict=True):
        assert np.array_equal(row["label"], stored["label"])


def test_redrawn_rows_survive_selection_and_single_columns(folder: Path) -> None:
    rows = load_landmark_dataset(folder, "train", protocol="slippa")
    assert list(rows["patient_id"]) == ["train 0", "train 1", "train 2"]
    chosen = rows.select([2]).select_columns(
        ["image", "label", "landmarks", "width", "height", "protocol", "frame_id"]
    )
    expected = drawn(polylines(2), "slippa")
    expected[:3] = 255
    assert np.array_equal(chosen[0]["label"], expected)


def test_missing_labels_are_drawn_by_the_sets_own_protocol(tmp_path: Path) -> None:
    rows = [schema_row("a-0", polylines(0), protocol="d2gpland"), schema_row("a-1", polylines(1))]
    loaded = load_landmark_dataset(write_split(tmp_path / "set", rows), "train")
    assert np.array_equal(loaded[0]["label"], drawn(polylines(0), "d2gpland"))
    assert np.array_equal(loaded[1]["label"], drawn(polylines(1), "synthetic"))


def test_a_mask_without_polylines_cannot_be_redrawn(tmp_path: Path) -> None:
    row = labeled_row(0, "train") | {"landmarks": []}
    rows = load_landmark_dataset(write_split(tmp_path / "set", [row]), "train", protocol="slippa")
    with pytest.raises(ValueError, match="frame train-0: its mask shows landmarks but it has no polylines"):
        rows[0]


def test_a_frame_without_landmarks_is_redrawn_empty(tmp_path: Path) -> None:
    row = labeled_row(0, "train") | {"landmarks": [], "label": Image.new("L", (WIDTH, HEIGHT))}
    rows = load_landmark_dataset(write_split(tmp_path / "set", [row]), "train", protocol="slippa")
    assert not np.asarray(rows[0]["label"]).any()


@pytest.mark.parametrize("max_frames", [1, 2, 3, 5, 7, 12])
def test_fewer_frames_are_spread_over_all_patients(max_frames: int) -> None:
    rows = datasets.Dataset.from_dict({"patient_id": [f"p{index // 4}" for index in range(12)]})
    chosen = spread_frames(rows, max_frames)["patient_id"]
    counts = [chosen.count(patient) for patient in ("p0", "p1", "p2")]
    assert sum(counts) == max_frames
    # Blocks of equal length differ by one frame at most.
    assert max(counts) - min(counts) <= 1


@pytest.mark.parametrize("max_frames", [None, 12, 13])
def test_all_frames_stay_where_there_are_no_more_than_wanted(max_frames: int | None) -> None:
    rows = datasets.Dataset.from_dict({"patient_id": list(range(12))})
    assert spread_frames(rows, max_frames)["patient_id"] == list(range(12))


def test_fingerprint_follows_content_and_not_storage(folder: Path, tmp_path: Path) -> None:
    rows = load_landmark_dataset(folder, "train")
    sharded = tmp_path / "elsewhere"
    sharded.mkdir()
    for shard in range(3):
        rows.select([shard]).to_parquet(sharded / f"train-{shard:05d}-of-00003.parquet")
    assert dataset_fingerprint(load_landmark_dataset(sharded, "train")) == dataset_fingerprint(rows)


@pytest.mark.parametrize("change", ["order", "polyline", "label", "image", "patient_id"])
def test_fingerprint_sees_every_change(folder: Path, change: str) -> None:
    plain = [labeled_row(index, "train") for index in range(3)]
    changed = [dict(row) for row in plain]
    if change == "order":
        changed.reverse()
    elif change == "polyline":
        changed[1]["landmarks"] = polylines(1, without=("ridge",))
    elif change == "patient_id":
        changed[2]["patient_id"] = "someone else"
    else:
        picture = np.asarray(changed[0][change]).copy()
        picture[-1, -1] = picture[-1, -1] ^ 1
        changed[0][change] = Image.fromarray(picture)
    fingerprints = {dataset_fingerprint(make_dataset(rows)) for rows in (plain, changed)}
    assert len(fingerprints) == 2
    assert dataset_fingerprint(load_landmark_dataset(folder, "train")) in fingerprints


def test_a_label_without_what_it_is_drawn_from_is_refused(folder: Path) -> None:
    rows = load_landmark_dataset(folder, split="train", protocol="toponet")
    # The stored label of another protocol would come out.
    with pytest.raises(ValueError, match="need the column 'landmarks' beside them"):
        rows.select_columns(["image", "label"])[0]
    assert rows.select_columns(["image", "patient_id"])[0]["patient_id"] == "train 0"
    expected = load_landmark_dataset(folder, split="train", protocol="toponet")[1]["label"]
    assert np.array_equal(rows["label"][1], expected)


def test_the_loader_is_the_packages_own() -> None:
    from liver_landmark import data

    assert data.load_landmark_dataset is load_landmark_dataset
    assert "load_landmark_dataset" in dir(data)
    with pytest.raises(AttributeError, match="load_dataset"):
        data.load_dataset  # noqa: B018
