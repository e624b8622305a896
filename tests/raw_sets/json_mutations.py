"""Mutations of any JSON annotation, by its text: damage, encodings, spellings."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from .mutation import Operators, Rng, choose

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
