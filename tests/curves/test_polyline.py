"""Polylines against SciPy's smoothing and against distances measured segment by segment."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter1d

from liver_landmark.curves.polyline import normals, resample, simplify, smooth


def wavy(seed: int, count: int = 120) -> np.ndarray:
    """A curve of about a px a step whose direction turns by at most 0.2 a step."""
    turns = np.random.default_rng(seed).uniform(-0.2, 0.2, count)
    angles = np.cumsum(turns)
    return np.cumsum(np.stack([np.cos(angles), np.sin(angles)], axis=1), axis=0)


def largest_distance(points: np.ndarray, kept: np.ndarray) -> float:
    """From points to the nearest of a polyline's segments."""
    nearest = np.full(len(points), np.inf)
    for a, b in pairwise(kept):
        part = np.clip((points - a) @ (b - a) / max((b - a) @ (b - a), 1e-12), 0, 1)
        nearest = np.minimum(nearest, np.hypot(*(points - a - part[:, None] * (b - a)).T))
    return float(nearest.max())


def test_resampling_keeps_the_ends_and_spaces_evenly() -> None:
    even = resample(np.array([(0.0, 0.0), (1.0, 0.0), (10.0, 0.0)]), 2.5)
    np.testing.assert_allclose(even, [(0, 0), (2.5, 0), (5, 0), (7.5, 0), (10, 0)], atol=1e-12)


@pytest.mark.parametrize("sigma", [0.7, 2.0, 5.0])
def test_smoothing_is_scipys_inside_and_keeps_the_ends(sigma: float) -> None:
    points = wavy(0)
    smoothed = smooth(points, sigma, closed=False)
    reach = int(4 * sigma + 0.5) + 1
    expected = gaussian_filter1d(points, sigma, axis=0)
    np.testing.assert_allclose(smoothed[reach:-reach], expected[reach:-reach], atol=1e-9)
    np.testing.assert_allclose(smoothed[[0, -1]], points[[0, -1]], atol=1e-9)
    angles = np.linspace(0, 2 * np.pi, 80)
    ring = np.stack([50 * np.cos(angles), 30 * np.sin(angles)], axis=1)
    expected = gaussian_filter1d(ring[:-1], sigma, axis=0, mode="wrap")
    np.testing.assert_allclose(smooth(ring, sigma, closed=True), [*expected, expected[0]], atol=1e-9)


def test_smoothing_a_curve_shorter_than_the_kernel_keeps_its_ends() -> None:
    points = np.array([(0.0, 0.0), (1.0, 2.0), (4.0, 1.0)])
    smoothed = smooth(points, 5.0, closed=False)
    np.testing.assert_allclose(smoothed[[0, -1]], points[[0, -1]], atol=1e-9)
    assert abs(smoothed[1] - (2, 0.5)).max() < 0.5


def test_normals_of_a_circle_point_to_its_middle() -> None:
    angles = np.linspace(0, 2 * np.pi, 60)
    ring = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    np.testing.assert_allclose(normals(ring, closed=True), -ring, atol=1e-9)
    np.testing.assert_allclose(normals(ring)[1:-1], -ring[1:-1], atol=1e-9)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10**6), st.sampled_from([0.2, 0.5, 2.0]))
@example(1104, 0.2)  # OpenCV's cleaning up afterward left 0.229
def test_what_simplifying_leaves_out_lies_within_the_tolerance(seed: int, tolerance_px: float) -> None:
    points = wavy(seed)
    kept = simplify(points, tolerance_px)
    assert 2 <= len(kept) < len(points)
    np.testing.assert_allclose(kept[[0, -1]], points[[0, -1]], atol=1e-4)
    assert largest_distance(points, kept) <= tolerance_px + 1e-3


def test_a_ring_is_simplified_to_a_ring() -> None:
    angles = np.linspace(0, 2 * np.pi, 100)
    ring = np.stack([50 + 40 * np.cos(angles), 50 + 30 * np.sin(angles)], axis=1)
    ring[-1] = ring[0]
    kept = simplify(ring, 1.0)
    assert np.array_equal(kept[0], kept[-1])
    assert 8 < len(kept) < 30
    assert largest_distance(ring, kept) <= 1.0 + 1e-3
