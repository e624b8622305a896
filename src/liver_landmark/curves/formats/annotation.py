"""What an annotation file says about one frame, and how files from strangers are read: bounded and strict."""

from __future__ import annotations

import json
import re
import reprlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any, TypedDict
from xml.etree.ElementTree import Element, ParseError, indent, tostring

import defusedxml.ElementTree
import numpy as np
from defusedxml import DefusedXmlException

from ...model.landmarks_liver_landmark import DEFAULT_LANDMARKS, LandmarkTable

# Far outside any frame; the rasterizer takes no more, and float32 still tells whole pixels apart.
LARGEST_COORDINATE_PX = 2.0**24
# How far outside a frame a point may lie: annotation tools round, and let the mouse reach the border.
OUTSIDE_TOLERANCE_PX = 1.0

# Strangers' values in messages: never more than a few words, never more than one line.
_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 60


class AnnotationError(ValueError):
    """An annotation that cannot be read; its text is one line: file, field, reason and way out.

    Attributes:
        file: The annotation file.
        reason: The line without the file.
        file_name: The frame's file name as the annotation gives it, where the error is one frame's.
    """

    def __init__(self, file: str | PathLike[str], reason: str, file_name: str | None = None) -> None:
        super().__init__(file, reason, file_name)
        self.file = str(file)
        self.reason = one_line(reason)
        self.file_name = file_name

    def __str__(self) -> str:
        return f"{one_line(self.file)}: {self.reason}"


def one_line(text: str) -> str:
    """`text` with line breaks and whatever else cannot be printed as Python's escapes."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def shown(value: object) -> str:
    """A value from a file for a message: its repr, shortened."""
    return _SHORT.repr(value)


class AnnotatedCurve(TypedDict):
    """One polyline, shaped as in the data sets' `landmarks` column."""

    category: str  # a landmark of the annotation's table
    points: Sequence[tuple[float, float]]  # (x, y) in px of the native frame


@dataclass(frozen=True)
class FrameAnnotation:
    """The curves annotated in one frame.

    Attributes:
        file_name: The frame's file as the annotation names it, folders included; None if it does not say.
        width: Frame width in px; None if the annotation does not say.
        height: Frame height in px; None if the annotation does not say.
        landmarks: `{"category": name, "points": [(x, y), …]}` in the file's order, open polylines in px of
            the native frame, x right, y down.
        tolerated: The labels, one for each curve, that were accepted although they are misspelt
            (`LabelMap.tolerated`). Not part of what is compared.
        table: The landmarks that there are, with their colors. Not part of what is compared.

    Raises:
        ValueError: a file name that no file can have, a size that is no positive integer, an unknown
            category, or a polyline that `check_points` refuses.
    """

    file_name: str | None
    width: int | None
    height: int | None
    landmarks: list[AnnotatedCurve]
    tolerated: tuple[str, ...] = field(default=(), compare=False)
    table: LandmarkTable = field(default=DEFAULT_LANDMARKS, compare=False)

    def __post_init__(self) -> None:
        if self.file_name is not None and (reason := file_name_fault(self.file_name)):
            raise ValueError(f"file_name {reason}")
        for name, pixels in (("width", self.width), ("height", self.height)):
            if pixels is not None and pixels < 1:
                raise ValueError(f"{name} is {pixels}, expected a positive number of px")
        for index, curve in enumerate(self.landmarks):
            if curve["category"] not in self.table.names:
                raise ValueError(
                    f"landmarks[{index}].category {shown(curve['category'])} is unknown: "
                    f"choose one of {', '.join(self.table.names)}"
                )
            if reason := points_fault(curve["points"]):
                raise ValueError(f"landmarks[{index}].points: {reason}")


def check_describes_frame(annotation: FrameAnnotation, format_name: str) -> tuple[str, int, int]:
    """File name, width and height in px for a format that needs them; a ValueError if one is missing."""
    name, width, height = annotation.file_name, annotation.width, annotation.height
    if name is None or width is None or height is None:
        raise ValueError(f"{format_name} needs file_name, width and height, got {name!r}, {width}, {height}")
    return name, width, height


