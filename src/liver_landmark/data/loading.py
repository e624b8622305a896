"""Datasets of the schema, from folders or the Hub: loaded, validated, drawn by a protocol, alone or mixed.

Nothing is decoded here: `liver-landmark data check` looks at the pictures.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import yaml
from datasets import ClassLabel, Features, List
from PIL import Image, UnidentifiedImageError

from ..curves.formats.annotation import OUTSIDE_TOLERANCE_PX
from ..curves.rasterize import AS_DRAWN, check_label_protocol, get_protocol, rasterize_landmarks
from ..model.landmarks_liver_landmark import DEFAULT_LANDMARKS, IGNORE_INDEX, LandmarkTable
from .schema import SPLITS, landmark_features, landmarks_of, picture_digest, validate_columns

# ----------------------------------------------------------------------------------------------------
# Labels as they are wanted and not as they are stored: by another protocol, in another order of classes.

# Every column that the drawing of a label reads.
_DRAWING_COLUMNS = ("label", "landmarks", "width", "height", "protocol", "frame_id")


class DrawLabels:
    """A `datasets` transform: labels by `protocol`, their ids those of `landmarks`.

    Args:
        protocol: Labels stored by another one are redrawn from the polylines. None: each row's own, so
            that only missing labels are drawn. AS_DRAWN is never drawn.
        landmarks: What the column `landmarks` numbers, and labels are to hold.
        stored: What the stored labels hold; None: the same.
    """

    def __init__(
        self,
        protocol: str | None,
        landmarks: LandmarkTable = DEFAULT_LANDMARKS,
        stored: LandmarkTable | None = None,
    ) -> None:
        self.protocol = protocol
        self.landmarks = landmarks
        self.stored = stored or landmarks

    def __call__(self, batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
        # Asked for single columns (`dataset["patient_id"]`), `datasets` hands over nothing else.
        if "label" not in batch:
            return batch
        missing = [column for column in _DRAWING_COLUMNS if column not in batch]
        if missing:
            # What is stored would be another protocol's label, or none.
            raise ValueError(
                f"labels are drawn on access and need the column {missing[0]!r} beside them: select or keep "
                f"{', '.join(_DRAWING_COLUMNS)}"
            )
        batch = dict(batch)
        columns = [batch[column] for column in _DRAWING_COLUMNS]
        drawn = [
            self._draw(dict(zip(_DRAWING_COLUMNS, row, strict=True))) for row in zip(*columns, strict=True)
        ]
        batch["label"] = [label for label, _, _ in drawn]
        batch["protocol"] = [name for _, name, _ in drawn]
        if "stroke_width" in batch:
            stored = batch["stroke_width"]
            batch["stroke_width"] = [
                old if new is None else new for old, (_, _, new) in zip(stored, drawn, strict=True)
            ]
        return batch

    def _draw(self, row: dict[str, Any]) -> tuple[Image.Image, str, float | None]:
        """Label, protocol and stroke width in px, None where the stored one holds."""
        wanted = self.protocol or row["protocol"]
        stored = row["label"]
        if wanted == AS_DRAWN:
            if stored is None or row["protocol"] != AS_DRAWN:
                raise ValueError(f"frame {row['frame_id']}: no label is stored as its source drew it")
            return self._renumbered(stored), AS_DRAWN, None
        protocol = get_protocol(wanted)
        width, height = row["width"], row["height"]
        stroke_width = protocol.native_stroke_width_px(width, height)
        if stored is not None and row["protocol"] == protocol.name:
            return self._renumbered(stored), protocol.name, stroke_width
        label = rasterize_landmarks(row["landmarks"], width, height, protocol, names=self.landmarks.names)
        if stored is not None:
            old = np.asarray(stored)
            if not row["landmarks"] and np.isin(old, range(1, self.stored.num_classes)).any():
                raise ValueError(
                    f"frame {row['frame_id']}: its mask shows landmarks but it has no polylines to draw "
                    f"by protocol {protocol.name!r}: use protocol {row['protocol']!r}"
                )
            label[old == IGNORE_INDEX] = IGNORE_INDEX
        return Image.fromarray(label), protocol.name, stroke_width

    def _renumbered(self, label: Image.Image) -> Image.Image:
        if self.stored.names == self.landmarks.names:
            return label
        return Image.fromarray(self.landmarks.translate(np.asarray(label), self.stored))


def reorder_classes(dataset: datasets.Dataset, order: Sequence[str]) -> datasets.Dataset:
    """Rows whose column `landmarks` numbers its classes in that order; the other columns are not touched.

    Raises:
        ValueError: the order does not name each landmark of the set once.
    """
    names = landmarks_of(dataset.features).names
    if isinstance(order, str) or sorted(order) != sorted(names):
        raise ValueError(f"class_order is {order!r}: give {', '.join(names)}, each once, in any order")
    rows = dataset.data.column("landmarks").to_pylist()
    for landmark in (landmark for row in rows for landmark in row or ()):
        landmark["category"] = order.index(names[landmark["category"]])
    features = Features({"landmarks": landmark_features(order)["landmarks"]})
    column = datasets.Dataset.from_dict({"landmarks": rows}, features=features)
    rest = dataset.remove_columns("landmarks")
    return datasets.concatenate_datasets([rest, column], axis=1).select_columns(dataset.column_names)


# ----------------------------------------------------------------------------------------------------
# All polylines of a table at once, as arrays; and which of them cannot be.

_NO_CATEGORY = -1


@dataclass(frozen=True)
class FlatPolylines:
    """The polylines of many frames, one after the other.

    Attributes:
        row: (L,) the row that each polyline belongs to.
        place: (L,) its place among the polylines of that row, from 0.
        category: (L,) 0-based index of its landmark in the schema's ClassLabel; -1 where it has none.
        count: (L,) its number of points.
        points: (P, 2) float64 px, polyline after polyline; NaN where a coordinate is missing.
    """

    row: np.ndarray
    place: np.ndarray
    category: np.ndarray
    count: np.ndarray
    points: np.ndarray

    @property
    def polyline_of_point(self) -> np.ndarray:
        """(P,) the polyline that each point belongs to."""
        return np.repeat(np.arange(len(self.count)), self.count)

    def lengths_px(self) -> np.ndarray:
        """(L,) length of each polyline in px: the sum of its segments."""
        owner = self.polyline_of_point
        if len(owner) < 2:
            return np.zeros(len(self.count))
        # With one coordinate infinite it is infinite, as math.dist has it; linalg.norm may say NaN.
        segments_px = np.hypot(*np.diff(self.points, axis=0).T)
        # From one polyline's last point to the next one's first there is no segment.
        inside = owner[1:] == owner[:-1]
        return np.bincount(owner[1:][inside], segments_px[inside], minlength=len(self.count))


def flatten_polylines(column: pa.Array | pa.ChunkedArray) -> FlatPolylines:
    """The schema's column `landmarks` as arrays; rows without polylines have none."""
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    row = pc.list_parent_indices(column).to_numpy().astype(np.int64)
    # Sorted by row: a polyline's place is its distance from the first of its row.
    place = np.arange(len(row)) - np.searchsorted(row, row)
    landmarks = column.flatten()
    fields = dict(zip((field.name for field in landmarks.type), landmarks.flatten(), strict=True))
    category = fields["category"].fill_null(_NO_CATEGORY).to_numpy(zero_copy_only=False)
    count = pc.list_value_length(fields["points"]).fill_null(0).to_numpy(zero_copy_only=False)
    pairs = fields["points"].flatten()
    # Flattening skips missing pairs: what is there goes to where it stood.
    points = np.full((len(pairs), 2), np.nan)
    points[pairs.is_valid().to_numpy(zero_copy_only=False)] = (
        pairs.flatten().to_numpy(zero_copy_only=False).reshape(-1, 2)
    )
    return FlatPolylines(row, place, category, count.astype(np.int64), points)


