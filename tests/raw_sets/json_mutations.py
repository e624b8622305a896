"""Mutations of labelme's and P2ILF's JSON, and what each leaves of the polylines.

Most are a row of a table: which places of the document, and what is put there.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from .fuzzing import Operators, Rng, choose, constant, curves_changed, other_cases, spelling, truncated
from .l3d import labelme_json
from .p2ilf import contours_json
from .truth import Landmarks, TrueFrame

JsonPath = tuple[str | int, ...]
INDENTS = [None, 2, 4, "\t"]
BRACKETS = "[]{}"


@dataclass(frozen=True)
class JsonSource:
    """A document, and where in it things are: paths as `places` takes them.

    Attributes:
        document: The object at the top.
        landmarks: What it says.
        size: The frame's (width, height) in px.
        write: The file's text with other landmarks.
        axes: All coordinates along x and along y; the numbers are multiples of ¼.
        objects: The objects whose keys mean something.
        strings: The strings that mean something.
    """

    document: dict[str, Any]
    landmarks: Landmarks
    size: tuple[int, int]
    write: Callable[[Landmarks], str]
    axes: tuple[str, str]
    objects: str
    strings: str

    @property
    def coordinates(self) -> str:
        """All coordinates."""
        return " ".join(self.axes)


Operator = Callable[[Rng, JsonSource], bytes]
Where = str | Callable[[JsonSource], str]


def at(document: Any, path: JsonPath) -> Any:
    """What stands at a path."""
    for key in path:
        document = document[key]
    return document


def places(document: Any, patterns: str) -> list[JsonPath]:
    """All paths that fit one of the patterns, which spaces divide.

    Keys are divided by `/`; `*` is each item of a list, `a|b` either key, `.` the document itself.
    """
    found: list[JsonPath] = []
    for pattern in patterns.split():
        paths: list[JsonPath] = [()]
        for part in [] if pattern == "." else pattern.split("/"):
            keys = [int(part)] if part.isdigit() else part.split("|")
            paths = [
                (*path, key)
                for path in paths
                for key in (range(len(at(document, path))) if part == "*" else keys)
            ]
        found += paths
    return found


def changed(document: Any, path: JsonPath, value: Any) -> Any:
    """A copy with another value at a path."""
    if not path:
        return value
    document = copy.deepcopy(document)
    at(document, path[:-1])[path[-1]] = value
    return document


def text_of(rng: Rng, document: Any, tokens: dict[JsonPath, str] | None = None) -> str:
    """JSON text, indented one way or another, with raw text in place of the values at some paths."""
    raw = list((tokens or {}).items())
    document = copy.deepcopy(document)
    for number, (path, _) in enumerate(raw):
        at(document, path[:-1])[path[-1]] = f"@@{number}@@"
    text = json.dumps(document, indent=choose(rng, INDENTS))
    return re.sub(r'"@@(\d+)@@"', lambda match: raw[int(match[1])][1], text)


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


def _chosen(rng: Rng, source: JsonSource, where: Where) -> JsonPath:
    return choose(rng, places(source.document, where if isinstance(where, str) else where(source)))


def _options(values: list[Any] | Callable[[Any], list[Any]], old: Any) -> list[Any]:
    return values(old) if callable(values) else values


def _put(where: Where, values: list[Any] | Callable[[Any], list[Any]]) -> Operator:
    """One of the values, or of what a function makes of the old one, at one of the places."""

    def operator(rng: Rng, source: JsonSource) -> bytes:
        path = _chosen(rng, source, where)
        value = choose(rng, _options(values, at(source.document, path)))
        return text_of(rng, changed(source.document, path, value)).encode()

    return operator


def _write(where: Where, tokens: list[str] | Callable[[Any], list[str]]) -> Operator:
    """Like `_put`, but raw text, which need not be JSON."""

    def operator(rng: Rng, source: JsonSource) -> bytes:
        path = _chosen(rng, source, where)
        token = choose(rng, _options(tokens, at(source.document, path)))
        return text_of(rng, source.document, {path: token}).encode()

    return operator


def _lose(where: str) -> Operator:
    """One of the places is not there."""

    def operator(rng: Rng, source: JsonSource) -> bytes:
        path, document = _chosen(rng, source, where), copy.deepcopy(source.document)
        del at(document, path[:-1])[path[-1]]
        return text_of(rng, document).encode()

    return operator


def _at_syntax(characters: str, new: Callable[[str], str]) -> Operator:
    """`new(character)` in place of one of the characters."""

    def operator(rng: Rng, source: JsonSource) -> bytes:
        text = text_of(rng, source.document)
        place = choose(rng, outside_strings(text, characters))
        return (text[:place] + new(text[place]) + text[place + 1 :]).encode()

    return operator


def _inserted(*pieces: bytes) -> Operator:
    """One of the pieces anywhere in the text."""

    def operator(rng: Rng, source: JsonSource) -> bytes:
        whole = text_of(rng, source.document).encode()
        place = int(rng.integers(1, len(whole)))
        return whole[:place] + choose(rng, list(pieces)) + whole[place:]

    return operator


def _text(*changes: Callable[[str], bytes]) -> Operator:
    """One of the changes of the text as a whole."""
    return lambda rng, source: choose(rng, list(changes))(text_of(rng, source.document))


def _behind(*endings: str) -> Operator:
    return lambda rng, source: (text_of(rng, source.document) + choose(rng, list(endings))).encode()


def _recoded(*encodings: str) -> Operator:
    return lambda rng, source: text_of(rng, source.document).encode(choose(rng, list(encodings)))


def _duplicated_key(rng: Rng, source: JsonSource) -> bytes:
    path = _chosen(rng, source, source.objects)
    target = at(source.document, path)
    key = choose(rng, list(target))
    # The same value or another one: which of the two is meant, nobody knows.
    twice = {"@@twice@@": choose(rng, [target[key], None, 5])}
    both = target | twice if rng.integers(2) else twice | target
    text = text_of(rng, changed(source.document, path, both))
    return text.replace('"@@twice@@"', json.dumps(key)).encode()


def _endless(rng: Rng, source: JsonSource) -> bytes:
    token = choose(rng, [b"[", b"]", b"{", b'{"a":', b"[{"])
    return token * (20_000_000 // len(token))


def _respelled_numbers(rng: Rng, source: JsonSource) -> bytes:
    paths = places(source.document, source.coordinates)
    tokens = {path: spelling(rng, at(source.document, path)) for path in paths}
    return text_of(rng, source.document, tokens).encode()


def _reordered(rng: Rng, source: JsonSource) -> bytes:
    def shuffle(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: shuffle(value[key]) for key in rng.permutation(list(value)).tolist()}
        return [shuffle(item) for item in value] if isinstance(value, list) else value

    return text_of(rng, shuffle(source.document)).encode()


def _anything(rng: Rng, depth: int = 0) -> Any:
    """Any JSON value, for keys that nobody knows."""
    leaves = [None, True, False, 0, -5, 1e300, "", "text", "Größe 肝 \U0001fac0", "\u0000", 10**300]
    if depth > 2 or rng.integers(3):
        return choose(rng, leaves)
    items = [_anything(rng, depth + 1) for _ in range(int(rng.integers(4)))]
    return items if rng.integers(2) else {f"k{place}": item for place, item in enumerate(items)}


def _extra_keys(rng: Rng, source: JsonSource) -> bytes:
    document = copy.deepcopy(source.document)
    for path in places(document, source.objects):
        for name in ("x-extra", "Größe", "", "note to self"):
            if rng.integers(2):
                at(document, path)[name] = _anything(rng)
    return json.dumps(document, ensure_ascii=bool(rng.integers(2))).encode()


def _escaped(text: str) -> str:
    return '"' + "".join(f"\\u{ord(character):04x}" for character in text) + '"'


def _spaced(rng: Rng, source: JsonSource) -> bytes:
    text = text_of(rng, source.document)
    for place in reversed(outside_strings(text, "[]{},:")):
        if not rng.integers(4):
            text = text[:place] + choose(rng, [" ", "\t", "\r", "\n", " \r\n\t "]) + text[place:]
    return text.encode()


def _outside(rng: Rng, source: JsonSource) -> bytes:
    axis = int(rng.integers(2))
    size = source.size[axis]
    value = choose(rng, [-3, -10.5, -1_000, size + 3, size + 10.5, 10 * size, 16_000_000])
    path = _chosen(rng, source, source.axes[axis])
    return text_of(rng, changed(source.document, path, value)).encode()


STRINGS, COORDINATES = attrgetter("strings"), attrgetter("coordinates")
WRONG_LABELS = ["rigdee", "Falciform", "", "background", "tool", "ridge2", "rid ge", "0", "лигамент"]
NO_NUMBERS = ["05", "+5", "5.", ".5", "0x5", "1_0", "5e", "1,5", "5px", "٥", "--5"]
NO_NUMBERS += ['"5"', '"5.0"', '""', "null", "true", "false", "[]", "[5]", "{}", '{"x": 5}']
NOT_FINITE = ["NaN", "-NaN", "nan", "Infinity", "-Infinity", "1e400", "-1e400"]
FAR_AWAY = ["1e30", "-1e30", "1" + "0" * 30, "3e9", "-20000000", "1e308"]
JSON_OPERATORS = Operators[JsonSource](
    same={
        "written again": _text(str.encode),
        "white space": _spaced,
        "white space at the end": _behind("\n", "\r\n\r\n", "  \t"),
        "byte order mark": _recoded("utf-8-sig"),
        "CRLF": lambda rng, source: json.dumps(source.document, indent=2).replace("\n", "\r\n").encode(),
        "order of keys": _reordered,
        "extra keys": _extra_keys,
        "numbers spelled otherwise": _respelled_numbers,
        "escapes in a string": _write(STRINGS, lambda old: [_escaped(old)]),
        "case of a label": _put(STRINGS, other_cases),
    },
    left_out={
        # The last character closes the document: without it nothing is whole.
        "truncated": lambda rng, source: truncated(rng, text_of(rng, source.document)),
        "bracket lost": _at_syntax(BRACKETS, lambda character: ""),
        "bracket twice": _at_syntax(BRACKETS, lambda character: 2 * character),
        "comma or colon lost": _at_syntax(",:", lambda character: ""),
        "comma or colon twice": _at_syntax(",:", lambda character: 2 * character),
        "quote lost": _at_syntax('"', lambda character: ""),
        "comma before a closing bracket": _at_syntax("]}", lambda character: "," + character),
        "another bracket": _at_syntax(BRACKETS, lambda character: BRACKETS["{}[]".index(character)]),
        "single quotes": _text(lambda text: text.replace('"', "'").encode()),
        "comment": _at_syntax(",", lambda character: character + " // the next\n"),
        "text behind": _behind("x", ",", "}", "{}", "0", "\x1a", "null"),
        "twice in a file": _text(lambda text: 2 * text.encode()),
        "empty": constant(b"", b" ", b"\n", b"\xef\xbb\xbf", b"\r\n\t "),
        "no JSON": constant(b"not json", b"<xml/>", b"\x89PNG\r\n", bytes(range(256)), b"nil", b"'"),
        "UTF-16": _recoded("utf-16", "utf-16-le", "utf-16-be"),
        "UTF-32": _recoded("utf-32", "utf-32-le", "utf-32-be"),
        "invalid UTF-8": _inserted(b"\xff", b"\x80", b"\xc0\xaf", b"\xed"),
        "null byte": _inserted(b"\x00"),
        "newline in a string": _write(STRINGS, lambda old: [f'"{old}\n"']),
        "key twice": _duplicated_key,
        "another value at the top": _put(
            ".", lambda old: [[old], [[old], old], None, True, 5, 1.5, "text", [], {}]
        ),
        "deep nesting": lambda rng, source: _write(
            "|".join(source.document),
            ["[" * 100_000 + "0" + "]" * 100_000, '{"a":' * 100_000 + "0" + "}" * 100_000],
        )(rng, source),
        "megabytes of brackets": _endless,
        "not a number": _write(
            COORDINATES, ["NaN", "-NaN", "nan", "Infinity", "-Infinity", "1e400", "-1e400"]
        ),
        "no JSON number": _write(COORDINATES, NO_NUMBERS[:11]),
        "another type for a number": _write(COORDINATES, NO_NUMBERS[11:]),
        "far away": _write(COORDINATES, FAR_AWAY),
        "integer of thousands of digits": _write(COORDINATES, ["1" * 400, "1" * 5_000, "-" + "9" * 100_000]),
        "outside": _outside,
        "unknown label": _put(STRINGS, WRONG_LABELS),
        "label no string": _put(STRINGS, [None, 5, 1.5, True, [], {}, ["ridge"], {"name": "ridge"}]),
    },
    other={"other curves": curves_changed},
)
NO_LISTS = [None, 5, True, "5, 5", {}, {"0": [5, 5]}]
NO_POINTS = [5, None, True, "5, 5", {}, {"x": 5, "y": 5}, [], [5], [5, 5, 5], [5, None], ["5", "5"], [[5, 5]]]
OTHER_SHAPES = ["rectangle", "circle", "point", "points", "mask", "ellipse", "", "curve"]
NO_SIZES = [0, -1, 36.5, "36", True, False, [], [36], {}, 1e300, 10**30, 10**400]


def labelme_source(frame: TrueFrame) -> JsonSource:
    """The frame's document with its places named; every shape has two points or more."""
    document, size = json.loads(frame.annotation.read_text()), (frame.width, frame.height)
    return JsonSource(
        document,
        frame.landmarks,
        size,
        lambda landmarks: json.dumps(labelme_json(landmarks, document["imagePath"], *size)),
        ("shapes/*/points/*/0", "shapes/*/points/*/1"),
        ". shapes/*",
        "shapes/*/label",
    )


