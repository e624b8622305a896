"""Several sets as one: what is joined, what stays apart, and what may not come together."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from PIL import Image

from liver_landmark.curves import get_protocol, rasterize_landmarks
from liver_landmark.data.loading import dataset_fingerprint, load_landmark_dataset
from tiny_datasets import HEIGHT, WIDTH, make_dataset, polylines, schema_row


@pytest.fixture(scope="module", autouse=True)
def datasets_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """`datasets` caches in a folder of the tests, not in the user's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))
        yield


def row_of(source: str, split: str, index: int, **fields: Any) -> dict[str, Any]:
    """A frame whose picture no other frame has."""
    row = schema_row(f"{source}-{split}-{index}", polylines(index), source=source)
    picture = np.asarray(row["image"]).copy()
    picture[0, :3, 0] = [sum(map(ord, source)) % 256, sum(map(ord, split)) % 256, index]
    return row | {"image": Image.fromarray(picture), "patient_id": f"{split} patient"} | fields


def write_set(folder: Path, source: str, extra: dict[str, list[dict]] | None = None, **counts: int) -> Path:
    folder.mkdir(parents=True)
    extra = extra or {}
    for split in {**counts, **extra}:
        rows = [row_of(source, split, index) for index in range(counts.get(split, 0))]
        rows += extra.get(split, [])
        make_dataset(rows).to_parquet(folder / f"{split}-00000-of-00001.parquet")
    return folder


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("sets")
    return (
        write_set(folder / "l3d", "L3D", train=3, validation=1, test=2),
        write_set(folder / "own frames", "own", train=2, test=1),
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
    folders = [write_set(tmp_path / place / "set", place, train=1, test=1) for place in ("x", "y")]
    mixed = load_landmark_dataset(folders)
    assert list(mixed) == ["train", "test_set", "test_set_2"]
    assert mixed["test_set_2"]["source"][0] == "y"
    with pytest.raises(ValueError, match="none of them has a split 'validation'"):
        load_landmark_dataset(folders, "validation")


def refused(first: Path, second: Path) -> str:
    with pytest.raises(ValueError, match="dataset") as error:
        load_landmark_dataset([first, second], "train")
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_set_without_frames_to_train_on_is_refused(sets: tuple[Path, Path], tmp_path: Path) -> None:
    message = refused(sets[0], write_set(tmp_path / "llsd", "LLSD", test=1))
    assert "llsd: it has no split 'train' to be mixed (there are: test)" in message


def test_a_test_patient_of_one_set_in_anothers_train_split(sets: tuple[Path, Path], tmp_path: Path) -> None:
    frames = [row_of("L3D", "train", 90 + index, patient_id="test patient") for index in range(5)]
    again = write_set(tmp_path / "l3d_2k", "L3D-2K", {"train": frames}, train=1)
    message = refused(sets[0], again)
    assert "patient 'test patient' of source 'L3D' is in test of" in message
    assert "(frames L3D-test-0, L3D-test-1) and in train of" in message
    assert "(frames L3D-train-90, L3D-train-91, L3D-train-92 and 2 more)" in message


def test_a_test_picture_of_one_set_in_anothers_train_split(sets: tuple[Path, Path], tmp_path: Path) -> None:
    picture = row_of("L3D", "test", 1)["image"]
    renamed = row_of("private", "train", 4, image=picture, patient_id="anonymous", frame_id="x-4")
    message = refused(sets[0], write_set(tmp_path / "private", "private", {"train": [renamed]}, train=1))
    assert "the same picture is frame L3D-test-1 in test of" in message
    assert "l3d and frame x-4 in train of" in message


def test_a_frame_that_two_sets_train_on_is_refused(sets: tuple[Path, Path], tmp_path: Path) -> None:
    again = write_set(tmp_path / "again", "again", {"train": [row_of("L3D", "train", 1)]})
    message = refused(sets[0], again)
    assert "frame 'L3D-train-1' of source 'L3D' is there twice in train, in " in message
    assert message.endswith("again")


def test_the_same_set_twice_is_refused(sets: tuple[Path, Path]) -> None:
    assert "frame 'L3D-train-0' of source 'L3D' is there twice in train" in refused(sets[0], sets[0])
