"""Datasets of the schema: splits, columns, labels by protocol and class order, several sets as one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from PIL import Image

from liver_landmark.curves import get_protocol, rasterize_landmarks
from liver_landmark.data.loading import dataset_fingerprint, load_landmark_dataset, spread_frames
from tiny_datasets import HEIGHT, WIDTH, make_dataset, polylines, save_splits, schema_row


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
    counts = {"train": 3, "validation": 2, "test": 2}
    rows = {split: [labeled_row(index, split) for index in range(count)] for split, count in counts.items()}
    return save_splits(tmp_path_factory.mktemp("sets") / "whole", **rows)


def test_all_splits_are_those_of_plain_load_dataset(folder: Path) -> None:
    ours, plain = load_landmark_dataset(folder), datasets.load_dataset(str(folder))
    assert {name: len(rows) for name, rows in ours.items()} == {"train": 3, "validation": 2, "test": 2}
    assert ours["train"].features == plain["train"].features
    for name in plain:
        assert ours[name]["frame_id"] == plain[name]["frame_id"]
        assert np.array_equal(ours[name][0]["label"], plain[name][0]["label"])


def test_one_split_reads_no_file_of_another(tmp_path: Path) -> None:
    folder = save_splits(tmp_path / "set", train=[labeled_row(0, "train")])
    (folder / "test-00000-of-00001.parquet").write_bytes(b"not Parquet")
    assert len(load_landmark_dataset(folder, "train")) == 1
    with pytest.raises(ValueError, match="cannot be read") as error:
        load_landmark_dataset(folder)
    assert "\n" not in str(error.value)


def test_missing_column_is_named(tmp_path: Path) -> None:
    folder = save_splits(
        tmp_path / "set", train=make_dataset([labeled_row(0, "train")]).remove_columns("patient_id")
    )
    with pytest.raises(ValueError, match="column 'patient_id' is missing"):
        load_landmark_dataset(folder, "train")


@pytest.mark.parametrize("front_matter", ["configs: 3", "configs: [", "- a", "dataset_info: [{features: 3}]"])
def test_a_card_that_cannot_be_understood_is_named(tmp_path: Path, front_matter: str) -> None:
    folder = save_splits(tmp_path / "set", train=[labeled_row(0, "train")])
    (folder / "README.md").write_text(f"---\n{front_matter}\n---\n")
    with pytest.raises(ValueError, match="set: its card cannot be understood") as error:
        load_landmark_dataset(folder, "train")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"split": "validation"}, r"no split 'validation' \(there are: train\)"),
        ({"split": "val"}, "split 'val' is unknown: choose one of train, validation, test"),
        ({"protocol": "wide"}, "protocol 'wide' is unknown"),
        *(
            ({"class_order": order}, r"class_order is .*: give ridge, silhouette, ligament, each once")
            for order in (
                "ridge",
                ("ridge", "ligament"),
                ("ridge", "ridge", "ligament"),
                ("ridge", "silhouette", "liver"),
            )
        ),
    ],
)
def test_what_cannot_be_asked_for_names_the_choices(tmp_path: Path, options: dict, reason: str) -> None:
    folder = save_splits(tmp_path / "set", train=[labeled_row(0, "train")])
    with pytest.raises(ValueError, match=reason):
        load_landmark_dataset(folder, **{"split": "train"} | options)
    with pytest.raises(FileNotFoundError, match="nowhere") as error:
        load_landmark_dataset(tmp_path / "nowhere", "train")
    assert "\n" not in str(error.value)


def test_another_protocol_redraws_the_labels_and_keeps_what_is_ignored(folder: Path) -> None:
    rows = load_landmark_dataset(folder, "train", protocol="slippa")
    for index, row in enumerate(rows):
        expected = drawn(polylines(index), "slippa")
        expected[:3] = 255
        assert np.array_equal(np.asarray(row["label"]), expected)
        assert row["protocol"] == "slippa"
        assert row["stroke_width"] == 12
    plain = datasets.load_dataset(str(folder))["train"]
    assert not np.array_equal(rows[0]["label"], plain[0]["label"])
    for row, stored in zip(load_landmark_dataset(folder, "train", protocol="synthetic"), plain, strict=True):
        assert np.array_equal(row["label"], stored["label"])


def test_missing_labels_are_drawn_by_the_sets_own_protocol(tmp_path: Path) -> None:
    rows = [schema_row("a-0", polylines(0), protocol="d2gpland"), schema_row("a-1", polylines(1))]
    loaded = load_landmark_dataset(save_splits(tmp_path / "set", train=rows), "train")
    assert np.array_equal(loaded[0]["label"], drawn(polylines(0), "d2gpland"))
    assert np.array_equal(loaded[1]["label"], drawn(polylines(1), "synthetic"))


def test_a_mask_without_polylines_cannot_be_redrawn_unless_it_is_empty(tmp_path: Path) -> None:
    row = labeled_row(0, "train") | {"landmarks": []}
    empty = row | {"label": Image.new("L", (WIDTH, HEIGHT))}
    rows = load_landmark_dataset(
        save_splits(tmp_path / "set", train=[row, empty]), "train", protocol="slippa"
    )
    assert not np.asarray(rows[1]["label"]).any()
    with pytest.raises(ValueError, match="frame train-0: its mask shows landmarks but it has no polylines"):
        rows[0]


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
    assert list(rows["patient_id"]) == ["train 0", "train 1", "train 2"]
    assert rows.select_columns(["image", "patient_id"])[0]["patient_id"] == "train 0"
    expected = load_landmark_dataset(folder, split="train", protocol="toponet")[1]["label"]
    assert np.array_equal(rows["label"][1], expected)
    assert np.array_equal(rows.select([1]).remove_columns("depth")[0]["label"], expected)


def test_the_loader_is_the_packages_own() -> None:
    from liver_landmark import data

    assert data.load_landmark_dataset is load_landmark_dataset
    assert "load_landmark_dataset" in dir(data)
    with pytest.raises(AttributeError, match="load_dataset"):
        data.load_dataset  # noqa: B018


SLIPPA_ORDER = ("silhouette", "ridge", "ligament")


@pytest.fixture(scope="module")
def labeled_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stored label with ignored pixels, a frame without label, one that shows nothing, one without list."""
    mask = rasterize_landmarks(polylines(0), WIDTH, HEIGHT, get_protocol("synthetic"))
    mask[:3] = 255
    rows = [
        schema_row("a-0", polylines(0), label=Image.fromarray(mask)),
        schema_row("a-1", polylines(1, without=("ridge",))),
        schema_row("a-2", []),
        schema_row("a-3", None, label=Image.fromarray(mask)),
    ]
    return save_splits(tmp_path_factory.mktemp("sets") / "whole", train=rows)


