"""Frames of a patient and of a flight through one: pictures, polylines, depth and regions agree."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import islice, pairwise

import cv2
import numpy as np
import pytest
from scipy.ndimage import binary_dilation, distance_transform_edt
from scipy.spatial import cKDTree

from liver_landmark.synthetic import DEPTH_STEPS_PER_MM, Region, build_patient, get_domain, render_frame
from liver_landmark.synthetic import render as path
from liver_landmark.synthetic.anatomy import UPPER_COLUMNS
from liver_landmark.synthetic.geometry import Scene, Surface, grid_normals, tube
from liver_landmark.synthetic.landmarks import View, add_scene, cast_view, extract_landmarks
from liver_landmark.synthetic.render import render_path
from liver_landmark.synthetic.viewpoints import sample_view

WIDTH, HEIGHT = 456, 256
FRAMES = [("a", 0, 0), ("a", 0, 3), ("a", 5, 1), ("b", 1, 0), ("b", 2, 2)]


@pytest.fixture(scope="module")
def patients():
    return {key: build_patient(get_domain(key[0]), 3, key[1]) for key in {frame[:2] for frame in FRAMES}}


@pytest.fixture(scope="module", params=FRAMES, ids=lambda frame: "-".join(map(str, frame)))
def rendered(request, patients):
    domain, number, index = request.param
    patient = patients[(domain, number)]
    return patient, render_frame(patient, index, WIDTH, HEIGHT)


def points_of(frame, category: str) -> np.ndarray:
    pieces = [landmark["points"] for landmark in frame.landmarks if landmark["category"] == category]
    return np.concatenate(pieces) if pieces else np.zeros((0, 2), dtype=np.float32)


def projected(camera, world: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """World points (N, 3) to px (N, 2) and depths (N,), by OpenCV instead of by the camera's own code."""
    matrix = np.array([[camera.fx, 0, camera.cx], [0, camera.fy, camera.cy], [0, 0, 1]])
    translation = -camera.rotation @ camera.position
    rotation = cv2.Rodrigues(camera.rotation)[0]
    distortion = np.array([*camera.k, 0, 0])
    px, _ = cv2.projectPoints(world.astype(np.float64), rotation, translation, matrix, distortion)
    return px[:, 0], (world @ camera.rotation.T + translation)[:, 2]


def filled_in(curve: np.ndarray) -> np.ndarray:
    """A curve with ten points for each of its own, so that the nearest sample is near."""
    at, vertices = np.arange(0, len(curve) - 1, 0.1), np.arange(len(curve))
    return np.stack([np.interp(at, vertices, curve[:, axis]) for axis in range(3)], axis=1)


def test_depth_leads_back_to_the_liver(rendered):
    patient, frame = rendered
    rows, columns = np.nonzero(frame.regions == Region.LIVER)
    pick = np.random.default_rng(0).choice(len(rows), 400)
    rows, columns = rows[pick], columns[pick]
    depth = frame.depth[rows, columns] / DEPTH_STEPS_PER_MM
    world = frame.camera.unproject(np.stack([columns, rows], axis=1).astype(float), depth)
    mesh = patient.liver.points
    nearest = cKDTree(mesh.reshape(-1, 3)).query(world)[1]
    normals = grid_normals(mesh).reshape(-1, 3)[nearest]
    off_plane = np.abs(((world - mesh.reshape(-1, 3)[nearest]) * normals).sum(axis=1))
    assert np.percentile(off_plane, 98) < 0.4


def test_silhouette_lies_on_the_livers_border(rendered):
    _, frame = rendered
    points = points_of(frame, "silhouette")
    liver = frame.regions == Region.LIVER
    border = liver & binary_dilation(~liver)
    away = distance_transform_edt(~border)[
        np.round(points[:, 1]).astype(int), np.round(points[:, 0]).astype(int)
    ]
    assert away.max() <= 2.0


def test_silhouette_is_nearer_than_what_lies_behind(rendered):
    _, frame = rendered
    points = points_of(frame, "silhouette")
    liver = frame.regions == Region.LIVER
    seen = frame.depth > 0
    for x, y in np.round(points).astype(int)[::3]:
        box = (slice(max(0, y - 4), y + 5), slice(max(0, x - 4), x + 5))
        inside, outside = liver[box], ~liver[box] & seen[box]
        assert inside.any()
        assert outside.any()
        step = frame.depth[box][outside].max() - float(frame.depth[box][inside].min())
        assert step > -4.0 * DEPTH_STEPS_PER_MM


