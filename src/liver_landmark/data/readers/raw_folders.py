"""A raw folder: what lies in it, whose frame a file is, and in which split."""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ...utils.frame_files import SUFFIXES
from ..schema import SPLITS

# ----------------------------------------------------------------------------------------------------
# Looking around in a raw folder: what lies there, in an order that does not depend on the machine.


def natural_key(text: str) -> tuple[tuple[tuple[int, int | str], ...], str]:
    """Sorts numbers in names as numbers: frame 9 before frame 10."""
    parts = re.split(r"([0-9]+)", text)
    return tuple((0, int(part)) if part.isdecimal() else (1, part) for part in parts), text


def check_raw_folder(raw: Path) -> None:
    """Raises a FileNotFoundError or NotADirectoryError that names the folder."""
    if not raw.exists():
        raise FileNotFoundError(f"{raw}: no such folder")
    if not raw.is_dir():
        raise NotADirectoryError(f"{raw}: not a folder")


def relative(raw: Path, path: Path) -> str:
    """A path as reports name it: below the raw folder, with forward slashes."""
    return path.relative_to(raw).as_posix()


def subfolders(folder: Path) -> list[Path]:
    """The folders directly below, without hidden ones."""
    found = [path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")]
    return sorted(found, key=lambda path: natural_key(path.name))


def folders_named(folder: Path, *names: str) -> list[Path]:
    """The folders directly below that bear one of the names, in any case."""
    wanted = {name.casefold() for name in names}
    return [path for path in subfolders(folder) if path.name.casefold() in wanted]


def files_in(folder: Path, suffixes: Sequence[str]) -> tuple[list[Path], int]:
    """The files directly below with one of the suffixes, in any case, and how many others lie there.

    Hidden files count as neither: some systems put one beside each file that is copied.
    """
    entries = [path for path in folder.iterdir() if not path.name.startswith(".") and not path.is_dir()]
    found = [path for path in entries if path.suffix.lower() in suffixes]
    return sorted(found, key=lambda path: natural_key(path.name)), len(entries) - len(found)


def pictures_in(folder: Path) -> tuple[list[Path], int]:
    """The pictures directly below a folder, and how many other files lie there."""
    return files_in(folder, SUFFIXES)


def folders_below(folder: Path) -> list[Path]:
    """The folder and all below it, without hidden ones.

    Links to folders are followed, but no folder is entered twice, and none that the first one lies in: what a
    stranger links costs no more time than it has folders, and brings nobody's other data in.
    """
    top = folder.resolve()
    found, entered, waiting = [], set(), deque([folder])
    while waiting:
        place = waiting.popleft()
        real = place.resolve()
        if real in entered or real in top.parents:
            continue
        entered.add(real)
        found.append(place)
        # Links last: a folder that lies here itself is known by that name.
        inner = subfolders(place)
        waiting.extendleft(path for path in reversed(inner) if not path.is_symlink())
        waiting.extend(path for path in inner if path.is_symlink())
    return found


def files_below(folder: Path) -> list[Path]:
    """All files below a folder, without hidden ones and hidden folders."""
    found = []
    for place in folders_below(folder):
        found += [path for path in place.iterdir() if not path.name.startswith(".") and not path.is_dir()]
    return sorted(found, key=lambda path: natural_key(relative(folder, path)))


def by_stem(files: Iterable[Path]) -> dict[str, list[Path]]:
    """Files by their name without suffix."""
    groups: dict[str, list[Path]] = defaultdict(list)
    for file in files:
        groups[file.stem].append(file)
    return dict(groups)


# ----------------------------------------------------------------------------------------------------
# Which split a patient is in: by folder, by name, or drawn from the patients' names and a seed.

# What split folders are called, in any case.
SPLIT_FOLDERS: dict[str, str] = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
    "testing": "test",
}
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


# ----------------------------------------------------------------------------------------------------
# Whose frame a file is, and in which split, by the folders that it lies in.

# Folders that hold frames and are no patients.
_NO_PATIENTS = frozenset({"images", "frames"})
WAY_OUT = (
    "lay each patient's frames into a folder of its own below the raw folder, or give --patient-pattern "
    "with one group, such as 'P([0-9]+)_'"
)


class PlaceError(ValueError):
    """Where a file lies does not say whose it is; the message is one line."""


@dataclass(frozen=True)
class Place:
    """Attributes:
    patient: The patient's name.
    split: What the folders say, None if nothing.
    name: The frame's name within the set.
    """

    patient: str
    split: str | None
    name: str


def compile_patient_pattern(text: str) -> re.Pattern[str]:
    """Compiles --patient-pattern; a ValueError says what is wrong with it."""
    try:
        pattern = re.compile(text)
    except re.error as error:
        raise ValueError(f"--patient-pattern {text!r} is no regular expression: {error}") from None
    if pattern.groups != 1:
        raise ValueError(
            f"--patient-pattern {text!r} has {pattern.groups} groups: put the patient alone into ()"
        )
    return pattern


def find_place(
    file: str, pattern: re.Pattern[str] | None, no_patients: frozenset[str] = frozenset()
) -> Place:
    """Tells patient and split of a frame from its path below the raw folder.

    The first folder that is no split folder (train, val, test in any case; among the first two) and does
    not just hold frames is the patient's, unless a pattern finds the patient in the path.

    Args:
        file: Path of the picture below the raw folder, with forward slashes.
        pattern: A regular expression with one group.
        no_patients: Names of further folders that are no patients, in lower case.

    Raises:
        PlaceError: neither gives a patient.
    """
    path = PurePosixPath(file)
    folders = list(path.parent.parts)
    split = None
    for place, folder in enumerate(folders[:2]):
        if folder.casefold() in SPLIT_FOLDERS:
            split = SPLIT_FOLDERS[folder.casefold()]
            del folders[place]
            break
    folders = [folder for folder in folders if folder.casefold() not in _NO_PATIENTS | no_patients]
    if pattern is not None:
        match = pattern.search(file)
        if not match or not match[1]:
            raise PlaceError(f"--patient-pattern {pattern.pattern!r} finds no patient in its path")
        patient = match[1]
    elif folders:
        patient = folders.pop(0)
    else:
        raise PlaceError(f"no folder says whose frame it is: {WAY_OUT}")
    name = "_".join([*folders, path.stem])
    return Place(patient, split, name if name.startswith(patient) else f"{patient}_{name}")