def impossible_polylines(
    polylines: FlatPolylines,
    width: np.ndarray,
    height: np.ndarray,
    names: Sequence[str] = DEFAULT_LANDMARKS.names,
) -> Iterator[tuple[int, str]]:
    """(row, reason) of each polyline that no frame can have, the first reason of each.

    Args:
        polylines: Those of a table.
        width: (rows,) width of each frame in px; NaN: not known, nothing lies outside.
        height: Likewise its height.
        names: The landmarks that categories number.
    """
    owner = polylines.polyline_of_point
    finite = np.isfinite(polylines.points).all(axis=1)
    limits = np.stack([width, height], axis=1).astype(np.float64)[polylines.row[owner]]
    with np.errstate(invalid="ignore"):
        excess = np.maximum(-polylines.points, polylines.points - (limits - 1))
        outside = (excess > OUTSIDE_TOLERANCE_PX).any(axis=1)

    def first_points(wrong: np.ndarray) -> dict[int, int]:
        """Polyline -> its first point of those."""
        places = np.flatnonzero(wrong)
        found, first = np.unique(owner[places], return_index=True)
        return dict(zip(found.tolist(), places[first].tolist(), strict=True))

    not_finite, beyond = first_points(~finite), first_points(outside)
    unknown = (polylines.category < 0) | (polylines.category >= len(names))
    suspects = {*np.flatnonzero(unknown | (polylines.count < 2)).tolist(), *not_finite, *beyond}
    for index in sorted(suspects):
        row, category = int(polylines.row[index]), int(polylines.category[index])
        name = f"class {category}" if unknown[index] else names[category]
        if unknown[index]:
            reason = "it is of no known class"
        elif polylines.count[index] < 2:
            reason = f"it has {polylines.count[index]} points, at least 2 are needed"
        elif index in not_finite:
            reason = "a coordinate of it is not finite"
        else:
            x, y = polylines.points[beyond[index]]
            reason = (
                f"its point ({x:g}, {y:g}) lies outside of the frame of {width[row]:g}x{height[row]:g} px"
            )
        yield row, f"polyline {polylines.place[index] + 1} ({name}): {reason}"


