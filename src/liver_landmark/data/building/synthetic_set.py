"""Builds a synthetic dataset."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from tqdm import tqdm

from ..contact_sheet import draw_tile, write_sheet
from ..synthetic.build import GENERATOR_VERSION, PROTOCOL, SyntheticRequest, iterate_rows, split_of_patient
from .finished_set import _SHEET_COLUMNS, _SHEET_FRAMES, _SHEET_TILE_PX, SHEET_FILE
from .writer import DatasetWriter, dataset_folder, is_built, write_build, write_card


def build_synthetic(
    request: SyntheticRequest, output: Path, card_template: str, workers: int = 1, overwrite: bool = False
) -> bool:
    """Builds the dataset into `output`; the bytes do not depend on `workers`.

    Returns:
        False if `output` holds this very dataset already, and nothing was done.
    """
    output = Path(output)
    if is_built(output, request.as_json()):
        return False
    with dataset_folder(output, overwrite) as folder:
        writer = DatasetWriter(folder)
        sheet_every = max(1, request.frames // _SHEET_FRAMES)
        tiles: list[np.ndarray] = []
        with tqdm(total=request.frames, unit="frame", disable=None) as progress:
            for index, (number, row) in enumerate(iterate_rows(request, workers)):
                writer.add(split_of_patient(number, request.patients), row)
                if index % sheet_every == 0 and len(tiles) < _SHEET_FRAMES:
                    tiles.append(_synthetic_tile(row))
                progress.update()
        writer.close()
        write_sheet(folder / SHEET_FILE, tiles, _SHEET_COLUMNS)
        values = {**{name: str(value) for name, value in asdict(request).items()}, **writer.summary()}
        values |= {"protocol": PROTOCOL.name, "version": str(GENERATOR_VERSION)}
        write_card(folder, card_template, values)
        write_build(folder, request.as_json())
    return True


def _synthetic_tile(row: dict[str, Any]) -> np.ndarray:
    encoded = np.frombuffer(row["image"]["bytes"], np.uint8)
    picture = cv2.cvtColor(cv2.imdecode(encoded, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
    return draw_tile(picture, row["landmarks"], _SHEET_TILE_PX)