def expected_ids(label: np.ndarray, order: tuple[str, ...]) -> np.ndarray:
    """Each pixel on its own, by name."""
    ours = {0: 0, 255: 255, 1: "ridge", 2: "silhouette", 3: "ligament"}
    names = [ours[value] for value in label.ravel().tolist()]
    ids = [name if isinstance(name, int) else 1 + order.index(name) for name in names]
    return np.array(ids, np.uint8).reshape(label.shape)


@pytest.mark.parametrize("protocol", [None, "synthetic"])
@pytest.mark.parametrize("order", [SLIPPA_ORDER, ("silhouette", "ligament", "ridge")])
def test_ids_and_names_follow_the_order(
    labeled_folder: Path, order: tuple[str, ...], protocol: str | None
) -> None:
    plain = load_landmark_dataset(labeled_folder, "train", protocol)
    rows = load_landmark_dataset(labeled_folder, "train", protocol, class_order=order)
    names = rows.features["landmarks"].feature["category"].names
    assert names == list(order)
    assert rows.column_names == plain.column_names
    plain_names = plain.features["landmarks"].feature["category"].names
    assert plain_names == ["ridge", "silhouette", "ligament"]
    for row, ours in zip(rows, plain, strict=True):
        np.testing.assert_array_equal(row["label"], expected_ids(np.asarray(ours["label"]), order))
        np.testing.assert_array_equal(row["image"], ours["image"])
        for landmarks, category_names in ((row["landmarks"], names), (ours["landmarks"], plain_names)):
            for landmark in landmarks or ():
                landmark["category"] = category_names[landmark["category"]]
        assert row["landmarks"] == ours["landmarks"]
        assert (row["frame_id"], row["stroke_width"]) == (ours["frame_id"], ours["stroke_width"])


def test_another_protocol_and_another_order_go_together(labeled_folder: Path) -> None:
    rows = load_landmark_dataset(labeled_folder, "train", "slippa", class_order=SLIPPA_ORDER).select(range(3))
    for row, landmarks in zip(rows, (polylines(0), polylines(1, without=("ridge",)), []), strict=True):
        label = rasterize_landmarks(landmarks, WIDTH, HEIGHT, get_protocol("slippa"))
        if row["frame_id"] == "a-0":
            label[:3] = 255
        np.testing.assert_array_equal(row["label"], expected_ids(label, SLIPPA_ORDER))


def test_ids_that_no_mask_should_hold_are_refused(tmp_path: Path) -> None:
    row = schema_row("a-0", [], label=Image.new("L", (WIDTH, HEIGHT), 7))
    rows = load_landmark_dataset(
        save_splits(tmp_path / "set", train=[row]), "train", class_order=SLIPPA_ORDER
    )
    with pytest.raises(ValueError, match="the mask holds 7, which is neither a class id"):
        _ = rows[0]


def row_of_source(source: str, split: str, index: int, **fields: Any) -> dict[str, Any]:
    """A frame whose picture no other frame has."""
    row = schema_row(f"{source}-{split}-{index}", polylines(index), source=source)
    picture = np.asarray(row["image"]).copy()
    picture[0, :3, 0] = [sum(map(ord, source)) % 256, sum(map(ord, split)) % 256, index]
    return row | {"image": Image.fromarray(picture), "patient_id": f"{split} patient"} | fields


