"""Curves as SVG, to look at or to edit in a drawing program."""

from __future__ import annotations

import math
from xml.etree.ElementTree import Element, SubElement

from ...model.landmarks_liver_landmark import LABEL2ID, PALETTE
from .annotation import FrameAnnotation
from .xml_text import xml_document


def format_svg(annotation: FrameAnnotation, stroke_width_px: float, image_href: str | None = None) -> str:
    """A frame's curves as one SVG of the frame's size, a `polyline` of its landmark's class and colour each.

    Integers name pixel centres in this project and pixel corners in SVG, so the curves stand in a group that
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
        red, green, blue = PALETTE[LABEL2ID[curve["category"]]]
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
