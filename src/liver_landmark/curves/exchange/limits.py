"""Annotation files from strangers: bounded before they are parsed, parsed by nothing that they can drive."""

from __future__ import annotations

import json
import re
from collections import Counter
from os import PathLike
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, ParseError

import defusedxml.ElementTree
from defusedxml import DefusedXmlException

from .annotation import AnnotationError, one_line, shown

# labelme keeps the picture in the file, as base64; it is cut out before anything is decoded, because one
# rare character makes Python take four bytes for each.
MAX_FILE_BYTES = 2**26
MAX_TEXT_BYTES = 2**24
_PICTURE = re.compile(rb'("imageData"\s*:\s*")[A-Za-z0-9+/=]+(?=")')
# Of numbers, say, of which a thousand frames of hand-drawn curves have a fifth. Parsed, this takes some
# 200 MiB at the most: two threads of a build may meet two such files, and stay within a gibibyte.
MAX_VALUES = 1_000_000

# What every value stands beside, base64 does not have, and can be counted before parsing; with how many
# numbers' memory it takes at the most.
_JSON_MARKS = {b",": 1, b"[": 1, b"{": 1, b":": 1}
_XML_MARKS = {b",": 1, b";": 1, b"<": 4, b"=": 4}
_DECLARED_ENCODING = re.compile(r"""\s*<\?xml[^>]*?\sencoding\s*=\s*["']([^"'>]*)""")


def read_annotation_bytes(path: Path | str) -> bytes:
    """Reads an annotation file of at most 64 MiB.

    Raises:
        AnnotationError: missing, no regular file, unreadable, empty or too large.
    """
    path = Path(path)
    try:
        if path.is_dir():
            raise AnnotationError(path, "a folder, expected an annotation file")
        if path.exists() and not path.is_file():
            raise AnnotationError(path, "not a regular file")
        with path.open("rb") as file:
            # One byte more than allowed tells a file that is too large, and one that is still growing.
            data = file.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        raise AnnotationError(path, "no such file") from None
    except OSError as error:
        raise AnnotationError(path, f"cannot be read: {error.strerror or error}") from error
    _check_size(data, path)
    return data


def parse_json(data: bytes, file: str | PathLike[str]) -> Any:
    """JSON as the standard has it: UTF-8, no NaN, no key twice in one object.

    Integers of more than 15 digits come as floats, so that no digits are too many; `imageData`, labelme's
    picture, comes as an empty string.

    Raises:
        AnnotationError: anything else, and what is beyond the limits.
    """
    _check_size(data, file)
    # Inside of a string the quotes would be escaped, so this is a key and its value.
    text = _decode(_PICTURE.sub(rb"\1", data), file, _JSON_MARKS)

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        content = dict(pairs)
        if len(content) < len(pairs):
            (twice, _), *_ = Counter(name for name, _ in pairs).most_common(1)
            raise AnnotationError(file, f"key {shown(twice)} stands twice in one object: which is meant?")
        return content

    def refuse(constant: str) -> None:
        raise AnnotationError(file, f"holds {constant}, which JSON does not have")

    try:
        return json.loads(text, object_pairs_hook=unique, parse_constant=refuse, parse_int=_integer)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise AnnotationError(file, f"not JSON, or truncated: {error.msg} at {where}") from None
    except RecursionError:
        raise AnnotationError(file, "nested too deeply for an annotation") from None


def _integer(digits: str) -> int | float:
    return int(digits) if len(digits) <= 15 else float(digits)


def parse_xml(data: bytes, file: str | PathLike[str]) -> Element:
    """The root of an XML document without document type, entities and external references, in UTF-8.

    Raises:
        AnnotationError: anything else, and what is beyond the limits.
    """
    _check_size(data, file)
    text = _decode(data, file, _XML_MARKS)
    declared = _DECLARED_ENCODING.match(text)
    if declared and declared[1].lower() not in ("utf-8", "utf8", "us-ascii", "ascii"):
        raise AnnotationError(file, f"declares the encoding {shown(declared[1])}: save it as UTF-8")
    try:
        return defusedxml.ElementTree.fromstring(text, forbid_dtd=True)
    except ParseError as error:
        raise AnnotationError(file, f"not XML, or truncated: {one_line(str(error))}") from None
    except DefusedXmlException:
        raise AnnotationError(file, "holds a document type or entities: remove them") from None


def _check_size(data: bytes, file: str | PathLike[str]) -> None:
    if not data:
        raise AnnotationError(file, "empty file")
    if len(data) > MAX_FILE_BYTES:
        raise AnnotationError(file, f"larger than the limit of {MAX_FILE_BYTES} bytes")


def _decode(data: bytes, file: str | PathLike[str], marks: dict[bytes, int]) -> str:
    if len(data) > MAX_TEXT_BYTES:
        raise AnnotationError(file, f"holds more than the limit of {MAX_TEXT_BYTES} bytes of text: split it")
    # Neither format has null bytes, but the XML parser takes UTF-16 without a mark for what it is.
    if data.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in data:
        raise AnnotationError(file, "is UTF-16 or no text: save it as UTF-8")
    if sum(weight * data.count(mark) for mark, weight in marks.items()) > MAX_VALUES:
        raise AnnotationError(file, f"holds more than the limit of {MAX_VALUES} values: split it")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise AnnotationError(file, f"not UTF-8: byte {error.start} does not fit: save it as UTF-8") from None
