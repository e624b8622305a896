"""Contact sheets of a set: frames of as many patients as possible, with polylines, label and frame id."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets
import numpy as np
from tqdm import tqdm

from ..contact_sheet import draw_tile, write_sheet
from ..loading import RowError, read_row

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
                tiles.append(_tile(read_row(splits[split], index), split))
                bar.update()
            write_sheet(path, tiles, min(COLUMNS, len(tiles)))


def sheet_paths(path: Path, frames: int) -> list[Path]:
    """One file, or several numbered ones where a picture of all frames would be too tall."""
    sheets = -(-frames // TILES_PER_SHEET)
    if sheets == 1:
        return [path]
    return [path.with_name(f"{path.stem}-{number}{path.suffix}") for number in range(1, sheets + 1)]


def _tile(row: Mapping[str, Any], split: str) -> np.ndarray:
    image = np.asarray(row["image"].convert("RGB"))
    label = np.asarray(row["label"])
    if label.shape != image.shape[:2] or label.dtype != np.uint8:
        raise RowError(
            f"frame {row['frame_id']}: its label is {label.shape} {label.dtype}, its image "
            f"{image.shape[:2]}: expected class ids in mode L at the image's size"
        )
    caption = f"{split}  {row['frame_id']}"
    return draw_tile(image, row["landmarks"], TILE_PX, label=label, caption=caption)