def rows_of_source(source: str, **counts: int) -> dict[str, list[dict[str, Any]]]:
    return {split: [row_of_source(source, split, index) for index in range(n)] for split, n in counts.items()}


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("sets")
    return (
        save_splits(folder / "l3d", **rows_of_source("L3D", train=3, validation=1, test=2)),
        save_splits(folder / "own frames", **rows_of_source("own", train=2, test=1)),
    )


def test_train_and_validation_are_joined_and_tests_kept_apart(sets: tuple[Path, Path]) -> None:
    mixed = load_landmark_dataset(sets)
    assert {split: len(rows) for split, rows in mixed.items()} == {
        "train": 5,
        "validation": 1,
        "test_l3d": 2,
        "test_own_frames": 1,
    }
    alone = [load_landmark_dataset(folder, "train") for folder in sets]
    assert list(mixed["train"]["frame_id"]) == [frame for rows in alone for frame in rows["frame_id"]]
    for row, expected in zip(mixed["train"], (row for rows in alone for row in rows), strict=True):
        assert row["image"].tobytes() == expected["image"].tobytes()
        assert row["landmarks"] == expected["landmarks"]
        np.testing.assert_array_equal(row["label"], expected["label"])
    assert dataset_fingerprint(mixed["test_own_frames"]) == dataset_fingerprint(
        load_landmark_dataset(sets[1], "test")
    )


def test_one_split_of_several_sets(sets: tuple[Path, Path]) -> None:
    train = load_landmark_dataset([str(folder) for folder in sets], "train", "slippa")
    assert len(train) == 5
    expected = rasterize_landmarks(polylines(1), WIDTH, HEIGHT, get_protocol("slippa"))
    np.testing.assert_array_equal(train[4]["label"], expected)
    assert len(load_landmark_dataset(sets, "validation")) == 1
    with pytest.raises(ValueError, match="test splits are kept apart; load each set's by itself"):
        load_landmark_dataset(sets, "test")


def test_a_sequence_of_one_is_that_set(sets: tuple[Path, Path]) -> None:
    assert set(load_landmark_dataset(sets[:1])) == {"train", "validation", "test"}
    assert len(load_landmark_dataset(sets[:1], "test")) == 2
    with pytest.raises(ValueError, match="no dataset is named"):
        load_landmark_dataset([])


def test_the_order_of_the_sets_is_part_of_the_fingerprint(sets: tuple[Path, Path]) -> None:
    forth, back = (load_landmark_dataset(names, "train") for names in (sets, sets[::-1]))
    assert sorted(forth["frame_id"]) == sorted(back["frame_id"])
    assert dataset_fingerprint(forth) != dataset_fingerprint(back)


def test_test_splits_of_sets_with_the_same_name_are_numbered(tmp_path: Path) -> None:
    folders = [
        save_splits(tmp_path / name / "set", **rows_of_source(name, train=1, test=1)) for name in ("x", "y")
    ]
    mixed = load_landmark_dataset(folders)
    assert list(mixed) == ["train", "test_set", "test_set_2"]
    assert mixed["test_set_2"]["source"][0] == "y"
    with pytest.raises(ValueError, match="none of them has a split 'validation'"):
        load_landmark_dataset(folders, "validation")


def test_sets_that_do_not_go_together_are_refused(sets: tuple[Path, Path], tmp_path: Path) -> None:
    patient = [row_of_source("L3D", "train", 90 + index, patient_id="test patient") for index in range(5)]
    picture = row_of_source("L3D", "test", 1)["image"]
    renamed = row_of_source("private", "train", 4, image=picture, patient_id="anonymous", frame_id="x-4")
    for name, rows, reasons in (
        (
            "llsd",
            {"test": [row_of_source("LLSD", "test", 0)]},
            ["llsd: it has no split 'train' to be mixed (there are: test)"],
        ),
        (
            "a test patient trains",
            {"train": patient},
            [
                "patient 'test patient' of source 'L3D' is in test of",
                "(frames L3D-test-0, L3D-test-1) and in train of",
                "(frames L3D-train-90, L3D-train-91, L3D-train-92 and 2 more)",
            ],
        ),
        (
            "private",
            {"train": [renamed]},
            ["the same picture is frame L3D-test-1 in test of", "l3d and frame x-4 in train of"],
        ),
        (
            "again",
            {"train": [row_of_source("L3D", "train", 1)]},
            ["frame 'L3D-train-1' of source 'L3D' is there twice in train, in ", "again"],
        ),
    ):
        with pytest.raises(ValueError, match="dataset") as error:
            load_landmark_dataset([sets[0], save_splits(tmp_path / name, **rows)], "train")
        assert "\n" not in str(error.value)
        assert all(reason in str(error.value) for reason in reasons), error.value
    with pytest.raises(ValueError, match="frame 'L3D-train-0' of source 'L3D' is there twice in train"):
        load_landmark_dataset([sets[0], sets[0]], "train")
