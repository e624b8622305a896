"""One matrix for image, mask and polylines, against slower obvious versions."""

from __future__ import annotations

import cmath
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from liver_landmark.data.augmentation import (
    Geometry,
    comes_from_frame,
    flip_picture,
    transform_landmarks,
    warp_image,
    warp_mask,
)

HEIGHT, WIDTH = 40, 64
GEOMETRIES = st.builds(
    Geometry,
    flip_x=st.booleans(),
    flip_y=st.booleans(),
    angle_degrees=st.floats(-180, 180),
    scale=st.floats(0.5, 2),
    crop_side=st.floats(0.3, 1),
    crop_x=st.floats(0, 1),
    crop_y=st.floats(0, 1),
)
EXAMPLES = (
    Geometry(angle_degrees=-170.0),
    Geometry(angle_degrees=7.5, flip_x=True),
    Geometry(angle_degrees=90.0),
    Geometry(scale=0.6),
    Geometry(crop_side=0.5, crop_x=0.2, crop_y=0.9),
    Geometry(True, True, 33.0, 1.3, 0.8, 0.1, 0.6),
)


def step_by_step(geometry: Geometry, x: float, y: float) -> tuple[float, float]:
    """Where a point goes, by the words of the class: one step after the other."""
    if geometry.flip_x:
        x = WIDTH - 1 - x
    if geometry.flip_y:
        y = HEIGHT - 1 - y
    center_x, center_y = (WIDTH - 1) / 2, (HEIGHT - 1) / 2
    # In a plane whose second axis points up, counter-clockwise is a positive argument.
    turned = complex(x - center_x, -(y - center_y)) * cmath.rect(
        geometry.scale, math.radians(geometry.angle_degrees)
    )
    x, y = center_x + turned.real, center_y - turned.imag
    # The window's left upper corner, in lengths from the frame's own corner at -1/2.
    left = geometry.crop_x * (WIDTH - geometry.crop_side * WIDTH)
    top = geometry.crop_y * (HEIGHT - geometry.crop_side * HEIGHT)
    return (x + 0.5 - left) / geometry.crop_side - 0.5, (y + 0.5 - top) / geometry.crop_side - 0.5


@given(GEOMETRIES, st.floats(-10, 80), st.floats(-10, 60))
def test_the_matrix_is_all_steps_at_once(geometry: Geometry, x: float, y: float) -> None:
    moved = geometry.matrix(WIDTH, HEIGHT) @ (x, y, 1)
    assert moved[:2] == pytest.approx(step_by_step(geometry, x, y), abs=1e-8)


def slowly_warped(picture: np.ndarray, matrix: np.ndarray, outside: float, nearest: bool) -> np.ndarray:
    """Each pixel looks up, by itself, where it came from."""
    height, width = picture.shape[:2]

    def at(y: int, x: int) -> np.ndarray:
        inside = 0 <= y < height and 0 <= x < width
        return picture[y, x].astype(float) if inside else np.full(picture.shape[2:], float(outside))

    result = np.zeros(picture.shape)
    to_source = np.linalg.inv(matrix)
    for y, x in np.ndindex(height, width):
        source_x, source_y, _ = (to_source @ (x, y, 1)).tolist()
        if nearest:
            result[y, x] = at(math.floor(source_y + 0.5), math.floor(source_x + 0.5))
            continue
        left, top = math.floor(source_x), math.floor(source_y)
        right_part, lower_part = source_x - left, source_y - top
        result[y, x] = (
            at(top, left) * (1 - right_part) * (1 - lower_part)
            + at(top, left + 1) * right_part * (1 - lower_part)
            + at(top + 1, left) * (1 - right_part) * lower_part
            + at(top + 1, left + 1) * right_part * lower_part
        )
    return result


