"""Polylines cut at the border of their frame."""

from __future__ import annotations

import numpy as np

# A curve that only touches the border leaves a piece of no length, give or take round-off.
_SHORTEST_PIECE_PX = 1e-6


def clip_polyline(points: np.ndarray, width: int, height: int) -> list[np.ndarray]:
    """The parts of an open polyline that lie in a frame, in the order and direction of its points.

    Integers name pixel centres, so the frame reaches from -1/2 to width - 1/2 and height - 1/2. Each
    segment is cut by the parameters at which it enters and leaves (Liang and Barsky 1984).

    Args:
        points: (N, 2) x, y in px, finite.
        width: Frame width in px.
        height: Frame height in px.

    Returns:
        (M, 2) float64 arrays of at least two different points each: none for a polyline that is nowhere
        inside, several for one that leaves and comes back.
    """
    points = np.asarray(points, dtype=np.float64).reshape(-1, 2)
    low, high = np.array([-0.5, -0.5]), np.array([width - 0.5, height - 0.5])
    within_axis = (low <= points) & (points <= high)
    inside = within_axis.all(axis=1)
    if inside.all():
        return _long_enough([points])

    start, step = points[:-1], np.diff(points, axis=0)
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        to_low, to_high = (low - start) / step, (high - start) / step
    # Along an axis that a segment does not move on, it is inside all the way or not at all.
    still = step == 0
    first = np.where(still, np.where(within_axis[:-1], -np.inf, np.inf), np.minimum(to_low, to_high))
    last = np.where(still, np.inf, np.maximum(to_low, to_high))
    enter, leave = np.maximum(first.max(axis=1), 0), np.minimum(last.min(axis=1), 1)

    pieces: list[list[np.ndarray]] = []
    goes_on = False
    for index in np.flatnonzero(enter < leave):
        if not (goes_on and inside[index]):
            entry = points[index] if inside[index] else start[index] + enter[index] * step[index]
            pieces.append([entry])
        ends_inside = inside[index + 1]
        pieces[-1].append(points[index + 1] if ends_inside else start[index] + leave[index] * step[index])
        # The next visible segment is the next one of the polyline only where this one ends inside.
        goes_on = ends_inside
    return _long_enough([np.clip(piece, low, high) for piece in pieces])


def _long_enough(pieces: list[np.ndarray]) -> list[np.ndarray]:
    return [piece for piece in pieces if len(piece) and np.ptp(piece, axis=0).max() > _SHORTEST_PIECE_PX]
