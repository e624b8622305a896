"""Mutations of P2ILF's XML, by what it says."""

from __future__ import annotations

import re
from collections.abc import Callable

from .mutation import Operators, Rng, choose, in_another_case, other_curves
from .p2ilf import contours_xml
from .p2ilf_json_mutations import WRONG_TYPES
from .truth import Landmarks, TrueFrame
from .xml_mutations import XML_OPERATORS, XmlSource, replaced, tags

NO_NUMBERS = ["nan", "NaN", "inf", "-Infinity", "1e400", "0x10", "1_0", "٥", "--5", "5.5.5", "5px", "True"]
NO_NUMBERS += ["", "½", "5 6", "5;6", "5, 6", "1e30", "-20000000", "None", "1" * 5_000, "5e", "e5", "."]


def xml_source(frame: TrueFrame) -> XmlSource:
    """The frame's contours as the challenge's XML."""
    return XmlSource(contours_xml(frame.landmarks), "contours")


def _element(rng: Rng, text: str, name: str) -> re.Match[str]:
    """One of the elements of that name; group 1 is what stands in it."""
    return choose(rng, tags(text, f"<{name}>(.*?)</{name}>"))


def _image_points(rng: Rng, text: str, change: Callable[[str], str]) -> bytes:
    """Changes the inside of one contour's imagePoints."""
    found = choose(rng, list(re.finditer(r"<imagePoints>.*?</imagePoints>", text, re.DOTALL)))
    return replaced(text, found, change(found[0])).encode()


def _number_replaced(numbers: list[str]) -> Callable[[Rng, XmlSource], bytes]:
    def operator(rng: Rng, source: XmlSource) -> bytes:
        found = _element(rng, source.text, choose(rng, ["x", "y"]))
        items = found[1].split(", ")
        items[int(rng.integers(len(items)))] = choose(rng, numbers)
        return _with_text(source.text, found, ", ".join(items))

    return operator


def _with_text(text: str, found: re.Match[str], inside: str) -> bytes:
    return (text[: found.start(1)] + inside + text[found.end(1) :]).encode()


def _set_text(name: str, values: list[str]) -> Callable[[Rng, XmlSource], bytes]:
    return lambda rng, source: _with_text(source.text, _element(rng, source.text, name), choose(rng, values))


def _count_off(rng: Rng, source: XmlSource) -> bytes:
    # modelPoints has a numOfPoints of its own, which says nothing here.
    text = source.text
    if rng.integers(2):
        found = _element(rng, text, "numOfContours")
        return _with_text(text, found, _off(rng, int(found[1])))
    return _image_points(
        rng, text, lambda points: re.sub(r"(?<=<numOfPoints>)\d+", lambda m: _off(rng, int(m[0])), points)
    )


def _off(rng: Rng, count: int) -> str:
    values = [count + 1, count - 1, 0, -count, count + 0.5, "", "many", "nan", "1e400", f"{count} {count}"]
    return str(choose(rng, values))


def _one_axis(rng: Rng, source: XmlSource) -> bytes:
    found = _element(rng, source.text, choose(rng, ["x", "y"]))
    items = found[1].split(", ")
    return _with_text(source.text, found, ", ".join(items[:-1] if rng.integers(2) else [*items, items[-1]]))


def _points_lost(rng: Rng, source: XmlSource) -> bytes:
    """The same number of x and y is missing, so that only the count shows it."""
    return _image_points(rng, source.text, lambda points: re.sub(r", [\d.]+(?=</[xy]>)", "", points))


def _element_lost(rng: Rng, source: XmlSource) -> bytes:
    name = choose(rng, ["numOfContours", "contourType", "x", "y", "imagePoints", "contour"])
    found = choose(rng, list(re.finditer(rf"<{name}>.*?</{name}>", source.text, re.DOTALL)))
    return replaced(source.text, found, choose(rng, ["", 2 * found[0]])).encode()


def _short_curve(rng: Rng, source: XmlSource) -> bytes:
    count = int(choose(rng, [0, 1, 2, 4]))
    numbers = ", ".join(["9"] * count)
    points = f"<imagePoints><numOfPoints>{count}</numOfPoints><x>{numbers}</x><y>{numbers}</y></imagePoints>"
    return _image_points(rng, source.text, lambda _: points)


def _separators(rng: Rng, source: XmlSource) -> bytes:
    def other(found: re.Match[str]) -> str:
        return re.sub(", ", lambda _: choose(rng, [",", ", ", " , ", ",\n\t\t\t", ",\t"]), found[0])

    return re.sub(r"<([xy])>.*?</\1>", other, source.text).encode()


def _spelled(rng: Rng, source: XmlSource) -> bytes:
    def other(number: re.Match[str]) -> str:
        value = float(number[0])
        spellings = [
            number[0],
            f"{value:.6f}",
            repr(value),
            f"{round(value * 100)}e-2",
            f"{value / 10:.9f}E+1",
        ]
        return choose(rng, spellings)

    return re.sub(
        r"<([xy])>.*?</\1>", lambda found: re.sub(r"(?<![\w<])[\d.]+", other, found[0]), source.text
    ).encode()


def _marked_up(rng: Rng, source: XmlSource) -> bytes:
    """Character references, CDATA and comments inside of a text."""
    found = _element(rng, source.text, choose(rng, ["x", "y", "contourType", "numOfContours"]))
    first, rest = found[1][0], found[1][1:]
    forms = [f"<![CDATA[{found[1]}]]>", f"&#{ord(first)};{rest}", f"&#x{ord(first):x};{rest}"]
    forms += [f"{first}<!-- the first -->{rest}", f"{first}<![CDATA[{rest}]]>", f"{first}<?pi?>{rest}"]
    return _with_text(source.text, found, choose(rng, forms))


def _other_model(rng: Rng, source: XmlSource) -> bytes:
    models = ["", "<modelPoints/>", "<modelPoints>none</modelPoints>", "<modelPoints><x>1</x></modelPoints>"]
    models += ["<modelPoints><numOfPoints>99</numOfPoints><vertices>1</vertices></modelPoints>"]
    return re.sub(
        r"<modelPoints>.*?</modelPoints>", lambda _: choose(rng, models), source.text, flags=re.DOTALL
    ).encode()


def _type_in_another_case(rng: Rng, source: XmlSource) -> bytes:
    found = _element(rng, source.text, "contourType")
    return _with_text(source.text, found, in_another_case(rng, found[1]))


def xml_operators(landmarks: Landmarks, size: tuple[int, int]) -> Operators[XmlSource]:
    """The operators on the XML of a frame of that size (width, height) in px with those landmarks."""

    def changed_curves(rng: Rng, source: XmlSource) -> tuple[bytes, Landmarks]:
        curves = other_curves(rng, landmarks, size)
        return contours_xml(curves).encode(), curves

    far = ["-3", "-10.5", "-1000", str(max(size) + 3), str(10 * max(size)), "16000000"]
    return XML_OPERATORS | Operators(
        same={
            "separators": _separators,
            "numbers spelled otherwise": _spelled,
            "mark-up in a text": _marked_up,
            "other model points": _other_model,
            "type's case": _type_in_another_case,
        },
        left_out={
            "no number": _number_replaced(NO_NUMBERS),
            "outside": _number_replaced(far),
            "wrong count": _count_off,
            "x longer than y": _one_axis,
            "points lost": _points_lost,
            "element lost or doubled": _element_lost,
            "fewer than two points": _short_curve,
            "unknown type": _set_text("contourType", WRONG_TYPES),
        },
        other={"other curves": changed_curves},
    )