# ----------------------------------------------------------------------------------------------------
# What a loaded dataset must be before anything is computed from it: types, polylines, patients.

# A patient, wherever else a set of the same source shows them.
PatientKey = tuple[str, str]


def validate_split(dataset: datasets.Dataset, name: str) -> None:
    """Raises a ValueError, one line, on the first thing that a split's rows cannot be.

    Checked are columns and their types, sizes, patients, polylines (finite, at least two points, not more
    than 1 px outside of the frame), and that labels exist where nothing can be drawn.
    """
    validate_columns(dataset, name)
    difference = first_difference(dataset.features)
    if difference is not None:
        raise ValueError(f"dataset {name}: {difference}")
    for problem in impossible_rows(dataset.data.table, landmarks_of(dataset.features).names):
        raise ValueError(
            f"dataset {name}: {problem} (`liver-landmark data check {name}` lists all of its problems)"
        )


def first_difference(features: Features) -> str | None:
    """The first column whose type is not the schema's, in words; None where all are. Others are ignored."""
    expected = landmark_features()
    for column, kind in expected.items():
        if column not in features:
            return f"column {column!r} is missing"
        difference = _difference(column, features[column], kind)
        if difference is not None:
            return difference
    return None


def _difference(path: str, found: Any, expected: Any) -> str | None:
    if isinstance(found, dict) and isinstance(expected, dict):
        for key in [*expected, *(key for key in found if key not in expected)]:
            if key not in found or key not in expected:
                state = "is missing" if key in expected else "is not part of the schema"
                return f"column '{path}.{key}' {state}"
            difference = _difference(f"{path}.{key}", found[key], expected[key])
            if difference is not None:
                return difference
        return None
    if isinstance(found, List) and isinstance(expected, List) and found.length == expected.length:
        return _difference(f"{path}[]", found.feature, expected.feature)
    if found == expected:
        return None
    if isinstance(found, ClassLabel) and isinstance(expected, ClassLabel):
        # A set says itself what its landmarks are.
        try:
            LandmarkTable.from_names(found.names)
        except ValueError as error:
            return f"column {path!r}: {error}"
        return None
    return f"column {path!r} is {found}, expected {expected}"


