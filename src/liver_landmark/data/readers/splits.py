"""Which split a patient is in: by folder, by name, or drawn from the patients' names and a seed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ..schema import SPLITS
from .files import natural_key

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
