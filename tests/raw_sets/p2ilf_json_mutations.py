"""Mutations of the challenge's JSON of P2ILF's contours, by what it says."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

from .json_mutations import JSON_OPERATORS, JsonPath, JsonSource, at, changed, encoded, without
from .mutation import Operators, Rng, choose, in_another_case, other_curves
from .p2ilf import contours_json
from .truth import Landmarks, TrueFrame

WRONG_TYPES = ["Rigde", "", "Falciform", "Ridge2", "Rid ge", "0", "background", "Ridge, Ridge"]
MODEL_POINTS = [None, 5, {}, {"numOfPoints": 7, "vertices": "1,2"}, {"x": [1], "y": [2]}, [[1, 2, 3]]]


def json_source(frame: TrueFrame) -> JsonSource:
    """The frame's contours as the challenge's JSON."""
    document = json.loads(contours_json(frame.landmarks))
    contours = range(len(document["contour"]))
    coordinates: list[JsonPath] = [
        ("contour", contour, "imagePoints", axis, place)
        for contour in contours
        for axis in "xy"
        for place in range(len(document["contour"][contour]["imagePoints"]["x"]))
    ]
    objects: list[JsonPath] = [()]
    for contour in contours:
        objects += [("contour", contour), ("contour", contour, "imagePoints")]
    return JsonSource(document, coordinates, objects, [("contour", k, "contourType") for k in contours])


def _contour(rng: Rng, source: JsonSource) -> JsonPath:
    return ("contour", int(rng.integers(len(source.document["contour"]))))


def _set(values: list[Any], *below: str) -> Callable[[Rng, JsonSource], bytes]:
    """An operator that puts one of the values below a contour."""
    return lambda rng, source: encoded(
        rng, changed(source.document, (*_contour(rng, source), *below), choose(rng, values))
    )


def _wrong_count(rng: Rng, source: JsonSource) -> bytes:
    count = source.document["numOfContours"]
    values = [count + 1, count - 1, 0, -count, str(count), count + 0.5, None, [], True, {}, 1e300, 10**400]
    return encoded(rng, source.document | {"numOfContours": choose(rng, values)})


def _field_lost(rng: Rng, source: JsonSource) -> bytes:
    contour = _contour(rng, source)
    points = (*contour, "imagePoints")
    paths = [
        ("numOfContours",),
        ("contour",),
        (*contour, "contourType"),
        points,
        (*points, "x"),
        (*points, "y"),
    ]
    return encoded(rng, without(source.document, choose(rng, paths)))


def _one_axis_longer(rng: Rng, source: JsonSource) -> bytes:
    document = copy.deepcopy(source.document)
    values = at(document, (*_contour(rng, source), "imagePoints", choose(rng, ["x", "y"])))
    if rng.integers(2):
        values.append(values[-1])
    else:
        values.pop()
    return encoded(rng, document)


def _contour_lost(rng: Rng, source: JsonSource) -> bytes:
    contours = list(source.document["contour"])
    if rng.integers(2):
        contours.pop()
    else:
        contours.append(contours[0])
    return encoded(rng, source.document | {"contour": contours})


def _too_short(rng: Rng, source: JsonSource) -> bytes:
    path = (*_contour(rng, source), "imagePoints")
    x, y = (at(source.document, (*path, axis))[0] for axis in "xy")
    count = int(choose(rng, [0, 1, 2, 5]))
    return encoded(rng, changed(source.document, path, {"x": [x] * count, "y": [y] * count}))


def _pairs(rng: Rng, source: JsonSource) -> bytes:
    path = (*_contour(rng, source), "imagePoints")
    x, y = (at(source.document, (*path, axis)) for axis in "xy")
    pairs = [list(pair) for pair in zip(x, y, strict=True)]
    return encoded(rng, changed(source.document, path, choose(rng, [pairs, {"x": pairs, "y": pairs}])))


def _outside(size: tuple[int, int]) -> Callable[[Rng, JsonSource], bytes]:
    def operator(rng: Rng, source: JsonSource) -> bytes:
        path = choose(rng, source.coordinates)
        edge = size[path[-2] == "y"]
        value = choose(rng, [-3, -10.5, -1_000, edge + 3, edge + 10.5, 10 * edge, 16_000_000])
        return encoded(rng, changed(source.document, path, value))

    return operator


def _wrong_number_of_points(rng: Rng, source: JsonSource) -> bytes:
    path = (*_contour(rng, source), "imagePoints")
    count = len(at(source.document, (*path, "x")))
    value = choose(rng, [count + 1, count - 1, 0, -1, str(count), None, count + 0.5])
    return encoded(rng, changed(source.document, (*path, "numOfPoints"), value))


def _unused_fields(rng: Rng, source: JsonSource) -> bytes:
    document = copy.deepcopy(source.document)
    for contour in document["contour"]:
        if rng.integers(2):
            contour["modelPoints"] = choose(rng, MODEL_POINTS)
        if rng.integers(2):
            contour["imagePoints"]["numOfPoints"] = len(contour["imagePoints"]["x"])
    return encoded(rng, document)


def _type_case(rng: Rng, source: JsonSource) -> bytes:
    path = choose(rng, source.strings)
    return encoded(rng, changed(source.document, path, in_another_case(rng, at(source.document, path))))


def json_operators(landmarks: Landmarks, size: tuple[int, int]) -> Operators[JsonSource]:
    """The operators on the JSON of a frame of that size (width, height) in px with those landmarks."""

    def changed_curves(rng: Rng, source: JsonSource) -> tuple[bytes, Landmarks]:
        curves = other_curves(rng, landmarks, size)
        return contours_json(curves).encode(), curves

    return JSON_OPERATORS | Operators(
        same={
            "fields that say nothing": _unused_fields,
            "type's case": _type_case,
            "the count as a float": lambda rng, source: encoded(
                rng, source.document | {"numOfContours": float(source.document["numOfContours"])}
            ),
        },
        left_out={
            "wrong count": _wrong_count,
            "field lost": _field_lost,
            "contour no list": lambda rng, source: encoded(
                rng, source.document | {"contour": choose(rng, [None, 5, "Ridge", {}, True])}
            ),
            "contour no object": lambda rng, source: encoded(
                rng,
                changed(source.document, _contour(rng, source), choose(rng, [None, 5, "Ridge", [], True])),
            ),
            "unknown type": _set(WRONG_TYPES, "contourType"),
            "type no string": _set([None, 5, True, [], {}, ["Ridge"]], "contourType"),
            "imagePoints no object": _set([None, 5, [], "5, 6", True], "imagePoints"),
            "x no list": _set([None, 5, {}, "5, 6, 7", True, {"0": 5}], "imagePoints", "x"),
            "x longer than y": _one_axis_longer,
            "contour lost or doubled": _contour_lost,
            "fewer than two points": _too_short,
            "pairs": _pairs,
            "outside": _outside(size),
            "wrong number of points": _wrong_number_of_points,
        },
        other={"other curves": changed_curves},
    )
