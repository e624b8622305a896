"""Mutations of labelme's JSON, by what it says; `JSON_OPERATORS` are those of its text."""

from __future__ import annotations

import base64
import copy
from collections.abc import Callable
from typing import Any

from .json_mutations import (
    JSON_OPERATORS,
    JsonPath,
    JsonSource,
    at,
    changed,
    encoded,
    without,
)
from .mutation import Operators, Rng, choose, in_another_case
from .truth import Landmarks, TrueFrame

WRONG_LABELS = ["rigdee", "Falciform", "", "background", "tool", "ridge2", "rid ge", "0", "лигамент"]
NO_STRINGS = [None, 5, 1.5, True, [], {}, ["ridge"], {"name": "ridge"}]
NO_LISTS = [None, 5, True, "5, 5", {}, {"0": [5, 5]}]
NO_POINTS = [5, None, True, "5, 5", {}, {"x": 5, "y": 5}, [], [5], [5, 5, 5], [5, None], ["5", "5"], [[5, 5]]]
OTHER_SHAPES = ["rectangle", "circle", "point", "points", "mask", "ellipse", "", "curve"]
NO_SIZES = [0, -1, 36.5, "36", True, False, [], [36], {}, 1e300, 10**30, 10**400]


def labelme_source(frame: TrueFrame, document: dict[str, Any]) -> JsonSource:
    """The frame's document with its places named; every shape has two points or more."""
    shapes = range(len(document["shapes"]))
    coordinates: list[JsonPath] = [
        ("shapes", shape, "points", point, axis)
        for shape in shapes
        for point in range(len(document["shapes"][shape]["points"]))
        for axis in (0, 1)
    ]
    objects: list[JsonPath] = [(), *(("shapes", shape) for shape in shapes)]
    return JsonSource(document, coordinates, objects, [("shapes", shape, "label") for shape in shapes])


def _shape(rng: Rng, source: JsonSource) -> JsonPath:
    return ("shapes", int(rng.integers(len(source.document["shapes"]))))


def _set(values: list[Any], *fields: str) -> Callable[[Rng, JsonSource], bytes]:
    """An operator that gives one field of the document one of the values."""
    return lambda rng, source: encoded(
        rng, changed(source.document, (choose(rng, list(fields)),), choose(rng, values))
    )


def _set_in_shape(values: list[Any], field: str) -> Callable[[Rng, JsonSource], bytes]:
    return lambda rng, source: encoded(
        rng, changed(source.document, (*_shape(rng, source), field), choose(rng, values))
    )


def _lost(rng: Rng, source: JsonSource) -> bytes:
    paths = [("shapes",), (*_shape(rng, source), "label"), (*_shape(rng, source), "points")]
    return encoded(rng, without(source.document, choose(rng, paths)))


def _no_shape(rng: Rng, source: JsonSource) -> bytes:
    values = [None, 5, "ridge", [], [[5, 5], [9, 9]], True, {}]
    return encoded(rng, changed(source.document, _shape(rng, source), choose(rng, values)))


def _no_point(rng: Rng, source: JsonSource) -> bytes:
    *path, _ = choose(rng, source.coordinates)
    return encoded(rng, changed(source.document, tuple(path), choose(rng, NO_POINTS)))


def _too_short(rng: Rng, source: JsonSource) -> bytes:
    path = (*_shape(rng, source), "points")
    first = at(source.document, path)[0]
    values = [[], [first], [first, first], [first] * 5]
    return encoded(rng, changed(source.document, path, choose(rng, values)))


def _outside(rng: Rng, source: JsonSource) -> bytes:
    path = choose(rng, source.coordinates)
    size = source.document["imageHeight" if path[-1] else "imageWidth"]
    value = choose(rng, [-3, -10.5, -1_000, size + 3, size + 10.5, 10 * size, 16_000_000])
    return encoded(rng, changed(source.document, path, value))


def _sizes_swapped(rng: Rng, source: JsonSource) -> bytes:
    width, height = source.document["imageWidth"], source.document["imageHeight"]
    return encoded(rng, source.document | {"imageWidth": height, "imageHeight": width})


