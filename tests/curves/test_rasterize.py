"""The protocol table against the published settings, and the rasterizer against plain OpenCV calls."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from liver_landmark.curves import PROTOCOLS, get_protocol, landmark_id, rasterize_landmarks, resize_mask
from liver_landmark.curves.rasterize import AS_DRAWN, check_label_protocol

# name: stroke px at 1920x1080, stroke px at 3840x2160, label's resize, prediction's resize
PUBLISHED = {
    "d2gpland": (30, 30, "bilinear", "bilinear"),
    "d2gpland_plus": (35, 70, "nearest", "bilinear"),
    "toponet": (35, 35, "nearest", "bilinear"),
    "srft_galore": (30, 30, "bilinear", "nearest"),
    "slippa": (12, 12, "nearest", "bilinear"),
    "p2ilf": (12, 12, "nearest", "bilinear"),
    "synthetic": (30, 60, "nearest_exact", "bilinear"),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_settings_are_the_published_ones(name):
    protocol = get_protocol(name)
    strokes = (protocol.native_stroke_width_px(*size) for size in ((1920, 1080), (3840, 2160)))
    assert (*strokes, protocol.label_resize, protocol.prediction_resize) == PUBLISHED[name]
    assert set(PROTOCOLS) == set(PUBLISHED)


def test_synthetic_strokes_are_relative_to_the_frames_width():
    protocol = get_protocol("synthetic")
    assert protocol.canvas_size(456, 256) == (1920, 1078)
    for width, height in ((456, 256), (256, 256)):
        assert protocol.native_stroke_width_px(width, height) == pytest.approx(30 / 1920 * width)


def test_a_label_follows_a_protocol_or_is_as_drawn():
    assert [check_label_protocol(name) for name in ("slippa", AS_DRAWN)] == ["slippa", "as_drawn"]
    with pytest.raises(ValueError, match=r"protocol 'drawn' is unknown: choose one of .* or as_drawn for"):
        check_label_protocol("drawn")
    with pytest.raises(ValueError, match=r"protocol 'l3d' is unknown: choose one of d2gpland, d2gpland_plus"):
        get_protocol("l3d")
    # Nothing can be drawn by it.
    with pytest.raises(ValueError, match="protocol 'as_drawn' is unknown"):
        get_protocol(AS_DRAWN)


LANDMARKS = [
    {"category": "silhouette", "points": [(100.9, 200.2), (900.5, 180.7), (1500.1, 400.0)]},
    {"category": "ridge", "points": [(80.0, 700.0), (700.99, 820.4), (1700.3, 640.6)]},
    {"category": "ligament", "points": [(800.2, 120.9), (860.6, 500.5), (820.0, 900.3)]},
]
IDS = {"ridge": 1, "silhouette": 2, "ligament": 3}


def drawn_with_lines(landmarks, size, stroke_px, scale=1.0):
    """A mask from one cv2.line per segment, in file order."""
    mask = np.zeros((size[1], size[0]), np.uint8)
    for landmark in landmarks:
        # Native points are cut off; points scaled onto a canvas are rounded.
        whole = int if scale == 1.0 else round
        points = [
            (whole((x + 0.5) * scale - 0.5), whole((y + 0.5) * scale - 0.5)) for x, y in landmark["points"]
        ]
        for start, end in pairwise(points):
            cv2.line(mask, start, end, IDS[landmark["category"]], stroke_px)
    return mask


@pytest.mark.parametrize("name", [name for name in PUBLISHED if name != "synthetic"])
def test_bit_equal_to_opencv(name):
    protocol, (stroke_hd, stroke_4k, label_resize, _) = get_protocol(name), PUBLISHED[name]
    native = drawn_with_lines(LANDMARKS, (1920, 1080), stroke_hd)
    np.testing.assert_array_equal(rasterize_landmarks(LANDMARKS, 1920, 1080, protocol), native)
    scored = rasterize_landmarks(LANDMARKS, 1920, 1080, protocol, (1024, 1024))
    interpolation = {"bilinear": cv2.INTER_LINEAR, "nearest": cv2.INTER_NEAREST}[label_resize]
    np.testing.assert_array_equal(scored, cv2.resize(native, (1024, 1024), interpolation=interpolation))
    assert scored.dtype == np.uint8
    doubled = [{**mark, "points": [(2 * x, 2 * y) for x, y in mark["points"]]} for mark in LANDMARKS]
    expected = drawn_with_lines(doubled, (3840, 2160), stroke_4k)
    np.testing.assert_array_equal(rasterize_landmarks(doubled, 3840, 2160, protocol), expected)


def test_synthetic_strokes_are_drawn_on_a_1920_px_canvas():
    landmarks = [{**mark, "points": [(x / 4, y / 4) for x, y in mark["points"]]} for mark in LANDMARKS]
    canvas = drawn_with_lines(landmarks, (1920, 1080), 30, scale=4.0)
    mask = rasterize_landmarks(landmarks, 480, 270, get_protocol("synthetic"), (1024, 1024))
    np.testing.assert_array_equal(mask, exact_nearest(canvas, (1024, 1024)))


def exact_nearest(mask, size):
    """The id of the pixel that each new pixel's center falls in, by fractions and pixel by pixel."""
    half = Fraction(1, 2)
    rows, columns = (
        [int((new + half) * Fraction(old_side, new_side)) for new in range(new_side)]
        for new_side, old_side in zip(size[::-1], mask.shape, strict=True)
    )
    return np.array([[mask[row, column] for column in columns] for row in rows], np.uint8)


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("size", [(456, 256), (256, 256), (1024, 1024)])
def test_synthetic_labels_lie_where_the_polyline_lies(axis, size):
    # A stroke of even width lies up to half a px of the 1920 px canvas off its line, on the mean of many
    # lines a quarter; nothing else may shift it.
    allowed_px = 0.25 * size[axis] / (1920, 1078)[axis] + 0.1
    offsets = []
    for position in np.random.default_rng(0).uniform(0.35, 0.65, 50) * (456, 256)[axis]:
        line = [[-20.0, -20.0], [500.0, 500.0]]
        line[0][axis] = line[1][axis] = position
        landmarks = [{"category": "ridge", "points": line}]
        mask = rasterize_landmarks(landmarks, 456, 256, get_protocol("synthetic"), size)
        inside = np.flatnonzero(mask.any(axis=axis))
        offsets.append(inside.mean() - ((position + 0.5) * size[axis] / (456, 256)[axis] - 0.5))
    assert abs(np.mean(offsets)) <= allowed_px


