"""From a planned frame to a row of the schema: its annotation, wherever that stands, and its pictures."""

from __future__ import annotations

import io
import zlib
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from PIL import Image

from ...curves import get_protocol, rasterize_landmarks
from ...curves.formats import (
    L3D_LABELS,
    AnnotationError,
    FrameAnnotation,
    check_inside,
    parse_labelme,
    parse_p2ilf_json,
    parse_p2ilf_xml,
    read_annotation_bytes,
)
from ...curves.rasterize import AS_DRAWN
from ...curves.tracing import trace_polylines
from ...utils.frame_files import FrameError, read_frame
from .frame_plan import FrameLabels, Problem, ProblemError, RawFrame, problem_of
from .pictures import LIMITS, Palette, PaletteError, Picture, read_depth, read_palette_mask, read_picture

# Two files of one frame agree where one rounds the other's coordinates, px.
_ROUNDING_PX = 0.5


@dataclass(frozen=True)
class ParsedAnnotation:
    """A labelme file or an image of a CVAT export, which was read when its picture was looked for."""

    decoded_pictures: ClassVar[int] = 0
    file: str
    annotation: FrameAnnotation

    @classmethod
    def compact(cls, file: str, annotation: FrameAnnotation) -> ParsedAnnotation:
        """Keeps points as arrays: pairs of Python's numbers take ten times the memory."""
        landmarks = [
            {"category": curve["category"], "points": np.array(curve["points"], np.float64)}
            for curve in annotation.landmarks
        ]
        return cls(file, replace(annotation, landmarks=landmarks))

    @property
    def files(self) -> tuple[str, ...]:
        """The one file."""
        return (self.file,)

    def read(self, raw: Path) -> FrameLabels:
        """What was read."""
        return FrameLabels(self.annotation, self.file, tolerated=Counter(self.annotation.tolerated))


@dataclass(frozen=True)
class L3dLabel:
    """A labelme JSON file with L3D's labels, whose polygons are open lines."""

    decoded_pictures: ClassVar[int] = 0
    file: str

    @property
    def files(self) -> tuple[str, ...]:
        """The one file."""
        return (self.file,)

    def read(self, raw: Path) -> FrameLabels:
        """Reads it; a ProblemError names the file."""
        try:
            data = read_annotation_bytes(raw / self.file)
            annotation = parse_labelme(data, self.file, L3D_LABELS, polygons="open")
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
class ColorMask:
    """A picture of strokes in a palette's colors; their centerlines are traced."""

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
        table = self.palette.table
        curves = trace_polylines(mask, names=table.names)
        landmarks = [
            {"category": curve.category, "points": [tuple(map(float, point)) for point in curve.points]}
            for curve in curves
        ]
        height, width = mask.shape
        annotation = FrameAnnotation(None, width, height, landmarks, table=table)
        drawn = np.unique(mask[mask > 0]).size
        return FrameLabels(
            annotation,
            self.file,
            mask,
            float(np.median([curve.stroke_width_px for curve in curves])) if curves else 0.0,
            Counter(strokes_without_curve=drawn - len({curve.category for curve in curves})),
        )


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
    names = labels.annotation.table.names
    label = rasterize_landmarks(landmarks, picture.width, picture.height, drawing, names=names)
    return label, drawing.native_stroke_width_px(picture.width, picture.height)


def _encode_label(label: np.ndarray) -> bytes:
    """(H, W) uint8 -> a PNG; runs of one number are all there is in it, and their search is quick."""
    encoded = io.BytesIO()
    Image.fromarray(label).save(encoded, "PNG", compress_level=4, compress_type=zlib.Z_RLE)
    return encoded.getvalue()
