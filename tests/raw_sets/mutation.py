"""Damaged and rewritten annotation files of which the right answer is known."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np

from .truth import Landmarks

Source = TypeVar("Source")
Rng = np.random.Generator


@dataclass(frozen=True)
class Mutation:
    """One mutated file.

    Attributes:
        operator: The name of what was done to it.
        data: The file.
        landmarks: What has to be read from it; None where the frame has to be left out.
    """

    operator: str
    data: bytes
    landmarks: Landmarks | None

    def __str__(self) -> str:
        text = self.data[:1500]
        return f"{self.operator} -> {'left out' if self.landmarks is None else 'read'}\n{text!r}"


@dataclass(frozen=True)
class Operators(Generic[Source]):
    """Mutation operators by what is right after them.

    Attributes:
        same: The file says what it said: the answer stays.
        left_out: The frame cannot be read.
        other: The file says something else; the operator knows what.
    """

    same: dict[str, Callable[[Rng, Source], bytes]]
    left_out: dict[str, Callable[[Rng, Source], bytes]]
    other: dict[str, Callable[[Rng, Source], tuple[bytes, Landmarks]]]

    def __or__(self, more: Operators[Source]) -> Operators[Source]:
        return Operators(self.same | more.same, self.left_out | more.left_out, self.other | more.other)

    def names(self) -> list[str]:
        """All operators."""
        return [*self.same, *self.left_out, *self.other]

    def apply(self, name: str, rng: Rng, source: Source, landmarks: Landmarks) -> Mutation:
        """The operator of that name on a source that says `landmarks`."""
        if name in self.same:
            return Mutation(name, self.same[name](rng, source), landmarks)
        if name in self.left_out:
            return Mutation(name, self.left_out[name](rng, source), None)
        return Mutation(name, *self.other[name](rng, source))

    def cycle(self, rng: Rng) -> Iterator[str]:
        """All names again and again, each time in another order, so that all of them are used alike."""
        while True:
            yield from rng.permutation(self.names()).tolist()


def choose(rng: Rng, values: list) -> object:
    """One of the values, of whatever types they are."""
    return values[int(rng.integers(len(values)))]


def in_another_case(rng: Rng, text: str) -> str:
    """The text in upper case, lower case or a mixture."""
    return choose(rng, [text.upper(), text.lower(), text.title(), text[0].lower() + text[1:].upper()])


def other_curves(rng: Rng, landmarks: Landmarks, size: tuple[int, int]) -> Landmarks:
    """Absent classes, several curves of one class, another order, points a little outside."""
    chosen = [landmarks[place] for place in rng.integers(0, len(landmarks), int(rng.integers(0, 6))).tolist()]
    curves = [{"category": curve["category"], "points": list(curve["points"])} for curve in chosen]
    for curve in curves:
        if rng.integers(2):
            curve["points"].reverse()
        if rng.integers(2):
            x, y = choose(rng, [(-0.5, 3.0), (5.0, -1.0), (size[0] - 0.5, 4.0), (5.0, float(size[1]))])
            curve["points"].append((x, y))
    return curves
