"""Mutations of annotation files with known answers, and the reading of sets that hold them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import numpy as np
import pytest

from liver_landmark.data.readers import Found, Problem, ProblemError, SplitOptions, finish_plan, read_row

from .truth import Landmarks, RawSet, TrueFrame

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


def other_cases(text: str) -> list[str]:
    """The text in upper case, lower case and a mixture."""
    return [text.upper(), text.lower(), text.title(), text[0].lower() + text[1:].upper()]


def spelling(rng: Rng, value: float) -> str:
    """A multiple of ¼ as JSON, Python and XML's readers of numbers may meet it."""
    spellings = [repr(float(value)), f"{value:.6f}", f"{round(value * 100)}e-2", f"{value / 10:.10f}E+1"]
    if value == int(value):
        spellings += [str(int(value)), f"{int(value)}e0", f"{int(value)}.000"]
    return choose(rng, spellings)


def truncated(rng: Rng, text: str) -> bytes:
    """The text without its end."""
    return text[: int(rng.integers(1, len(text.rstrip())))].encode()


def constant(*files: bytes) -> Callable[[Rng, Any], bytes]:
    """An operator that gives one of the files, whatever it is given."""
    return lambda rng, source: choose(rng, list(files))


def curves_changed(rng: Rng, source: Any) -> tuple[bytes, Landmarks]:
    """An operator that writes other curves into a source that has `landmarks`, `size` and `write`."""
    curves = other_curves(rng, source.landmarks, source.size)
    return source.write(curves).encode(), curves


def other_curves(rng: Rng, landmarks: Landmarks, size: tuple[int, int]) -> Landmarks:
    """Absent classes, several curves of one class, another order, points said twice or a little outside."""
    chosen = [landmarks[place] for place in rng.integers(0, len(landmarks), int(rng.integers(0, 6))).tolist()]
    curves = [{"category": curve["category"], "points": list(curve["points"])} for curve in chosen]
    for curve in curves:
        if rng.integers(2):
            curve["points"].reverse()
        if rng.integers(2):
            curve["points"].insert(1, curve["points"][0])
        if rng.integers(2):
            x, y = choose(rng, [(-0.5, 3.0), (5.0, -1.0), (size[0] - 0.5, 4.0), (5.0, float(size[1]))])
            curve["points"].append((x, y))
    return curves


PER_SEED = 100
# 2,000 mutated files a reader; 200 of them in the default run.
SEEDS = [pytest.param(seed, marks=pytest.mark.slow if seed >= 2 else ()) for seed in range(20)]
# Narrow strokes on the frame itself: quickly drawn.
PROTOCOL = "p2ilf"
Find = Callable[[], Found]
TEST_ONLY = SplitOptions(test_only=True)


@dataclass
class Reading:
    """What a reader made of a raw set.

    Attributes:
        rows: The set's rows by picture file below the raw folder.
        problems: One for each file that was left out.
        refused: The line for which nothing at all was read.
    """

    rows: dict[str, dict[str, Any]] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    refused: str = ""


def read_set(find: Find, protocol: str = PROTOCOL) -> Reading:
    """All frames through one reader; only the documented errors are caught."""
    reading = Reading()
    try:
        plan = finish_plan(find(), TEST_ONLY)
    except ValueError as error:
        return Reading(refused=str(error))
    reading.problems += plan.problems
    for frame in plan.frames["test"]:
        try:
            reading.rows[frame.image], _ = read_row(plan.raw, frame, protocol)
        except ProblemError as error:
            reading.problems.append(error.problem)
    return reading


def plain(landmarks: Landmarks) -> list[tuple[str, list[tuple[float, float]]]]:
    """Polylines as values that compare, rounded to float32 as the set stores them."""
    return [
        (curve["category"], [(float(np.float32(x)), float(np.float32(y))) for x, y in curve["points"]])
        for curve in landmarks
    ]


def check_answer(raw: RawSet, reading: Reading, frame: TrueFrame, mutation: Mutation) -> None:
    """Fails where a frame is read that has to be left out, is left out silently, or is read otherwise."""
    row = reading.rows.get(raw.relative(frame.picture))
    if mutation.landmarks is None:
        assert row is None, f"{frame.stem} was read as {plain(row['landmarks'])} after {mutation}"
        names = {raw.relative(path) for path in (frame.annotation, frame.picture)}
        lines = [str(problem) for problem in reading.problems if problem.file in names]
        if reading.refused.startswith(str(raw.root)):
            lines = [reading.refused]
        assert lines, f"no line names {frame.stem} after {mutation}: {reading}"
        for line in lines:
            assert line.isprintable(), f"not one plain line after {mutation}: {line!r}"
            assert len(line) < 600, f"too long a line after {mutation}: {line!r}"
    else:
        assert row is not None, f"{frame.stem} was left out after {mutation}: {reading}"
        assert plain(row["landmarks"]) == plain(mutation.landmarks), f"{frame.stem} is wrong after {mutation}"


def fuzz(
    raw: RawSet,
    seed: int,
    operators: Operators[Any],
    source_of: Callable[[TrueFrame], Any],
    find: Find,
    protocol: str = PROTOCOL,
) -> None:
    """`PER_SEED` mutations of one seed, as many at a time as the set has frames.

    Args:
        raw: The set; its files are as they were afterward.
        seed: Decides the order of the operators and what each of them does.
        operators: What is done to the files.
        source_of: What they work on, of one frame.
        find: What looks for the set's frames.
        protocol: How labels are drawn.
    """
    rng = np.random.default_rng(seed)
    names = operators.cycle(rng)
    for start in range(0, PER_SEED, len(raw.frames)):
        mutations = [
            (frame, operators.apply(next(names), rng, source_of(frame), frame.landmarks))
            for frame in raw.frames[: PER_SEED - start]
        ]
        check_mutated(raw, mutations, find, protocol)


def check_mutated(
    raw: RawSet,
    mutations: list[tuple[TrueFrame, Mutation]],
    find: Callable[[], Found],
    protocol: str = PROTOCOL,
) -> None:
    """Puts a mutated file in the place of each frame's own, reads the set, and puts them back."""
    kept = {frame.annotation: frame.annotation.read_bytes() for frame, _ in mutations}
    try:
        for frame, mutation in mutations:
            frame.annotation.write_bytes(mutation.data)
        try:
            reading = read_set(find, protocol)
        except Exception as error:
            error.add_note("after one of\n" + "\n".join(str(mutation) for _, mutation in mutations))
            raise
    finally:
        for path, data in kept.items():
            path.write_bytes(data)
    for frame, mutation in mutations:
        check_answer(raw, reading, frame, mutation)
