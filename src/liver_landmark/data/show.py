"""Contact sheets: a dataset at a glance, each frame plain and below it with its landmarks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import datasets
import numpy as np
from PIL import Image, ImageDraw, ImageFont
from tqdm import tqdm

from ..curves import landmark_id
from ..model.landmarks_liver_landmark import DEFAULT_LANDMARKS, LandmarkTable
from ..utils.atomic_files import write_png
from .loading import RowError, read_row
from .schema import landmarks_of

# ----------------------------------------------------------------------------------------------------
# Contact sheets: a dataset at one look, each frame plain and below it with its landmarks.

_LABEL_ALPHA = 0.45
_TEXT_PX, _TEXT_MARGIN_PX = 13, 4
_ELLIPSIS = "…"


def draw_tile(
    rgb: np.ndarray,
    landmarks: Sequence[Mapping[str, Any]] | None,
    tile_px: int,
    *,
    label: np.ndarray | None = None,
    caption: str | None = None,
    table: LandmarkTable = DEFAULT_LANDMARKS,
) -> np.ndarray:
    """A frame for a contact sheet: plain, and below it with its label and its polylines.

    Args:
        rgb: (H, W, 3) uint8.
        landmarks: The schema's list of `{"category", "points"}`, in px of the frame; None: no polylines.
        tile_px: Width of the tile in px; the frame is scaled to fit into a square of that side.
        label: (H, W) uint8 class ids to shade the frame with; 255 comes out gray.
        caption: A line of text below, shortened in its middle where it is too long.
        table: What categories and class ids mean, and their colors.

    Returns:
        (h, tile_px, 3) uint8 RGB.
    """
    height, width = rgb.shape[:2]
    scale = tile_px / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    picture = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    drawn = picture.copy() if label is None else _shade(picture, table.palette[label], label > 0, size)
    for landmark in landmarks or ():
        # Integers name pixel centers; OpenCV takes sixteenths of a px.
        points = ((np.asarray(landmark["points"], np.float64) + 0.5) * scale - 0.5) * 16
        color = table.palette[landmark_id(landmark["category"], table.names)]
        # Paler and thinner on its own label, which has the same color.
        color, width_px = (color, 2) if label is None else (color // 3 + 170, 1)
        line = np.round(points).astype(np.int32)
        cv2.polylines(drawn, [line], False, color.tolist(), width_px, cv2.LINE_AA, shift=4)
    tile = np.vstack([picture, drawn])
    tile = np.pad(tile, ((0, 0), (0, tile_px - tile.shape[1]), (0, 0)))
    return tile if caption is None else np.vstack([tile, _text_line(caption, tile_px)])


def write_sheet(path: Path, tiles: Sequence[np.ndarray], columns: int) -> None:
    """Writes tiles of equal width as a PNG, row by row; shorter tiles of a row are filled up with black.

    Raises:
        ValueError: no tiles, or tiles of different widths.
    """
    if not tiles or columns < 1:
        raise ValueError(f"{path}: a contact sheet needs tiles and columns, got {len(tiles)} and {columns}")
    width_px = tiles[0].shape[1]
    if any(tile.shape[1] != width_px for tile in tiles):
        raise ValueError(f"{path}: tiles of a contact sheet must be of one width")
    rows = []
    for start in range(0, len(tiles), columns):
        row = tiles[start : start + columns]
        height_px = max(tile.shape[0] for tile in row)
        sheet_row = np.zeros((height_px, columns * width_px, 3), np.uint8)
        for column, tile in enumerate(row):
            sheet_row[: tile.shape[0], column * width_px : (column + 1) * width_px] = tile
        rows.append(sheet_row)
    write_png(path, np.vstack(rows))


def _shade(picture: np.ndarray, colors: np.ndarray, drawn: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The picture with the label's colors over it; shaded large and scaled down, thin strokes survive."""
    colors = cv2.resize(colors, size, interpolation=cv2.INTER_AREA).astype(np.float32)
    cover = cv2.resize(drawn.astype(np.float32), size, interpolation=cv2.INTER_AREA)[..., None]
    # Background is black in the palette: what is averaged into `colors` is premultiplied by `cover`.
    shaded = picture * (1 - _LABEL_ALPHA * cover) + _LABEL_ALPHA * colors
    return np.rint(shaded).clip(0, 255).astype(np.uint8)