def points_fault(points: Any) -> str | None:
    """Why (N, 2) numbers in px are no polyline, in a few words; None if they are one.

    A polyline has at least two different points (different as float32, which is how data sets store them),
    and every coordinate is finite and within ± 2**24 px.
    """
    array = np.asarray(points, dtype=np.float64)
    if array.ndim != 2 or array.shape[1] != 2:
        return f"{len(array)} point(s), expected at least two" if array.size == 0 else "expected (x, y) pairs"
    if not np.isfinite(array).all():
        return f"point {int(np.argmin(np.isfinite(array).all(1)))} is not finite"
    within = (np.abs(array) <= LARGEST_COORDINATE_PX).all(1)
    if not within.all():
        return f"point {int(np.argmin(within))} is beyond ± {LARGEST_COORDINATE_PX:.0f} px"
    if len(array) < 2:
        return "1 point, expected at least two"
    single = array.astype(np.float32)
    if (single == single[0]).all():
        return f"{len(array)} points at the same place, expected at least two different ones"
    return None


def file_name_fault(name: str) -> str | None:
    """Why no file can have this name, in a few words; None if one can."""
    if not name:
        return "is empty"
    # Lone surrogates get in by JSON's \uXXXX; neither UTF-8 nor a file system has them.
    if "\0" in name or any("\ud800" <= c <= "\udfff" for c in name):
        return f"{shown(name)} is no file name: it holds a null byte or half a character"
    return None


def check_inside(annotation: FrameAnnotation, width: int, height: int, file: str | PathLike[str]) -> int:
    """Refuses curves that leave the frame.

    Args:
        annotation: What was read.
        width: The frame's real width in px.
        height: The frame's real height in px.
        file: The annotation file, for the message.

    Returns:
        How many points lie outside of the pixel centers 0 … width - 1, 0 … height - 1, but by no more than
        1 px: tolerated.

    Raises:
        AnnotationError: a point further outside than that: x below -1 or above `width`, likewise y.
    """
    outside = 0
    for index, curve in enumerate(annotation.landmarks):
        points = np.asarray(curve["points"], dtype=np.float64)
        # How far each point lies beyond the frame, along the worse axis.
        excess = np.maximum(-points, points - (width - 1, height - 1)).max(1)
        if (excess > OUTSIDE_TOLERANCE_PX).any():
            worst = int(np.argmax(excess))
            x, y = points[worst]
            raise AnnotationError(
                file,
                f"landmarks[{index}] ({curve['category']}): point {worst} ({x:g}, {y:g}) lies outside of the "
                f"{width}×{height} px frame; was it drawn on another picture or size?",
                annotation.file_name,
            )
        outside += int((excess > 0).sum())
    return outside


# Numbers as strangers write them: strict where Python's own conversions are generous.

# `float` would also take "nan", "1_000", other scripts' digits.
_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_SPACE = " \t\r\n"


class FieldError(Exception):
    """What is wrong with a field, in a few words; the parser that knows file and field says where."""


def json_number(value: Any) -> float:
    """A JSON number; booleans and strings are none."""
    if type(value) not in (int, float):
        raise FieldError(f"is {shown(value)}, expected a number")
    return float(value)


def text_number(text: str) -> float:
    """A decimal number as text, with or without spaces around it."""
    stripped = text.strip(_SPACE)
    if not _NUMBER.fullmatch(stripped):
        raise FieldError(f"is {shown(stripped)}, expected a number")
    return float(stripped)


def text_numbers(text: str) -> list[float]:
    """Numbers with commas between them; none if the text is blank."""
    return [text_number(part) for part in text.split(",")] if text.strip(_SPACE) else []


def count(value: float, least: int = 0) -> int:
    """A whole number of things or px, at least `least`; 1920.0 is one."""
    if not (least <= value <= 2**31 and value == int(value)):
        raise FieldError(f"is {value:g}, expected a whole number of at least {least}")
    return int(value)


# Annotation files from strangers: bounded before they are parsed, parsed by nothing that they can drive.

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


# From the labels that annotators typed to landmarks.

# In the place of a landmark's name: leave curves of that label out. No landmark can be called so.
IGNORE = "ignore"


