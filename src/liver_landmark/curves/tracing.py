"""Masks -> polylines: the centrelines of strokes, ordered, to a fraction of a px."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
from scipy.spatial import cKDTree
from skimage.measure import approximate_polygon

from ..model.landmarks_liver_landmark import IGNORE_INDEX, LABEL2ID, LANDMARKS, NUM_CLASSES
from .centreline import StrokePlane, arc_lengths, normals, sample_linear, stroke_width, trace_centreline
from .chains import PieceEnd, order_chains
from .skeleton import SkeletonPath, skeleton_paths

# Thinning looks at strokes about this many px wide: it need only find which pieces there are.
_THINNED_WIDTH_PX = 10.0
# Holes smaller than this share of a square of the stroke's width are flaws of the mask, not loops.
_HOLE = 0.5
# Fewer connected pixels are a flaw of the mask.
_SPECK_AREA = 9
# Two ends are one curve under another class's stroke if the gap is no longer than this many stroke widths,
# and each points at the other within 45 degrees.
_LONGEST_BRIDGE, _FACING = 3.0, np.cos(np.deg2rad(45))


@dataclass(frozen=True)
class TracedPolyline:
    """The centreline of one stroke.

    Attributes:
        category: The landmark's name.
        points: (N, 2) float32 (x, y) px of the mask, integers naming pixel centres, in order along the curve.
        stroke_width_px: Median width of the stroke.
        scores: (N,) float32, at each point the mean of the class's scores across the stroke; None where no
            scores were given.
    """

    category: str
    points: np.ndarray
    stroke_width_px: float
    scores: np.ndarray | None = None

    @property
    def length_px(self) -> float:
        """Length of the polyline in px."""
        return float(arc_lengths(self.points.astype(np.float64))[-1])


@dataclass
class _Curve:
    """A centreline on its way to a polyline: (N, 2) px, and whether its ends go on under another class."""

    points: np.ndarray
    width_px: float
    hidden: tuple[bool, bool]


def trace_polylines(
    mask: np.ndarray,
    *,
    scores: np.ndarray | None = None,
    tolerance_px: float = 0.5,
    min_length_px: float | None = None,
) -> list[TracedPolyline]:
    """Finds the curves that a mask's strokes were drawn along.

    Each class is thinned to a graph, which is split into open curves (at a fork the straightest continuation
    is one curve, at a crossing each goes straight on, a ring is cut open where it happens to start); a
    curve's points are then moved to the middle between the stroke's edges, its ends to half a stroke width
    before the stroke's end, which is where a stroke with round caps was begun. A stroke that another class
    covers on a short stretch is one curve.

    Args:
        mask: (H, W) uint8 class ids; 255 is unknown, as what another class covers.
        scores: (classes, H, W) floats, the class scores that the mask was made of.
        tolerance_px: A point is left out where the polyline stays this near to it; 0 keeps all.
        min_length_px: Shorter curves are left out; None: those shorter than their own stroke's width. Pieces
            of fewer than 9 pixels always are.

    Returns:
        Polylines by class, from left to right, each starting at its left end.

    Raises:
        ValueError: a mask or scores of another shape or type, or a negative tolerance or length.
    """
    _check(mask, scores, tolerance_px, min_length_px)
    traced = []
    for landmark in LANDMARKS:
        inside = np.equal(mask, landmark.id).view(np.uint8)
        if not inside.any():
            continue
        hidden = np.logical_and(mask != 0, inside == 0).view(np.uint8)
        plane = StrokePlane(inside, hidden)
        for curve in _bridge(plane, _trace_class(plane)):
            length_px = arc_lengths(curve.points)[-1]
            if length_px < (curve.width_px if min_length_px is None else min_length_px) or length_px == 0:
                continue
            points = np.clip(curve.points, -0.5, np.array(mask.shape[::-1]) - 0.5)
            # From left to right, or downwards where it is upright.
            if tuple(points[-1]) < tuple(points[0]):
                points = points[::-1]
            if tolerance_px > 0:
                points = approximate_polygon(points, tolerance_px)
            means = (
                None if scores is None else _mean_scores(plane, points, curve.width_px, scores[landmark.id])
            )
            polyline = TracedPolyline(landmark.name, points.astype(np.float32), curve.width_px, means)
            traced.append(polyline)
    return sorted(traced, key=lambda curve: (LABEL2ID[curve.category], *curve.points[0].tolist()))


def _check(
    mask: np.ndarray, scores: np.ndarray | None, tolerance_px: float, min_length_px: float | None
) -> None:
    if mask.ndim != 2 or mask.dtype != np.uint8:
        raise ValueError(f"mask must be (H, W) uint8 class ids, got {mask.shape} {mask.dtype}")
    # Counting is several times faster than sorting, as np.unique does.
    odd = np.setdiff1d(
        np.flatnonzero(np.bincount(mask.ravel(), minlength=256)), [*range(NUM_CLASSES), IGNORE_INDEX]
    )
    if len(odd):
        raise ValueError(f"mask holds the id {odd[0]}: expected 0 to {NUM_CLASSES - 1}, or {IGNORE_INDEX}")
    if scores is not None and scores.shape != (NUM_CLASSES, *mask.shape):
        raise ValueError(f"scores must be {(NUM_CLASSES, *mask.shape)}, as the mask is, got {scores.shape}")
    if not tolerance_px >= 0 or not (min_length_px is None or min_length_px >= 0):
        raise ValueError(
            f"tolerance_px and min_length_px must be at least 0, got {tolerance_px} and {min_length_px}"
        )


def _trace_class(plane: StrokePlane) -> list[_Curve]:
    curves = []
    count, labels, boxes, _ = cv2.connectedComponentsWithStats(plane.inside, connectivity=8)
    for component in range(1, count):
        left, top, width, height, area = boxes[component]
        if area < _SPECK_AREA:
            continue
        window = (slice(top, top + height), slice(left, left + width))
        piece = np.equal(labels[window], component).view(np.uint8)
        curves += _trace_component(plane, piece, int(left), int(top))
    return curves


def _trace_component(plane: StrokePlane, piece: np.ndarray, left: int, top: int) -> list[_Curve]:
    """Curves of one connected piece of a class, whose window's first pixel is at (left, top)."""
    guess_px = _guess_width(piece)
    paths = _thinned_paths(piece, (left, top), guess_px)
    curves = []
    for path in paths:
        points, free_ends = path.points, path.free_ends
        if len(points) < 2 and len(paths) > 1:
            continue  # a speck beside the strokes
        if len(paths) == 1 and not path.closed and arc_lengths(points)[-1] < guess_px:
            # Of a piece as long as it is wide, thinning leaves anything.
            points, free_ends = _axis_of(piece, left, top), (True, True)
        width_px = stroke_width(plane, points, guess_px, path.closed)
        points, hidden = trace_centreline(plane, points, width_px, free_ends, path.closed)
        curves.append(_Curve(points, width_px, hidden))
    return curves


