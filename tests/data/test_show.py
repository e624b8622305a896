"""Contact sheets: which frames are on them, and that they show what is in the frames."""

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
from liver_landmark.data.show import (
    TILES_PER_SHEET,
    choose_frames,
    draw_tile,
    sheet_paths,
    write_sheet,
    write_sheets,
)
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
    assert sheet_paths(tmp_path / "sheet.png", TILES_PER_SHEET) == [tmp_path / "sheet.png"]
    write_sheets(splits, [("train", index) for index in range(count)], paths, progress=False)
    first, second = (np.asarray(Image.open(path)) for path in paths)
    tile_height = first.shape[0] // (TILES_PER_SHEET // 4)
    for index in range(TILES_PER_SHEET):
        row, column = divmod(index, 4)
        assert tuple(first[row * tile_height + 50, column * 400 + 200]) == (index, 80, 90)
    assert second.shape[1] == 3 * 400
    assert second[50, 1000, 0] == count - 1


def test_a_label_that_does_not_fit_is_named(tmp_path: Path) -> None:
    row = schema_row("f7", polylines(0), label=Image.new("L", (10, 10)))
    with pytest.raises(RowError, match="frame f7: its label is"):
        write_sheets({"train": make_dataset([row])}, [("train", 0)], [tmp_path / "sheet.png"], False)
    assert not list(tmp_path.iterdir())


GREY = np.full((90, 160, 3), 90, np.uint8)
RED = (255, 0, 0)


def test_a_tile_shows_the_frame_and_below_it_the_landmarks() -> None:
    # Eightfold enlarged, centers map to 8 (x + 1/2) - 1/2: y 10 -> 83.5.
    frame = np.zeros((20, 40, 3), np.uint8)
    frame[5, 7] = 255
    tile = draw_tile(frame, [{"category": "ridge", "points": [(2.0, 10.0), (30.0, 10.0)]}], 320)
    assert tile.shape == (320, 320, 3)
    assert (tile[:160, :, 0] == tile[:160, :, 1]).all()
    drawn = np.argwhere((tile[160:, :, 0] > 200) & (tile[160:, :, 1] < 50))
    rows, columns = drawn[:, 0], drawn[:, 1]
    assert rows.mean() == pytest.approx(83.5, abs=0.51)
    assert columns.min() == pytest.approx(19.5, abs=2)
    assert columns.max() == pytest.approx(243.5, abs=2)


@pytest.mark.parametrize(("height", "width", "expected"), [(50, 100, (40, 40)), (100, 50, (80, 40))])
def test_a_frame_fits_a_square_of_the_tiles_width(height: int, width: int, expected: tuple) -> None:
    tile = draw_tile(np.full((height, width, 3), 200, np.uint8), None, 40)
    assert tile.shape[:2] == expected
    filled = (tile == 200).all((0, 2))
    assert filled.sum() == (40 if width > height else 20)


def test_a_label_shades_the_lower_picture_only() -> None:
    label = np.zeros((90, 160), np.uint8)
    label[:, :40], label[:, 120:] = 1, 255
    tile = draw_tile(GREY, [], 160, label=label)
    assert (tile[:90] == 90).all()
    reddish, plain, ignored = tile[90 + 45, 20], tile[90 + 45, 80], tile[90 + 45, 140]
    assert reddish[0] > 130
    assert reddish[1] < 60
    assert (plain == 90).all()
    assert len(set(ignored.tolist())) == 1
    assert ignored[0] != 90


def test_a_caption_is_a_line_below_and_keeps_its_end() -> None:
    plain, named = (draw_tile(GREY, None, 160, caption=caption) for caption in (None, "Patient_21_frame"))
    height = plain.shape[0]
    assert (named[:height] == plain).all()
    assert named[height:].max() == 255
    longest = [draw_tile(GREY, None, 160, caption="x" * 90 + end)[height:] for end in ("0001", "0002")]
    assert longest[0].shape == named[height:].shape
    assert (longest[0] != longest[1]).any()


def test_a_sheet_is_filled_row_by_row(tmp_path: Path) -> None:
    tiles = [np.full((height, 10, 3), value, np.uint8) for height, value in ((8, 50), (12, 100), (4, 150))]
    write_sheet(tmp_path / "sheet.png", tiles, 2)
    sheet = np.asarray(Image.open(tmp_path / "sheet.png"))
    assert sheet.shape == (16, 20, 3)
    assert (sheet[:8, :10] == 50).all()
    assert (sheet[:12, 10:] == 100).all()
    assert (sheet[12:, :10] == 150).all()
    assert not sheet[8:12, :10].any()
    assert not sheet[12:, 10:].any()


@pytest.mark.parametrize("widths", [(), (10, 11)])
def test_an_impossible_sheet_is_refused(tmp_path: Path, widths: tuple[int, ...]) -> None:
    tiles = [np.zeros((8, width, 3), np.uint8) for width in widths]
    with pytest.raises(ValueError, match=r"sheet\.png: .*tiles"):
        write_sheet(tmp_path / "sheet.png", tiles, 2)
    assert not list(tmp_path.iterdir())
