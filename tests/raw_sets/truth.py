"""What a raw set says, kept beside its files so that tests can compare."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

NAMES = ("ridge", "silhouette", "ligament")
Landmarks = list[dict[str, Any]]


@dataclass
class TrueFrame:
    """One frame of a raw set.

    Attributes:
        stem: The picture's name without its suffix.
        patient: The patient as the set's files name it, e.g. "18" in `Patient_18_00003.jpg`.
        split: train, validation or test; None where the set does not say.
        picture: The picture file.
        annotation: The file that holds its polylines or its mask; one file of all frames in CVAT's case.
        width, height: px of the picture as it is looked at.
        landmarks: The polylines in file order, px; multiples of ¼, which float32 holds exactly.
        depth: The depth map, if the set has one.
        others: Further annotation files of the frame by a name of their kind.
    """

    stem: str
    patient: str
    split: str | None
    picture: Path
    annotation: Path
    width: int
    height: int
    landmarks: Landmarks
    depth: Path | None = None
    others: dict[str, Path] = field(default_factory=dict)


@dataclass
class RawSet:
    """A folder and what is true of it."""

    root: Path
    frames: list[TrueFrame]

    def frame(self, stem: str) -> TrueFrame:
        """The frame of that stem."""
        return next(frame for frame in self.frames if frame.stem == stem)

    def of_split(self, split: str) -> list[TrueFrame]:
        """The frames of one split."""
        return [frame for frame in self.frames if frame.split == split]

    def relative(self, path: Path) -> str:
        """A path as reports should name it: below the set's folder."""
        return path.relative_to(self.root).as_posix()


def curves(seed: int, width: int, height: int, names: tuple[str, ...] = NAMES) -> Landmarks:
    """One bent polyline for each name, apart from each other by a quarter of the frame's height.

    Each goes from left to right with 3 to 6 points, in the order of `names`; coordinates are multiples
    of ¼ px.
    """
    rng = np.random.default_rng(seed)
    landmarks = []
    for name in names:
        row = (1 + NAMES.index(name)) * height / 4
        count = int(rng.integers(3, 7))
        x = np.linspace(0.12, 0.88, count) * width + rng.uniform(-0.02, 0.02, count) * width
        y = row + rng.uniform(-0.05, 0.05, count) * height
        points = [(float(round(4 * a) / 4), float(round(4 * b) / 4)) for a, b in zip(x, y, strict=True)]
        landmarks.append({"category": name, "points": points})
    return landmarks
