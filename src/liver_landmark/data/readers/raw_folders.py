"""A raw folder: what lies in it, in an order that no machine changes, and whose frame a file is."""

from __future__ import annotations

import re
from collections import defaultdict, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ...utils.frame_files import SUFFIXES

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
# Folders that hold frames and are no patients.
_NO_PATIENTS = frozenset({"images", "frames"})
_WAY_OUT = (
    "lay each patient's frames into a folder of its own below the raw folder, or give --patient-pattern "
    "with one group, such as 'P([0-9]+)_'"
)


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
        raise PlaceError(f"no folder says whose frame it is: {_WAY_OUT}")
    name = "_".join([*folders, path.stem])
    return Place(patient, split, name if name.startswith(patient) else f"{patient}_{name}")
