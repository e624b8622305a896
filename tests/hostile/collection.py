"""A file of the collection, and what a run has to make of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np


class Outcome(Enum):
    """What a run has to make of a file."""

    GOOD = "every frame is predicted, with the right pixels"
    BAD = "named with a reason, and nothing is predicted"
    BROKEN = "named with a reason; what is predicted are the first of the right frames"
    DAMAGED = "what is predicted are the first of the right frames; named if it is not all of them"


@dataclass(frozen=True)
class HostileInput:
    """One file of the collection.

    Attributes:
        path: Where it lies.
        family: What is wrong with it, in a few words.
        outcome: What a run has to make of it.
        frames: (H, W, 3) uint8 RGB, the right pixels: one of a picture, all of a video.
        at_least: How many of them have to be predicted, where it is BROKEN.
        is_video: Whether it is to be read as a video.
    """

    path: Path
    family: str
    outcome: Outcome
    frames: tuple[np.ndarray, ...] = ()
    at_least: int = 0
    is_video: bool = False


class Collection:
    """Files that are being made in one folder, numbered by family."""

    def __init__(self, folder: Path, most: int | None = None) -> None:
        """Makes the folder; of each family at most `most` files are taken up."""
        self.folder = folder
        self.inputs: list[HostileInput] = []
        self._most = most
        self._counts: Counter[str] = Counter()
        folder.mkdir(parents=True, exist_ok=True)

    def wants(self, family: str) -> bool:
        """Whether there is room for another file of that family."""
        return self._most is None or self._counts[family] < self._most

    def add(
        self,
        family: str,
        suffix: str,
        data: bytes,
        outcome: Outcome,
        frames: Sequence[np.ndarray] = (),
        **more: Any,
    ) -> None:
        """Writes the bytes under a name that says the family, if there is room; options are `note`'s."""
        if self.wants(family):
            path = self.folder / f"{family.replace(' ', '-')}-{self._counts[family] + 1:03d}{suffix}"
            path.write_bytes(data)
            self.note(path, family, outcome, frames, **more)

    def note(
        self, path: Path, family: str, outcome: Outcome, frames: Sequence[np.ndarray] = (), **more: Any
    ) -> None:
        """Takes up a file that is there; options are further fields of HostileInput."""
        self._counts[family] += 1
        self.inputs.append(HostileInput(path, family, outcome, tuple(frames), **more))
