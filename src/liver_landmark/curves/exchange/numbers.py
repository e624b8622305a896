"""Numbers as strangers write them: strict where Python's own conversions are generous."""

from __future__ import annotations

import re
from typing import Any

from .annotation import shown

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
