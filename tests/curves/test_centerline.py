"""Sampling a class's plane against SciPy's, and edges of strokes that lie at known distances."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from liver_landmark.curves import centerline as stroke_plane
from liver_landmark.curves.centerline import StrokePlane, find_edges, sample_linear


def plane_of(mask: np.ndarray, class_id: int) -> StrokePlane:
    """The class in a window that is no larger than it must be."""
    rows, columns = np.nonzero(mask == class_id)
    window = mask[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    inside = (window == class_id).astype(np.uint8) * 255
    return StrokePlane(mask, class_id, inside, (int(columns.min()), int(rows.min())))


@pytest.mark.parametrize("rows_at_once", [8192, 7])
def test_sampling_is_scipys_to_a_32nd_of_a_px(monkeypatch, rows_at_once: int) -> None:
    monkeypatch.setattr(stroke_plane, "_ROWS_AT_ONCE", rows_at_once)
    rng = np.random.default_rng(0)
    picture = rng.random((40, 50)).astype(np.float32)
    # On 32nds of a px: these are not rounded.
    x, y = np.rint(rng.uniform(-3, 53, (2, 20, 30)) * 32) / 32
    expected = map_coordinates(picture, [y, x], order=1, mode="grid-constant", cval=0)
    np.testing.assert_allclose(sample_linear(picture, x, y), expected, atol=1e-5)


def test_edges_of_a_bar_and_what_lies_beyond_them() -> None:
    mask = np.zeros((60, 100), np.uint8)
    mask[20:41] = 2
    mask[41:, 50:] = 3
    plane = plane_of(mask, 2)
    points = np.array([(10.0, 30.0), (80.0, 30.0), (10.0, 10.0), (1.0, 30.0)])
    down = np.array([(0.0, 1.0), (0.0, 1.0), (0.0, 1.0), (-1.0, 0.0)])
    distance, seen = find_edges(plane, points, down, 30.0)
    # The class's last row is 40: it ends half a px further on. The point at y = 10 lies outside of it.
    np.testing.assert_allclose(distance[[0, 1, 3]], [10.5, 10.5, 1.5], atol=0.05)
    assert np.isnan(distance[2])
    # Background; another class; the point itself outside; the frame's border.
    assert seen.tolist() == [True, False, False, False]
    assert np.isnan(find_edges(plane, points[:1], down[:1], 9.0)[0][0])


def test_what_is_at_a_place() -> None:
    mask = np.zeros((10, 20), np.uint8)
    mask[:, 5:8], mask[:, 8:11], mask[:, 11:13] = 1, 2, 255
    plane = plane_of(mask, 1)
    points = np.array([(2.0, 3.0), (6.0, 3.0), (9.0, 3.0), (12.0, 3.0), (-1.0, 3.0), (6.0, 9.6), (7.49, 3.0)])
    assert plane.unknown_at(points).tolist() == [False, False, True, True, True, True, False]
    assert plane.hidden_at(points).tolist() == [False, False, True, True, False, False, False]
    assert plane.background_at(points).tolist() == [True, False, False, False, False, False, False]
