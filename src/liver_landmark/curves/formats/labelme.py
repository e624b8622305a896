"""labelme's JSON: one file a frame, curves as `linestrip` shapes.

`{"version", "flags", "shapes": [{"label", "points": [[x, y], …], "shape_type", …}], "imagePath",
"imageData", "imageHeight", "imageWidth"}`; L3D's labels are such files.
"""

from __future__ import annotations

import json
from os import PathLike
from typing import Any, Literal

from .annotation import (
    DEFAULT_LABELS,
    AnnotatedCurve,
    AnnotationError,
    FieldError,
    FrameAnnotation,
    LabelMap,
    check_describes_frame,
    count,
    file_name_fault,
    json_number,
    parse_json,
    points_fault,
    shown,
)

# The release whose files these are: what it writes for a linestrip, it reads.
_VERSION = "6.3.1"


def parse_labelme(
    data: bytes,
    file: str | PathLike[str],
    labels: LabelMap = DEFAULT_LABELS,
    *,
    polygons: Literal["refuse", "open"] = "refuse",
) -> FrameAnnotation:
    """Reads labelme's JSON; each shape is one open polyline, in the file's order.

    `line` and `linestrip` are curves, and so is a shape without `shape_type`. Shapes whose label the map
    ignores are left out whatever they are. `file_name` is `imagePath` as it stands, which may name folders.

    Args:
        data: The file's bytes.
        file: The file, for messages.
        labels: Which label means which landmark.
        polygons: "refuse", or "open" to read the points of a `polygon` as an open polyline: L3D's are.

    Raises:
        AnnotationError: no labelme JSON, an unknown label, another kind of shape, or a broken polyline.
    """
    content = parse_json(data, file)
    if not isinstance(content, dict):
        raise AnnotationError(file, f"is {shown(content)}, expected labelme's JSON object")
    if not isinstance(content.get("shapes"), list):
        raise AnnotationError(file, "shapes is missing or no list: not a labelme file")
    image_path = content.get("imagePath")
    if "imagePath" in content:
        if not isinstance(image_path, str):
            raise AnnotationError(file, f"imagePath is {shown(image_path)}, expected text")
        if fault := file_name_fault(image_path):
            raise AnnotationError(file, f"imagePath {fault}")
    width, height = _size(content, "imageWidth", file), _size(content, "imageHeight", file)
    landmarks: list[AnnotatedCurve] = []
    tolerated = []
    for index, shape in enumerate(content["shapes"]):
        field = f"shapes[{index}]"
        if not isinstance(shape, dict):
            raise AnnotationError(file, f"{field} is {shown(shape)}, expected an object")
        label = shape.get("label")
        if not isinstance(label, str):
            raise AnnotationError(file, f"{field}.label is {shown(label)}, expected text")
        category = labels.category(label, file, f"{field}.label")
        if category is None:
            continue
        _check_type(shape, polygons, file, field)
        landmarks.append({"category": category, "points": _points(shape, file, field)})
        if labels.is_tolerated(label):
            tolerated.append(label)
    return FrameAnnotation(image_path, width, height, landmarks, tuple(tolerated), labels.table)


def _size(content: dict[str, Any], key: str, file: str | PathLike[str]) -> int | None:
    if key not in content:
        return None
    try:
        return count(json_number(content[key]), least=1)
    except FieldError as error:
        raise AnnotationError(file, f"{key} {error}") from None


def _check_type(shape: dict[str, Any], polygons: str, file: str | PathLike[str], field: str) -> None:
    kind = shape.get("shape_type", "linestrip")
    if kind in ("line", "linestrip") or (kind == "polygon" and polygons == "open"):
        return
    raise AnnotationError(
        file, f"{field}.shape_type is {shown(kind)}: draw a linestrip, the landmarks are open curves"
    )


def _points(shape: dict[str, Any], file: str | PathLike[str], field: str) -> list[tuple[float, float]]:
    pairs = shape.get("points")
    if not isinstance(pairs, list):
        raise AnnotationError(file, f"{field}.points is {shown(pairs)}, expected a list")
    points = []
    for index, pair in enumerate(pairs):
        if not isinstance(pair, list) or len(pair) != 2:
            raise AnnotationError(file, f"{field}.points[{index}] is {shown(pair)}, expected [x, y]")
        try:
            points.append((json_number(pair[0]), json_number(pair[1])))
        except FieldError as error:
            raise AnnotationError(file, f"{field}.points[{index}] {error}") from None
    if fault := points_fault(points):
        raise AnnotationError(file, f"{field}.points: {fault}")
    return points


def format_labelme(annotation: FrameAnnotation) -> str:
    """A frame's curves as labelme 6 saves linestrips, without the picture; coordinates are exact.

    labelme opens the picture by `imagePath`, relative to the file.

    Raises:
        ValueError: file name, width or height is missing.
    """
    name, width, height = check_describes_frame(annotation, "labelme")
    shapes = [
        {
            "label": curve["category"],
            "points": [[float(x), float(y)] for x, y in curve["points"]],
            "group_id": None,
            "description": "",
            "shape_type": "linestrip",
            "flags": {},
            "mask": None,
        }
        for curve in annotation.landmarks
    ]
    content = {
        "version": _VERSION,
        "flags": {},
        "shapes": shapes,
        "imagePath": name,
        "imageData": None,
        "imageHeight": height,
        "imageWidth": width,
    }
    return json.dumps(content, ensure_ascii=False, indent=2, allow_nan=False) + "\n"
