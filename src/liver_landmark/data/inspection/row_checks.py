"""What can be wrong with a row's names and pictures: sizes, ids, metadata, a label that nothing has drawn."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from PIL import ExifTags, Image

from ...curves.protocols import AS_DRAWN, PROTOCOLS
from ...curves.rasterize import rasterize_landmarks
from ...frame_files import FrameError, decode_picture
from ...model.landmarks_liver_landmark import IGNORE_INDEX, NUM_CLASSES
from ..readers.metadata import bare_picture
from ..stored_pictures import describe_metadata

_PICTURE_COLUMNS = ("image", "label", "depth", "regions")
# Protocols that draw at a fixed width would need a canvas of any height for a narrower frame.
_LARGEST_ASPECT = 64
_STROKE_TOLERANCE_PX = 1e-3
# Result files are called after frames: with a suffix, in the usual file systems' 255 bytes.
_LONGEST_NAME_BYTES = 200


def check_names(row: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with the names of a row's frame and patient, in words."""
    for column in ("frame_id", "patient_id"):
        name = row[column]
        if name is None:
            continue  # missing, which is said already
        if not name.strip():
            yield f"its {column} is empty"
        elif {"/", "\\"} & set(name) or name in (".", ".."):
            yield f"its {column} is a path, and results are called after it"
        elif len(name.encode("utf-8", "surrogatepass")) > _LONGEST_NAME_BYTES:
            yield f"its {column} is longer than {_LONGEST_NAME_BYTES} bytes, and results are called after it"


def check_pictures(row: Mapping[str, Any], drawable: bool) -> Iterator[str]:
    """What is wrong with the pictures of a row, in words.

    Args:
        row: A row of the schema as it is stored, pictures not decoded.
        drawable: Its size and polylines are possible, so that its label can be compared with a drawing.
    """
    for column in _PICTURE_COLUMNS:
        stored = row[column]
        if stored is None:
            if column == "image":
                yield "its image is missing"
            continue
        if stored["bytes"] is None:
            yield f"its {column} is not inside of the file, which names {stored['path']!r} for it"
            continue
        try:
            picture = decode_picture(stored["bytes"], f"its {column}")
        except FrameError as error:
            yield str(error)
            continue
        yield from _check_picture(picture, column, stored["bytes"])
        if picture.size != (row["width"], row["height"]):
            yield (
                f"its {column} is {picture.width}x{picture.height} px, "
                f"its row says {row['width']}x{row['height']}"
            )
        elif column == "label" and picture.mode == "L":
            yield from _check_label(np.asarray(picture), row, drawable)
    yield from _check_stroke_width(row, drawable)


def _check_picture(picture: Image.Image, column: str, data: bytes) -> Iterator[str]:
    metadata = describe_metadata(picture)
    bare = bare_picture(data)
    if metadata is None and bare is not None and not bare.whole:
        metadata = "something that its pixels do not need"
    if metadata is not None:
        yield f"metadata is left in its {column}: {metadata}"
    if picture.getexif().get(ExifTags.Base.Orientation, 1) != 1:
        yield f"an EXIF orientation turns its {column} against its polylines"
    if column == "label" and picture.mode != "L":
        yield f"its label is a picture of mode {picture.mode}, expected class ids in mode L"
    if column == "image" and (picture.mode.startswith("I") or picture.mode == "F"):
        yield f"its image has pixels of type {picture.mode}, expected 8-bit colour or grey"


def _check_label(label: np.ndarray, row: Mapping[str, Any], drawable: bool) -> Iterator[str]:
    counts = np.bincount(label.ravel(), minlength=256)
    wrong = [value for value in np.flatnonzero(counts).tolist() if NUM_CLASSES <= value != IGNORE_INDEX]
    if wrong:
        yield (
            f"its label holds {', '.join(map(str, wrong[:5]))}{', …' if len(wrong) > 5 else ''}: neither "
            f"class ids (0 to {NUM_CLASSES - 1}) nor {IGNORE_INDEX}"
        )
        return
    if not drawable or row["protocol"] not in PROTOCOLS:
        return
    width, height = row["width"], row["height"]
    if max(width, height) > _LARGEST_ASPECT * min(width, height):
        yield f"a frame of {width}x{height} px is too narrow for its label to be drawn"
        return
    drawn = rasterize_landmarks(row["landmarks"] or (), width, height, PROTOCOLS[row["protocol"]])
    differing = int(((drawn != label) & (label != IGNORE_INDEX)).sum())
    if differing:
        yield (
            f"its label is not what {row['protocol']} draws from its polylines: {differing} px of "
            f"{label.size} differ"
        )


def _check_stroke_width(row: Mapping[str, Any], drawable: bool) -> Iterator[str]:
    name, stored_px = row["protocol"], row["stroke_width"]
    if name is None:
        return
    if name not in PROTOCOLS:
        if name != AS_DRAWN:
            yield f"its protocol {name!r} is unknown: expected {', '.join(PROTOCOLS)} or {AS_DRAWN}"
        return
    if drawable and stored_px is not None:
        expected_px = PROTOCOLS[name].native_stroke_width_px(row["width"], row["height"])
        if not abs(stored_px - expected_px) <= _STROKE_TOLERANCE_PX:
            yield f"its stroke_width is {stored_px:g} px, {name} draws {expected_px:g} px"
