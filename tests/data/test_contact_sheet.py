"""Contact sheets: where a frame, its polylines, its label and its name come to lie."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from liver_landmark.data.show import draw_tile, write_sheet

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
