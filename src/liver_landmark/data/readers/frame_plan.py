"""What a reader finds in a raw folder before it looks at a pixel, and the plan that follows from it.

A reader gives `Found`, frame by frame. `finish_plan` looks across frames: names, patients and pictures that
occur twice, who is in which split, and the order of the set.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar

import numpy as np

from ...curves.formats import AnnotationError, FrameAnnotation
from ...curves.formats.annotation import one_line
from ...utils.frame_files import FrameError
from ..schema import SPLITS
from .pictures import PictureDigest, digest_picture
from .raw_folders import natural_key


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
        inputs: SHA-256 of the files that are read already, as they were then.
    """

    raw: Path
    frames: list[RawFrame] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    tolerated: Counter[str] = field(default_factory=Counter)
    pictures: int = 0
    inputs: dict[str, str] = field(default_factory=dict)

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


# Which split a patient is in: by folder, by name, or drawn from the patients' names and a seed.

# A patient or a picture that is in two splits stays in the first of these.
KEPT_FIRST: tuple[str, ...] = ("test", "validation", "train")
VALIDATION_SHARE, TEST_SHARE = 0.1, 0.2
_WAY_OUT = "name them: --validation-patients A,B --test-patients C, or --test-only for a set that tests"


@dataclass(frozen=True)
class SplitOptions:
    """How patients get their splits where folders do not decide.

    Attributes:
        seed: Of the draw.
        validation_patients: Named for validation; if these or `test_patients` are given, they decide
            alone, and all other patients train.
        test_patients: Named for test.
        test_only: All patients are in test.
    """

    seed: int = 0
    validation_patients: tuple[str, ...] = ()
    test_patients: tuple[str, ...] = ()
    test_only: bool = False

    def __post_init__(self) -> None:
        both = set(self.validation_patients) & set(self.test_patients)
        if both:
            raise ValueError(f"patient {min(both)!r} is named for validation and for test; choose one")
        if self.test_only and (self.validation_patients or self.test_patients):
            raise ValueError("--test-only puts every patient into test: name none beside it")

    @property
    def decide_alone(self) -> bool:
        """Whether folders are not asked."""
        return self.test_only or bool(self.validation_patients or self.test_patients)


def first_kept(splits: Iterable[str]) -> str:
    """Of several splits the one that a patient or picture stays in."""
    return min(splits, key=KEPT_FIRST.index)


def assign_splits(folder_splits: Mapping[str, str | None], options: SplitOptions) -> dict[str, str]:
    """The split of each patient.

    Args:
        folder_splits: Patient -> the split its folder says, or None where no folder does, for all alike.
        options: What else decides.

    Raises:
        ValueError: too few patients to draw from, or a named one that is not there.
    """
    patients = sorted(folder_splits, key=natural_key)
    if options.test_only:
        return dict.fromkeys(patients, "test")
    if options.decide_alone:
        return _named(patients, options)
    if None in folder_splits.values():
        if len(patients) < 3:
            raise ValueError(
                f"{len(patients)} patient(s) ({', '.join(patients)}): train, validation and test need one "
                f"each; {_WAY_OUT}"
            )
        drawn = _drawn_order(patients, options.seed)
        tests, validations = _share(TEST_SHARE, patients), _share(VALIDATION_SHARE, patients)
        named = dict.fromkeys(drawn[:tests], "test")
        named |= dict.fromkeys(drawn[tests : tests + validations], "validation")
        return {patient: named.get(patient, "train") for patient in patients}
    splits = {patient: split for patient, split in folder_splits.items() if split is not None}
    training = [patient for patient in patients if splits[patient] == "train"]
    if training and "validation" not in splits.values():
        if len(training) < 2:
            raise ValueError(
                f"only patient {training[0]!r} trains, and there is no validation folder; {_WAY_OUT}"
            )
        drawn = _drawn_order(training, options.seed)
        splits |= dict.fromkeys(drawn[: _share(VALIDATION_SHARE, training)], "validation")
    return splits


def _named(patients: list[str], options: SplitOptions) -> dict[str, str]:
    splits = dict.fromkeys(patients, "train")
    for split, names in (("validation", options.validation_patients), ("test", options.test_patients)):
        for name in names:
            if name not in splits:
                raise ValueError(
                    f"--{split}-patients names {name!r}, who is not there (there are: {', '.join(patients)})"
                )
            splits[name] = split
    return splits