@dataclass(frozen=True)
class LabelMap:
    """Which landmark a label in a file means. Upper and lower case are the same.

    Attributes:
        classes: Label in lower case -> a landmark's name or "ignore".
        tolerated: Misspelt labels in lower case -> the same. They are read like the others, and
            `FrameAnnotation.tolerated` lists those that a file used, so that callers can count them.
        table: The landmarks that there are.
    """

    classes: Mapping[str, str]
    tolerated: Mapping[str, str] = field(default_factory=dict)
    table: LandmarkTable = DEFAULT_LANDMARKS

    def __post_init__(self) -> None:
        targets = (*self.table.names, IGNORE)
        for label, target in (*self.classes.items(), *self.tolerated.items()):
            if target not in targets:
                raise ValueError(
                    f"label {shown(label)} is mapped to {shown(target)}: choose one of {', '.join(targets)}"
                )
            if label != label.casefold():
                raise ValueError(f"label {shown(label)} has to be in lower case: {shown(label.casefold())}")

    @classmethod
    def of(cls, table: LandmarkTable) -> LabelMap:
        """The landmarks' own names."""
        return cls({name.casefold(): name for name in table.names}, table=table)

    @classmethod
    def parse(cls, entries: Iterable[str], table: LandmarkTable = DEFAULT_LANDMARKS) -> LabelMap:
        """The landmarks' own names, and entries such as "falciform=ligament" or "tool=ignore".

        An entry for a landmark's name replaces it. What stands after the last `=` is the class.

        Raises:
            ValueError: an entry without `=`, an empty label, an unknown class, a label with two classes.
        """
        given: list[tuple[str, str]] = []
        for entry in entries:
            label, equals, target = entry.rpartition("=")
            if not equals or not label:
                raise ValueError(
                    f"label map {shown(entry)}: expected LABEL=CLASS, such as falciform=ligament"
                )
            given.append((label, target))
        return cls._extended(given, table)

    @classmethod
    def read(cls, path: Path | str, table: LandmarkTable = DEFAULT_LANDMARKS) -> LabelMap:
        """The same from a JSON file: `{"falciform": "ligament", "tool": "ignore"}`.

        Raises:
            AnnotationError: unreadable, or no such mapping.
        """
        content = parse_json(read_annotation_bytes(path), path)
        if not isinstance(content, dict) or not all(isinstance(target, str) for target in content.values()):
            raise AnnotationError(path, 'expected one JSON object such as {"falciform": "ligament"}')
        try:
            return cls._extended(content.items(), table)
        except ValueError as error:
            raise AnnotationError(path, str(error)) from None

    @classmethod
    def _extended(cls, given: Iterable[tuple[str, str]], table: LandmarkTable) -> LabelMap:
        own = cls.of(table).classes
        classes: dict[str, str] = {}
        for label, target in given:
            # In the landmark's own spelling.
            key, target = label.casefold(), own.get(target.casefold(), target.casefold())
            if classes.setdefault(key, target) != target:
                raise ValueError(f"label {shown(label)} is mapped to {classes[key]} and to {shown(target)}")
        return cls({**own, **classes}, table=table)

    def category(self, label: str, file: str | PathLike[str], field: str = "label") -> str | None:
        """The landmark that a label means; None leaves its curve out.

        Args:
            label: As it stands in the file.
            file: The annotation file, for the message.
            field: Where in the file, for the message.

        Raises:
            AnnotationError: an unknown label; the line names the known ones.
        """
        key = label.casefold()
        target = self.classes.get(key) or self.tolerated.get(key)
        if target is None:
            raise AnnotationError(
                file,
                f"{field} {shown(label)} is unknown; known are {', '.join(map(shown, self.classes))}: "
                "map it to one of the classes or to ignore",
            )
        return None if target == IGNORE else target

    def is_tolerated(self, label: str) -> bool:
        """Whether a label is one of the misspelt ones."""
        key = label.casefold()
        return key in self.tolerated and key not in self.classes


DEFAULT_LABELS = LabelMap.of(DEFAULT_LANDMARKS)
# L3D's files spell ridge in both ways.
L3D_LABELS = LabelMap(DEFAULT_LABELS.classes, tolerated={"rigde": "ridge"})


# Writing XML: text that it can hold, one layout for every format.

# XML 1.0 has no way to write the other characters, escaped or not.
_UNWRITABLE = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def xml_document(root: Element, space: str = "  ") -> str:
    """The document as text, indented by `space`, ending in a line break.

    Raises:
        ValueError: text that XML cannot hold, such as control characters.
    """
    _check(root)
    indent(root, space)
    return f'<?xml version="1.0" encoding="utf-8"?>\n{tostring(root, encoding="unicode")}\n'


def xml_fragment(element: Element, level: int, space: str = "  ") -> str:
    """One element of a document as `xml_document` lays it out, `level` levels deep, with its own line break.

    Raises:
        ValueError: as `xml_document`.
    """
    _check(element)
    indent(element, space, level)
    return f"{space * level}{tostring(element, encoding='unicode').rstrip()}\n"


def _check(root: Element) -> None:
    for element in root.iter():
        for text in (element.text or "", *element.attrib.values()):
            if _UNWRITABLE.search(text):
                raise ValueError(f"{element.tag}: XML cannot hold {shown(text)}: rename it")
