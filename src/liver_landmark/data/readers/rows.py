"""From a planned frame to a row of the schema."""

from __future__ import annotations

import io
import zlib
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ...curves import get_protocol, rasterize_landmarks
from ...curves.exchange import AnnotationError, check_inside
from ...curves.protocols import AS_DRAWN
from ...frame_files import FrameError
from .depth import read_depth
from .pictures import Picture, read_picture
from .plan import FrameLabels, Problem, ProblemError, RawFrame, problem_of


def read_row(raw: Path, frame: RawFrame, protocol: str) -> tuple[dict[str, Any], Counter[str]]:
    """Reads a frame.

    Args:
        raw: The raw folder.
        frame: Which one.
        protocol: How its label is drawn: a protocol's name, or `as_drawn` for the source's own mask.

    Returns:
        A row of the schema with encoded pictures and categories by name, and the irregularities that were
        let pass, by name.

    Raises:
        ProblemError: something about it cannot be read; its `problem` names the file.
    """
    try:
        picture = read_picture(raw / frame.image)
    except FrameError as error:
        raise ProblemError(problem_of(frame.image, error, raw / frame.image)) from error
    labels = frame.annotation.read(raw)
    tolerated = Counter(labels.tolerated)
    _check_size(labels, picture)
    tolerated["points_outside"] += _check_inside(labels, picture)
    tolerated["exif_turned"] += picture.orientation != 1
    tolerated["pictures_converted"] += picture.converted
    row = {
        "image": {"bytes": picture.data, "path": frame.frame_id + picture.suffix},
        "landmarks": [
            {"category": curve["category"], "points": np.asarray(curve["points"], np.float32).tolist()}
            for curve in labels.annotation.landmarks
        ],
        "depth": None,
        "regions": None,
        "camera": _camera(frame, picture),
        "patient_id": frame.patient_id,
        "frame_id": frame.frame_id,
        "source": frame.source,
        "width": picture.width,
        "height": picture.height,
    }
    if frame.depth is not None:
        row["depth"], shallow = _depth(raw, frame, picture)
        tolerated["depth_8_bit"] += shallow
    label, row["stroke_width"] = _label(labels, row["landmarks"], picture, protocol)
    row |= {
        "label": {"bytes": _encode_label(label), "path": f"{frame.frame_id}_label.png"},
        "protocol": protocol,
    }
    return row, +tolerated


def _check_size(labels: FrameLabels, picture: Picture) -> None:
    annotation = labels.annotation
    if annotation.width is None or annotation.height is None:
        return
    annotated = (annotation.width, annotation.height)
    size = (picture.width, picture.height)
    if annotated == size:
        return
    if annotated == picture.stored_size:
        raise ProblemError(
            Problem(
                labels.file,
                f"made for {annotated[0]}×{annotated[1]} px, which the picture has before its EXIF "
                f"orientation turns it to {size[0]}×{size[1]}: turn it for good and annotate what is seen",
            )
        )
    raise ProblemError(
        Problem(
            labels.file,
            f"made for a frame of {annotated[0]}×{annotated[1]} px, the picture has {size[0]}×{size[1]}",
        )
    )


def _check_inside(labels: FrameLabels, picture: Picture) -> int:
    try:
        return check_inside(labels.annotation, picture.width, picture.height, labels.file)
    except AnnotationError as error:
        raise ProblemError(Problem(labels.file, error.reason)) from error


def _camera(frame: RawFrame, picture: Picture) -> dict[str, Any] | None:
    camera = frame.camera
    if camera is None:
        return None
    for name, given, pixels in (
        ("width", camera.width, picture.width),
        ("height", camera.height, picture.height),
    ):
        if given is not None and given != pixels:
            raise ProblemError(
                Problem(
                    frame.image, f"its {name} is {pixels} px, that of its camera {camera.file} {given} px"
                )
            )
    return camera.values


def _depth(raw: Path, frame: RawFrame, picture: Picture) -> tuple[dict[str, Any], bool]:
    try:
        data, shallow = read_depth(raw / frame.depth, picture.width, picture.height)
    except FrameError as error:
        raise ProblemError(problem_of(frame.depth, error, raw / frame.depth)) from error
    return {"bytes": data, "path": f"{frame.frame_id}_depth.png"}, shallow


def _label(
    labels: FrameLabels, landmarks: list[dict[str, Any]], picture: Picture, protocol: str
) -> tuple[np.ndarray, float]:
    """(H, W) uint8 class ids, and the width in px of the strokes in it."""
    if protocol == AS_DRAWN:
        return labels.mask, labels.stroke_width_px
    drawing = get_protocol(protocol)
    label = rasterize_landmarks(landmarks, picture.width, picture.height, drawing)
    return label, drawing.native_stroke_width_px(picture.width, picture.height)


def _encode_label(label: np.ndarray) -> bytes:
    """(H, W) uint8 -> a PNG; runs of one number are all there is in it, and their search is quick."""
    encoded = io.BytesIO()
    Image.fromarray(label).save(encoded, "PNG", compress_level=4, compress_type=zlib.Z_RLE)
    return encoded.getvalue()
