"""All polylines of a table at once, against the same row by row in plain Python."""

from __future__ import annotations

import itertools
import math
import re

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from liver_landmark.data.loading import flatten_polylines, impossible_polylines
from liver_landmark.data.schema import landmark_features

TYPE = landmark_features().arrow_schema.field("landmarks").type
WIDTH, HEIGHT = 100, 60

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
    for row, polylines in enumerate(rows):
        for place, polyline in enumerate(polylines or ()):
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
        and all(-1 <= x <= WIDTH and -1 <= y <= HEIGHT for x, y in points)
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
    width, height = np.full(len(rows), WIDTH), np.full(len(rows), HEIGHT)
    found = list(impossible_polylines(flatten_polylines(as_chunks(rows, cut)), width, height))
    expected = [
        (row, place) for row, place, category, points in plain(rows) if not is_possible(category, points)
    ]
    assert [(row, int(reason.split()[1]) - 1) for row, reason in found] == expected


@pytest.mark.parametrize(
    ("landmark", "reason"),
    [
        ({"category": 3, "points": [(1, 1), (2, 2)]}, r"polyline 2 \(class 3\): it is of no known class"),
        ({"category": 0, "points": [(1, 1)]}, r"polyline 2 \(ridge\): it has 1 points, at least 2"),
        (
            {"category": 1, "points": [(1, math.nan), (2, 2)]},
            r"\(silhouette\): a coordinate of it is not fin",
        ),
        (
            {"category": 2, "points": [(1, 1), (2, 61.5), (300, 300)]},
            r"polyline 2 \(ligament\): its point \(2, 61.5\) lies outside of the frame of 100x60 px",
        ),
    ],
)
def test_the_reason_is_named(landmark: dict, reason: str) -> None:
    fine = {"category": 0, "points": [(-1, -1), (100, 60)]}
    flat = flatten_polylines(pa.array([[], [fine, landmark, fine]], TYPE))
    [(row, found)] = impossible_polylines(flat, np.array([9, 100]), np.array([9, 60]))
    assert row == 1
    assert re.search(reason, found), found


def test_in_a_frame_of_unknown_size_nothing_lies_outside() -> None:
    flat = flatten_polylines(pa.array([[{"category": 0, "points": [(1, 1), (900, 2)]}]], TYPE))
    assert not list(impossible_polylines(flat, np.array([np.nan]), np.array([np.nan])))
