"""The benchmark's geometry against closed forms, OpenCV and slower versions."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from liver_landmark.synthetic.geometry import (
    Camera,
    Region,
    Scene,
    Surface,
    bumped_normals,
    ellipsoid,
    look_at,
    sample_grid,
    tube,
    upsample,
)
from liver_landmark.synthetic.landmarks import BRIDGED, SHORTEST, SPACING, cut_polyline
from liver_landmark.synthetic.textures import TILE_PX, noise_tiles


def surface(points: np.ndarray) -> Surface:
    normals = np.zeros((2, 2, 3), dtype=np.float32)
    return Surface(Region.LIVER, points.astype(np.float32), normals, normals, 0.0)


def camera(k: tuple[float, float] = (-0.18, 0.015), width: int = 320, height: int = 180) -> Camera:
    rotation = look_at(np.array([10.0, -60.0, -80.0]), np.array([0.0, 0.0, 40.0]), 0.3)
    return Camera(width, height, 250.0, 252.0, 157.0, 93.0, k, rotation, np.array([10.0, -60.0, -80.0]))


def test_camera_projects_as_opencv_does():
    view = camera()
    points = np.random.default_rng(0).uniform((-60, -30, 0), (60, 30, 90), (200, 3))
    px, depth = view.project(points)
    translation = -view.rotation @ view.position
    matrix = np.array([[view.fx, 0, view.cx], [0, view.fy, view.cy], [0, 0, 1]])
    expected, _ = cv2.projectPoints(
        points, cv2.Rodrigues(view.rotation)[0], translation, matrix, np.array([*view.k, 0, 0])
    )
    np.testing.assert_allclose(px, expected[:, 0], atol=1e-6)
    np.testing.assert_allclose(depth, (points @ view.rotation.T + translation)[:, 2])


@given(
    k1=st.floats(-0.22, 0.0),
    k2=st.floats(0.0, 0.02),
    u=st.floats(0, 319),
    v=st.floats(0, 179),
    depth=st.floats(20, 300),
)
def test_unprojecting_undoes_projecting(k1, k2, u, v, depth):
    view = camera((k1, k2))
    px, back = view.project(view.unproject(np.array([[u, v]]), np.array([depth])))
    np.testing.assert_allclose(px, [[u, v]], atol=1e-3)
    np.testing.assert_allclose(back, [depth], rtol=1e-9)


def test_points_behind_the_camera_have_no_pixel():
    view = camera()
    behind = view.position - 5 * view.rotation[2]
    px, depth = view.project(behind[None])
    assert np.isnan(px).all()
    assert depth[0] == pytest.approx(-5)


def test_a_resized_camera_sees_the_same_rays():
    view = camera()
    small = view.resized(80, 45)
    # A pixel of the small frame is a block of four by four of the large one: same center, same ray.
    np.testing.assert_allclose(
        small.directions(np.array([[3.0, 5.0]])), view.directions(np.array([[13.5, 21.5]])), atol=1e-9
    )


def test_look_at_is_a_rotation_that_faces_the_target():
    rotation = look_at(np.zeros(3), np.array([3.0, 1.0, 5.0]), roll_rad=0.7)
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(rotation) == pytest.approx(1)
    np.testing.assert_allclose(rotation @ [3.0, 1.0, 5.0], [0, 0, np.sqrt(35)], atol=1e-12)


def test_rays_meet_a_sphere_where_the_formula_says():
    center, radius = np.array([3.0, -4.0, 120.0]), 40.0
    points = ellipsoid(center, np.full(3, radius), rows=240, columns=320)
    scene = Scene([surface(points)])
    rays = np.random.default_rng(1).uniform((-0.2, -0.2, 1), (0.2, 0.2, 1), (500, 3)) * 1.7
    a, b, c = (rays**2).sum(1), rays @ center, center @ center - radius**2
    discriminant = b**2 - a * c
    hits = scene.cast(np.zeros(3), rays)
    clear = np.abs(discriminant) > 40
    assert ((hits.surface == 0) == (discriminant > 0))[clear].all()
    met = clear & (discriminant > 0)
    expected = (b[met] - np.sqrt(discriminant[met])) / a[met]
    np.testing.assert_allclose(hits.distance[met], expected, rtol=1e-3)
    # The grid position of a hit is the place itself.
    place = sample_grid(points, hits.row[met], hits.column[met])
    np.testing.assert_allclose(place, rays[met] * hits.distance[met, None], atol=0.02)


def test_missed_rays_have_no_surface_and_infinite_distance():
    scene = Scene([surface(ellipsoid(np.array([0.0, 0.0, 50.0]), np.full(3, 5.0)))])
    hits = scene.cast(np.zeros(3), np.array([[0.0, 0.0, -1.0]]))
    assert hits.surface[0] == -1
    assert np.isinf(hits.distance[0])


def test_reaches_tells_what_lies_between():
    scene = Scene([surface(ellipsoid(np.array([0.0, 0.0, 50.0]), np.full(3, 5.0)))])
    points = np.array([[0.0, 0.0, 40.0], [0.0, 0.0, 45.5], [0.0, 0.0, 60.0], [30.0, 0.0, 60.0]])
    np.testing.assert_array_equal(scene.reaches(np.zeros(3), points, 1.0), [True, True, False, True])


def test_normals_of_an_ellipsoid_are_its_gradient():
    radii = np.array([30.0, 20.0, 12.0])
    points = ellipsoid(np.zeros(3), radii, rows=160, columns=200)
    shape = (160, 201)
    normals = bumped_normals(points, None, shape, wrap_columns=True)
    expected = points / radii**2
    expected /= np.linalg.norm(expected, axis=-1, keepdims=True)
    cosine = np.abs((normals * expected).sum(-1))[8:-8]
    assert cosine.min() > 0.999


def test_relief_tilts_normals_by_its_slope():
    x, z = np.meshgrid(np.linspace(0, 40, 41), np.linspace(0, 80, 41), indexing="ij")
    flat = np.stack([x, 0 * x, z], axis=-1)
    shape = (201, 201)
    height = np.linspace(0, 40, 201)[:, None] * 0.2 + np.linspace(0, 80, 201)[None] * 0.1
    normals = bumped_normals(flat, height, shape)[5:-5, 5:-5]
    # The relief rises along the normal of the flat grid, which here points to -y or to +y.
    expected = np.array([-0.2, np.sign(normals[0, 0, 1]), -0.1])
    np.testing.assert_allclose(
        normals, np.broadcast_to(expected / np.linalg.norm(expected), normals.shape), atol=1e-4
    )


def test_a_tube_keeps_its_radius():
    path = np.stack(
        [np.linspace(0, 50, 40), 4 * np.sin(np.linspace(0, 3, 40)), np.linspace(0, 9, 40)], axis=1
    )
    radius = np.linspace(2, 5, 40)
    ring = tube(path, radius)
    np.testing.assert_allclose(
        np.linalg.norm(ring - path[:, None], axis=-1), np.tile(radius[:, None], ring.shape[1])
    )
    np.testing.assert_allclose(ring[:, 0], ring[:, -1], atol=1e-12)


def test_upsampling_aligns_corners():
    grid = np.random.default_rng(2).normal(size=(7, 9)).astype(np.float32)
    fine = upsample(grid, (25, 33))
    np.testing.assert_allclose(fine[::4, ::4], grid, atol=1e-6)


@pytest.mark.parametrize("name", ["cloud", "blobs", "cells", "grain"])
def test_tiles_are_periodic(name):
    tile = noise_tiles()[name]
    assert tile.shape == (TILE_PX, TILE_PX)
    assert tile.mean() == pytest.approx(0, abs=1e-3)
    assert tile.std() == pytest.approx(1, abs=1e-3)
    step_inside = np.abs(np.diff(tile, axis=0)).mean()
    step_across = np.abs(tile[0] - tile[-1]).mean()
    assert step_across < 1.5 * step_inside


WIDTH = 1000
LINE = np.stack([np.arange(0.0, 600.0), np.full(600, 50.0)], axis=1)
NEVER = np.zeros(600, dtype=bool)


def lengths(pieces: list[np.ndarray]) -> list[float]:
    return [float(np.linalg.norm(np.diff(piece, axis=0), axis=1).sum()) for piece in pieces]


def test_a_short_hidden_gap_is_bridged_and_a_long_one_cuts():
    keep = ~NEVER.copy()
    keep[200 : 200 + int(BRIDGED * WIDTH) - 3] = False
    assert lengths(cut_polyline(LINE, keep, NEVER, WIDTH)) == pytest.approx([599])
    keep[200:260] = False
    assert lengths(cut_polyline(LINE, keep, NEVER, WIDTH)) == pytest.approx([199, 339])


def test_the_end_of_the_view_is_never_bridged():
    keep = ~NEVER.copy()
    keep[300:302] = False
    assert len(cut_polyline(LINE, keep, ~keep, WIDTH)) == 2


def test_short_pieces_are_dropped():
    keep = NEVER.copy()
    keep[100 : 100 + int(SHORTEST * WIDTH) - 2] = True
    assert cut_polyline(LINE, keep, NEVER, WIDTH) == []


@settings(max_examples=40)
@given(st.lists(st.tuples(st.integers(1, 90), st.booleans()), min_size=1, max_size=12))
def test_pieces_cover_just_the_kept_points(runs):
    keep = np.concatenate([np.full(count, value) for count, value in runs])
    line = np.stack([np.arange(len(keep), dtype=float), 0.1 * np.arange(len(keep))], axis=1)
    pieces = cut_polyline(line, keep, ~keep, WIDTH)
    covered = np.zeros(len(keep), dtype=bool)
    for piece in pieces:
        gaps = np.linalg.norm(np.diff(piece, axis=0), axis=1)
        assert gaps.max() < 1.5 * SPACING * WIDTH
        assert gaps.sum() >= SHORTEST * WIDTH - 1e-6
        covered |= (line[:, 0] >= piece[0, 0] - 1e-6) & (line[:, 0] <= piece[-1, 0] + 1e-6)
    # Slow version: walk over the runs and keep those that are long enough.
    expected, start = np.zeros(len(keep), dtype=bool), None
    for index in range(len(keep) + 1):
        if index < len(keep) and keep[index]:
            start = index if start is None else start
        elif start is not None:
            length = (index - 1 - start) * np.hypot(1, 0.1)
            expected[start:index] = length >= SHORTEST * WIDTH
            start = None
    np.testing.assert_array_equal(covered, expected)


def test_points_beyond_the_projection_do_not_disturb():
    line = LINE.copy()
    line[300:] = np.nan
    keep = np.arange(600) < 300
    assert lengths(cut_polyline(line, keep, ~keep, WIDTH)) == pytest.approx([299])