@given(*[st.integers(1, 60)] * 4)
@settings(max_examples=50, deadline=None)
def test_the_default_resize_takes_the_pixel_under_the_center(height, width, new_height, new_width):
    mask = np.random.default_rng(0).integers(0, 4, (height, width)).astype(np.uint8)
    size = (new_width, new_height)
    np.testing.assert_array_equal(resize_mask(mask, size), exact_nearest(mask, size))


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 1e12])
def test_coordinates_that_are_no_places_are_refused(bad):
    landmarks = [{"category": "ligament", "points": [(bad, 3.0), (5.0, 6.0)]}]
    with pytest.raises(ValueError, match="landmark 'ligament': a coordinate is not finite or out of range"):
        rasterize_landmarks(landmarks, 64, 36, get_protocol("d2gpland"))


def test_bilinear_protocols_invent_ids_and_nearest_ones_do_not():
    only_ligament = [LANDMARKS[2]]
    bilinear = rasterize_landmarks(only_ligament, 1920, 1080, get_protocol("d2gpland"), (1024, 1024))
    nearest = rasterize_landmarks(only_ligament, 1920, 1080, get_protocol("toponet"), (1024, 1024))
    assert set(np.unique(bilinear)) == {0, 1, 2, 3}
    assert set(np.unique(nearest)) == {0, 3}


@pytest.mark.parametrize("order", [("ridge", "ligament"), ("ligament", "ridge")])
def test_later_strokes_lie_over_earlier_ones(order):
    lines = [(10, 50), (90, 50)], [(50, 10), (50, 90)]
    landmarks = [{"category": name, "points": line} for name, line in zip(order, lines, strict=True)]
    mask = rasterize_landmarks(landmarks, 100, 100, get_protocol("slippa"))
    assert mask[50, 50] == IDS[order[1]]
    assert mask[50, 15] == IDS[order[0]]


@given(
    st.lists(st.tuples(st.floats(-30, 229, width=32), st.floats(-30, 149, width=32)), min_size=2, max_size=6),
    st.sampled_from(["d2gpland", "p2ilf"]),
)
@settings(max_examples=50, deadline=None)
def test_fractions_are_cut_off_not_rounded(points, name):
    cut = [(float(int(x)), float(int(y))) for x, y in points]
    protocol = get_protocol(name)
    given_mask, cut_mask = (
        rasterize_landmarks([{"category": "ridge", "points": line}], 200, 120, protocol)
        for line in (points, cut)
    )
    np.testing.assert_array_equal(given_mask, cut_mask)


@pytest.mark.parametrize("name", PROTOCOLS)
def test_a_frame_without_landmarks_is_background(name):
    mask = rasterize_landmarks([], 64, 36, get_protocol(name), (32, 32))
    assert mask.shape == (32, 32)
    assert not mask.any()
    assert not rasterize_landmarks([{"category": "ridge", "points": []}], 64, 36, get_protocol(name)).any()


def test_categories_by_name_and_by_the_schemas_index():
    assert [landmark_id(name) for name in ("ridge", "silhouette", "ligament")] == [1, 2, 3]
    assert [landmark_id(index) for index in range(3)] == [1, 2, 3]
    with pytest.raises(ValueError, match="'rigde' is unknown"):
        landmark_id("rigde")
    with pytest.raises(ValueError, match=r"out of range 0\.\.2"):
        landmark_id(3)
