"""The one schema that every dataset of this project has, whatever it was built from."""

from __future__ import annotations

import datasets
from datasets import ClassLabel, Features, Image, List, Value

from ..model.landmarks_liver_landmark import LANDMARK_NAMES

SPLITS: tuple[str, ...] = ("train", "validation", "test")


def landmark_features() -> Features:
    """The schema as `datasets.Features`.

    Coordinates are px of the native frame, x right, y down; integers name pixel centres (OpenCV's
    convention). `label` is mode L with class ids and 255 for ignored pixels. Columns that a set cannot
    fill (`label`, `depth`, `regions`, `camera`) exist and hold None.
    """
    return Features(
        {
            "image": Image(),
            "label": Image(),
            "landmarks": List(
                {
                    "category": ClassLabel(names=list(LANDMARK_NAMES)),
                    "points": List(List(Value("float32"), length=2)),
                }
            ),
            "depth": Image(),
            "regions": Image(),
            "camera": {
                "fx": Value("float32"),
                "fy": Value("float32"),
                "cx": Value("float32"),
                "cy": Value("float32"),
                "k": List(Value("float32")),
            },
            "patient_id": Value("string"),
            "frame_id": Value("string"),
            "source": Value("string"),
            "width": Value("int32"),
            "height": Value("int32"),
            "protocol": Value("string"),
            "stroke_width": Value("float32"),
        }
    )


def validate_columns(dataset: datasets.Dataset, name: str) -> None:
    """Raises a ValueError that names the first column of the schema that `dataset` lacks."""
    missing = [column for column in landmark_features() if column not in dataset.column_names]
    if missing:
        raise ValueError(
            f"dataset {name}: column {missing[0]!r} is missing; build it with scripts/build_dataset.py "
            f"(columns found: {', '.join(dataset.column_names)})"
        )
