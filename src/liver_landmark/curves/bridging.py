"""Centrelines of one class that go on behind another class's stroke are one curve."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from .centreline import Centreline
from .chains import PieceEnd, order_chains
from .polyline import arc_lengths
from .stroke_plane import StrokePlane

# Two ends are one curve under another class's stroke if the gap is no longer than this many stroke widths,
# and each points at the other within 45 degrees.
_LONGEST_BRIDGE, _FACING = 3.0, np.cos(np.deg2rad(45))


def bridge(plane: StrokePlane, curves: list[Centreline]) -> list[Centreline]:
    """Joins curves of a class whose ends face each other across another class's stroke, the nearest first."""
    ends = [(index, side) for index, curve in enumerate(curves) for side in (0, 1) if curve.hidden[side]]
    if len(ends) < 2:
        return curves
    places = [_end_and_direction(curves[index], side) for index, side in ends]
    longest_px = _LONGEST_BRIDGE * max(curves[index].width_px for index, _ in ends)
    gaps = []
    for one, other in cKDTree([place for place, _ in places]).query_pairs(longest_px):
        allowed_px = _LONGEST_BRIDGE * min(curves[ends[one][0]].width_px, curves[ends[other][0]].width_px)
        gap_px = _gap(plane, places[one], places[other], allowed_px)
        if gap_px is not None:
            gaps.append((gap_px, ends[one], ends[other]))
    return _join(curves, [(one, other) for _, one, other in sorted(gaps)])


def _gap(
    plane: StrokePlane,
    one: tuple[np.ndarray, np.ndarray],
    other: tuple[np.ndarray, np.ndarray],
    longest_px: float,
) -> float | None:
    """Px between two ends; None where they do not face each other, or background lies between them."""
    (start, out), (end, back) = one, other
    gap = end - start
    gap_px = float(np.hypot(*gap))
    if gap_px > longest_px or min(out @ gap, -(back @ gap)) < _FACING * gap_px:
        return None
    # A px apart, half a px off the ends: those lie on the edge, where the nearest pixel is either side's.
    count = max(1, round(gap_px))
    between = start + (np.arange(count)[:, None] + 0.5) / count * gap
    return gap_px if plane.background_at(between).mean() < 0.1 else None


def _join(curves: list[Centreline], pairs: list[tuple[PieceEnd, PieceEnd]]) -> list[Centreline]:
    """Joins curves at pairs of their ends, an end to one other only; what would close a ring is left open."""
    partners: dict[PieceEnd, PieceEnd] = {}
    group = list(range(len(curves)))
    for one, other in pairs:
        if one in partners or other in partners or group[one[0]] == group[other[0]]:
            continue
        partners[one], partners[other] = other, one
        merged = {group[one[0]], group[other[0]]}
        group = [min(merged) if name in merged else name for name in group]
    return [
        _chained([(curves[index], side) for index, side in chain])
        for chain, _ in order_chains(range(len(curves)), partners)
    ]


def _chained(chain: list[tuple[Centreline, int]]) -> Centreline:
    points = [curve.points if side == 0 else curve.points[::-1] for curve, side in chain]
    (first, entered), (last, entered_last) = chain[0], chain[-1]
    hidden = (first.hidden[entered], last.hidden[1 - entered_last])
    return Centreline(np.concatenate(points), float(np.mean([curve.width_px for curve, _ in chain])), hidden)


def _end_and_direction(curve: Centreline, side: int) -> tuple[np.ndarray, np.ndarray]:
    """An end of a curve, and the unit vector in which it leaves the curve."""
    points = curve.points if side == 1 else curve.points[::-1]
    along = arc_lengths(points)
    back = max(0, int(np.searchsorted(along, along[-1] - curve.width_px)) - 1)
    step = points[-1] - points[back]
    return points[-1], step / max(np.hypot(*step), 1e-9)