def _share(share: float, patients: list[str]) -> int:
    return max(1, round(share * len(patients)))


def _drawn_order(patients: list[str], seed: int) -> list[str]:
    """The patients in an order that depends on their names and the seed alone."""

    def draw(patient: str) -> str:
        return hashlib.sha256(f"{seed}:{patient}".encode()).hexdigest()

    return sorted(patients, key=draw)


def check_trainable(frames: Mapping[str, int], before: Mapping[str, int]) -> None:
    """Refuses a set that misses a split which training or the raw folder has.

    Args:
        frames: Split -> frames that are left.
        before: Split -> frames that there were before problems were left out.

    Raises:
        ValueError: one line that says which split and the way out.
    """
    if not any(frames.values()):
        raise ValueError("no frame is left: every one of them has a problem")
    for split in SPLITS:
        if before.get(split) and not frames.get(split):
            raise ValueError(f"no frame of {split} is left: all {before[split]} have a problem")
    missing = [split for split in ("train", "validation") if not frames.get(split)]
    if len(missing) == 1:
        raise ValueError(f"no frame is for {missing[0]}, which training needs; {_WAY_OUT}")


# The plan.

# Each holds a file; more would wait for the disk.
_MAX_WORKERS = 4

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def finish_plan(found: Found, options: SplitOptions | None, workers: int = 1) -> Plan:
    """Makes a plan of what a reader found: every frame once, every patient in one split.

    Args:
        found: The reader's frames.
        options: How patients get their splits; None takes the folders' as they are, and draws none.
        workers: Threads that hash the files.

    Raises:
        ValueError: no frames, no usable splits; the line names the raw folder.
    """
    raw = found.raw
    if not found.frames:
        raise ValueError(
            f"{raw}: no frame with an annotation found"
            + (f"; first of {len(found.problems)} problems: {found.problems[0]}" if found.problems else "")
        )
    problems = list(found.problems)
    frames = sorted(_with_plain_names(found.frames, problems), key=_order)
    frames, unreadable, pictures, inputs = _hash_files(raw, frames, found.inputs, workers)
    problems += unreadable
    alone = options is not None and options.decide_alone
    frames = _one_place_of_splits(frames, alone, problems)
    frames = _one_split_a_patient(frames, alone, problems)
    try:
        if options is not None:
            splits = assign_splits({frame.patient_id: frame.split for frame in frames}, options)
            frames = [replace(frame, split=splits[frame.patient_id]) for frame in frames]
        before = Counter(frame.split for frame in frames)
        frames = _unique_ids(frames, problems)
        frames = _unique_pictures(frames, pictures, problems)
        check_trainable(Counter(frame.split for frame in frames), before)
    except ValueError as error:
        raise ValueError(f"{raw}: {error}") from error
    return Plan(
        raw=raw,
        frames={split: [frame for frame in frames if frame.split == split] for split in SPLITS},
        problems=sorted(problems, key=lambda problem: natural_key(problem.file)),
        tolerated=+found.tolerated,
        pictures=found.pictures,
        inputs=inputs,
    )


def _order(frame: RawFrame) -> tuple[object, ...]:
    return natural_key(frame.patient_id), natural_key(frame.frame_id), natural_key(frame.image)


def _with_plain_names(frames: list[RawFrame], problems: list[Problem]) -> list[RawFrame]:
    """Leaves out frames whose names cannot be written into a data set."""
    kept = []
    for frame in frames:
        broken = [file for file in frame.files if not file.isprintable()]
        if broken:
            problems.append(Problem(broken[0], "its name is not UTF-8 or cannot be printed: rename it"))
        else:
            kept.append(frame)
    return kept


