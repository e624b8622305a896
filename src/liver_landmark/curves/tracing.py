"""Masks -> polylines: the centrelines of strokes, ordered, to a fraction of a px."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from ..model.landmarks_liver_landmark import IGNORE_INDEX, LABEL2ID, LANDMARKS, NUM_CLASSES
from .bridging import bridge
from .centreline import Centreline, trace_centreline
from .pieces import Piece, axis_of, find_pieces, thinned_paths
from .polyline import arc_lengths, normals, simplify
from .stroke_plane import StrokePlane, sample_linear

# An array (classes, H, W), or what gives a class's (H, W) by its name.
Scores = np.ndarray | Callable[[str], np.ndarray]


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


def trace_polylines(
    mask: np.ndarray,
    *,
    scores: Scores | None = None,
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
        scores: (classes, H, W) floats, the class scores that the mask was made of; or a function that gives
            a class's (H, W) by its name, which is called for classes that have curves only.
        tolerance_px: A point is left out where the polyline stays this near to it; 0 keeps all.
        min_length_px: Shorter curves are left out; None: those shorter than their own stroke's width. Pieces
            of fewer than 9 pixels always are.

    Returns:
        Polylines by class, from left to right, each starting at its left end.

    Raises:
        ValueError: a mask or scores of another shape or type, or a negative tolerance or length.
        NoisyMaskError: more than 1,000 pieces of a class, or as many forks and ends in one: no strokes. It
            is a ValueError.
    """
    _check(mask, scores, tolerance_px, min_length_px)
    traced = []
    for name, plane in _class_planes(mask):
        found: list[tuple[np.ndarray, float]] = []
        for curve in bridge(plane, _trace_class(plane)):
            length_px = arc_lengths(curve.points)[-1]
            if length_px < (curve.width_px if min_length_px is None else min_length_px) or length_px == 0:
                continue
            points = np.clip(curve.points, -0.5, np.array(mask.shape[::-1]) - 0.5)
            # From left to right, or downwards where it is upright.
            if tuple(points[-1]) < tuple(points[0]):
                points = points[::-1]
            if tolerance_px > 0:
                points = simplify(points, tolerance_px)
            found.append((points, curve.width_px))
        of_class = _class_scores(scores, name, plane) if found and scores is not None else None
        for points, width_px in found:
            means = None if of_class is None else _mean_scores(plane, points, width_px, of_class)
            traced.append(TracedPolyline(name, points.astype(np.float32), width_px, means))
    return sorted(traced, key=lambda curve: (LABEL2ID[curve.category], *curve.points[0].tolist()))


def _check(mask: np.ndarray, scores: Scores | None, tolerance_px: float, min_length_px: float | None) -> None:
    if mask.ndim != 2 or mask.dtype != np.uint8:
        raise ValueError(f"mask must be (H, W) uint8 class ids, got {mask.shape} {mask.dtype}")
    if isinstance(scores, np.ndarray) and scores.shape != (NUM_CLASSES, *mask.shape):
        raise ValueError(f"scores must be {(NUM_CLASSES, *mask.shape)}, as the mask is, got {scores.shape}")
    if not tolerance_px >= 0 or not (min_length_px is None or min_length_px >= 0):
        raise ValueError(
            f"tolerance_px and min_length_px must be at least 0, got {tolerance_px} and {min_length_px}"
        )


def _class_planes(mask: np.ndarray) -> Iterator[tuple[str, StrokePlane]]:
    """The classes that a mask holds; a plane lasts until the next is asked for, which takes its memory."""
    left, top, width, height = cv2.boundingRect(mask)
    drawn = mask[top : top + height, left : left + width]
    inside = np.empty((height, width), np.uint8)
    counted = 0
    for landmark in LANDMARKS if width else ():
        cv2.inRange(drawn, landmark.id, landmark.id, inside)
        pixels = cv2.countNonZero(inside)
        counted += pixels
        if pixels:
            yield landmark.name, StrokePlane(mask, landmark.id, inside, (left, top))
    # Whatever else is drawn must be what is unknown.
    if width and counted != cv2.countNonZero(drawn):
        found = np.flatnonzero(np.bincount(drawn.ravel(), minlength=256))
        for odd in np.setdiff1d(found, [*range(NUM_CLASSES), IGNORE_INDEX]).tolist():
            raise ValueError(f"mask holds the id {odd}: expected 0 to {NUM_CLASSES - 1}, or {IGNORE_INDEX}")


def _trace_class(plane: StrokePlane) -> list[Centreline]:
    return [curve for piece in find_pieces(plane) for curve in _trace_piece(plane, piece)]


def _trace_piece(plane: StrokePlane, piece: Piece) -> list[Centreline]:
    paths, guess_px = thinned_paths(piece)
    curves = []
    for path in paths:
        points, free_ends = path.points, path.free_ends
        if len(points) < 2 and len(paths) > 1:
            continue  # a speck beside the strokes
        if len(paths) == 1 and not path.closed and arc_lengths(points)[-1] < guess_px:
            # Of a piece as long as it is wide, thinning leaves anything.
            points, free_ends = axis_of(piece), (True, True)
        curves.append(trace_centreline(plane, points, guess_px, free_ends, path.closed))
    return curves


def _class_scores(scores: Scores, name: str, plane: StrokePlane) -> np.ndarray:
    """(H, W) float32 scores of a class."""
    of_class = scores[plane.class_id] if isinstance(scores, np.ndarray) else scores(name)
    if of_class.shape != plane.mask.shape:
        raise ValueError(f"scores of {name} must be {plane.mask.shape}, as the mask is, got {of_class.shape}")
    return of_class.astype(np.float32, copy=False)


def _mean_scores(plane: StrokePlane, points: np.ndarray, width_px: float, scores: np.ndarray) -> np.ndarray:
    """(N,) float32 mean of a class's (H, W) float32 scores over the stroke's cross-section at each point."""
    offsets = np.linspace(-0.5, 0.5, max(3, round(width_px))) * width_px
    x, y = (points[:, axis, None] + offsets * normals(points)[:, axis, None] for axis in (0, 1))
    weights = plane.sample_levels(x, y) / 255.0
    # The point itself lies in the stroke, if at its very edge.
    weights[:, len(offsets) // 2] = np.maximum(weights[:, len(offsets) // 2], 1e-3)
    values = sample_linear(scores, x, y)
    return ((values * weights).sum(axis=1) / weights.sum(axis=1)).astype(np.float32)
