"""A small set without a problem, to be broken in one place, and the lines of its check."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from PIL import Image

from liver_landmark.curves import get_protocol, rasterize_landmarks
from liver_landmark.data.check import SetCheck
from liver_landmark.data.schema import landmark_features
from tiny_datasets import HEIGHT, WIDTH, make_dataset, polylines, schema_row

METADATA = landmark_features().arrow_schema.metadata
CARD = """---
configs:
- config_name: default
  data_files:
  - split: train
    path: data/train-*.parquet
  - split: test
    path: data/test-*.parquet
dataset_info:
- config_name: default
  splits:
  - name: train
    num_examples: 3
  - name: test
    num_examples: 2
---

| split | patients | frames |
|---|---|---|
| train | 2 | 3 |
| test | 1 | 2 |

| landmark | frames with it | share |
|---|---|---|
| ridge | 5 | 100.0% |
| silhouette | 5 | 100.0% |
| ligament | 4 | 80.0% |

| hospital | frames |
|---|---|
| somewhere | 7 |
"""


def file_of(picture: Image.Image, kind: str = "PNG", **options: Any) -> dict[str, Any]:
    """A picture as a value of an Image column."""
    data = io.BytesIO()
    picture.save(data, kind, **options)
    return {"bytes": data.getvalue(), "path": None}


def good_row(split: str, index: int) -> dict[str, Any]:
    """A row whose picture no other row has, its label drawn by its protocol."""
    landmarks = polylines(index, without=("ligament",) if split == "test" and index else ())
    label = rasterize_landmarks(landmarks, WIDTH, HEIGHT, get_protocol("synthetic"))
    row = schema_row(f"{split}-{index}", landmarks, patient_id=f"{split} {index // 2}")
    frame = np.asarray(row["image"]).copy()
    frame[0, :2, 0] = len(split), index
    return row | {"image": file_of(Image.fromarray(frame)), "label": file_of(Image.fromarray(label))}


def good_rows() -> dict[str, list[dict[str, Any]]]:
    """Split -> rows, of whom CARD tells the truth."""
    return {
        "train": [good_row("train", i) for i in range(3)],
        "test": [good_row("test", i) for i in range(2)],
    }


def write_set(
    folder: Path,
    rows: dict[str, list[dict[str, Any]]],
    card: str | None = CARD,
    row_group_size: int | None = None,
) -> Path:
    """Writes the rows as `data/<split>-00000-of-00001.parquet`."""
    (folder / "data").mkdir(parents=True)
    for split, part in rows.items():
        table = make_dataset(part).data.table.replace_schema_metadata(METADATA)
        path = folder / "data" / f"{split}-00000-of-00001.parquet"
        pq.write_table(table, path, row_group_size=row_group_size)
    if card is not None:
        (folder / "README.md").write_text(card)
    return folder


def problems(folder: Path) -> list[str]:
    """The lines of a set's check, without the folder that they start with."""
    check = SetCheck(folder)
    lines = [str(problem) for problem in check.problems()]
    assert check.found == len(lines)
    assert all("\n" not in line for line in lines)
    return [line.removeprefix(f"{folder}/") for line in lines]


def label_of(row: dict[str, Any]) -> np.ndarray:
    """(H, W) uint8 ids of a row's stored label."""
    return np.array(Image.open(io.BytesIO(row["label"]["bytes"])))
