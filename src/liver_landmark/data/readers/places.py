"""Whose frame a file is, and in which split, by the folders that it lies in."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath

from .splits import SPLIT_FOLDERS

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
