"""What a variation is made of, against slower obvious versions: geometry, clipping, light, occlusion."""

from __future__ import annotations

import cmath
import math
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
import scipy.ndimage
from hypothesis import given, settings
from hypothesis import strategies as st

from liver_landmark.data.augmentation import (
    Geometry,
    Veil,
    add_noise,
    blur,
    clip_polyline,
    comes_from_frame,
    draw_blood,
    draw_clouds,
    draw_smoke,
    flip_picture,
    lay_over,
    relight,
    transform_landmarks,
    veil_size,
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


def warped_by_scipy(picture: np.ndarray, matrix: np.ndarray, outside: float, order: int) -> np.ndarray:
    """Each pixel looks up where it came from, in double precision: the nearest (order 0) or linearly (1)."""
    turned = np.linalg.inv(matrix)[[1, 0]][:, [1, 0, 2]]  # (y, x) instead of (x, y)
    planes = np.atleast_3d(picture).astype(float)
    options = {"order": order, "mode": "grid-constant", "cval": outside}
    moved = [
        scipy.ndimage.affine_transform(planes[..., k], turned[:, :2], turned[:, 2], **options)
        for k in range(planes.shape[2])
    ]
    return np.stack(moved, axis=-1).reshape(picture.shape)


def is_clear(matrix: np.ndarray) -> np.ndarray:
    """(H, W): whether round-off cannot decide which pixel is the nearest."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    source = np.linalg.inv(matrix)[:2] @ np.stack([x.ravel(), y.ravel(), np.ones(x.size)])
    return (np.abs((source + 0.5) - np.rint(source + 0.5)) > 1e-3).all(axis=0).reshape(HEIGHT, WIDTH)


@pytest.mark.parametrize("geometry", EXAMPLES, ids=repr)
def test_warping_is_scipys(geometry: Geometry) -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    mask = rng.choice(np.array([0, 1, 2, 3, 255], np.uint8), (HEIGHT, WIDTH))
    matrix = geometry.matrix(WIDTH, HEIGHT)
    # Single precision leaves 1e-4 px: of neighbors that differ by 255, a small part of a level.
    difference = warp_image(image, matrix) - warped_by_scipy(image, matrix, outside=0, order=1)
    assert np.abs(difference).max() < 0.6
    clear = is_clear(matrix)
    assert clear.mean() > 0.4 or geometry == Geometry(angle_degrees=90.0)
    for outside_id in (0, 255):
        warped = warp_mask(mask, matrix, outside_id)
        assert warped.dtype == np.uint8
        slow = warped_by_scipy(mask, matrix, outside_id, order=0)
        assert np.array_equal(warped[clear], slow[clear])
        assert set(np.unique(warped)) <= {0, 1, 2, 3, 255}
    inside = warped_by_scipy(np.ones_like(mask), matrix, outside=0, order=0) == 1
    assert np.array_equal(comes_from_frame(matrix, WIDTH, HEIGHT)[clear], inside[clear])


def test_a_quarter_turn_of_a_square_is_exact() -> None:
    rng = np.random.default_rng(0)
    image, mask = rng.integers(0, 256, (31, 31, 3), np.uint8), rng.integers(0, 4, (31, 31), np.uint8)
    matrix = Geometry(angle_degrees=90).matrix(31, 31)
    assert np.array_equal(warp_image(image, matrix), np.rot90(image))
    assert np.array_equal(warp_mask(mask, matrix, 255), np.rot90(mask))


@pytest.mark.parametrize(("flip_x", "flip_y"), [(True, False), (False, True), (True, True)])
def test_flips_move_pixels_and_points_exactly(flip_x: bool, flip_y: bool) -> None:
    geometry = Geometry(flip_x, flip_y)
    assert geometry.only_flips
    assert not geometry.is_identity
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    turned = image[:: -1 if flip_y else 1, :: -1 if flip_x else 1]
    assert np.array_equal(flip_picture(image, geometry), turned)
    points = rng.uniform(0, HEIGHT - 1, (9, 2))
    (moved,) = transform_landmarks(
        [{"category": 2, "points": points}], geometry.matrix(WIDTH, HEIGHT), WIDTH, HEIGHT
    )
    expected = np.where((flip_x, flip_y), (WIDTH - 1, HEIGHT - 1) - points, points)
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


def test_a_curve_that_leaves_and_comes_back_is_two_in_place() -> None:
    bent = {"category": "ridge", "points": [(5.0, 10.0), (60.0, 20.0), (5.0, 30.0)]}
    straight = {"category": "ligament", "points": [(20.0, 5.0), (20.0, 35.0)]}
    window = Geometry(crop_side=0.5, crop_x=0.0, crop_y=0.5).matrix(WIDTH, HEIGHT)
    moved = transform_landmarks([bent, straight, bent], window, WIDTH, HEIGHT)
    assert [landmark["category"] for landmark in moved] == ["ridge"] * 2 + ["ligament"] + ["ridge"] * 2


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


INSIDE = [(0.25, 0.1), (3, 7.7), (3, 7.7), (9.5, -0.5)]


@pytest.mark.parametrize(
    ("points", "pieces"),
    [
        (INSIDE, [INSIDE]),
        ([(2, 5), (14, 5), (14, 8), (2, 8)], [[(2, 5), (9.5, 5)], [(9.5, 8), (2, 8)]]),
        # A border point is where a curve begins and ends once.
        ([(-4, 2), (-0.5, 4), (3, 4), (9.5, 6), (14, 8)], [[(-0.5, 4), (3, 4), (9.5, 6)]]),
        # Far out on both sides.
        ([(-(2.0**24), 4), (2.0**24, 4)], [[(-0.5, 4), (9.5, 4)]]),
        # No curve in the frame; past the corner; touching the corner; touching a side.
        *(([(3, 3)] * count, []) for count in (1, 2)),
        ([(-9, 3), (-2, 8)], []),
        ([(-5, 3), (3, -5)], []),
        ([(-1.5, 0.5), (0.5, -1.5)], []),
        ([(-4, 2), (-0.5, 4), (-4, 6)], []),
    ],
)
def test_clipping_by_hand(points: list, pieces: list) -> None:
    clipped = clip_polyline(np.array(points, dtype=float), 10, 10)
    assert [list(map(tuple, piece.tolist())) for piece in clipped] == pieces


def test_relighting_is_the_formula_channel_by_channel() -> None:
    image = np.random.default_rng(0).integers(0, 256, (9, 11, 3), np.uint8)
    gain = np.array([1.2, 0.9, 0.5])
    expected = np.clip(0.5 + (image / 255 * gain - 0.5) * 1.3, 0, 1) ** 0.7 * 255
    assert np.abs(relight(image, gain, contrast=1.3, gamma=0.7) - expected).max() <= 0.5 + 1e-9


@pytest.mark.parametrize(("height", "sigma_px", "own_px"), [(108, 20.0, 2.0), (270, 6.0, 1.5)])
def test_blur_is_a_gaussian_of_the_frames_own_px(height: int, sigma_px: float, own_px: float) -> None:
    image = np.random.default_rng(0).integers(0, 256, (height, 60, 3), np.uint8)
    expected = scipy.ndimage.gaussian_filter(image.astype(float), (own_px, own_px, 0), mode="mirror")
    # OpenCV's 8-bit kernel ends at three standard deviations and rounds its weights.
    assert np.abs(blur(image, sigma_px) - expected).max() < 2.5
    assert np.abs(image - expected).mean() > 30
    assert np.array_equal(blur(image, sigma_px / 20), image)


@pytest.mark.parametrize(("height", "grain_px"), [(200, 1), (541, 1), (1080, 2), (1081, 2)])
def test_noise_is_gray_with_the_strength_asked_for(height: int, grain_px: int) -> None:
    image = np.full((height, 301, 3), 128, np.uint8)
    noise = add_noise(image, 0.05, np.random.default_rng(3)).astype(float) - 128
    assert noise.shape == image.shape
    assert (noise == noise[..., :1]).all()
    assert noise.std() == pytest.approx(0.05 * 255, rel=0.03)
    assert abs(noise.mean()) < 0.3
    plane = noise[..., 0]
    assert (plane[:grain_px, :grain_px] == plane[0, 0]).all()
    # Neighbors in one grain are equal, those of two grains have nothing to do with each other.
    shifted = plane[:, grain_px:] * plane[:, :-grain_px]
    assert abs(shifted.mean()) < 0.05 * plane.var()


def test_noise_stops_at_black_and_white() -> None:
    image = np.zeros((50, 50, 3), np.uint8)
    image[25:] = 255
    noisy = add_noise(image, 0.1, np.random.default_rng(0))
    assert (noisy[:25] < 128).all()
    assert (noisy[25:] > 128).all()


SIZE = (120, 68)


def test_clouds_span_all_of_their_range_and_hang_together() -> None:
    (clouds,) = draw_clouds(SIZE, [np.random.default_rng(0)])
    assert clouds.shape == SIZE[::-1]
    assert clouds.min() == pytest.approx(0, abs=0.05)
    assert clouds.max() == pytest.approx(1, abs=0.05)
    # A fractal: neighbors differ by much less than pixels far apart do.
    assert np.abs(np.diff(clouds, axis=1)).mean() < 0.3 * np.abs(clouds[:, 40:] - clouds[:, :-40]).mean()


def test_each_generator_draws_its_own_clouds() -> None:
    both = draw_clouds(SIZE, [np.random.default_rng(1), np.random.default_rng(2)])
    assert np.array_equal(both[0], draw_clouds(SIZE, [np.random.default_rng(1)])[0])
    assert np.array_equal(both[1], draw_clouds(SIZE, [np.random.default_rng(2)])[0])
    assert not np.array_equal(both[0], both[1])


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10**6), st.floats(0.01, 0.99))
def test_smoke_is_light_gray_and_no_denser_than_asked_for(seed: int, density: float) -> None:
    rng = np.random.default_rng(seed)
    (clouds,) = draw_clouds(SIZE, [rng])
    veil = draw_smoke(clouds, density, rng)
    assert veil.color.min() > 0.5
    assert np.ptp(veil.color) <= 0.06
    assert 0.85 * density < veil.opacity.max() <= density * (1 + 1e-6)
    assert 0 <= veil.opacity.min() < 0.05 * density
    assert np.array_equal(np.argsort(veil.opacity.ravel())[-5:], np.argsort(clouds.ravel())[-5:])


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10**6), st.floats(0.002, 0.5))
def test_blood_is_dark_red_and_covers_the_area_asked_for(seed: int, area: float) -> None:
    rng = np.random.default_rng(seed)
    (clouds,) = draw_clouds(SIZE, [rng])
    veil = draw_blood(clouds, area, rng)
    red, green, blue = veil.color
    assert 0.2 < red <= 0.5
    assert max(green, blue) < 0.1
    assert (veil.opacity >= 0).all()
    assert veil.opacity.max() <= 0.95
    strongest = veil.opacity.max()
    if strongest < 0.7:  # so little of it that the soft edges meet in the middle
        assert area < 0.05
        return
    # The opacity of the middles is drawn; a pixel at the very level may fall to either side.
    for opacity in (0.7, 0.95):
        assert (veil.opacity > 0.5 * opacity).mean() == pytest.approx(area, abs=0.05)
    assert (veil.opacity == 0).any()


def test_half_the_opacity_is_passed_by_just_the_area() -> None:
    rng = np.random.default_rng(4)
    (clouds,) = draw_clouds((400, 225), [rng])
    veil = draw_blood(clouds, 0.1, rng)
    assert (veil.opacity > 0.5 * veil.opacity.max()).mean() == pytest.approx(0.1, abs=2 / veil.opacity.size)


def test_veils_lie_over_the_image_one_after_the_other() -> None:
    image = np.random.default_rng(0).integers(0, 256, (68, 120, 3), np.uint8)
    rng = np.random.default_rng(5)
    clouds = draw_clouds(SIZE, [np.random.default_rng(1), np.random.default_rng(2)])
    blood, smoke = draw_blood(clouds[0], 0.3, rng), draw_smoke(clouds[1], 0.8, rng)
    expected = image / 255
    for veil in (blood, smoke):
        opacity = veil.opacity[..., None]
        expected = expected * (1 - opacity) + veil.color * opacity
    # Two numbers of 8 bits are added, each off by at most a half, and the product is rounded.
    assert np.abs(lay_over(image, [blood, smoke]) - 255 * expected).max() < 1.6
    assert np.abs(lay_over(image, [smoke, blood]) - 255 * expected).max() > 20


def test_where_nothing_is_there_the_image_stays_bit_for_bit() -> None:
    image = np.random.default_rng(0).integers(0, 256, (200, 300, 3), np.uint8)
    opacity = np.zeros((68, 102), np.float32)
    opacity[:, :30] = 0.5
    seen = lay_over(image, [Veil(np.array([1, 0, 0], np.float32), opacity)])
    assert np.array_equal(seen[:, 100:], image[:, 100:])
    assert not np.array_equal(seen[:, :80], image[:, :80])


@pytest.mark.parametrize(
    ("frame", "veil"),
    [((456, 256), (240, 135)), ((1920, 1080), (240, 135)), ((64, 40), (64, 40)), ((1, 900), (1, 135))],
)
def test_veils_have_the_frames_proportions(frame: tuple[int, int], veil: tuple[int, int]) -> None:
    assert veil_size(*frame) == veil
