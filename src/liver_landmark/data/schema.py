"""The one schema that every dataset of this project has, and the pictures inside of its rows."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets
from datasets import ClassLabel, Features, List, Value
from PIL import ExifTags, Image

from ..model.landmarks_liver_landmark import DEFAULT_LANDMARKS, LandmarkTable

# ----------------------------------------------------------------------------------------------------
# The one schema that every dataset of this project has, whatever it was built from.

SPLITS: tuple[str, ...] = ("train", "validation", "test")


def landmark_features(names: Sequence[str] = DEFAULT_LANDMARKS.names) -> Features:
    """The schema as `datasets.Features`.

    Coordinates are px of the native frame, x right, y down; integers name pixel centers (OpenCV's
    convention). `label` is mode L with class ids and 255 for ignored pixels. Columns that a set cannot
    fill (`label`, `depth`, `regions`, `camera`) exist and hold None.

    Args:
        names: The set's landmarks. Their places, from 0, are what `landmarks.category` is stored as; their
            ids in `label` begin with 1.
    """
    return Features(
        {
            "image": datasets.Image(),
            "label": datasets.Image(),
            "landmarks": List(
                {
                    "category": ClassLabel(names=list(names)),
                    "points": List(List(Value("float32"), length=2)),
                }
            ),
            "depth": datasets.Image(),
            "regions": datasets.Image(),
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


def landmarks_of(features: Features) -> LandmarkTable:
    """The landmarks of a set, from the names that its column `landmarks` gives its categories."""
    return LandmarkTable.from_names(features["landmarks"].feature["category"].names)


def validate_columns(dataset: datasets.Dataset, name: str) -> None:
    """Raises a ValueError that names the first column of the schema that `dataset` lacks."""
    missing = [column for column in landmark_features() if column not in dataset.column_names]
    if missing:
        raise ValueError(
            f"dataset {name}: column {missing[0]!r} is missing; build it with liver-landmark data build "
            f"(columns found: {', '.join(dataset.column_names)})"
        )


# ----------------------------------------------------------------------------------------------------
# The pictures inside of a dataset's rows: their bytes, what tells them apart, and what they say besides.

# TIFF files describe their pixels by the same tags that EXIF takes its names from.
_PIXEL_TAGS = frozenset(
    {*range(254, 260), 262, 266, 273, *range(277, 280), *range(282, 285), 296, 317, 320}
    | {*range(322, 326), 338, 339, 34675}
)
# Pillow's names for what is neither pixels nor how to show them.
_DESCRIPTIONS = {
    "exif": "EXIF",
    "xmp": "XMP",
    "XML:com.adobe.xmp": "XMP",
    "photoshop": "IPTC",
    "comment": "a comment",
    "mp": "further pictures",
}


def picture_bytes(value: Mapping[str, Any]) -> bytes:
    """The file that a value of an Image column is, inside of the table or beside it."""
    return value["bytes"] if value["bytes"] is not None else Path(value["path"]).read_bytes()


def picture_digest(value: Mapping[str, Any] | None) -> str | None:
    """SHA-256 of a picture's file; None for no picture."""
    return None if value is None else hashlib.sha256(picture_bytes(value)).hexdigest()


def describe_metadata(image: Image.Image) -> str | None:
    """What a decoded picture file says besides its pixels, in words; None for nothing.

    EXIF, XMP, IPTC, comments and texts hold dates, devices, places and names: data of patients.
    """
    found = {name for key, name in _DESCRIPTIONS.items() if image.info.get(key)}
    tags = set(image.getexif()) - (_PIXEL_TAGS if image.format == "TIFF" else frozenset())
    found |= {"EXIF"} if tags else set()
    # PNG: tEXt, zTXt and iTXt.
    texts = [key for key in getattr(image, "text", {}) if key not in _DESCRIPTIONS]
    found |= {f"the text {key!r}" for key in texts}
    if ExifTags.IFD.GPSInfo in tags:
        found = (found - {"EXIF"}) | {"EXIF with a GPS position"}
    return ", ".join(sorted(found)) or None
