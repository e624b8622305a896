"""What a reader finds in a raw folder before it looks at a pixel: frames, problems, what was let pass."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np

from ...curves.exchange import AnnotationError, FrameAnnotation
from ...curves.exchange.annotation import one_line
from ...frame_files import FrameError


def check_source(source: str) -> None:
    """A ValueError where a set's `source` is no plain name: it stands in cards and file names."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", source):
        raise ValueError(f"source {source!r}: use letters, digits, '.', '_' and '-'")


@dataclass(frozen=True)
class Problem:
    """Why a file did not get into the set; its text is one line.

    Attributes:
        file: The file, below the raw folder.
        reason: What is wrong with it, and where it is not obvious the way out.
    """

    file: str
    reason: str

    def __str__(self) -> str:
        return one_line(f"{self.file}: {self.reason}")


class ProblemError(ValueError):
    """One frame cannot be read; `problem` is its line."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(str(problem))
        self.problem = problem


def problem_of(file: str, error: AnnotationError | FrameError, path: Path) -> Problem:
    """The problem that an error about `file` states, `path` being where the file lies."""
    if isinstance(error, AnnotationError):
        return Problem(file, error.reason)
    return Problem(file, " ".join(str(error).removeprefix(f"{path}: ").split()))


@dataclass
class FrameLabels:
    """What one frame's annotation says.

    Attributes:
        annotation: Its polylines, and the size of the frame that they were drawn on where that is known.
        file: The file they stand in, below the raw folder.
        mask: (H, W) uint8 class ids, where the source is a mask.
        stroke_width_px: Of the mask's strokes, 0 where it shows none.
        tolerated: Irregularities that were let pass, by name.
    """

    annotation: FrameAnnotation
    file: str
    mask: np.ndarray | None = None
    stroke_width_px: float = 0.0
    tolerated: Counter[str] = field(default_factory=Counter)


class AnnotationSource(Protocol):
    """Where a frame's annotation stands, and how it is read."""

    # How many pictures of the frame's size reading it decodes.
    decoded_pictures: ClassVar[int]

    @property
    def files(self) -> tuple[str, ...]:
        """The files it is read from, below the raw folder."""

    def read(self, raw: Path) -> FrameLabels:
        """Reads it; a ProblemError names the file that is at fault."""


@dataclass(frozen=True)
class Camera:
    """A pinhole camera with distortion.

    Attributes:
        file: Where it was read, below the raw folder.
        values: The schema's `camera`: fx, fy, cx, cy in px and k.
        width: px of the frames that it is of; None where the file does not say.
        height: Likewise.
    """

    file: str
    values: dict[str, Any]
    width: int | None
    height: int | None


@dataclass(frozen=True)
class RawFrame:
    """A frame that may get into the set.

    Attributes:
        frame_id: Its name in the set.
        patient_id: Whose frame it is.
        split: `train`, `validation` or `test`; None where the folders do not say.
        source: The schema's `source`.
        image: Picture file, below the raw folder.
        annotation: Its annotation.
        depth: Depth map, below the raw folder, if there is one.
        camera: Its camera, if known.
        pixels: Width × height as the picture's header says; None where that was not found.
    """

    frame_id: str
    patient_id: str
    split: str | None
    source: str
    image: str
    annotation: AnnotationSource
    depth: str | None = None
    camera: Camera | None = None
    pixels: int | None = None

    @property
    def decoded_pixels(self) -> int | None:
        """How many pixels reading it decodes at once; None where that is unknown."""
        return None if self.pixels is None else self.pixels * (1 + self.annotation.decoded_pictures)

    @property
    def files(self) -> tuple[str, ...]:
        """All files that the frame is read from."""
        depth = () if self.depth is None else (self.depth,)
        camera = () if self.camera is None else (self.camera.file,)
        return (self.image, *self.annotation.files, *depth, *camera)


@dataclass
class Found:
    """What a reader found in a raw folder, frame by frame; `finish_plan` looks across frames.

    Attributes:
        raw: The raw folder.
        frames: Frames that have all they need.
        problems: Files that do not get into the set.
        tolerated: Irregularities that were let pass, by name.
        pictures: How many frames there are, usable or not.
    """

    raw: Path
    frames: list[RawFrame] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    tolerated: Counter[str] = field(default_factory=Counter)
    pictures: int = 0

    def problem(self, path: Path, reason: str) -> None:
        """Notes a problem with a file."""
        self.problems.append(Problem(path.relative_to(self.raw).as_posix(), reason))


@dataclass(frozen=True)
class Plan:
    """What a build reads and in which order.

    Attributes:
        raw: The raw folder.
        frames: The frames of each split, in the set's order; no patient and no picture is in two splits.
        problems: Files that do not get into the set, by name.
        tolerated: Irregularities that were let pass, by name.
        pictures: How many frames the raw folder holds, usable or not.
        inputs: SHA-256 of each file that the frames are read from.
    """

    raw: Path
    frames: dict[str, list[RawFrame]]
    problems: list[Problem]
    tolerated: Counter[str]
    pictures: int
    inputs: dict[str, str]
