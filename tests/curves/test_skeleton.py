"""The skeleton's graph: which pieces there are, and what goes on in what."""

from __future__ import annotations

from itertools import pairwise

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from liver_landmark.curves.polyline import order_chains
from liver_landmark.curves.skeleton import skeleton_paths


def plane_of(*polylines: list[tuple[int, int]], stroke_px: int = 9) -> np.ndarray:
    plane = np.zeros((200, 260), np.uint8)
    for points in polylines:
        cv2.polylines(plane, [np.array(points, np.int32)], False, 1, stroke_px)
    return plane.astype(bool)


def length(points: np.ndarray) -> float:
    return float(np.hypot(*np.diff(points, axis=0).T).sum())


def test_bumps_of_the_edge_are_no_branches() -> None:
    plane = plane_of([(30, 100), (220, 100)])
    for x in (60, 100, 140, 180):
        plane[93:108, x : x + 3] = True
    [path] = skeleton_paths(plane)
    assert path.free_ends == (True, True)


def test_a_star_of_five_joins_what_is_straight() -> None:
    middle = (130, 100)
    tips = [(int(130 + 90 * np.cos(a)), int(100 + 90 * np.sin(a))) for a in np.deg2rad([0, 180, 90, 270, 45])]
    paths = skeleton_paths(plane_of(*([middle, tip] for tip in tips), stroke_px=7))
    assert sorted(round(length(path.points) / 90) for path in paths) == [1, 2, 2]


def test_a_ring_is_closed_and_a_lasso_is_a_ring_with_a_tail() -> None:
    angles = np.linspace(0, 2 * np.pi, 60)
    ring = np.rint(np.stack([130 + 70 * np.cos(angles), 100 + 60 * np.sin(angles)], 1)).astype(int).tolist()
    [path] = skeleton_paths(plane_of(ring))
    assert path.closed
    assert np.array_equal(path.points[0], path.points[-1])
    assert length(path.points) == pytest.approx(2 * np.pi * 65, rel=0.12)
    lasso = skeleton_paths(plane_of(ring, [(200, 100), (250, 100)]))
    assert sum(length(path.points) for path in lasso) == pytest.approx(2 * np.pi * 65 + 50, rel=0.15)
    assert sorted((path.closed, path.free_ends.count(True)) for path in lasso) == [(False, 1), (True, 0)]


def test_a_dot_is_a_path_and_nothing_has_none() -> None:
    plane = np.zeros((9, 9), bool)
    assert skeleton_paths(plane) == []
    plane[4, 3] = True
    [path] = skeleton_paths(plane)
    assert path.points.tolist() == [[3.0, 4.0]]


@given(st.integers(1, 12), st.randoms(use_true_random=False))
def test_chains_hold_every_piece_once_and_follow_their_partners(count: int, random) -> None:
    ends = [(piece, side) for piece in range(count) for side in (0, 1)]
    random.shuffle(ends)
    partners = {}
    for one, other in zip(ends[::2], ends[1::2], strict=True):
        if random.random() < 0.7 and one[0] != other[0]:
            partners[one], partners[other] = other, one
    chains = order_chains(range(count), partners)
    assert sorted(piece for chain, _ in chains for piece, _ in chain) == list(range(count))
    for chain, closed in chains:
        for (piece, entered), following in pairwise(chain):
            assert partners[piece, 1 - entered] == following
        last, entered = chain[-1]
        assert partners.get((last, 1 - entered)) == (chain[0] if closed else None)
        if not closed:
            assert chain[0] not in partners
