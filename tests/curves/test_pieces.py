"""Connected pieces against OpenCV's labels, and thinning at a reduced size."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from liver_landmark.curves import skeleton as pixel_graph
from liver_landmark.curves import trace_polylines
from liver_landmark.curves import tracing as pieces
from liver_landmark.curves.centerline import StrokePlane
from liver_landmark.curves.skeleton import NoisyMaskError
from liver_landmark.curves.tracing import find_pieces, thinned_paths


def plane_of(inside: np.ndarray, corner: tuple[int, int] = (0, 0)) -> StrokePlane:
    height, width = inside.shape
    mask = np.zeros((height + corner[1], width + corner[0]), np.uint8)
    mask[corner[1] :, corner[0] :] = inside
    return StrokePlane(mask, 1, inside * np.uint8(255), corner)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10**6), st.integers(1, 30), st.integers(1, 40), st.floats(0.1, 0.9))
def test_pieces_are_the_connected_components(seed: int, height: int, width: int, share: float) -> None:
    inside = (np.random.default_rng(seed).random((height, width)) < share).astype(np.uint8)
    count, labels, boxes, _ = cv2.connectedComponentsWithStats(inside, connectivity=8)
    expected = [
        np.flatnonzero(labels == label).tolist()
        for label in range(1, count)
        if boxes[label, cv2.CC_STAT_AREA] >= 9
    ]
    found = []
    for piece in find_pieces(plane_of(inside, (3, 5))):
        drawn = np.zeros_like(inside)
        x, y = piece.corner[0] - 3, piece.corner[1] - 5
        rows, columns = piece.pixels.shape
        drawn[y : y + rows, x : x + columns] = piece.pixels
        found.append(np.flatnonzero(drawn).tolist())
    assert sorted(found) == sorted(expected)


@pytest.mark.parametrize("stroke_px", [3, 12, 30, 61])
def test_a_strokes_width_is_guessed_and_its_path_runs_along_it(stroke_px: int) -> None:
    inside = np.zeros((300, 700), np.uint8)
    inside[150 - stroke_px // 2 :][:stroke_px, 100:600] = 1
    [piece] = find_pieces(plane_of(inside, (40, 20)))
    [path], width_px = thinned_paths(piece)
    assert width_px == pytest.approx(stroke_px, rel=0.2, abs=1)
    assert abs(path.points[:, 1] - 170).max() < 2 + 0.15 * stroke_px
    assert path.points[:, 0].min() == pytest.approx(140, abs=stroke_px)
    assert path.points[:, 0].max() == pytest.approx(640, abs=stroke_px)


def test_what_is_connected_by_a_sliver_stays_connected() -> None:
    inside = np.zeros((200, 700), np.uint8)
    inside[80:111, 50:340] = inside[80:111, 360:650] = 1
    inside[80:82, 340:360] = 1
    [piece] = find_pieces(plane_of(inside))
    paths, _ = thinned_paths(piece)
    assert max(np.ptp(path.points[:, 0]) for path in paths) > 520


def test_noise_is_refused_soon_and_named() -> None:
    rng = np.random.default_rng(0)
    specks = np.zeros((400, 600), np.uint8)
    specks[4::8, 4::8] = 1
    specks = cv2.dilate(specks, np.ones((3, 3), np.uint8))
    with pytest.raises(NoisyMaskError, match=f"3750 pieces of class 1, more than {pieces.MOST_PIECES}"):
        trace_polylines(specks)
    with pytest.raises(NoisyMaskError, match=f"ends and forks, more than {pixel_graph.MOST_NODES}"):
        trace_polylines((rng.random((400, 600)) < 0.6).astype(np.uint8))
    # Pieces of fewer than nine pixels are left out, not counted.
    assert trace_polylines((rng.random((400, 600)) < 0.05).astype(np.uint8)) == []
