"""Mutations of labelme's and P2ILF's JSON, and what each leaves of the polylines."""

from __future__ import annotations

import base64
import copy
import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from .fuzzing import Operators, Rng, choose, in_another_case, other_curves
from .p2ilf import contours_json
from .truth import Landmarks, TrueFrame

JsonPath = tuple[str | int, ...]
INDENTS = [None, 2, 4, "\t"]
BRACKETS = "[]{}"


@dataclass(frozen=True)
class JsonSource:
    """A document, and where in it things are.

    Attributes:
        document: The object at the top.
        coordinates: Paths of all coordinates; the numbers are multiples of ¼.
        objects: Paths of the objects whose keys mean something.
        strings: Paths of the strings that mean something.
    """

    document: dict[str, Any]
    coordinates: list[JsonPath]
    objects: list[JsonPath]
    strings: list[JsonPath]


def at(document: Any, path: JsonPath) -> Any:
    """What stands at a path."""
    for key in path:
        document = document[key]
    return document


def changed(document: Any, path: JsonPath, value: Any) -> Any:
    """A copy with another value at a path."""
    document = copy.deepcopy(document)
    at(document, path[:-1])[path[-1]] = value
    return document


def without(document: Any, path: JsonPath) -> Any:
    """A copy that lacks what stood at a path."""
    document = copy.deepcopy(document)
    del at(document, path[:-1])[path[-1]]
    return document


def text_of(rng: Rng, document: Any, tokens: dict[JsonPath, str] | None = None) -> str:
    """JSON text, indented one way or another, with raw text in place of the values at some paths."""
    document = copy.deepcopy(document)
    raw = list((tokens or {}).items())
    for number, (path, _) in enumerate(raw):
        at(document, path[:-1])[path[-1]] = f"@@{number}@@"
    text = json.dumps(document, indent=choose(rng, INDENTS))
    return re.sub(r'"@@(\d+)@@"', lambda match: raw[int(match[1])][1], text)


def encoded(rng: Rng, document: Any, tokens: dict[JsonPath, str] | None = None) -> bytes:
    """`text_of` as UTF-8."""
    return text_of(rng, document, tokens).encode()


def outside_strings(text: str, characters: str) -> list[int]:
    """Where the characters stand as syntax; `"` itself counts as syntax."""
    found, in_string, skip = [], False, False
    for position, character in enumerate(text):
        if skip:
            skip = False
        elif character == '"':
            in_string = not in_string
            if '"' in characters:
                found.append(position)
        elif in_string:
            skip = character == "\\"
        elif character in characters:
            found.append(position)
    return found


def _at_syntax(characters: str, new: Callable[[str], str]) -> Callable[[Rng, JsonSource], bytes]:
    """An operator that puts `new(character)` in place of one of the characters."""

    def operator(rng: Rng, source: JsonSource) -> bytes:
        text = text_of(rng, source.document)
        place = choose(rng, outside_strings(text, characters))
        return (text[:place] + new(text[place]) + text[place + 1 :]).encode()

    return operator


def _truncated(rng: Rng, source: JsonSource) -> bytes:
    text = text_of(rng, source.document)
    # The last character closes the document: without it nothing is whole.
    return text[: int(rng.integers(1, len(text)))].encode()


def _coordinate(tokens: list[str]) -> Callable[[Rng, JsonSource], bytes]:
    """An operator that writes one of the tokens where a coordinate stood."""

    def operator(rng: Rng, source: JsonSource) -> bytes:
        return encoded(rng, source.document, {choose(rng, source.coordinates): choose(rng, tokens)})

    return operator


def _inserted(data: bytes) -> Callable[[Rng, JsonSource], bytes]:
    """An operator that puts bytes anywhere into the text."""

    def operator(rng: Rng, source: JsonSource) -> bytes:
        whole = encoded(rng, source.document)
        place = int(rng.integers(1, len(whole)))
        return whole[:place] + data + whole[place:]

    return operator


def _recoded(*encodings: str) -> Callable[[Rng, JsonSource], bytes]:
    return lambda rng, source: text_of(rng, source.document).encode(choose(rng, list(encodings)))


def _appended(endings: list[bytes]) -> Callable[[Rng, JsonSource], bytes]:
    return lambda rng, source: encoded(rng, source.document) + choose(rng, endings)


def _constant(values: Iterable[bytes]) -> Callable[[Rng, JsonSource], bytes]:
    return lambda rng, source: choose(rng, list(values))