def _hash_files(
    raw: Path, frames: list[RawFrame], known: Mapping[str, str], workers: int
) -> tuple[list[RawFrame], list[Problem], dict[str, PictureDigest], dict[str, str]]:
    """The frames whose files can be read with their pixel counts, problems, picture and file digests."""
    images = {frame.image for frame in frames}
    others = {file for frame in frames for file in frame.files} - images
    read = {file: known[file] for file in others & known.keys()}
    pictures = dict(_each(images, lambda file: _try(digest_picture, raw / file), workers))
    digests = read | dict(_each(others - read.keys(), lambda file: _try(file_digest, raw / file), workers))
    problems, kept = [], []
    for frame in frames:
        failed = next(
            (file for file in frame.files if isinstance(pictures.get(file, digests.get(file)), OSError)), None
        )
        if failed is None:
            kept.append(replace(frame, pixels=pictures[frame.image].pixels))
        else:
            error = pictures.get(failed, digests.get(failed))
            problems.append(Problem(failed, f"cannot be read: {error.strerror or error}"))
    inputs = {file: digest.file for file, digest in pictures.items() if isinstance(digest, PictureDigest)}
    inputs |= {file: digest for file, digest in digests.items() if isinstance(digest, str)}
    return kept, problems, pictures, dict(sorted(inputs.items()))


def _each(
    items: Iterable[_Item], work: Callable[[_Item], _Result], workers: int
) -> Iterable[tuple[_Item, _Result]]:
    ordered = sorted(items)
    with ThreadPoolExecutor(max(1, min(workers, _MAX_WORKERS))) as pool:
        yield from zip(ordered, pool.map(work, ordered), strict=True)


def _try(work: Callable[[Path], _Result], path: Path) -> _Result | OSError:
    try:
        # What is no regular file could keep its reader waiting for ever.
        if not path.is_file():
            return FileNotFoundError(0, "no regular file")
        return work(path)
    except OSError as error:
        return error


def file_digest(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _one_place_of_splits(frames: list[RawFrame], alone: bool, problems: list[Problem]) -> list[RawFrame]:
    """Where some frames lie in split folders, those that lie outside of them are left out."""
    outside = [frame for frame in frames if frame.split is None]
    if alone or not outside or len(outside) == len(frames):
        return frames
    problems += [
        Problem(frame.image, "lies outside of the folders that say which split a frame is in")
        for frame in outside
    ]
    return [frame for frame in frames if frame.split is not None]


def _one_split_a_patient(frames: list[RawFrame], alone: bool, problems: list[Problem]) -> list[RawFrame]:
    """Leaves out frames of patients that are in another split too; names differ by more than case."""
    splits: dict[str, set[str]] = defaultdict(set)
    names: dict[str, str] = {}
    for frame in frames:
        key = frame.patient_id.casefold()
        names.setdefault(key, frame.patient_id)
        if frame.split is not None:
            splits[key].add(frame.split)
    kept = []
    for frame in frames:
        key = frame.patient_id.casefold()
        stays = first_kept(splits[key]) if splits[key] else None
        if alone or frame.split == stays:
            kept.append(replace(frame, patient_id=names[key]))
        else:
            problems.append(
                Problem(frame.image, f"is in {frame.split}, but its patient {names[key]!r} is in {stays} too")
            )
    return kept


def _unique_ids(frames: list[RawFrame], problems: list[Problem]) -> list[RawFrame]:
    first: dict[str, RawFrame] = {}
    kept = []
    for frame in frames:
        # Names of result files follow from frame ids, and some file systems know no case.
        earlier = first.setdefault(frame.frame_id.casefold(), frame)
        if earlier is frame:
            kept.append(frame)
        else:
            problems.append(
                Problem(frame.image, f"gives the frame id {frame.frame_id!r}, as {earlier.image} does")
            )
    return kept


def _unique_pictures(
    frames: list[RawFrame], pictures: dict[str, PictureDigest], problems: list[Problem]
) -> list[RawFrame]:
    """Leaves out pictures that occur before, test before validation before train."""
    first: dict[str, RawFrame] = {}
    doubles: dict[str, RawFrame] = {}
    for frame in sorted(frames, key=lambda frame: KEPT_FIRST.index(frame.split)):
        content = pictures[frame.image].content
        if content is not None:
            earlier = first.setdefault(content, frame)
            if earlier is not frame:
                doubles[frame.image] = earlier
    problems += [
        Problem(frame.image, f"is the very picture {doubles[frame.image].image}, which is in {place}")
        for frame in frames
        if frame.image in doubles
        for place in [doubles[frame.image].split]
    ]
    return [frame for frame in frames if frame.image not in doubles]
