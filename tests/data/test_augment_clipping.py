"""Clipping of polylines, against an exact and slow version."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from liver_landmark.data.augmentation import clip_polyline

# Halves, so that points on the frame's border and corners are common.
HALVES = st.integers(-30, 70).map(lambda number: number / 2)
ANYWHERE = st.floats(-40, 60).map(lambda number: round(number, 3))
POINTS = st.lists(st.tuples(HALVES, HALVES) | st.tuples(ANYWHERE, ANYWHERE), min_size=1, max_size=12)


def slowly_clipped(points: list[tuple[float, float]], width: int, height: int) -> list[np.ndarray]:
    """Each segment is cut wherever it crosses a border, in fractions; parts whose middle is inside stay."""
    half = Fraction(1, 2)
    exact = [(Fraction(x), Fraction(y)) for x, y in points]
    pieces: list[list[tuple[Fraction, Fraction]]] = []
    goes_on = False
    for (x0, y0), (x1, y1) in pairwise(exact):
        cuts = {Fraction(0), Fraction(1)}
        for border in (-half, width - half):
            if x1 != x0:
                cuts.add((border - x0) / (x1 - x0))
        for border in (-half, height - half):
            if y1 != y0:
                cuts.add((border - y0) / (y1 - y0))
        ordered = sorted(cut for cut in cuts if 0 <= cut <= 1)
        for first, last in pairwise(ordered):
            begin, middle, end = (
                (x0 + part * (x1 - x0), y0 + part * (y1 - y0)) for part in (first, (first + last) / 2, last)
            )
            if not (-half <= middle[0] <= width - half and -half <= middle[1] <= height - half):
                goes_on = False
                continue
            if goes_on:
                pieces[-1].append(end)
            else:
                pieces.append([begin, end])
            goes_on = True
    arrays = [np.array(piece, dtype=np.float64) for piece in pieces]
    return [piece for piece in arrays if np.ptp(piece, axis=0).max() > 1e-6]


def without_middle_points(piece: np.ndarray) -> np.ndarray:
    """The slow version also cuts where a segment touches a border from within, and drops repeated points."""
    kept = [piece[0]]
    for before, point, after in zip(piece, piece[1:], piece[2:], strict=False):
        (ax, ay), (bx, by) = point - before, after - point
        straight = abs(ax * by - ay * bx) <= 1e-9 * (1 + abs(ax) + abs(ay)) and ax * bx + ay * by >= 0
        if not straight:
            kept.append(point)
    return np.array([*kept, piece[-1]])


@settings(deadline=None, max_examples=400)
@given(POINTS, st.integers(1, 30), st.integers(1, 30))
def test_clipping_is_the_slow_one(points: list[tuple[float, float]], width: int, height: int) -> None:
    ours = clip_polyline(np.array(points), width, height)
    slow = slowly_clipped(points, width, height)
    assert len(ours) == len(slow)
    for piece, expected in zip(ours, slow, strict=True):
        left, right = without_middle_points(piece), without_middle_points(expected)
        assert left.shape == right.shape
        np.testing.assert_allclose(left, right, atol=1e-7)


@settings(deadline=None, max_examples=200)
@given(POINTS, st.integers(1, 30), st.integers(1, 30))
def test_points_inside_stay_as_they_are(points: list[tuple[float, float]], width: int, height: int) -> None:
    pieces = clip_polyline(np.array(points), width, height)
    for piece in pieces:
        assert len(piece) >= 2
        assert (piece >= -0.5).all()
        assert (piece <= (width - 0.5, height - 0.5)).all()
    kept = [tuple(point) for piece in pieces for point in piece]
    inside = [(x, y) for x, y in points if 0 <= x <= width - 1 and 0 <= y <= height - 1]
    if len(set(points)) == len(points) > 1:
        remaining = iter(kept)
        assert all(point in remaining for point in inside), "in order, bit for bit"


def test_a_polyline_inside_is_itself() -> None:
    points = np.array([(0.25, 0.1), (3.0, 7.7), (3.0, 7.7), (9.5, -0.5)])
    (piece,) = clip_polyline(points, 10, 10)
    assert np.array_equal(piece, points)


def test_leaving_and_coming_back_makes_two() -> None:
    points = np.array([(2.0, 5.0), (14.0, 5.0), (14.0, 8.0), (2.0, 8.0)])
    first, second = clip_polyline(points, 10, 20)
    assert first.tolist() == [[2, 5], [9.5, 5]]
    assert second.tolist() == [[9.5, 8], [2, 8]]


def test_a_border_point_is_where_a_curve_begins_and_ends_once() -> None:
    points = np.array([(-4.0, 2.0), (-0.5, 4.0), (3.0, 4.0), (9.5, 6.0), (14.0, 8.0)])
    (piece,) = clip_polyline(points, 10, 10)
    assert np.array_equal(piece, points[1:4])


@pytest.mark.parametrize(
    "points",
    [
        [(3.0, 3.0)],
        [(3.0, 3.0), (3.0, 3.0)],
        [(-9.0, 3.0), (-2.0, 8.0)],
        # Past the corner; touching the corner; touching a side.
        [(-5.0, 3.0), (3.0, -5.0)],
        [(-1.5, 0.5), (0.5, -1.5)],
        [(-4.0, 2.0), (-0.5, 4.0), (-4.0, 6.0)],
    ],
)
def test_what_is_no_curve_in_the_frame_is_dropped(points: list[tuple[float, float]]) -> None:
    assert clip_polyline(np.array(points), 10, 10) == []


def test_a_segment_far_out_on_both_sides_is_cut_twice() -> None:
    (piece,) = clip_polyline(np.array([(-(2.0**24), 4.0), (2.0**24, 4.0)]), 10, 10)
    assert piece.tolist() == [[-0.5, 4], [9.5, 4]]
