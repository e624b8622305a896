"""What is a polyline, a file name and a frame, and which points lie inside."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curves.formats.annotations import refusal
from liver_landmark.curves.formats import AnnotationError, FrameAnnotation, check_inside

LINE = {"category": "ridge", "points": [(1.0, 2.0), (3.0, 4.0)]}


def test_an_error_is_one_line_that_names_the_file():
    error = AnnotationError("a\nb.json", "label 'x\ty' is\u2028unknown", "c.png")
    assert str(error) == "a\\nb.json: label 'x\\ty' is\\u2028unknown"
    assert (error.file, error.file_name) == ("a\nb.json", "c.png")
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301 - errors of worker processes travel so
    assert (str(copy), copy.file, copy.file_name) == (str(error), error.file, error.file_name)


@pytest.mark.parametrize("name", ["", "a\0b.png", "a\ud800.png"])
def test_names_that_no_file_can_have(name):
    with pytest.raises(ValueError, match="file_name"):
        FrameAnnotation(name, 1, 1, [])


@pytest.mark.parametrize("size", [(0, 5), (5, -1)])
def test_sizes_are_positive(size):
    with pytest.raises(ValueError, match="expected a positive number of px"):
        FrameAnnotation(None, *size, [])


def test_unknown_categories_are_named():
    with pytest.raises(ValueError, match=r"landmarks\[1\]\.category 'rigde' is unknown: .*ridge"):
        FrameAnnotation(None, None, None, [LINE, LINE | {"category": "rigde"}])


@pytest.mark.parametrize(
    ("points", "reason"),
    [
        ([], "0 point"),
        ([(1, 2)], "1 point"),
        ([(1, 2)] * 3, "3 points at the same place"),
        # One float32: 2**24 and its neighbor, and what differs in the 30th bit.
        ([(1, 2), (1, 2 + 2**-30)], "2 points at the same place"),
        ([(1, 2), (float("nan"), 2)], "point 1 is not finite"),
        ([(float("-inf"), 2), (1, 2)], "point 0 is not finite"),
        ([(1, 2), (2, 3), (1, 2**24 + 1)], "point 2 is beyond ± 16777216 px"),
        ([(1, 2, 3), (4, 5, 6)], r"expected \(x, y\) pairs"),
    ],
)
def test_what_is_no_polyline(points, reason):
    with pytest.raises(ValueError, match=rf"^landmarks\[0\]\.points: {reason}"):
        FrameAnnotation(None, None, None, [{"category": "ridge", "points": points}])


@pytest.mark.parametrize("points", [[(1, 2), (1, 2), (1, 2.001)], [(-(2**24), 2**24), (0, 0)], np.eye(2)])
def test_what_is_a_polyline(points):
    FrameAnnotation(None, None, None, [{"category": "ligament", "points": points}])


def test_what_was_tolerated_is_not_compared():
    assert FrameAnnotation("a", 1, 1, [LINE], ("rigde",)) == FrameAnnotation("a", 1, 1, [LINE])
    assert FrameAnnotation("a", 1, 1, [LINE]) != FrameAnnotation("a", 1, 1, [LINE, LINE])


def framed(*points):
    curve = {"category": "ligament", "points": list(points)}
    return FrameAnnotation("a.png", None, None, [LINE, curve, LINE])


def test_a_px_outside_is_tolerated_and_counted():
    assert check_inside(framed((0, 0), (9, 4)), 10, 5, "frame.x") == 0
    assert check_inside(framed((-1, 0), (10, 5), (9.5, 2), (3, -0.25), (5, 2)), 10, 5, "frame.x") == 4


@pytest.mark.parametrize("point", [(-1.01, 2), (10.01, 2), (2, -1.01), (2, 5.01), (1e6, -3)])
def test_more_than_a_px_outside_is_refused(point):
    reason = refusal(check_inside, framed((1, 1), point), 10, 5, "frame.x")
    assert reason.startswith(f"landmarks[1] (ligament): point 1 ({point[0]:g}, {point[1]:g}) lies outside")
    assert "10×5" in reason


@given(
    st.lists(st.tuples(st.integers(-8, 48), st.integers(-8, 28)), min_size=2, max_size=6).filter(
        lambda points: len(set(points)) > 1
    )
)
def test_inside_is_what_a_loop_over_the_points_says(quarters):
    points = [(x / 4, y / 4) for x, y in quarters]
    far = [(x, y) for x, y in points if x < -1 or x > 10 or y < -1 or y > 5]
    near = [(x, y) for x, y in points if x < 0 or x > 9 or y < 0 or y > 4]
    if far:
        refusal(check_inside, framed(*points), 10, 5, "frame.x")
    else:
        assert check_inside(framed(*points), 10, 5, "frame.x") == len(near)
