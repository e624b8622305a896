"""Several sets as one to train on, while each keeps its own test split."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import datasets

from .schema import landmark_features
from .stored_pictures import picture_digest
from .validation import PatientKey, patients_of

_MIXED_SPLITS = ("train", "validation")
_ROWS_IN_MEMORY = 64

NamedSet = tuple[str, Mapping[str, datasets.Dataset]]


def mix_sets(sets: Sequence[NamedSet]) -> dict[str, datasets.Dataset]:
    """Concatenates the train and the validation splits; test splits stay apart.

    Args:
        sets: (folder or Hub id, splits) of each set, in the order in which their frames follow each other.
            Every set must have a train split.

    Returns:
        `train`, `validation` where a set has one, and `test_<name>` for each test split: the last part of
        the folder or Hub id, with a number where two sets have the same.

    Raises:
        ValueError: a set has nothing to train on; a frame is there twice; or a patient, or the very same
            picture, is in a split of one set and in another split of another. The message is one line.
    """
    for name, splits in sets:
        if "train" not in splits:
            raise ValueError(
                f"dataset {name}: it has no split 'train' to be mixed (there are: {', '.join(splits)}); "
                "leave it out here and load it by itself to test on it"
            )
    _refuse_shared_patients(sets)
    _refuse_shared_pictures(sets)
    columns = list(landmark_features())
    mixed = {}
    for split in _MIXED_SPLITS:
        parts = [(name, splits[split].select_columns(columns)) for name, splits in sets if split in splits]
        _refuse_double_frames(parts, split)
        if parts:
            mixed[split] = datasets.concatenate_datasets([part for _, part in parts])
    for name, splits in sets:
        if "test" in splits:
            mixed[_test_name(name, mixed)] = splits["test"]
    return mixed


def _test_name(name: str, taken: Mapping[str, object]) -> str:
    # `datasets` takes letters, digits and underscores in the name of a split.
    wanted = "test_" + re.sub(
        r"\W", "_", Path(name).resolve().name if Path(name).is_dir() else Path(name).name
    )
    number, unique = 1, wanted
    while unique in taken:
        number += 1
        unique = f"{wanted}_{number}"
    return unique


def _refuse_shared_patients(sets: Sequence[NamedSet]) -> None:
    home: dict[PatientKey, tuple[str, str]] = {}
    for name, splits in sets:
        for split, rows in splits.items():
            for source, patient in sorted(patients_of(rows)):
                there = home.setdefault((source, patient), (name, split))
                if there[1] != split:
                    places = [
                        f"in {s} of {n} (frames {_frames_of(dict(sets)[n][s], source, patient)})"
                        for n, s in (there, (name, split))
                    ]
                    raise ValueError(
                        f"datasets cannot be mixed: patient {patient!r} of source {source!r} is "
                        + " and ".join(places)
                    )


def _frames_of(rows: datasets.Dataset, source: str, patient: str) -> str:
    """The patient's frame ids, the first of them."""
    columns = (rows.data.column(column).to_pylist() for column in ("source", "patient_id", "frame_id"))
    frames = [frame for *key, frame in zip(*columns, strict=True) if key == [source, patient]]
    return ", ".join(frames[:3]) + (f" and {len(frames) - 3} more" if len(frames) > 3 else "")


def _refuse_shared_pictures(sets: Sequence[NamedSet]) -> None:
    """Patients may go by other names in another set; the bytes of their pictures do not."""
    home: dict[str, tuple[str, str, str]] = {}
    for name, splits in sets:
        for split, rows in splits.items():
            columns = rows.select_columns(["image", "frame_id"]).with_format("arrow")
            for batch in columns.iter(batch_size=_ROWS_IN_MEMORY):
                for image, frame_id in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                    if image is None:
                        continue
                    here = (name, split, frame_id)
                    there = home.setdefault(picture_digest(image), here)
                    if there[1] != split:
                        raise ValueError(
                            "datasets cannot be mixed: the same picture is "
                            + " and ".join(f"frame {f} in {s} of {n}" for n, s, f in (there, here))
                        )


def _refuse_double_frames(parts: Sequence[tuple[str, datasets.Dataset]], split: str) -> None:
    home: dict[tuple[str, str], str] = {}
    for name, rows in parts:
        columns = (rows.data.column(column).to_pylist() for column in ("source", "frame_id"))
        for key in zip(*columns, strict=True):
            if key in home:
                raise ValueError(
                    f"datasets cannot be mixed: frame {key[1]!r} of source {key[0]!r} is there twice in "
                    f"{split}, in {home[key]} and in {name}"
                )
            home[key] = name
