"""What a loaded dataset must be before anything is computed from it: types, polylines, patients.

Nothing is decoded here: `liver-landmark data check` looks at the pictures.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import ClassLabel, Features, List

from ..curves.protocols import AS_DRAWN
from .polylines import flatten_polylines, impossible_polylines
from .schema import landmark_features, validate_columns

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
    for problem in impossible_rows(dataset.data.table):
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
        return (
            f"column {path!r} orders its classes as {', '.join(map(str, found.names))}, the schema as "
            f"{', '.join(expected.names)}: which ids its labels hold cannot be known; build it anew"
        )
    return f"column {path!r} is {found}, expected {expected}"


def impossible_rows(table: pa.Table) -> Iterator[str]:
    """What is wrong with rows of the schema, one line each, without decoding a picture."""
    columns = ("frame_id", "patient_id", "source", "width", "height", "protocol", "landmarks")
    first_row = 0
    # By batch, so that of a memory-mapped table only one is in memory.
    for batch in table.select([*columns, "label"]).to_batches():
        for row, reason in problems_of_batch(batch):
            frame_id = batch.column("frame_id")[row].as_py()
            yield f"frame {frame_id} (row {first_row + row}): {reason}"
        first_row += len(batch)


def problems_of_batch(batch: pa.RecordBatch) -> Iterator[tuple[int, str]]:
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
    yield from impossible_polylines(polylines, sizes_px["width"], sizes_px["height"])


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