def impossible_rows(table: pa.Table, names: Sequence[str]) -> Iterator[str]:
    """What is wrong with rows of a set with these landmarks, one line each, without decoding a picture."""
    columns = ("frame_id", "patient_id", "source", "width", "height", "protocol", "landmarks")
    first_row = 0
    # By batch, so that of a memory-mapped table only one is in memory.
    for batch in table.select([*columns, "label"]).to_batches():
        for row, reason in problems_of_batch(batch, names):
            frame_id = batch.column("frame_id")[row].as_py()
            yield f"frame {frame_id} (row {first_row + row}): {reason}"
        first_row += len(batch)


def problems_of_batch(batch: pa.RecordBatch, names: Sequence[str]) -> Iterator[tuple[int, str]]:
    """(row in the batch, reason), in no order; see `impossible_rows`."""
    for column in ("frame_id", "patient_id", "source", "protocol"):
        for row in np.flatnonzero(_to_numpy(pc.is_null(batch.column(column)))):
            yield int(row), f"its {column} is missing"
    sizes_px = {side: _to_numpy(batch.column(side)).astype(np.float64) for side in ("width", "height")}
    for side, values in sizes_px.items():
        for row in np.flatnonzero(~(values >= 1)):
            yield int(row), f"its {side} is {batch.column(side)[int(row)].as_py()}"
    as_drawn = pc.fill_null(pc.equal(batch.column("protocol"), AS_DRAWN), False)
    for row in np.flatnonzero(_to_numpy(pc.and_(as_drawn, _is_empty(batch.column("label"))))):
        yield int(row), f"its protocol is {AS_DRAWN}, but it has no label"
    polylines = flatten_polylines(batch.column("landmarks"))
    yield from impossible_polylines(polylines, sizes_px["width"], sizes_px["height"], names)


def _is_empty(pictures: pa.StructArray) -> pa.Array:
    inside, beside = (pc.is_null(pc.struct_field(pictures, part)) for part in ("bytes", "path"))
    return pc.and_(inside, beside)


def _to_numpy(array: pa.Array) -> np.ndarray:
    return array.to_numpy(zero_copy_only=False)


def patients_of(dataset: datasets.Dataset) -> set[PatientKey]:
    """(source, patient_id) of all rows."""
    columns = (dataset.data.column(name).to_pylist() for name in ("source", "patient_id"))
    return set(zip(*columns, strict=True))


def validate_patients(splits: Mapping[str, datasets.Dataset], name: str) -> None:
    """Raises a ValueError that names the first patient whom two splits share."""
    home: dict[PatientKey, str] = {}
    for split, dataset in splits.items():
        for source, patient in sorted(patients_of(dataset)):
            other = home.setdefault((source, patient), split)
            if other != split:
                raise ValueError(
                    f"dataset {name}: patient {patient!r} of source {source!r} is in {other} and in {split}; "
                    "splits must be by patient"
                )


# ----------------------------------------------------------------------------------------------------
# Several sets as one to train on, while each keeps its own test split.

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
    _refuse_other_landmarks(sets)
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


def _refuse_other_landmarks(sets: Sequence[NamedSet]) -> None:
    """One mixture has one numbering of its labels."""
    (first, names), *others = (
        (name, landmarks_of(rows.features).names) for name, splits in sets for rows in splits.values()
    )
    for other, other_names in others:
        if other_names != names:
            raise ValueError(
                f"datasets cannot be mixed: the landmarks of {first} are {', '.join(names)}, those of "
                f"{other} {', '.join(other_names)}: build them with the same ones in the same order"
            )


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


# ----------------------------------------------------------------------------------------------------
# Datasets of the schema, from folders or the Hub, alone or mixed.

# What tells one dataset's content from another's; storage, paths and metadata do not count.
_FINGERPRINT_COLUMNS = ("patient_id", "frame_id", "protocol", "landmarks", "label", "image")
# What `datasets` raises on a card that it cannot follow.
CARD_ERRORS = (ValueError, TypeError, KeyError, AttributeError, RecursionError, yaml.YAMLError)