def _text_line(text: str, width_px: int) -> np.ndarray:
    """(h, width_px, 3): white text on black; its end, which tells frames apart, stays."""
    font = ImageFont.load_default(size=_TEXT_PX)
    room_px = width_px - 2 * _TEXT_MARGIN_PX
    shown, kept = text, len(text)
    while font.getlength(shown) > room_px and kept > 1:
        kept -= 1
        shown = text[: kept // 3] + _ELLIPSIS + text[len(text) - (kept - kept // 3) :]
    line = Image.new("RGB", (width_px, _TEXT_PX + 2 * _TEXT_MARGIN_PX))
    ImageDraw.Draw(line).text((_TEXT_MARGIN_PX, _TEXT_MARGIN_PX - 1), shown, font=font, fill=(255, 255, 255))
    return np.asarray(line)


# ----------------------------------------------------------------------------------------------------
# Contact sheets of a set: frames of as many patients as possible, with polylines, label and frame id.

TILE_PX, COLUMNS, TILES_PER_SHEET = 400, 4, 40

# Split, and row in it.
Place = tuple[str, int]


def choose_frames(
    splits: Mapping[str, datasets.Dataset], frames: int, patient: str | None = None
) -> list[Place]:
    """At most `frames` rows, in the order of splits and rows: spread over patients, and within each in time.

    Every patient gets one before any gets another; where there are more patients than frames, patients are
    spread evenly too.

    Args:
        splits: Split -> rows.
        frames: How many, at least 1.
        patient: Take frames of this `patient_id` only.

    Raises:
        ValueError: there is no such patient; those there are, are named.
    """
    by_patient: dict[tuple[str, str, str], list[Place]] = {}
    for split, rows in splits.items():
        columns = (rows.data.column(name).to_pylist() for name in ("source", "patient_id"))
        for index, (source, name) in enumerate(zip(*columns, strict=True)):
            if patient in (None, name):
                by_patient.setdefault((split, source, name), []).append((split, index))
    if not by_patient:
        names = sorted({name for rows in splits.values() for name in rows.unique("patient_id")})
        shown = ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")
        raise ValueError(f"patient {patient!r} is not there (there are: {shown})")
    places = list(by_patient.values())
    if len(places) > frames:
        places = [places[index] for index in _spread(len(places), frames)]
    share = _shares([len(of_patient) for of_patient in places], frames)
    return [
        of_patient[index]
        for of_patient, count in zip(places, share, strict=True)
        for index in _spread(len(of_patient), count)
    ]


def _spread(length: int, count: int) -> list[int]:
    """`count` of `length` indices, each in the middle of its part."""
    return [(2 * index + 1) * length // (2 * count) for index in range(count)]


def _shares(available: Sequence[int], total: int) -> list[int]:
    """How many each gives: one after the other in turns, until there are `total` or no more."""
    shares = [0] * len(available)
    while sum(shares) < min(total, sum(available)):
        for index, most in enumerate(available):
            if shares[index] < most and sum(shares) < total:
                shares[index] += 1
    return shares


def write_sheets(
    splits: Mapping[str, datasets.Dataset], places: Sequence[Place], paths: Sequence[Path], progress: bool
) -> None:
    """Draws the frames at those places into the sheets `sheet_paths` names.

    Raises:
        RowError: a frame that cannot be read; sheets before it are written.
    """
    with tqdm(total=len(places), unit="frame", disable=not progress) as bar:
        for number, path in enumerate(paths):
            tiles = []
            for split, index in places[number * TILES_PER_SHEET : (number + 1) * TILES_PER_SHEET]:
                table = landmarks_of(splits[split].features)
                tiles.append(_tile(read_row(splits[split], index), split, table))
                bar.update()
            write_sheet(path, tiles, min(COLUMNS, len(tiles)))


def sheet_paths(path: Path, frames: int) -> list[Path]:
    """One file, or several numbered ones where a picture of all frames would be too tall."""
    sheets = -(-frames // TILES_PER_SHEET)
    if sheets == 1:
        return [path]
    return [path.with_name(f"{path.stem}-{number}{path.suffix}") for number in range(1, sheets + 1)]


def _tile(row: Mapping[str, Any], split: str, table: LandmarkTable) -> np.ndarray:
    image = np.asarray(row["image"].convert("RGB"))
    label = np.asarray(row["label"])
    if label.shape != image.shape[:2] or label.dtype != np.uint8:
        raise RowError(
            f"frame {row['frame_id']}: its label is {label.shape} {label.dtype}, its image "
            f"{image.shape[:2]}: expected class ids in mode L at the image's size"
        )
    caption = f"{split}  {row['frame_id']}"
    return draw_tile(image, row["landmarks"], TILE_PX, label=label, caption=caption, table=table)
