"""Which frames a contact sheet shows, and where they are drawn."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import datasets
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from liver_landmark.data.loading import RowError
from liver_landmark.data.show import TILES_PER_SHEET, choose_frames, sheet_paths, write_sheets
from tiny_datasets import HEIGHT, WIDTH, make_dataset, polylines, schema_row


def rows_of(counts: list[int], split: str) -> datasets.Dataset:
    names = [f"{split} {patient}" for patient, count in enumerate(counts) for _ in range(count)]
    return datasets.Dataset.from_dict({"source": ["test"] * len(names), "patient_id": names})


@given(st.lists(st.integers(1, 9), min_size=1, max_size=6), st.integers(0, 4), st.integers(1, 40))
def test_frames_are_spread_over_patients(counts: list[int], tests: int, wanted: int) -> None:
    splits = {"train": rows_of(counts, "train")}
    if tests:
        splits["test"] = rows_of([tests], "test")
    available = Counter(name for rows in splits.values() for name in rows["patient_id"])
    chosen = choose_frames(splits, wanted)
    assert len(set(chosen)) == len(chosen) == min(wanted, available.total())
    assert chosen == sorted(chosen, key=lambda place: (list(splits).index(place[0]), place[1]))
    taken = Counter(splits[split]["patient_id"][index] for split, index in chosen)
    # No patient has two more than another, unless the other has no more to give.
    for patient in available:
        assert taken[patient] == available[patient] or taken[patient] >= max(taken.values()) - 1


def test_of_more_patients_than_frames_those_in_between_are_taken() -> None:
    splits = {"train": rows_of([3] * 10, "train")}
    assert choose_frames(splits, 2) == [("train", 2 * 3 + 1), ("train", 7 * 3 + 1)]


def test_frames_of_one_patient(tmp_path: Path) -> None:
    splits = {"train": rows_of([5, 3], "train"), "test": rows_of([2], "test")}
    assert choose_frames(splits, 2, "train 1") == [("train", 5), ("train", 7)]
    assert choose_frames(splits, 9, "test 0") == [("test", 0), ("test", 1)]
    with pytest.raises(ValueError, match=r"'P9' is not there \(there are: test 0, train 0, train 1\)"):
        choose_frames(splits, 2, "P9")


def test_sheets_hold_every_frame_in_order(tmp_path: Path) -> None:
    count = TILES_PER_SHEET + 3
    label = Image.new("L", (WIDTH, HEIGHT), 0)
    rows = [
        schema_row(f"f{index}", [], image=Image.new("RGB", (WIDTH, HEIGHT), (index, 80, 90)), label=label)
        for index in range(count)
    ]
    splits = {"train": make_dataset(rows)}
    paths = sheet_paths(tmp_path / "sheet.png", count)
    assert [path.name for path in paths] == ["sheet-1.png", "sheet-2.png"]
    write_sheets(splits, [("train", index) for index in range(count)], paths, progress=False)
    first, second = (np.asarray(Image.open(path)) for path in paths)
    tile_height = first.shape[0] // (TILES_PER_SHEET // 4)
    for index in range(TILES_PER_SHEET):
        row, column = divmod(index, 4)
        assert tuple(first[row * tile_height + 50, column * 400 + 200]) == (index, 80, 90)
    assert second.shape[1] == 3 * 400
    assert second[50, 1000, 0] == count - 1


def test_a_sheet_of_few_frames_keeps_its_name(tmp_path: Path) -> None:
    assert sheet_paths(tmp_path / "sheet.png", TILES_PER_SHEET) == [tmp_path / "sheet.png"]


def test_a_label_that_does_not_fit_is_named(tmp_path: Path) -> None:
    row = schema_row("f7", polylines(0), label=Image.new("L", (10, 10)))
    with pytest.raises(RowError, match="frame f7: its label is"):
        write_sheets({"train": make_dataset([row])}, [("train", 0)], [tmp_path / "sheet.png"], False)
    assert not list(tmp_path.iterdir())
