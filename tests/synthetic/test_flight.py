"""Frames along a camera path: even motion, landmarks that move with the tissue, the same bytes each time."""

from __future__ import annotations

from itertools import islice, pairwise

import cv2
import numpy as np
import pytest
from scipy.spatial import cKDTree

from liver_landmark.synthetic import DEPTH_STEPS_PER_MM, Region, build_patient, get_domain
from liver_landmark.synthetic import render as path
from liver_landmark.synthetic.render import render_path

WIDTH, HEIGHT = 240, 135
FRAMES = 12


@pytest.fixture(scope="module", params=[("a", 0, 0), ("b", 1, 3)], ids=["a", "b"])
def rendered(request):
    domain, number, seed = request.param
    patient = build_patient(get_domain(domain), 0, number)
    return patient, seed, list(render_path(patient, FRAMES, WIDTH, HEIGHT, seed))


def points_of(frame, category: str) -> np.ndarray:
    pieces = [landmark["points"] for landmark in frame.landmarks if landmark["category"] == category]
    return np.concatenate(pieces) if pieces else np.zeros((0, 2), np.float32)


def projected(camera, world: np.ndarray) -> np.ndarray:
    """World points (N, 3) to px (N, 2), by OpenCV instead of by the camera's own code."""
    matrix = np.array([[camera.fx, 0, camera.cx], [0, camera.fy, camera.cy], [0, 0, 1]])
    translation = -camera.rotation @ camera.position
    rotation = cv2.Rodrigues(camera.rotation)[0]
    return cv2.projectPoints(world, rotation, translation, matrix, np.array([*camera.k, 0, 0]))[0][:, 0]


def moved_by_the_depths(frame, following, points: np.ndarray) -> np.ndarray:
    """Where px of one frame are in the next: by depth to the world, and back into the picture."""
    columns, rows = np.round(points).astype(int).T
    depth = frame.depth[rows.clip(0, HEIGHT - 1), columns.clip(0, WIDTH - 1)] / DEPTH_STEPS_PER_MM
    return projected(following.camera, frame.camera.unproject(points.astype(float), depth))


def test_consecutive_frames_differ_little_and_far_ones_more(rendered):
    _, _, frames = rendered
    pictures = [cv2.GaussianBlur(frame.image, (0, 0), 1.5).astype(float) for frame in frames]
    steps = [np.abs(a - b).mean() for a, b in pairwise(pictures)]
    assert min(steps) > 0
    assert max(steps) < 3.0
    assert np.abs(pictures[0] - pictures[-1]).mean() > 1.5 * max(steps)


def test_the_camera_moves_evenly(rendered):
    _, _, frames = rendered
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


def test_landmarks_move_with_the_tissue(rendered):
    _, _, frames = rendered
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
    assert compared >= FRAMES


def test_landmarks_are_those_of_the_frame_itself(rendered):
    """By OpenCV's projection of the liver's curves with the camera of the last frame."""
    patient, _, frames = rendered
    frame = frames[-1]
    for category, curve in (("ridge", patient.liver.ridge()), ("ligament", patient.liver.ligament())):
        # Filled in between the mesh's points, so that the nearest sample is near.
        at, vertices = np.arange(0, len(curve) - 1, 0.1), np.arange(len(curve))
        fine = np.stack([np.interp(at, vertices, curve[:, axis]) for axis in range(3)], axis=1)
        assert cKDTree(projected(frame.camera, fine)).query(points_of(frame, category))[0].max() < 0.5


def test_every_kind_of_landmark_moves_continuously(rendered):
    _, _, frames = rendered
    for category in ("ridge", "silhouette", "ligament"):
        for frame, following in pairwise(frames):
            points, after = points_of(frame, category), points_of(following, category)
            assert len(points) > 0
            assert len(after) > 0
            assert np.percentile(cKDTree(after).query(points)[0], 80) < 3.0
            assert abs(len(points) - len(after)) < 0.3 * len(points) + 4


def test_what_is_not_the_camera_stays(rendered):
    """Mean color of the liver: exposure, smoke and white balance do not flicker."""
    _, _, frames = rendered
    colors = np.array([frame.image[frame.regions == Region.LIVER].mean(axis=0) for frame in frames])
    assert np.abs(np.diff(colors, axis=0)).max() < 1.5


def test_with_the_camera_held_still_only_the_sensors_noise_changes(rendered, monkeypatch):
    patient, seed, _ = rendered
    monkeypatch.setattr(path._Path, "view_at", lambda self, frame: self.view)
    first, second, third = (frame for frame in render_path(patient, 3, WIDTH, HEIGHT, seed))
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


def test_the_same_bytes_whatever_the_number_of_frames(rendered):
    patient, seed, frames = rendered
    again = list(islice(render_path(patient, 10_000, WIDTH, HEIGHT, seed), 3))
    for one, other in zip(frames, again, strict=False):
        np.testing.assert_array_equal(one.image, other.image)
        np.testing.assert_array_equal(one.depth, other.depth)
        assert len(one.landmarks) == len(other.landmarks)
        for a, b in zip(one.landmarks, other.landmarks, strict=True):
            np.testing.assert_array_equal(a["points"], b["points"])
    another = next(render_path(patient, 1, WIDTH, HEIGHT, seed + 1))
    assert np.abs(another.image.astype(int) - frames[0].image).mean() > 3


def test_the_sway_shrinks_until_nothing_is_too_near(rendered, monkeypatch):
    patient, seed, _ = rendered
    calm = _farthest(patient, seed)
    # So large a distance that no sway keeps it: the smallest one is taken.
    monkeypatch.setattr(path, "_NEAREST_MM", 1e6)
    assert _farthest(patient, seed) < 0.1 * calm


def _farthest(patient, seed) -> float:
    """How far the camera gets from where it was in the first frame, mm."""
    way = [frame.camera.position for frame in islice(render_path(patient, 9, 96, 54, seed), 0, None, 4)]
    return max(np.linalg.norm(place - way[0]) for place in way)


@pytest.mark.parametrize(("frames", "seed", "word"), [(0, 0, "frames"), (1, -1, "seed")])
def test_wrong_numbers_are_named(rendered, frames, seed, word):
    patient, _, _ = rendered
    with pytest.raises(ValueError, match=word):
        render_path(patient, frames, WIDTH, HEIGHT, seed)
