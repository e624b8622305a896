"""Polylines as arrays of points: lengths, even spacing, smoothing, normals, simplification, joining."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache

import numpy as np
import shapely


def arc_lengths(points: np.ndarray) -> np.ndarray:
    """(N,) length of a polyline (N, 2) from its start to each point."""
    steps = points[1:] - points[:-1]
    along = np.zeros(len(points))
    np.cumsum(np.hypot(steps[:, 0], steps[:, 1]), out=along[1:])
    return along


def resample(points: np.ndarray, spacing_px: float) -> np.ndarray:
    """A polyline's points anew, evenly spaced by about `spacing_px`, the ends kept."""
    along = arc_lengths(points)
    count = max(2, round(along[-1] / spacing_px) + 1)
    at = np.arange(count) * (along[-1] / (count - 1))
    at[-1] = along[-1]
    even = np.empty((count, 2))
    even[:, 0] = np.interp(at, along, points[:, 0])
    even[:, 1] = np.interp(at, along, points[:, 1])
    return even


def smooth(points: np.ndarray, sigma: float, closed: bool) -> np.ndarray:
    """Gaussian smoothing by `sigma` samples; an open curve keeps its ends."""
    kernel = _gaussian(round(float(sigma), 3))
    reach = len(kernel) // 2
    if reach == 0:
        return points
    if closed:
        ring = points[:-1]
        padded = np.take(ring, np.arange(-reach, len(ring) + reach), axis=0, mode="wrap")
    elif reach < len(points):
        # Mirrored through the end points themselves, so that they stay where they are.
        before = 2 * points[0] - points[reach:0:-1]
        padded = np.concatenate([before, points, 2 * points[-1] - points[-2 : -reach - 2 : -1]])
    else:
        padded = np.pad(points, ((reach, reach), (0, 0)), mode="reflect", reflect_type="odd")
    smoothed = np.empty((len(padded) - 2 * reach, 2))
    for axis in (0, 1):
        smoothed[:, axis] = np.convolve(padded[:, axis], kernel, mode="valid")
    return np.concatenate([smoothed, smoothed[:1]]) if closed else smoothed


@lru_cache(maxsize=128)
def _gaussian(sigma: float) -> np.ndarray:
    """Weights out to four sigma, which sum to 1."""
    reach = int(4 * sigma + 0.5)
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / max(sigma, 1e-9)) ** 2)
    weights /= weights.sum()
    weights.flags.writeable = False
    return weights


def normals(points: np.ndarray, closed: bool = False) -> np.ndarray:
    """(N, 2) unit normals of a polyline."""
    tangents = np.empty_like(points)
    tangents[1:-1] = points[2:] - points[:-2]
    if closed:
        tangents[0] = tangents[-1] = points[1] - points[-2]
    else:
        tangents[0], tangents[-1] = points[1] - points[0], points[-1] - points[-2]
    across = np.empty_like(points)
    across[:, 0], across[:, 1] = -tangents[:, 1], tangents[:, 0]
    across /= np.maximum(np.hypot(tangents[:, 0], tangents[:, 1]), 1e-9)[:, None]
    return across


def simplify(points: np.ndarray, tolerance_px: float) -> np.ndarray:
    """Fewer points of a polyline, the ends kept: those left out lie within `tolerance_px` of what is left.

    Douglas and Peucker's algorithm as GEOS has it. OpenCV's takes points out of its result a second time, to
    as much as 1.7 times the tolerance; scikit-image's takes milliseconds a curve.
    """
    return shapely.get_coordinates(
        shapely.simplify(shapely.linestrings(points), tolerance_px, preserve_topology=False)
    )


# Pieces of curves that go on in each other, put in order.

# A piece and the end of it at which a chain enters: 0 its start, 1 its end.
PieceEnd = tuple[int, int]


def order_chains(
    pieces: Iterable[int], partners: Mapping[PieceEnd, PieceEnd]
) -> list[tuple[list[PieceEnd], bool]]:
    """Follows pieces from end to end.

    Args:
        pieces: Names of the pieces.
        partners: End of a piece -> the end of a piece that follows there, in both directions.

    Returns:
        For each chain its pieces in order, each with the end by which it is entered, and whether the last one
        goes on in the first.
    """
    pieces = list(pieces)
    left = set(pieces)
    chains = []
    open_starts = [(piece, side) for piece in pieces for side in (0, 1) if (piece, side) not in partners]
    # After the open ones only rings are left: they start anywhere.
    for start in open_starts + [(piece, 0) for piece in pieces]:
        if start[0] not in left:
            continue
        chain, entered = [], start
        while entered is not None and entered[0] in left:
            piece, side = entered
            left.discard(piece)
            chain.append(entered)
            entered = partners.get((piece, 1 - side))
        chains.append((chain, entered == start))
    return chains