def _guess_width(piece: np.ndarray) -> float:
    distance = cv2.distanceTransform(np.pad(piece, 1), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    # Across a stroke the distance to its edge rises evenly to half its width: the mean is a quarter.
    return max(1.0, 4.0 * float(distance.sum()) / int(np.count_nonzero(piece)) - 1.0)


def _thinned_paths(piece: np.ndarray, corner: tuple[int, int], width_px: float) -> list[SkeletonPath]:
    """Paths through a piece's skeleton in px of the frame, thinned at a size at which that is fast."""
    factor = max(1, int(width_px / _THINNED_WIDTH_PX))
    # At least one row and column of background around the strokes, and whole blocks.
    padded = np.pad(piece, [(factor, factor + -size % factor) for size in piece.shape])
    small = cv2.resize(padded * 255, None, fx=1 / factor, fy=1 / factor, interpolation=cv2.INTER_AREA) >= 128
    small = _fill_flaws(small, _HOLE * (width_px / factor) ** 2)
    origin = np.array(corner) - factor
    return [
        replace(path, points=(path.points + 0.5) * factor - 0.5 + origin) for path in skeleton_paths(small)
    ]


def _fill_flaws(plane: np.ndarray, largest: float) -> np.ndarray:
    """Fills holes of at most that many pixels."""
    background = np.logical_not(plane).view(np.uint8)
    count, labels, boxes, _ = cv2.connectedComponentsWithStats(background, connectivity=4)
    small = boxes[:, cv2.CC_STAT_AREA] <= largest
    small[0] = False
    return plane | small[labels] if count > 2 else plane


def _axis_of(piece: np.ndarray, left: int, top: int) -> np.ndarray:
    """(2, 2) px: a short line through a piece's centre along its longest extent."""
    pixels = np.argwhere(piece)[:, ::-1] + np.array([left, top])
    middle = pixels.mean(axis=0)
    _, _, axes = np.linalg.svd(pixels - middle, full_matrices=False)
    return np.stack([middle - axes[0], middle + axes[0]])


def _bridge(plane: StrokePlane, curves: list[_Curve]) -> list[_Curve]:
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
    return gap_px if plane.sample_background(between).mean() < 0.1 else None


def _join(curves: list[_Curve], pairs: list[tuple[PieceEnd, PieceEnd]]) -> list[_Curve]:
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


def _chained(chain: list[tuple[_Curve, int]]) -> _Curve:
    points = [curve.points if side == 0 else curve.points[::-1] for curve, side in chain]
    (first, entered), (last, entered_last) = chain[0], chain[-1]
    hidden = (first.hidden[entered], last.hidden[1 - entered_last])
    return _Curve(np.vstack(points), float(np.mean([curve.width_px for curve, _ in chain])), hidden)


def _end_and_direction(curve: _Curve, side: int) -> tuple[np.ndarray, np.ndarray]:
    """An end of a curve, and the unit vector in which it leaves the curve."""
    points = curve.points if side == 1 else curve.points[::-1]
    along = arc_lengths(points)
    back = max(0, int(np.searchsorted(along, along[-1] - curve.width_px)) - 1)
    step = points[-1] - points[back]
    return points[-1], step / max(np.hypot(*step), 1e-9)


def _mean_scores(plane: StrokePlane, points: np.ndarray, width_px: float, scores: np.ndarray) -> np.ndarray:
    """(N,) float32 mean of a class's (H, W) scores over the stroke's cross-section at each point."""
    offsets = np.linspace(-0.5, 0.5, max(3, round(width_px))) * width_px
    across = points[:, None] + offsets[None, :, None] * normals(points)[:, None]
    weights = plane.sample_inside(across)
    # The point itself lies in the stroke, if at its very edge.
    weights[:, len(offsets) // 2] = np.maximum(weights[:, len(offsets) // 2], 1e-3)
    values = sample_linear(scores.astype(np.float32), across)
    return ((values * weights).sum(axis=1) / weights.sum(axis=1)).astype(np.float32)