_LABELME = Operators[JsonSource](
    same={
        "no shape_type": _lose("shapes/*/shape_type"),
        "sizes as floats": _put("imageHeight|imageWidth", lambda size: [float(size)]),
        "fields that say nothing lost": _lose("version|flags shapes/*/group_id|description|flags"),
        "fields that say nothing": _put(
            "shapes/*/group_id|description|flags", [None, 3, "a note", {"sure": True}, {}, "ridge"]
        ),
        "the picture in the file": _put("imageData", lambda _: ["iVBO", 1_200 * "iVBO", 5_000_000 * "iVBO"]),
        "imagePath with a path": _put(
            "imagePath", lambda name: [above + name for above in ("../a/b/", "C:\\data\\", "/data/", "./")]
        ),
        "a line": _put("shapes/*/shape_type", ["line", "linestrip"]),
    },
    left_out={
        "field lost": _lose("shapes shapes/*/label|points"),
        "shapes no list": _put("shapes", NO_LISTS),
        "shape no object": _put("shapes/*", [None, 5, "ridge", [], [[5, 5], [9, 9]], True, {}]),
        "points no list": _put("shapes/*/points", NO_LISTS),
        "no point": _put("shapes/*/points/*", NO_POINTS),
        "fewer than two points": _put(
            "shapes/*/points", lambda points: [points[:1] * count for count in (0, 1, 2, 5)]
        ),
        "another shape": _put("shapes/*/shape_type", OTHER_SHAPES),
        "shape_type no string": _put("shapes/*/shape_type", [5, True, ["linestrip"], {}]),
        "size no number of pixels": _put("imageHeight|imageWidth", NO_SIZES),
        "sizes swapped": _put(
            ".", lambda old: [old | {"imageWidth": old["imageHeight"], "imageHeight": old["imageWidth"]}]
        ),
        "another size": _put(
            "imageHeight|imageWidth",
            lambda size: [size + 1, size - 1, 2 * size, 3 * size, 60 * size, size // 2],
        ),
    },
    other={},
)
# L3D's points are open polylines whatever their type says, and its ridges are misspelt at times; from
# a user's own file both are errors to be told.
_POLYGON = {"a polygon": _put("shapes/*/shape_type", ["polygon"])}
_MISSPELT = {"misspelt": _put("shapes/0/label", ["rigde", "Rigde"])}
L3D_OPERATORS = JSON_OPERATORS | _LABELME | Operators[JsonSource](_POLYGON | _MISSPELT, {}, {})
CUSTOM_OPERATORS = JSON_OPERATORS | _LABELME | Operators[JsonSource]({}, _POLYGON | _MISSPELT, {})


def p2ilf_json_source(frame: TrueFrame) -> JsonSource:
    """The frame's contours as the challenge's JSON."""
    return JsonSource(
        json.loads(contours_json(frame.landmarks)),
        frame.landmarks,
        (frame.width, frame.height),
        contours_json,
        ("contour/*/imagePoints/x/*", "contour/*/imagePoints/y/*"),
        ". contour/* contour/*/imagePoints",
        "contour/*/contourType",
    )


MODEL_POINTS = [None, 5, {}, {"numOfPoints": 7, "vertices": "1,2"}, {"x": [1], "y": [2]}, [[1, 2, 3]]]
P2ILF_JSON_OPERATORS = JSON_OPERATORS | Operators[JsonSource](
    same={
        "model points": _put(
            "contour/*", lambda old: [old | {"modelPoints": value} for value in MODEL_POINTS]
        ),
        "number of points": _put("contour/*/imagePoints", lambda old: [old | {"numOfPoints": len(old["x"])}]),
        "the count as a float": _put("numOfContours", lambda count: [float(count)]),
    },
    left_out={
        "misspelt": _put("contour/*/contourType", ["rigde", "Rigde", "Ridge, Ridge"]),
        "wrong count": _put(
            "numOfContours",
            lambda n: [n + 1, n - 1, 0, -n, str(n), n + 0.5, None, [], True, {}, 1e300, 10**400],
        ),
        "field lost": _lose(
            "numOfContours contour contour/*/contourType|imagePoints contour/*/imagePoints/x|y"
        ),
        "contour no list": _put("contour", [None, 5, "Ridge", {}, True]),
        "contour no object": _put("contour/*", [None, 5, "Ridge", [], True]),
        "imagePoints no object": _put("contour/*/imagePoints", [None, 5, [], "5, 6", True]),
        "x no list": _put("contour/*/imagePoints/x", [None, 5, {}, "5, 6, 7", True, {"0": 5}]),
        "x longer than y": _put("contour/*/imagePoints/x|y", lambda old: [old[:-1], [*old, old[-1]]]),
        "contour lost or doubled": _put("contour", lambda old: [old[:-1], [*old, old[0]]]),
        "fewer than two points": _put(
            "contour/*/imagePoints",
            lambda old: [{axis: old[axis][:1] * count for axis in "xy"} for count in (0, 1, 2, 5)],
        ),
        "pairs": _put(
            "contour/*/imagePoints",
            lambda old: [
                pairs := [list(pair) for pair in zip(old["x"], old["y"], strict=True)],
                {"x": pairs, "y": pairs},
            ],
        ),
        "wrong number of points": _put(
            "contour/*/imagePoints",
            lambda old: [
                old | {"numOfPoints": change(len(old["x"]))}
                for change in (lambda n: n + 1, lambda n: n - 1, lambda n: -1, str, bool, lambda n: n + 0.5)
            ],
        ),
    },
    other={},
)
