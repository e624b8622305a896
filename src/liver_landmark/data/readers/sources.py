"""Where frames' annotations stand: labelme and P2ILF files, frames of a CVAT export, colour masks."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from ...curves.exchange import (
    AnnotationError,
    FrameAnnotation,
    LabelMap,
    parse_labelme,
    parse_p2ilf_json,
    parse_p2ilf_xml,
    read_annotation_bytes,
)
from ...curves.tracing import trace_polylines
from ...frame_files import FrameError, read_frame
from .palette import Palette, PaletteError, read_palette_mask
from .pictures import LIMITS
from .plan import FrameLabels, Problem, ProblemError, problem_of

# Two files of one frame agree where one rounds the other's coordinates, px.
_ROUNDING_PX = 0.5


@dataclass(frozen=True)
class LabelmeFile:
    """A labelme JSON file."""

    decoded_pictures: ClassVar[int] = 0
    file: str
    labels: LabelMap
    polygons: Literal["refuse", "open"]

    @property
    def files(self) -> tuple[str, ...]:
        """The one file."""
        return (self.file,)

    def read(self, raw: Path) -> FrameLabels:
        """Reads it; a ProblemError names the file."""
        try:
            data = read_annotation_bytes(raw / self.file)
            annotation = parse_labelme(data, self.file, self.labels, polygons=self.polygons)
        except AnnotationError as error:
            raise ProblemError(problem_of(self.file, error, raw / self.file)) from error
        return FrameLabels(annotation, self.file, tolerated=Counter(annotation.tolerated))


@dataclass(frozen=True)
class P2ilfFiles:
    """The contours of one frame, as XML, as the challenge's JSON, or as several files that must agree."""

    decoded_pictures: ClassVar[int] = 0
    files: tuple[str, ...]

    def read(self, raw: Path) -> FrameLabels:
        """Reads all and returns the first, XML before JSON; a ProblemError names the file."""
        first, *others = ((file, _read_p2ilf(raw, file)) for file in self.files)
        rounded = 0
        for file, annotation in others:
            difference = largest_difference_px(first[1], annotation)
            if difference is None or difference > _ROUNDING_PX:
                raise ProblemError(Problem(file, f"says otherwise than {first[0]}: which is meant?"))
            rounded += difference > 0
        return FrameLabels(first[1], first[0], tolerated=Counter(rounded_copies=rounded))


def _read_p2ilf(raw: Path, file: str) -> FrameAnnotation:
    parse = parse_p2ilf_xml if file.lower().endswith(".xml") else parse_p2ilf_json
    try:
        return parse(read_annotation_bytes(raw / file), file)
    except AnnotationError as error:
        raise ProblemError(problem_of(file, error, raw / file)) from error


def largest_difference_px(first: FrameAnnotation, second: FrameAnnotation) -> float | None:
    """Largest difference of a coordinate of two annotations; None if their curves do not match at all."""
    if len(first.landmarks) != len(second.landmarks):
        return None
    largest = 0.0
    for one, other in zip(first.landmarks, second.landmarks, strict=True):
        if one["category"] != other["category"] or len(one["points"]) != len(other["points"]):
            return None
        difference = np.abs(np.asarray(one["points"]) - np.asarray(other["points"])).max()
        largest = max(largest, float(difference))
    return largest


@dataclass(frozen=True)
class CvatImage:
    """One frame of a CVAT export, which is read as a whole beforehand."""

    decoded_pictures: ClassVar[int] = 0
    file: str
    annotation: FrameAnnotation

    @property
    def files(self) -> tuple[str, ...]:
        """The file of all frames."""
        return (self.file,)

    def read(self, raw: Path) -> FrameLabels:
        """What was read of it."""
        return FrameLabels(self.annotation, self.file, tolerated=Counter(self.annotation.tolerated))


@dataclass(frozen=True)
class ColourMask:
    """A picture of strokes in a palette's colours; their centrelines are traced."""

    decoded_pictures: ClassVar[int] = 1
    file: str
    palette: Palette

    @property
    def files(self) -> tuple[str, ...]:
        """The one file."""
        return (self.file,)

    def read(self, raw: Path) -> FrameLabels:
        """Reads and traces it; a ProblemError names the file."""
        try:
            mask = read_palette_mask(read_frame(raw / self.file, LIMITS), self.palette)
        except FrameError as error:
            raise ProblemError(problem_of(self.file, error, raw / self.file)) from error
        except PaletteError as error:
            raise ProblemError(Problem(self.file, str(error))) from error
        curves = trace_polylines(mask)
        landmarks = [
            {"category": curve.category, "points": [tuple(map(float, point)) for point in curve.points]}
            for curve in curves
        ]
        height, width = mask.shape
        annotation = FrameAnnotation(None, width, height, landmarks)
        drawn = np.unique(mask[mask > 0]).size
        return FrameLabels(
            annotation,
            self.file,
            mask,
            float(np.median([curve.stroke_width_px for curve in curves])) if curves else 0.0,
            Counter(strokes_without_curve=drawn - len({curve.category for curve in curves})),
        )
