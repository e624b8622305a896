"""What an annotation file says about one frame, and what makes it refusable."""

from __future__ import annotations

import reprlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from os import PathLike
from typing import Any, TypedDict

import numpy as np

from ...model.landmarks_liver_landmark import LANDMARK_NAMES

# Far outside any frame; the rasteriser takes no more, and float32 still tells whole pixels apart.
LARGEST_COORDINATE_PX = 2.0**24
# How far outside a frame a point may lie: annotation tools round, and let the mouse reach the border.
OUTSIDE_TOLERANCE_PX = 1.0

# Strangers' values in messages: never more than a few words, never more than one line.
_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 60


class AnnotationError(ValueError):
    """An annotation that cannot be read; its text is one line: file, field, reason and way out.

    Attributes:
        file: The annotation file.
        reason: The line without the file.
        file_name: The frame's file name as the annotation gives it, where the error is one frame's.
    """

    def __init__(self, file: str | PathLike[str], reason: str, file_name: str | None = None) -> None:
        super().__init__(file, reason, file_name)
        self.file = str(file)
        self.reason = one_line(reason)
        self.file_name = file_name

    def __str__(self) -> str:
        return f"{one_line(self.file)}: {self.reason}"


def one_line(text: str) -> str:
    """`text` with line breaks and whatever else cannot be printed as Python's escapes."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def shown(value: object) -> str:
    """A value from a file for a message: its repr, shortened."""
    return _SHORT.repr(value)


class AnnotatedCurve(TypedDict):
    """One polyline, shaped as in the data sets' `landmarks` column."""

    category: str  # ridge, silhouette or ligament
    points: Sequence[tuple[float, float]]  # (x, y) in px of the native frame


@dataclass(frozen=True)
class FrameAnnotation:
    """The curves annotated in one frame.

    Attributes:
        file_name: The frame's file as the annotation names it, folders included; None if it does not say.
        width: Frame width in px; None if the annotation does not say.
        height: Frame height in px; None if the annotation does not say.
        landmarks: `{"category": "ridge" | "silhouette" | "ligament", "points": [(x, y), …]}` in the file's
            order, open polylines in px of the native frame, x right, y down.
        tolerated: The labels, one for each curve, that were accepted although they are misspelt
            (`LabelMap.tolerated`). Not part of what is compared.

    Raises:
        ValueError: a file name that no file can have, a size that is no positive integer, an unknown
            category, or a polyline that `check_points` refuses.
    """

    file_name: str | None
    width: int | None
    height: int | None
    landmarks: list[AnnotatedCurve]
    tolerated: tuple[str, ...] = field(default=(), compare=False)

    def __post_init__(self) -> None:
        if self.file_name is not None and (reason := file_name_fault(self.file_name)):
            raise ValueError(f"file_name {reason}")
        for name, pixels in (("width", self.width), ("height", self.height)):
            if pixels is not None and pixels < 1:
                raise ValueError(f"{name} is {pixels}, expected a positive number of px")
        for index, curve in enumerate(self.landmarks):
            if curve["category"] not in LANDMARK_NAMES:
                raise ValueError(
                    f"landmarks[{index}].category {shown(curve['category'])} is unknown: "
                    f"choose one of {', '.join(LANDMARK_NAMES)}"
                )
            if reason := points_fault(curve["points"]):
                raise ValueError(f"landmarks[{index}].points: {reason}")


def check_describes_frame(annotation: FrameAnnotation, format_name: str) -> tuple[str, int, int]:
    """File name, width and height in px for a format that needs them; a ValueError if one is missing."""
    name, width, height = annotation.file_name, annotation.width, annotation.height
    if name is None or width is None or height is None:
        raise ValueError(f"{format_name} needs file_name, width and height, got {name!r}, {width}, {height}")
    return name, width, height


def points_fault(points: Any) -> str | None:
    """Why (N, 2) numbers in px are no polyline, in a few words; None if they are one.

    A polyline has at least two different points (different as float32, which is how data sets store them),
    and every coordinate is finite and within ± 2**24 px.
    """
    array = np.asarray(points, dtype=np.float64)
    if array.ndim != 2 or array.shape[1] != 2:
        return f"{len(array)} point(s), expected at least two" if array.size == 0 else "expected (x, y) pairs"
    if not np.isfinite(array).all():
        return f"point {int(np.argmin(np.isfinite(array).all(1)))} is not finite"
    within = (np.abs(array) <= LARGEST_COORDINATE_PX).all(1)
    if not within.all():
        return f"point {int(np.argmin(within))} is beyond ± {LARGEST_COORDINATE_PX:.0f} px"
    if len(array) < 2:
        return "1 point, expected at least two"
    single = array.astype(np.float32)
    if (single == single[0]).all():
        return f"{len(array)} points at the same place, expected at least two different ones"
    return None


def file_name_fault(name: str) -> str | None:
    """Why no file can have this name, in a few words; None if one can."""
    if not name:
        return "is empty"
    # Lone surrogates get in by JSON's \uXXXX; neither UTF-8 nor a file system has them.
    if "\0" in name or any("\ud800" <= c <= "\udfff" for c in name):
        return f"{shown(name)} is no file name: it holds a null byte or half a character"
    return None


def check_inside(annotation: FrameAnnotation, width: int, height: int, file: str | PathLike[str]) -> int:
    """Refuses curves that leave the frame.

    Args:
        annotation: What was read.
        width: The frame's real width in px.
        height: The frame's real height in px.
        file: The annotation file, for the message.

    Returns:
        How many points lie outside of the pixel centres 0 … width - 1, 0 … height - 1, but by no more than
        1 px: tolerated.

    Raises:
        AnnotationError: a point further outside than that: x below -1 or above `width`, likewise y.
    """
    outside = 0
    for index, curve in enumerate(annotation.landmarks):
        points = np.asarray(curve["points"], dtype=np.float64)
        # How far each point lies beyond the frame, along the worse axis.
        excess = np.maximum(-points, points - (width - 1, height - 1)).max(1)
        if (excess > OUTSIDE_TOLERANCE_PX).any():
            worst = int(np.argmax(excess))
            x, y = points[worst]
            raise AnnotationError(
                file,
                f"landmarks[{index}] ({curve['category']}): point {worst} ({x:g}, {y:g}) lies outside of the "
                f"{width}×{height} px frame; was it drawn on another picture or size?",
                annotation.file_name,
            )
        outside += int((excess > 0).sum())
    return outside