def _other_size(rng: Rng, source: JsonSource) -> bytes:
    key = choose(rng, ["imageWidth", "imageHeight"])
    factor = choose(rng, [2, 3, 60])
    size = source.document[key]
    return encoded(rng, source.document | {key: choose(rng, [size + 1, size - 1, size * factor, size // 2])})


def _without_shape_type(rng: Rng, source: JsonSource) -> bytes:
    document = copy.deepcopy(source.document)
    for shape in document["shapes"]:
        if rng.integers(2):
            del shape["shape_type"]
    return encoded(rng, document)


def _label_case(rng: Rng, source: JsonSource) -> bytes:
    path = choose(rng, source.strings)
    return encoded(rng, changed(source.document, path, in_another_case(rng, at(source.document, path))))


def _float_sizes(rng: Rng, source: JsonSource) -> bytes:
    document = source.document
    return encoded(rng, document | {key: float(document[key]) for key in ("imageWidth", "imageHeight")})


def _unused_fields(rng: Rng, source: JsonSource) -> bytes:
    document = copy.deepcopy(source.document)
    for key in ("version", "flags"):
        if rng.integers(2):
            del document[key]
    for shape in document["shapes"]:
        for key in ("group_id", "description", "flags"):
            if rng.integers(2):
                del shape[key]
            else:
                shape[key] = choose(rng, [None, 3, "a note", {"sure": True}, {}, "ridge"])
    return encoded(rng, document)


def _with_picture(rng: Rng, source: JsonSource) -> bytes:
    size = int(choose(rng, [3, 5_000, 15_000_000]))
    picture = base64.b64encode(rng.bytes(3)) * (size // 3)
    return encoded(rng, source.document | {"imageData": picture.decode()})


def _landmarks(document: dict[str, Any]) -> Landmarks:
    return [
        {"category": shape["label"], "points": [tuple(map(float, point)) for point in shape["points"]]}
        for shape in document["shapes"]
    ]


def _curves_changed(rng: Rng, source: JsonSource) -> tuple[bytes, Landmarks]:
    """Absent classes, several curves of one class, another order, points said twice."""
    document = copy.deepcopy(source.document)
    shapes = document["shapes"]
    chosen = rng.integers(0, len(shapes), int(rng.integers(0, 6))).tolist()
    document["shapes"] = [copy.deepcopy(shapes[place]) for place in chosen]
    for shape in document["shapes"]:
        if rng.integers(2):
            shape["points"].reverse()
        if rng.integers(2):
            shape["points"].insert(1, list(shape["points"][0]))
    return encoded(rng, document), _landmarks(document)


def _little_outside(rng: Rng, source: JsonSource) -> tuple[bytes, Landmarks]:
    path = choose(rng, source.coordinates)
    size = source.document["imageHeight" if path[-1] else "imageWidth"]
    document = changed(source.document, path, choose(rng, [-0.5, -0.25, size - 0.5, size - 0.25, -1, size]))
    return encoded(rng, document), _landmarks(document)


_LABELME = Operators[JsonSource](
    same={
        "no shape_type": _without_shape_type,
        "label's case": _label_case,
        "sizes as floats": _float_sizes,
        "fields that say nothing": _unused_fields,
        "the picture in the file": _with_picture,
        "imagePath with a path": lambda rng, source: encoded(
            rng,
            source.document
            | {"imagePath": choose(rng, ["../a/b/", "C:\\data\\", "/data/"]) + source.document["imagePath"]},
        ),
        "a line": _set_in_shape(["line", "linestrip"], "shape_type"),
    },
    left_out={
        "field lost": _lost,
        "shapes no list": _set(NO_LISTS, "shapes"),
        "shape no object": _no_shape,
        "unknown label": _set_in_shape(WRONG_LABELS, "label"),
        "label no string": _set_in_shape(NO_STRINGS, "label"),
        "points no list": _set_in_shape(NO_LISTS, "points"),
        "no point": _no_point,
        "fewer than two points": _too_short,
        "outside": _outside,
        "another shape": _set_in_shape(OTHER_SHAPES, "shape_type"),
        "shape_type no string": _set_in_shape([5, True, ["linestrip"], {}], "shape_type"),
        "size no number of pixels": _set(NO_SIZES, "imageHeight", "imageWidth"),
        "sizes swapped": _sizes_swapped,
        "another size": _other_size,
    },
    other={"other curves": _curves_changed, "a little outside": _little_outside},
)
_POLYGON = _set_in_shape(["polygon"], "shape_type")


def _misspelt(rng: Rng, source: JsonSource) -> bytes:
    ridges = [path for path in source.strings if at(source.document, path) == "ridge"]
    return encoded(rng, changed(source.document, choose(rng, ridges), choose(rng, ["rigde", "Rigde"])))


# L3D's points are open polylines whatever their type says, and its ridges are misspelt at times; from
# a user's own file both are errors to be told.
L3D_OPERATORS = (
    JSON_OPERATORS | _LABELME | Operators[JsonSource]({"a polygon": _POLYGON, "misspelt": _misspelt}, {}, {})
)
CUSTOM_OPERATORS = (
    JSON_OPERATORS | _LABELME | Operators[JsonSource]({}, {"a polygon": _POLYGON, "misspelt": _misspelt}, {})
)