class RowError(ValueError):
    """A row of a dataset that cannot be used; the message is one line and names it."""


def load_landmark_dataset(
    path_or_id: str | Path | Sequence[str | Path],
    split: str | None = None,
    protocol: str | None = None,
    class_order: Sequence[str] | None = None,
) -> datasets.Dataset | datasets.DatasetDict:
    """Loads a dataset of the schema, or several as one; labels follow a protocol of choice.

    Args:
        path_or_id: A folder that `liver-landmark data build` wrote, or a dataset id on the Hub; or several
            of them, to be mixed: see `mix_sets`.
        split: `train`, `validation` or `test`: then no file of another split is read, except that mixed
            sets are always compared whole; None: all.
        protocol: Name of the rasterizing protocol that labels shall follow. Where it is not the one
            that they were stored by, they are redrawn from the polylines, on access. `as_drawn`: sets
            whose labels are their source's own masks, and no others. None: as stored, and drawn by the
            row's own protocol where no label is stored.
        class_order: The set's landmarks in another order: label ids become 1, 2, … in that order, and so
            do the classes that `landmarks` names. None: as stored.

    Returns:
        A plain `datasets.Dataset`; or a `DatasetDict` of all splits, where several sets' test splits are
        called `test_<name>`.

    Raises:
        FileNotFoundError: There is no such folder and no such dataset on the Hub.
        ValueError: The split, a column of the schema or the protocol does not exist; a column is of another
            type; a polyline is not finite, of one point or outside of its frame; a patient is in two splits;
            sets cannot be mixed. The message is one line.
    """
    if protocol is not None:
        check_label_protocol(protocol)
    names = [str(path_or_id)] if isinstance(path_or_id, str | Path) else [str(name) for name in path_or_id]
    if not names:
        raise ValueError("no dataset is named: give a folder or Hub id, or several")
    if len(names) == 1:
        splits = _load_set(names[0], split, protocol)
    else:
        splits = _load_mixture(names, split, protocol)
    ready = {key: _with_wanted_labels(part, protocol, class_order) for key, part in splits.items()}
    return datasets.DatasetDict(ready) if split is None else ready[split]


def _load_set(name: str, split: str | None, protocol: str | None) -> dict[str, datasets.Dataset]:
    """A set's splits as they are stored, validated."""
    splits = _load_splits(name, split)
    for part in splits.values():
        validate_split(part, name)
        stored = set(part.unique("protocol"))
        if protocol == AS_DRAWN and stored - {AS_DRAWN}:
            raise ValueError(
                f"dataset {name}: its labels are drawn by {', '.join(sorted(stored - {AS_DRAWN}))} and not "
                f"stored as their source drew them: ask for another protocol than {AS_DRAWN}"
            )
    tables = {key: landmarks_of(part.features).names for key, part in splits.items()}
    if len(set(tables.values())) > 1:
        stored = "; ".join(f"{key}: {', '.join(names)}" for key, names in tables.items())
        raise ValueError(f"dataset {name}: its splits have different landmarks ({stored}): rebuild it")
    validate_patients(splits, name)
    return splits


def _load_mixture(
    names: Sequence[str], split: str | None, protocol: str | None
) -> dict[str, datasets.Dataset]:
    _check_split(split)
    if split == "test":
        raise ValueError(
            f"split 'test' of {len(names)} datasets: test splits are kept apart; load each set's by itself"
        )
    mixed = mix_sets([(name, _load_set(name, None, protocol)) for name in names])
    if split is not None and split not in mixed:
        raise ValueError(f"datasets {', '.join(names)}: none of them has a split {split!r}")
    return mixed


def _check_split(split: str | None) -> None:
    if split is not None and split not in SPLITS:
        raise ValueError(f"split {split!r} is unknown: choose one of {', '.join(SPLITS)}")