def is_clear(matrix: np.ndarray) -> np.ndarray:
    """(H, W): whether round-off cannot decide which pixel is the nearest."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    source = np.linalg.inv(matrix)[:2] @ np.stack([x.ravel(), y.ravel(), np.ones(x.size)])
    return (np.abs((source + 0.5) - np.rint(source + 0.5)) > 1e-3).all(axis=0).reshape(HEIGHT, WIDTH)


@pytest.mark.parametrize("geometry", EXAMPLES, ids=repr)
def test_warping_is_the_slow_one(geometry: Geometry) -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    mask = rng.choice(np.array([0, 1, 2, 3, 255], np.uint8), (HEIGHT, WIDTH))
    matrix = geometry.matrix(WIDTH, HEIGHT)
    # Single precision leaves 1e-4 px: of neighbors that differ by 255, a small part of a level.
    difference = warp_image(image, matrix) - slowly_warped(image, matrix, outside=0, nearest=False)
    assert np.abs(difference).max() < 0.6
    clear = is_clear(matrix)
    assert clear.mean() > 0.4 or geometry == Geometry(angle_degrees=90.0)
    for outside_id in (0, 255):
        warped = warp_mask(mask, matrix, outside_id)
        assert warped.dtype == np.uint8
        slow = slowly_warped(mask, matrix, outside_id, nearest=True)
        assert np.array_equal(warped[clear], slow[clear])
        assert set(np.unique(warped)) <= {0, 1, 2, 3, 255}
    inside = slowly_warped(np.ones_like(mask), matrix, outside=0, nearest=True) == 1
    assert np.array_equal(comes_from_frame(matrix, WIDTH, HEIGHT)[clear], inside[clear])


def test_a_quarter_turn_of_a_square_is_exact() -> None:
    rng = np.random.default_rng(0)
    image, mask = rng.integers(0, 256, (31, 31, 3), np.uint8), rng.integers(0, 4, (31, 31), np.uint8)
    matrix = Geometry(angle_degrees=90).matrix(31, 31)
    assert np.array_equal(warp_image(image, matrix), np.rot90(image))
    assert np.array_equal(warp_mask(mask, matrix, 255), np.rot90(mask))


@pytest.mark.parametrize(
    ("flip_x", "flip_y", "turned"),
    [
        (True, False, lambda x: x[:, ::-1]),
        (False, True, lambda x: x[::-1]),
        (True, True, lambda x: x[::-1, ::-1]),
    ],
)
def test_flips_move_pixels_and_points_exactly(flip_x: bool, flip_y: bool, turned) -> None:
    geometry = Geometry(flip_x, flip_y)
    assert geometry.only_flips
    assert not geometry.is_identity
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    assert np.array_equal(flip_picture(image, geometry), turned(image))
    points = rng.uniform(0, HEIGHT - 1, (9, 2))
    (moved,) = transform_landmarks(
        [{"category": 2, "points": points}], geometry.matrix(WIDTH, HEIGHT), WIDTH, HEIGHT
    )
    expected = points.copy()
    if flip_x:
        expected[:, 0] = WIDTH - 1 - expected[:, 0]
    if flip_y:
        expected[:, 1] = HEIGHT - 1 - expected[:, 1]
    assert np.array_equal(moved["points"], expected)
    assert moved["category"] == 2


@settings(deadline=None, max_examples=30)
@given(GEOMETRIES, st.floats(12, WIDTH - 13), st.floats(12, HEIGHT - 13))
def test_what_an_image_shows_goes_where_its_polylines_go(geometry: Geometry, x: float, y: float) -> None:
    # A soft spot: its center of mass is known to a fraction of a px, before and after.
    grid_y, grid_x = np.mgrid[:HEIGHT, :WIDTH]
    spot = 250 * np.exp(-((grid_x - x) ** 2 + (grid_y - y) ** 2) / (2 * 2.0**2))
    image = np.repeat(np.rint(spot).astype(np.uint8)[..., None], 3, axis=2)
    matrix = geometry.matrix(WIDTH, HEIGHT)
    expected_x, expected_y, _ = matrix @ (x, y, 1)
    margin = 8 * geometry.scale / geometry.crop_side
    if not (
        margin < expected_x < WIDTH - 1 - margin and margin < expected_y < HEIGHT - 1 - margin
    ):  # part of the spot is cut off, and with it the center of mass
        return
    weights = warp_image(image, matrix)[..., 0].astype(float)
    center = np.array([(weights * grid_x).sum(), (weights * grid_y).sum()]) / weights.sum()
    assert center == pytest.approx((expected_x, expected_y), abs=0.06 * geometry.scale / geometry.crop_side)


@settings(deadline=None, max_examples=50)
@given(GEOMETRIES, st.integers(0, 1000))
def test_polylines_move_by_the_matrix_in_their_order(geometry: Geometry, seed: int) -> None:
    rng = np.random.default_rng(seed)
    matrix = geometry.matrix(WIDTH, HEIGHT)
    landmarks = [
        {"category": name, "points": rng.uniform((0, 0), (WIDTH - 1, HEIGHT - 1), (5, 2)).tolist()}
        for name in ("ligament", "ridge", "silhouette")
    ]
    moved = transform_landmarks(landmarks, matrix, WIDTH, HEIGHT)
    order = [landmark["category"] for landmark in moved]
    assert order == sorted(order, key=[landmark["category"] for landmark in landmarks].index)
    for landmark in moved:
        assert (landmark["points"] >= -0.5).all()
        assert (landmark["points"] <= (WIDTH - 0.5, HEIGHT - 0.5)).all()
    for landmark in landmarks:
        points = np.array([step_by_step(geometry, x, y) for x, y in landmark["points"]])
        seen = ((points > 0) & (points < (WIDTH - 1, HEIGHT - 1))).all(axis=1)
        ours = np.concatenate(
            [other["points"] for other in moved if other["category"] == landmark["category"]]
            or [np.empty((0, 2))]
        )
        for point in points[seen]:
            assert np.abs(ours - point).max(axis=1).min() < 1e-8


def test_the_rows_own_polylines_are_left_alone() -> None:
    landmarks = [{"category": 0, "points": [[1.0, 2.0], [30.0, 20.0]]}]
    transform_landmarks(landmarks, Geometry(scale=3.0).matrix(WIDTH, HEIGHT), WIDTH, HEIGHT)
    assert landmarks == [{"category": 0, "points": [[1.0, 2.0], [30.0, 20.0]]}]


def test_a_curve_that_leaves_and_comes_back_is_two_in_place() -> None:
    bent = {"category": "ridge", "points": [(5.0, 10.0), (60.0, 20.0), (5.0, 30.0)]}
    straight = {"category": "ligament", "points": [(20.0, 5.0), (20.0, 35.0)]}
    window = Geometry(crop_side=0.5, crop_x=0.0, crop_y=0.5).matrix(WIDTH, HEIGHT)
    moved = transform_landmarks([bent, straight, bent], window, WIDTH, HEIGHT)
    assert [landmark["category"] for landmark in moved] == ["ridge"] * 2 + ["ligament"] + ["ridge"] * 2