def _duplicated_key(rng: Rng, source: JsonSource) -> bytes:
    document = copy.deepcopy(source.document)
    target = at(document, choose(rng, source.objects))
    key = choose(rng, list(target))
    # The same value or another one: which of the two is meant, nobody knows.
    value = choose(rng, [target[key], None, 5])
    if rng.integers(2):
        target["@@twice@@"] = value
    else:
        items = list(target.items())
        target.clear()
        target.update([("@@twice@@", value), *items])
    return text_of(rng, document).replace('"@@twice@@"', json.dumps(key)).encode()


def _wrapped(rng: Rng, source: JsonSource) -> bytes:
    value = source.document
    return encoded(rng, choose(rng, [[value], [[value], value], None, True, 5, 1.5, "text", [], {}]))


def _deep(rng: Rng, source: JsonSource) -> bytes:
    opening, closing = choose(rng, [("[", "]"), ('{"a":', "}")])
    value = opening * 100_000 + "0" + closing * 100_000
    key = choose(rng, list(source.document))
    return encoded(rng, source.document, {(key,): value})


def _endless(rng: Rng, source: JsonSource) -> bytes:
    token = choose(rng, [b"[", b"]", b"{", b'{"a":', b"[{"])
    return token * (20_000_000 // len(token))


def _raw_newline(rng: Rng, source: JsonSource) -> bytes:
    path = choose(rng, source.strings)
    return encoded(rng, source.document, {path: f'"{at(source.document, path)}\n"'})


def _respelled_numbers(rng: Rng, source: JsonSource) -> bytes:
    return encoded(
        rng,
        source.document,
        {path: _spelling(rng, at(source.document, path)) for path in source.coordinates},
    )


def _spelling(rng: Rng, value: float) -> str:
    spellings = [repr(float(value)), f"{value:.6f}", f"{round(value * 100)}e-2", f"{value / 10:.10f}E+1"]
    if value == int(value):
        spellings += [str(int(value)), f"{int(value)}e0", f"{int(value)}.000"]
    return choose(rng, spellings)


def _reordered(rng: Rng, source: JsonSource) -> bytes:
    def shuffle(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: shuffle(value[key]) for key in rng.permutation(list(value)).tolist()}
        return [shuffle(item) for item in value] if isinstance(value, list) else value

    return encoded(rng, shuffle(source.document))


def _anything(rng: Rng, depth: int = 0) -> Any:
    """Any JSON value, for keys that nobody knows."""
    leaves = [None, True, False, 0, -5, 1e300, "", "text", "Größe 肝 \U0001fac0", "\u0000", 10**300]
    if depth > 2 or rng.integers(3):
        return choose(rng, leaves)
    items = [_anything(rng, depth + 1) for _ in range(int(rng.integers(4)))]
    return items if rng.integers(2) else {f"k{place}": item for place, item in enumerate(items)}


def _extra_keys(rng: Rng, source: JsonSource) -> bytes:
    document = copy.deepcopy(source.document)
    for path in source.objects:
        for name in ("x-extra", "Größe", "", "note to self"):
            if rng.integers(2):
                at(document, path)[name] = _anything(rng)
    return json.dumps(document, ensure_ascii=bool(rng.integers(2))).encode()


def _escaped(rng: Rng, source: JsonSource) -> bytes:
    path = choose(rng, source.strings)
    escapes = "".join(f"\\u{ord(character):04x}" for character in at(source.document, path))
    return encoded(rng, source.document, {path: f'"{escapes}"'})


def _spaced(rng: Rng, source: JsonSource) -> bytes:
    text = text_of(rng, source.document)
    for place in reversed(outside_strings(text, "[]{},:")):
        if not rng.integers(4):
            text = text[:place] + choose(rng, [" ", "\t", "\r", "\n", " \r\n\t "]) + text[place:]
    return text.encode()


def _crlf(rng: Rng, source: JsonSource) -> bytes:
    return json.dumps(source.document, indent=2).replace("\n", "\r\n").encode()


JSON_OPERATORS = Operators[JsonSource](
    same={
        "written again": lambda rng, source: encoded(rng, source.document),
        "white space": _spaced,
        "white space at the end": _appended([b"\n", b"\r\n\r\n", b"  \t"]),
        "byte order mark": lambda rng, source: b"\xef\xbb\xbf" + encoded(rng, source.document),
        "CRLF": _crlf,
        "order of keys": _reordered,
        "extra keys": _extra_keys,
        "numbers spelled otherwise": _respelled_numbers,
        "escapes in a string": _escaped,
    },
    left_out={
        "truncated": _truncated,
        "bracket lost": _at_syntax(BRACKETS, lambda character: ""),
        "bracket twice": _at_syntax(BRACKETS, lambda character: 2 * character),
        "comma or colon lost": _at_syntax(",:", lambda character: ""),
        "comma or colon twice": _at_syntax(",:", lambda character: 2 * character),
        "quote lost": _at_syntax('"', lambda character: ""),
        "comma before a closing bracket": _at_syntax("]}", lambda character: "," + character),
        "another bracket": _at_syntax(BRACKETS, lambda character: BRACKETS["{}[]".index(character)]),
        "single quotes": lambda rng, source: encoded(rng, source.document).replace(b'"', b"'"),
        "comment": _at_syntax(",", lambda character: character + " // the next\n"),
        "text behind": _appended([b"x", b",", b"}", b"{}", b"0", b"\x1a", b"null"]),
        "twice in a file": lambda rng, source: 2 * encoded(rng, source.document),
        "empty": _constant([b"", b" ", b"\n", b"\xef\xbb\xbf", b"\r\n\t "]),
        "no JSON": _constant([b"not json", b"<xml/>", b"\x89PNG\r\n", bytes(range(256)), b"nil", b"'"]),
        "UTF-16": _recoded("utf-16", "utf-16-le", "utf-16-be"),
        "UTF-32": _recoded("utf-32", "utf-32-le", "utf-32-be"),
        "invalid UTF-8": lambda rng, source: _inserted(choose(rng, [b"\xff", b"\x80", b"\xc0\xaf", b"\xed"]))(
            rng, source
        ),
        "null byte": _inserted(b"\x00"),
        "newline in a string": _raw_newline,
        "key twice": _duplicated_key,
        "another value at the top": _wrapped,
        "deep nesting": _deep,
        "megabytes of brackets": _endless,
        "not a number": _coordinate(["NaN", "-NaN", "nan", "Infinity", "-Infinity", "1e400", "-1e400"]),
        "no JSON number": _coordinate(["05", "+5", "5.", ".5", "0x5", "1_0", "5e", "1,5", "5px", "٥", "--5"]),
        "another type for a number": _coordinate(
            ['"5"', '"5.0"', '""', "null", "true", "false", "[]", "[5]", "{}", '{"x": 5}']
        ),
        "far away": _coordinate(["1e30", "-1e30", "1" + "0" * 30, "3e9", "-20000000", "1e308"]),
        "integer of thousands of digits": _coordinate(["1" * 400, "1" * 5_000, "-" + "9" * 100_000]),
    },
    other={},
)
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


def _set_p2ilf(values: list[Any], *below: str) -> Callable[[Rng, JsonSource], bytes]:
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


def _too_short_p2ilf(rng: Rng, source: JsonSource) -> bytes:
    path = (*_contour(rng, source), "imagePoints")
    x, y = (at(source.document, (*path, axis))[0] for axis in "xy")
    count = int(choose(rng, [0, 1, 2, 5]))
    return encoded(rng, changed(source.document, path, {"x": [x] * count, "y": [y] * count}))


def _pairs(rng: Rng, source: JsonSource) -> bytes:
    path = (*_contour(rng, source), "imagePoints")
    x, y = (at(source.document, (*path, axis)) for axis in "xy")
    pairs = [list(pair) for pair in zip(x, y, strict=True)]
    return encoded(rng, changed(source.document, path, choose(rng, [pairs, {"x": pairs, "y": pairs}])))


def _outside_p2ilf(size: tuple[int, int]) -> Callable[[Rng, JsonSource], bytes]:
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


def _unused_fields_p2ilf(rng: Rng, source: JsonSource) -> bytes:
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
            "fields that say nothing": _unused_fields_p2ilf,
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
            "unknown type": _set_p2ilf(WRONG_TYPES, "contourType"),
            "type no string": _set_p2ilf([None, 5, True, [], {}, ["Ridge"]], "contourType"),
            "imagePoints no object": _set_p2ilf([None, 5, [], "5, 6", True], "imagePoints"),
            "x no list": _set_p2ilf([None, 5, {}, "5, 6, 7", True, {"0": 5}], "imagePoints", "x"),
            "x longer than y": _one_axis_longer,
            "contour lost or doubled": _contour_lost,
            "fewer than two points": _too_short_p2ilf,
            "pairs": _pairs,
            "outside": _outside_p2ilf(size),
            "wrong number of points": _wrong_number_of_points,
        },
        other={"other curves": changed_curves},
    )
