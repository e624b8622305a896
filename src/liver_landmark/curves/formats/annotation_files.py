"""Annotation files by the name of their format: reading, writing in one rename, and SVG to write only."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from xml.etree.ElementTree import Element, SubElement

from ...utils.atomic_files import atomic_path
from ..rasterize import get_protocol
from .annotation import (
    DEFAULT_LABELS,
    AnnotationError,
    FrameAnnotation,
    LabelMap,
    read_annotation_bytes,
    xml_document,
)
from .cvat import format_cvat, parse_cvat
from .labelme import format_labelme, parse_labelme
from .p2ilf import P2ILF_NAMES, format_p2ilf_json, format_p2ilf_xml, parse_p2ilf_json, parse_p2ilf_xml

READ_FORMATS: tuple[str, ...] = ("labelme", "cvat", "p2ilf-json", "p2ilf-xml")
WRITE_FORMATS: tuple[str, ...] = (*READ_FORMATS, "svg")


def read_landmarks(path: Path | str, format: str, labels: LabelMap = DEFAULT_LABELS) -> list[FrameAnnotation]:
    """Reads an annotation file whole.

    Args:
        path: The file, at most 64 MiB.
        format: "labelme", "cvat", "p2ilf-json" or "p2ilf-xml".
        labels: Which label means which landmark; P2ILF's types are fixed.

    Returns:
        The frames in the file's order: several for "cvat", otherwise one. P2ILF's have no name and no size.

    Raises:
        AnnotationError: one line that names the file and the first thing that is wrong in it.
        ValueError: an unknown format.
    """
    _check_format(format, READ_FORMATS)
    data = read_annotation_bytes(path)
    if format == "labelme":
        return [parse_labelme(data, path, labels)]
    if format == "p2ilf-json":
        return [parse_p2ilf_json(data, path)]
    if format == "p2ilf-xml":
        return [parse_p2ilf_xml(data, path)]
    frames = []
    for frame in parse_cvat(data, path, labels):
        if isinstance(frame, AnnotationError):
            raise frame
        frames.append(frame)
    return frames


def write_landmarks(
    path: Path | str,
    annotations: Sequence[FrameAnnotation],
    format: str,
    *,
    stroke_width_px: float | None = None,
) -> None:
    """Writes or replaces an annotation file in one rename.

    Args:
        path: The file; its folder has to be there.
        annotations: The frames; one, unless the format is "cvat".
        format: "labelme", "cvat", "p2ilf-json", "p2ilf-xml" or "svg".
        stroke_width_px: Of "svg"'s strokes, in px of the frame; None draws them as wide as the protocol
            `synthetic` does (30 px at 1920 px of width).

    Raises:
        ValueError: an unknown format, several frames where one is possible, or what the format cannot hold.
        OSError: the file cannot be written.
    """
    _check_format(format, WRITE_FORMATS)
    path = Path(path)
    if format == "cvat":
        text = format_cvat(annotations)
    elif len(annotations) != 1:
        raise ValueError(f"{path}: {format} holds one frame a file, got {len(annotations)}")
    elif format == "labelme":
        text = format_labelme(annotations[0])
    elif format == "p2ilf-json":
        text = format_p2ilf_json(annotations[0].landmarks)
    elif format == "p2ilf-xml":
        text = format_p2ilf_xml(annotations[0].landmarks)
    else:
        width_px = _stroke_width_px(annotations[0]) if stroke_width_px is None else stroke_width_px
        text = format_svg(annotations[0], width_px)
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def check_names_fit(format: str, names: Sequence[str]) -> None:
    """Raises a ValueError, one line, where a format cannot hold curves of all these landmarks.

    P2ILF's contours have the challenge's three types and no others; the other formats take any name.
    """
    missing = [name for name in names if name not in P2ILF_NAMES] if format.startswith("p2ilf") else []
    if missing:
        raise ValueError(
            f"{format} has {', '.join(P2ILF_NAMES)} only and cannot hold {', '.join(missing)}: "
            "choose labelme, cvat or svg"
        )


def _check_format(format: str, known: Sequence[str]) -> None:
    if format not in known:
        raise ValueError(f"format {format!r} is unknown: choose one of {', '.join(known)}")


def _stroke_width_px(annotation: FrameAnnotation) -> float:
    if annotation.width is None or annotation.height is None:
        raise ValueError("SVG needs the frame's width and height")
    return get_protocol("synthetic").native_stroke_width_px(annotation.width, annotation.height)


def format_svg(annotation: FrameAnnotation, stroke_width_px: float, image_href: str | None = None) -> str:
    """A frame's curves as one SVG of the frame's size, a `polyline` of its landmark's class and color each.

    Integers name pixel centers in this project and pixel corners in SVG, so the curves stand in a group that
    is shifted by half a px; the coordinates themselves stay, with two decimals.

    Args:
        annotation: The curves; width and height have to be known.
        stroke_width_px: Width of the strokes in px of the frame.
        image_href: URL of the frame, shown below the curves; a file's name in it is percent-encoded by the
            caller.

    Raises:
        ValueError: no frame size, a stroke width that is not positive, or text that XML cannot hold.
    """
    width, height = annotation.width, annotation.height
    if width is None or height is None:
        raise ValueError(f"SVG needs the frame's width and height, got {width} and {height}")
    if not (math.isfinite(stroke_width_px) and stroke_width_px > 0):
        raise ValueError(f"stroke_width_px is {stroke_width_px}, expected a positive number of px")
    root = Element(
        "svg",
        {
            "xmlns": "http://www.w3.org/2000/svg",
            "width": str(width),
            "height": str(height),
            "viewBox": f"0 0 {width} {height}",
        },
    )
    if annotation.file_name is not None:
        SubElement(root, "title").text = annotation.file_name
    if image_href is not None:
        SubElement(root, "image", {"href": image_href, "width": str(width), "height": str(height)})
    group = SubElement(root, "g", {"transform": "translate(0.5 0.5)"})
    for curve in annotation.landmarks:
        red, green, blue = annotation.table.colors[curve["category"]]
        stroke = {
            "class": curve["category"],
            "points": " ".join(f"{x:.2f},{y:.2f}" for x, y in curve["points"]),
            "fill": "none",
            "stroke": f"#{red:02x}{green:02x}{blue:02x}",
            "stroke-width": f"{stroke_width_px:g}",
            "stroke-linecap": "round",
            "stroke-linejoin": "round",
        }
        SubElement(group, "polyline", stroke)
    return xml_document(root)
