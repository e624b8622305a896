"""The contours of the P2ILF challenge (MICCAI 2022): its XML, and the JSON that its scoring scripts read.

`<contours><numOfContours/><contour><contourType/><imagePoints><numOfPoints/><x>5, 6, …</x><y>…</y>
</imagePoints><modelPoints>…</modelPoints></contour>…</contours>`, and
`{"numOfContours": N, "contour": [{"contourType": …, "imagePoints": {"x": […], "y": […]}}]}`.
Neither names its frame or the frame's size. The points on the liver's model are not read.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from os import PathLike
from typing import Any, TypeVar
from xml.etree.ElementTree import Element, SubElement

from .annotation import (
    AnnotatedCurve,
    AnnotationError,
    FieldError,
    FrameAnnotation,
    count,
    json_number,
    parse_json,
    parse_xml,
    points_fault,
    shown,
    text_number,
    text_numbers,
    xml_document,
)

# contourType as it stands, x and y in px.
_Contour = tuple[Any, list[float], list[float]]
_Value = TypeVar("_Value")

# The challenge's contour types, in lower case: it has no others.
P2ILF_NAMES: tuple[str, ...] = ("ridge", "silhouette", "ligament")


def parse_p2ilf_xml(data: bytes, file: str | PathLike[str]) -> FrameAnnotation:
    """Reads the challenge's XML; contours stay in the file's order, coordinates may be floats.

    Raises:
        AnnotationError: no such XML, counts that are missing or disagree with what is there, x and y of
            different length, an unknown type or a broken polyline.
    """
    root = parse_xml(data, file)
    if root.tag != "contours":
        raise AnnotationError(file, f"root element is {shown(root.tag)}, expected P2ILF's contours")
    try:
        contours = root.findall("contour")
        _check_count("numOfContours", _number_in(root, "numOfContours"), len(contours))
    except FieldError as error:
        raise AnnotationError(file, str(error)) from None
    return _annotation(_xml_contour, contours, file)


def _xml_contour(contour: Element) -> _Contour:
    points = _only(contour, "imagePoints")
    x, y = (_field(f"imagePoints.{axis}", text_numbers, _text(points, axis)) for axis in "xy")
    _check_count("numOfPoints", _number_in(points, "numOfPoints"), len(x))
    return _text(contour, "contourType"), x, y


def _only(parent: Element, tag: str) -> Element:
    found = parent.findall(tag)
    if len(found) != 1:
        raise FieldError(f"{tag} is missing" if not found else f"{tag} stands {len(found)} times")
    return found[0]


def _text(parent: Element, tag: str) -> str:
    element = _only(parent, tag)
    if len(element):
        raise FieldError(f"{tag} holds other elements, expected text")
    return element.text or ""


def _number_in(parent: Element, tag: str) -> float:
    return _field(tag, text_number, _text(parent, tag))


def parse_p2ilf_json(data: bytes, file: str | PathLike[str]) -> FrameAnnotation:
    """Reads the challenge's JSON; as `parse_p2ilf_xml`, but `numOfPoints` may be missing.

    Raises:
        AnnotationError: as there.
    """
    content = parse_json(data, file)
    if not isinstance(content, dict) or not isinstance(content.get("contour"), list):
        raise AnnotationError(file, "contour is missing or no list: not a P2ILF file")
    try:
        declared = _field("numOfContours", json_number, content.get("numOfContours"))
        _check_count("numOfContours", declared, len(content["contour"]))
    except FieldError as error:
        raise AnnotationError(file, str(error)) from None
    return _annotation(_json_contour, content["contour"], file)


def _json_contour(contour: Any) -> _Contour:
    if not isinstance(contour, dict):
        raise FieldError(f"is {shown(contour)}, expected an object")
    points = contour.get("imagePoints")
    if not isinstance(points, dict):
        raise FieldError(f"imagePoints is {shown(points)}, expected an object")
    x, y = (_field(f"imagePoints.{axis}", _json_numbers, points.get(axis)) for axis in "xy")
    if "numOfPoints" in points:
        declared = _field("numOfPoints", json_number, points["numOfPoints"])
        _check_count("numOfPoints", declared, len(x))
    return contour.get("contourType"), x, y


def _json_numbers(values: Any) -> list[float]:
    if not isinstance(values, list):
        raise FieldError(f"is {shown(values)}, expected a list")
    return [json_number(value) for value in values]


def _field(name: str, convert: Callable[[Any], _Value], value: Any) -> _Value:
    try:
        return convert(value)
    except FieldError as error:
        raise FieldError(f"{name} {error}") from None


def _check_count(name: str, declared: float, found: int) -> None:
    if _field(name, count, declared) != found:
        raise FieldError(f"{name} is {declared:g}, but {found} are there: truncated?")


def _annotation(
    read: Callable[[Any], _Contour], contours: Iterable[Any], file: str | PathLike[str]
) -> FrameAnnotation:
    landmarks: list[AnnotatedCurve] = []
    for index, entry in enumerate(contours):
        try:
            landmarks.append(_curve(*read(entry)))
        except FieldError as error:
            raise AnnotationError(file, f"contour[{index}]: {error}") from None
    return FrameAnnotation(None, None, None, landmarks)


def _curve(kind: Any, x: list[float], y: list[float]) -> AnnotatedCurve:
    category = kind.strip().lower() if isinstance(kind, str) else None
    if category not in P2ILF_NAMES:
        raise FieldError(f"contourType is {shown(kind)}, expected one of {', '.join(P2ILF_NAMES)}")
    if len(x) != len(y):
        raise FieldError(f"imagePoints: {len(x)} x but {len(y)} y")
    points = list(zip(x, y, strict=True))
    if fault := points_fault(points):
        raise FieldError(f"imagePoints: {fault}")
    return {"category": category, "points": points}


def format_p2ilf_json(landmarks: Sequence[AnnotatedCurve]) -> str:
    """A frame's curves as the challenge's JSON, in whole px, as its scoring scripts need.

    Halves are rounded to even; points that then repeat their predecessor are left out.

    Raises:
        ValueError: a landmark that the challenge does not have, an invalid curve, or one that has no two
            different points in whole px.
    """
    contours = [
        {
            "contourType": curve["category"].capitalize(),
            "imagePoints": {"x": [x for x, _ in points], "y": [y for _, y in points]},
        }
        for curve, points in _whole_px(landmarks)
    ]
    return json.dumps({"numOfContours": len(contours), "contour": contours}) + "\n"


def format_p2ilf_xml(landmarks: Sequence[AnnotatedCurve]) -> str:
    """A frame's curves as the challenge's XML, without points on a model; otherwise as `format_p2ilf_json`.

    Raises:
        ValueError: as there.
    """
    root = Element("contours")
    curves = _whole_px(landmarks)
    SubElement(root, "numOfContours").text = str(len(curves))
    for curve, points in curves:
        contour = SubElement(root, "contour")
        SubElement(contour, "contourType").text = curve["category"].capitalize()
        image_points = SubElement(contour, "imagePoints")
        SubElement(image_points, "numOfPoints").text = str(len(points))
        SubElement(image_points, "x").text = ", ".join(str(x) for x, _ in points)
        SubElement(image_points, "y").text = ", ".join(str(y) for _, y in points)
    return xml_document(root, "\t")


def _whole_px(
    landmarks: Sequence[AnnotatedCurve],
) -> list[tuple[AnnotatedCurve, list[tuple[int, int]]]]:
    for index, curve in enumerate(landmarks):
        if curve["category"] not in P2ILF_NAMES:
            raise ValueError(
                f"landmarks[{index}].category {shown(curve['category'])}: P2ILF has {', '.join(P2ILF_NAMES)} "
                "only: write another format"
            )
    annotation = FrameAnnotation(None, None, None, list(landmarks))  # checks every curve
    curves = []
    for index, curve in enumerate(annotation.landmarks):
        rounded = ((round(float(x)), round(float(y))) for x, y in curve["points"])
        points = [point for point, _ in groupby(rounded)]  # of a run of equal points the first
        if fault := points_fault(points):
            raise ValueError(f"landmarks[{index}] ({curve['category']}) is no curve in whole px: {fault}")
        curves.append((curve, points))
    return curves
