"""What `load_landmark_dataset` refuses, each in one line, and the arithmetic behind it."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pytest
from datasets import ClassLabel, Features, Image, List, Value
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image as Picture

from liver_landmark.data.loading import (
    first_difference,
    flatten_polylines,
    impossible_polylines,
    load_landmark_dataset,
)
from liver_landmark.data.schema import landmark_features
from tiny_datasets import HEIGHT, WIDTH, polylines, save_splits, schema_row


def row_of(frame_id: str, **fields: Any) -> dict[str, Any]:
    return schema_row(frame_id, polylines(0), patient_id=f"patient of {frame_id}") | fields


def changed_features(**columns: Any) -> Features:
    return Features({**landmark_features(), **columns})


def landmarks_of(category: Any = None, points: Any = None) -> List:
    feature = landmark_features()["landmarks"].feature
    return List({"category": category or feature["category"], "points": points or feature["points"]})


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (
            changed_features(width=Value("int64")),
            r"column 'width' is Value\('int64'\), expected Value\('int32",
        ),
        (changed_features(depth=Value("string")), r"column 'depth' is Value\('string'\), expected Image"),
        (
            changed_features(landmarks=landmarks_of(points=List(List(Value("float64"), length=2)))),
            r"column 'landmarks\[\]\.points\[\]\[\]' is Value\('float64'\), expected Value\('float32'\)",
        ),
        (
            changed_features(landmarks=landmarks_of(points=List(List(Value("float32"))))),
            r"column 'landmarks\[\]\.points\[\]' is List\(Value\('float32'\)\), expected .* length=2",
        ),
        (
            changed_features(landmarks=landmarks_of(category=Value("int64"))),
            r"'landmarks\[\]\.category' is Value\('int64'\), expected ClassLabel",
        ),
        (
            changed_features(landmarks=landmarks_of(ClassLabel(names=["ridge", "Ridge"]))),
            r"'landmarks\[\]\.category': labels: 'ridge' occurs twice",
        ),
        (
            changed_features(camera={"fx": Value("float32")}),
            r"column 'camera\.fy' is missing",
        ),
    ],
)
def test_the_first_column_of_another_type_is_named(tmp_path: Path, features: Features, message: str) -> None:
    rows = datasets.Dataset.from_dict({name: [None] for name in features}, features=features)
    folder = save_splits(tmp_path / "set", train=rows)
    with pytest.raises(ValueError, match=message) as error:
        load_landmark_dataset(folder, "train")
    assert str(error.value).startswith(f"dataset {folder}: ")
    assert "\n" not in str(error.value)


def test_the_schema_differs_from_itself_in_nothing_and_may_have_more_columns() -> None:
    assert first_difference(landmark_features()) is None
    assert first_difference(Features({"mask": Image(), **landmark_features()})) is None


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"landmarks": [{"category": 2, "points": [(1.0, 1.0)]}]},
            r"polyline 1 \(ligament\): it has 1 points",
        ),
        (
            {"landmarks": [*polylines(0), {"category": 0, "points": [(1.0, 1.0), (WIDTH + 0.5, 2.0)]}]},
            rf"polyline 4 \(ridge\): its point \(96.5, 2\) lies outside of the frame of {WIDTH}x{HEIGHT} px",
        ),
        (
            {"landmarks": [{"category": 0, "points": [(1.0, float("inf")), (1.0, 2.0)]}]},
            "a coordinate of it is not finite",
        ),
        ({"width": 0}, "its width is 0"),
        ({"height": None}, "its height is None"),
        ({"patient_id": None}, "its patient_id is missing"),
        ({"protocol": None}, "its protocol is missing"),
        ({"protocol": "as_drawn"}, "its protocol is as_drawn, but it has no label"),
    ],
)
def test_a_row_that_cannot_be_is_named(tmp_path: Path, fields: dict[str, Any], message: str) -> None:
    rows = [row_of("one"), row_of("two"), row_of("three", **fields)]
    folder = save_splits(tmp_path / "set", train=rows)
    with pytest.raises(ValueError, match=r"frame three \(row 2\): .*" + message) as error:
        load_landmark_dataset(folder, "train")
    assert "\n" not in str(error.value)
    assert "data check" in str(error.value)


def test_a_split_without_rows_is_named(tmp_path: Path) -> None:
    empty = datasets.Dataset.from_dict({name: [] for name in landmark_features()}, landmark_features())
    folder = save_splits(tmp_path / "set", train=empty)
    with pytest.raises(ValueError, match=r"set: a file of it cannot be read \(.*no data") as error:
        load_landmark_dataset(folder, "train")
    assert "\n" not in str(error.value)


def test_points_on_the_frames_border_are_fine(tmp_path: Path) -> None:
    border = [{"category": "ridge", "points": [(-1.0, -1.0), (float(WIDTH), float(HEIGHT))]}]
    folder = save_splits(tmp_path / "set", train=[row_of("one", landmarks=border)])
    assert load_landmark_dataset(folder, "train")[0]["landmarks"][0]["points"][1] == [WIDTH, HEIGHT]


def test_a_patient_in_two_splits_is_named(tmp_path: Path) -> None:
    train, test = row_of("a-1", patient_id="P7"), row_of("a-2", patient_id="P7")
    folder = save_splits(tmp_path / "set", train=[train], test=[test])
    message = "patient 'P7' of source 'test' is in (train and in test|test and in train); splits must be by"
    with pytest.raises(ValueError, match=message):
        load_landmark_dataset(folder)
    # One split alone says nothing of the other.
    assert len(load_landmark_dataset(folder, "train")) == 1


def test_patients_of_different_sources_may_have_the_same_name(tmp_path: Path) -> None:
    train, test = row_of("a-1", patient_id="P7"), row_of("a-2", patient_id="P7", source="another hospital")
    folder = save_splits(tmp_path / "set", train=[train], test=[test])
    assert set(load_landmark_dataset(folder)) == {"train", "test"}


def test_labels_as_drawn_are_never_drawn_anew_unless_asked_for(tmp_path: Path) -> None:
    mask = Picture.new("L", (WIDTH, HEIGHT), 0)
    mask.putpixel((5, 50), 3)
    row = row_of("one", label=mask, protocol="as_drawn", stroke_width=7.5)
    folder = save_splits(tmp_path / "set", train=[row])
    for protocol in (None, "as_drawn"):
        stored = load_landmark_dataset(folder, "train", protocol)[0]
        assert stored["label"].tobytes() == mask.tobytes()
        assert (stored["protocol"], stored["stroke_width"]) == ("as_drawn", 7.5)
    mixed = save_splits(tmp_path / "mixed", train=[row, row_of("two", protocol="slippa")])
    assert [one["stroke_width"] for one in load_landmark_dataset(mixed, "train")] == [7.5, 12]
    drawn = load_landmark_dataset(folder, "train", "slippa")[0]
    assert (drawn["protocol"], drawn["stroke_width"]) == ("slippa", 12)
    assert drawn["label"].getextrema() == (0, 3)
    assert drawn["label"].getpixel((5, 50)) == 0


def test_labels_as_drawn_cannot_be_asked_of_a_set_that_draws_them(tmp_path: Path) -> None:
    folder = save_splits(tmp_path / "set", train=[row_of("one")])
    with pytest.raises(ValueError, match="its labels are drawn by synthetic and not stored as their source"):
        load_landmark_dataset(folder, "train", "as_drawn")


TYPE = landmark_features().arrow_schema.field("landmarks").type
FRAME_WIDTH, FRAME_HEIGHT = 100, 60
numbers = st.floats(-200, 200, width=32) | st.sampled_from([-1.0, 0.0, 60.0, 100.0, math.nan, math.inf])
points = st.none() | st.lists(st.none() | st.tuples(numbers | st.none(), numbers | st.none()), max_size=5)
landmarks = st.fixed_dictionaries({"category": st.none() | st.integers(-1, 3), "points": points})
rows = st.lists(st.none() | st.lists(st.none() | landmarks, max_size=4), max_size=5)


def as_chunks(rows: list, cut: int) -> pa.ChunkedArray:
    """The rows in two chunks, each a slice of a longer array: offsets do not start at 0."""
    whole = pa.array([None, *rows, None], TYPE)
    cut = min(cut, len(rows))
    return pa.chunked_array([whole[1 : 1 + cut], whole[1 + cut : 1 + len(rows)]], TYPE)


def plain(rows: list) -> list[tuple]:
    """(row, place, category, points) of each polyline, what is missing as NaN or -1."""
    found = []
    for row, curves in enumerate(rows):
        for place, polyline in enumerate(curves or ()):
            polyline = polyline or {"category": None, "points": None}
            pairs = [pair or (None, None) for pair in polyline["points"] or ()]
            category = -1 if polyline["category"] is None else polyline["category"]
            found.append(
                (row, place, category, [[math.nan if v is None else v for v in pair] for pair in pairs])
            )
    return found


def is_possible(category: int, points: list) -> bool:
    return (
        0 <= category <= 2
        and len(points) >= 2
        and all(-1 <= x <= FRAME_WIDTH and -1 <= y <= FRAME_HEIGHT for x, y in points)
    )


@given(rows, st.integers(0, 5))
@example([[{"category": None, "points": [(0.0, None), (math.inf, None)]}]], 0)
def test_arrays_hold_what_the_rows_hold(rows: list, cut: int) -> None:
    flat, expected = flatten_polylines(as_chunks(rows, cut)), plain(rows)
    assert flat.row.tolist() == [row for row, *_ in expected]
    assert flat.place.tolist() == [place for _, place, *_ in expected]
    assert flat.category.tolist() == [category for *_, category, _ in expected]
    assert flat.count.tolist() == [len(points) for *_, points in expected]
    every_point = [point for *_, points in expected for point in points]
    np.testing.assert_array_equal(flat.points, np.array(every_point, np.float64).reshape(-1, 2))
    with np.errstate(invalid="ignore"):
        lengths = flat.lengths_px()
    for length, (*_, points) in zip(lengths, expected, strict=True):
        plain_length = sum(math.dist(a, b) for a, b in itertools.pairwise(points))
        assert length == pytest.approx(plain_length, nan_ok=True)


@given(rows, st.integers(0, 5))
def test_each_impossible_polyline_is_found_and_no_other(rows: list, cut: int) -> None:
    width, height = np.full(len(rows), FRAME_WIDTH), np.full(len(rows), FRAME_HEIGHT)
    found = list(impossible_polylines(flatten_polylines(as_chunks(rows, cut)), width, height))
    expected = [
        (row, place) for row, place, category, points in plain(rows) if not is_possible(category, points)
    ]
    assert [(row, int(reason.split()[1]) - 1) for row, reason in found] == expected


def test_a_class_that_is_not_known_is_named() -> None:
    fine, strange = ({"category": number, "points": [(-1, -1), (100, 60)]} for number in (0, 3))
    flat = flatten_polylines(pa.array([[], [fine, strange, fine]], TYPE))
    [found] = impossible_polylines(flat, np.array([9, 100]), np.array([9, 60]))
    assert found == (1, "polyline 2 (class 3): it is of no known class")


def test_in_a_frame_of_unknown_size_nothing_lies_outside() -> None:
    flat = flatten_polylines(pa.array([[{"category": 0, "points": [(1, 1), (900, 2)]}]], TYPE))
    assert not list(impossible_polylines(flat, np.array([np.nan]), np.array([np.nan])))