def _load_splits(name: str, split: str | None) -> dict[str, datasets.Dataset]:
    _check_split(split)
    try:
        files = datasets.load_dataset_builder(name).config.data_files or {}
    except (FileNotFoundError, ConnectionError) as error:
        raise FileNotFoundError(
            f"dataset {name}: no folder with data files, and not reached on the Hub ({_first_line(error)})"
        ) from error
    except CARD_ERRORS as error:
        raise ValueError(f"dataset {name}: its card cannot be understood ({_first_line(error)})") from error
    if split is not None and split not in files:
        raise ValueError(f"dataset {name}: no split {split!r} (there are: {', '.join(map(str, files))})")
    wanted = {key: list(files[key]) for key in files if split in (None, str(key))}
    try:
        # Naming the files keeps `datasets` from preparing the other splits as well. The card counts
        # all of them, so its numbers cannot be checked here.
        loaded = datasets.load_dataset(name, data_files=wanted, verification_mode="no_checks")
    except (datasets.exceptions.DatasetGenerationError, OSError, ValueError) as error:
        cause = error.__cause__ or error
        raise ValueError(f"dataset {name}: a file of it cannot be read ({_first_line(cause)})") from error
    return {str(key): part for key, part in loaded.items()}


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _with_wanted_labels(
    dataset: datasets.Dataset, protocol: str | None, class_order: Sequence[str] | None
) -> datasets.Dataset:
    """`dataset` with a transform that draws and renumbers labels, unless all are stored as wanted."""
    all_stored, stored = dataset.data.column("label").null_count == 0, landmarks_of(dataset.features)
    if class_order is not None:
        dataset = reorder_classes(dataset, class_order)
    elif all_stored and (protocol is None or set(dataset.unique("protocol")) == {protocol}):
        return dataset
    return dataset.with_transform(DrawLabels(protocol, landmarks_of(dataset.features), stored))


def read_row(rows: datasets.Dataset, index: int) -> dict[str, Any]:
    """A row with its pictures decoded and its label drawn.

    Args:
        rows: Needs the columns `image`, `width`, `height` and `frame_id`.
        index: Which one.

    Raises:
        RowError: a picture that cannot be decoded or is missing, a size that is not the row's, or polylines
            that cannot be drawn.
    """
    try:
        row = rows[index]
    # What Pillow raises on broken files, and the drawing of labels on impossible polylines.
    except (OSError, SyntaxError, ValueError) as error:
        unknown = isinstance(error, UnidentifiedImageError)  # its text is an object's address
        reason = "of no known format" if unknown else " ".join(str(error).split())
        part = (
            "its label cannot be drawn"
            if isinstance(error, ValueError)
            else "a picture of it cannot be decoded"
        )
        raise RowError(f"row {index}: {part} ({reason})") from error
    if row["image"] is None:
        raise RowError(f"frame {row['frame_id']} (row {index}): it has no image")
    # Polylines are in px of the native frame: on an image of another size they would be shifted.
    if row["image"].size != (row["width"], row["height"]):
        raise RowError(
            f"frame {row['frame_id']}: its image is {row['image'].width}x{row['image'].height} px, "
            f"its row says {row['width']}x{row['height']}"
        )
    return row


def spread_frames(rows: datasets.Dataset, max_frames: int | None) -> datasets.Dataset:
    """At most `max_frames` rows (None: all), spread evenly, so that every patient has a part."""
    if max_frames is None or max_frames >= len(rows):
        return rows
    return rows.select([index * len(rows) // max_frames for index in range(max_frames)])


def dataset_fingerprint(dataset: datasets.Dataset) -> str:
    """SHA-256 of a dataset's content: frames, labels, polylines, patients and their order.

    The same rows give the same fingerprint wherever and however they are stored.
    """
    digest = hashlib.sha256()
    table = dataset.select_columns(list(_FINGERPRINT_COLUMNS)).with_format("arrow")
    for batch in table.iter(batch_size=64):
        for row in batch.to_pylist():
            for column in ("image", "label"):
                row[column] = picture_digest(row[column])
            digest.update(json.dumps(row, sort_keys=True).encode())
    return digest.hexdigest()