def test_ridge_is_the_visible_anterior_edge(rendered):
    patient, frame = rendered
    points = points_of(frame, "ridge")
    px, depth = projected(frame.camera, filled_in(patient.liver.points[:, 0].astype(float)))
    distance, nearest = cKDTree(px).query(points)
    assert distance.max() < 1.5
    for (x, y), expected in zip(np.round(points).astype(int), depth[nearest], strict=True):
        box = frame.depth[max(0, y - 2) : y + 3, max(0, x - 2) : x + 3] / DEPTH_STEPS_PER_MM
        # Something at the edge's own depth is seen there, so nothing can lie before the edge.
        assert np.abs(box - expected).min() < 4.0


def test_the_frames_looked_at_show_every_landmark_more_than_once(patients):
    """So that no test of one landmark is left without a frame."""
    shown = Counter()
    for domain, number, index in FRAMES:
        frame = render_frame(patients[(domain, number)], index, WIDTH, HEIGHT)
        shown.update({landmark["category"] for landmark in frame.landmarks})
    assert all(shown[category] >= 2 for category in ("ridge", "silhouette", "ligament"))


def test_ligament_lies_on_the_livers_upper_face(rendered):
    patient, frame = rendered
    points = points_of(frame, "ligament")
    if not len(points):
        pytest.skip("no ligament in this frame")
    near_liver = binary_dilation(np.isin(frame.regions, [Region.LIVER, Region.FALCIFORM]), iterations=3)
    on_it = near_liver[np.round(points[:, 1]).astype(int), np.round(points[:, 0]).astype(int)]
    assert on_it.mean() > 0.97
    line = patient.liver.ligament().astype(float)
    px, _ = projected(frame.camera, line)
    assert cKDTree(px).query(points)[0].max() < 3.0


def test_pieces_are_even_long_and_in_the_view(rendered):
    _, frame = rendered
    assert frame.landmarks
    for landmark in frame.landmarks:
        points = landmark["points"]
        assert points.dtype == np.float32
        gaps = np.linalg.norm(np.diff(points, axis=0), axis=1)
        assert gaps.sum() >= 0.029 * WIDTH
        assert gaps.max() < 0.016 * WIDTH
        assert (points > -0.5).all()
        assert (points < (WIDTH - 0.5, HEIGHT - 0.5)).all()
        rows, columns = np.round(points[:, 1]).astype(int), np.round(points[:, 0]).astype(int)
        outside = binary_dilation(frame.regions == Region.OUTSIDE)[rows, columns]
        assert outside.mean() < 0.1


def test_pictures_agree_about_the_round_view(rendered):
    _, frame = rendered
    outside = frame.regions == Region.OUTSIDE
    assert (frame.depth[outside] == 0).all()
    assert (frame.depth[~outside] > 0).mean() > 0.999
    assert not outside.any() or frame.image[outside].mean() < 3
    assert frame.image[~outside].mean() > 20
    assert set(np.unique(frame.regions)) <= {int(region) for region in Region}


def test_landmarks_do_not_depend_on_the_frames_size(patients):
    patient = patients[("a", 0)]
    small, large = render_frame(patient, 0, 456, 256), render_frame(patient, 0, 912, 512)
    for category in ("ridge", "silhouette", "ligament"):
        coarse, fine = points_of(small, category), points_of(large, category)
        scaled = (fine + 0.5) / 2 - 0.5
        assert np.percentile(cKDTree(scaled).query(coarse)[0], 95) < 3.0


@pytest.fixture(scope="module")
def open_view(patients) -> View:
    patient = patients[("a", 0)]
    return sample_view(np.random.default_rng(5), patient, WIDTH, HEIGHT)


def length_of(landmarks: list[dict], category: str) -> float:
    return sum(
        float(np.linalg.norm(np.diff(landmark["points"], axis=0), axis=1).sum())
        for landmark in landmarks
        if landmark["category"] == category
    )


@pytest.mark.parametrize("category", ["ridge", "silhouette", "ligament"])
def test_a_rod_before_a_landmark_cuts_it(open_view, category):
    before = extract_landmarks(open_view, cast_view(open_view))
    longest = max((piece["points"] for piece in before if piece["category"] == category), key=len)
    x, y = longest[len(longest) // 2].astype(float)
    camera = open_view.camera
    # A rod across the line of sight through the middle of the curve, 30 mm before the camera.
    middle = camera.unproject(np.array([[x, y]]), np.array([30.0]))[0]
    path = middle + np.linspace(-6, 6, 9)[:, None] * (camera.rotation[0] + camera.rotation[1]) / np.sqrt(2)
    points = tube(path, np.full(9, 1.5)).astype(np.float32)
    blank = np.zeros((2, 2, 3), dtype=np.float32)
    view = replace(
        open_view, scenes=(*open_view.scenes, Scene([Surface(Region.INSTRUMENT, points, blank, blank, 0)]))
    )
    after = extract_landmarks(view, add_scene(view, cast_view(open_view), 1))
    assert length_of(after, category) < length_of(before, category) - 8
    for piece in after:
        if piece["category"] == category:
            assert np.hypot(*(piece["points"] - (x, y)).T).min() > 5


def test_the_edge_curves_of_the_mesh():
    liver = build_patient(get_domain("a"), 0, 1).liver
    ridge, ligament = liver.ridge(), liver.ligament()
    # The ridge is the front: every section's edge lies before all that is above it.
    rows = np.arange(liver.ridge_rows[0], liver.ridge_rows[1] + 1)
    assert (liver.points[rows][:, 5:UPPER_COLUMNS, 2].min(axis=1) > ridge[:, 2] - 1.0).all()
    # The ligament starts near the deepest point of the notch and climbs over the dome.
    near = np.linalg.norm(ridge - ligament[0], axis=1)
    start = ridge[near.argmin()]
    beside = ridge[(np.abs(ridge[:, 0] - start[0]) > 22) & (np.abs(ridge[:, 0] - start[0]) < 32)]
    assert near.min() < 8
    assert start[2] > beside[:, 2].mean() + 4
    assert ligament[:, 1].min() < ligament[0, 1] - 15


FLIGHT_WIDTH, FLIGHT_HEIGHT = 240, 135
FLIGHT_FRAMES = 12


@pytest.fixture(scope="module", params=[("a", 0, 0), ("b", 1, 3)], ids=["a", "b"])
def flown(request):
    domain, number, seed = request.param
    patient = build_patient(get_domain(domain), 0, number)
    return patient, seed, list(render_path(patient, FLIGHT_FRAMES, FLIGHT_WIDTH, FLIGHT_HEIGHT, seed))


def moved_by_the_depths(frame, following, points: np.ndarray) -> np.ndarray:
    """Where px of one frame are in the next: by depth to the world, and back into the picture."""
    columns, rows = np.round(points).astype(int).T
    depth = (
        frame.depth[rows.clip(0, FLIGHT_HEIGHT - 1), columns.clip(0, FLIGHT_WIDTH - 1)] / DEPTH_STEPS_PER_MM
    )
    return projected(following.camera, frame.camera.unproject(points.astype(float), depth))[0]


def test_consecutive_frames_differ_little_and_far_ones_more(flown):
    _, _, frames = flown
    pictures = [cv2.GaussianBlur(frame.image, (0, 0), 1.5).astype(float) for frame in frames]
    steps = [np.abs(a - b).mean() for a, b in pairwise(pictures)]
    assert min(steps) > 0
    assert max(steps) < 3.0
    assert np.abs(pictures[0] - pictures[-1]).mean() > 1.5 * max(steps)


def test_the_camera_moves_evenly(flown):
    _, _, frames = flown
    way = np.array([frame.camera.position for frame in frames])
    steps = np.linalg.norm(np.diff(way, axis=0), axis=1)
    turns = [
        np.linalg.norm(cv2.Rodrigues(b.camera.rotation @ a.camera.rotation.T)[0]) for a, b in pairwise(frames)
    ]
    assert steps.min() > 0.01
    assert steps.max() < 1.5  # mm
    assert max(turns) < np.deg2rad(0.6)
    # Against the noise of a path that trembles: the acceleration is far below the speed.
    assert np.linalg.norm(np.diff(way, n=2, axis=0), axis=1).max() < 0.2 * steps.max()


def test_landmarks_move_with_the_tissue(flown):
    _, _, frames = flown
    compared = 0
    for frame, following in pairwise(frames):
        for category in ("ridge", "ligament"):
            points, after = points_of(frame, category), points_of(following, category)
            if not len(points) or not len(after):
                continue
            away = cKDTree(after).query(moved_by_the_depths(frame, following, points))[0]
            # Half the spacing of points along a curve, and a px; the border and instruments cut the ends.
            assert np.percentile(away, 80) < 2.5
            compared += 1
    assert compared >= FLIGHT_FRAMES


def test_landmarks_are_those_of_the_frame_itself(flown):
    """By OpenCV's projection of the liver's curves with the camera of the last frame."""
    patient, _, frames = flown
    frame = frames[-1]
    for category, curve in (("ridge", patient.liver.ridge()), ("ligament", patient.liver.ligament())):
        px, _ = projected(frame.camera, filled_in(curve))
        assert cKDTree(px).query(points_of(frame, category))[0].max() < 0.5


def test_every_kind_of_landmark_moves_continuously(flown):
    _, _, frames = flown
    for category in ("ridge", "silhouette", "ligament"):
        for frame, following in pairwise(frames):
            points, after = points_of(frame, category), points_of(following, category)
            assert len(points) > 0
            assert len(after) > 0
            assert np.percentile(cKDTree(after).query(points)[0], 80) < 3.0
            assert abs(len(points) - len(after)) < 0.3 * len(points) + 4


def test_what_is_not_the_camera_stays(flown):
    """Mean color of the liver: exposure, smoke and white balance do not flicker."""
    _, _, frames = flown
    colors = np.array([frame.image[frame.regions == Region.LIVER].mean(axis=0) for frame in frames])
    assert np.abs(np.diff(colors, axis=0)).max() < 1.5


def test_with_the_camera_held_still_only_the_sensors_noise_changes(flown, monkeypatch):
    patient, seed, _ = flown
    monkeypatch.setattr(path._Path, "view_at", lambda self, frame: self.view)
    first, second, third = (frame for frame in render_path(patient, 3, FLIGHT_WIDTH, FLIGHT_HEIGHT, seed))
    # Mid-tones: not cut off at black or white.
    even = (first.image > 40).all(axis=2) & (first.image < 215).all(axis=2)
    one, two = (frame.image[even].astype(float) - first.image[even] for frame in (second, third))
    assert abs(one.mean()) < 0.2
    assert 0.8 < one.std() < 12
    # Two differences from one frame of independent noise share half of their variance.
    assert np.corrcoef(one.ravel(), two.ravel())[0, 1] == pytest.approx(0.5, abs=0.06)
    outside = first.regions == Region.OUTSIDE
    np.testing.assert_array_equal(first.image[outside], second.image[outside])
    np.testing.assert_array_equal(first.depth, second.depth)


def test_the_same_bytes_whatever_the_number_of_frames(flown):
    patient, seed, frames = flown
    again = list(islice(render_path(patient, 10_000, FLIGHT_WIDTH, FLIGHT_HEIGHT, seed), 3))
    for one, other in zip(frames, again, strict=False):
        np.testing.assert_array_equal(one.image, other.image)
        np.testing.assert_array_equal(one.depth, other.depth)
        assert len(one.landmarks) == len(other.landmarks)
        for a, b in zip(one.landmarks, other.landmarks, strict=True):
            np.testing.assert_array_equal(a["points"], b["points"])
    another = next(render_path(patient, 1, FLIGHT_WIDTH, FLIGHT_HEIGHT, seed + 1))
    assert np.abs(another.image.astype(int) - frames[0].image).mean() > 3


def test_the_sway_shrinks_until_nothing_is_too_near(flown, monkeypatch):
    patient, seed, _ = flown
    calm = _farthest(patient, seed)
    # So large a distance that no sway keeps it: the smallest one is taken.
    monkeypatch.setattr(path, "_NEAREST_MM", 1e6)
    assert _farthest(patient, seed) < 0.1 * calm


def _farthest(patient, seed) -> float:
    """How far the camera gets from where it was in the first frame, mm."""
    way = [frame.camera.position for frame in islice(render_path(patient, 9, 96, 54, seed), 0, None, 4)]
    return max(np.linalg.norm(place - way[0]) for place in way)


@pytest.mark.parametrize(("frames", "seed", "word"), [(0, 0, "frames"), (1, -1, "seed")])
def test_wrong_numbers_are_named(flown, frames, seed, word):
    patient, _, _ = flown
    with pytest.raises(ValueError, match=word):
        render_path(patient, frames, FLIGHT_WIDTH, FLIGHT_HEIGHT, seed)
