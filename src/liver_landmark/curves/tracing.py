"""Masks to polylines: the centerlines of strokes, ordered, to a fraction of a px."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from scipy.spatial import cKDTree

from ..model.landmarks_liver_landmark import DEFAULT_LANDMARKS, IGNORE_INDEX
from .centerline import Centerline, StrokePlane, sample_linear, trace_centerline
from .polyline import PieceEnd, arc_lengths, normals, order_chains, simplify
from .skeleton import NoisyMaskError, SkeletonPath, skeleton_paths

# An array (classes, H, W), or what gives a class's (H, W) by its name.
Scores = np.ndarray | Callable[[str], np.ndarray]


@dataclass(frozen=True)
class TracedPolyline:
    """The centerline of one stroke.

    Attributes:
        category: The landmark's name.
        points: (N, 2) float32 (x, y) px of the mask, integers naming pixel centers, in order along the curve.
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
    names: Sequence[str] = DEFAULT_LANDMARKS.names,
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
        names: The landmarks in the order of their ids, which begin with 1.
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
    _check(mask, len(names) + 1, scores, tolerance_px, min_length_px)
    traced = []
    for name, plane in _class_planes(mask, names):
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
    return sorted(traced, key=lambda curve: (names.index(curve.category), *curve.points[0].tolist()))


def _check(
    mask: np.ndarray,
    classes: int,
    scores: Scores | None,
    tolerance_px: float,
    min_length_px: float | None,
) -> None:
    if mask.ndim != 2 or mask.dtype != np.uint8:
        raise ValueError(f"mask must be (H, W) uint8 class ids, got {mask.shape} {mask.dtype}")
    if isinstance(scores, np.ndarray) and scores.shape != (classes, *mask.shape):
        raise ValueError(f"scores must be {(classes, *mask.shape)}, as the mask is, got {scores.shape}")
    if not tolerance_px >= 0 or not (min_length_px is None or min_length_px >= 0):
        raise ValueError(
            f"tolerance_px and min_length_px must be at least 0, got {tolerance_px} and {min_length_px}"
        )


def _class_planes(mask: np.ndarray, names: Sequence[str]) -> Iterator[tuple[str, StrokePlane]]:
    """The classes that a mask holds; a plane lasts until the next is asked for, which takes its memory."""
    left, top, width, height = cv2.boundingRect(mask)
    drawn = mask[top : top + height, left : left + width]
    inside = np.empty((height, width), np.uint8)
    counted = 0
    for class_id, name in enumerate(names if width else (), start=1):
        cv2.inRange(drawn, class_id, class_id, inside)
        pixels = cv2.countNonZero(inside)
        counted += pixels
        if pixels:
            yield name, StrokePlane(mask, class_id, inside, (left, top))
    # Whatever else is drawn must be what is unknown.
    if width and counted != cv2.countNonZero(drawn):
        found = np.flatnonzero(np.bincount(drawn.ravel(), minlength=256))
        for odd in np.setdiff1d(found, [*range(len(names) + 1), IGNORE_INDEX]).tolist():
            raise ValueError(f"mask holds the id {odd}: expected 0 to {len(names)}, or {IGNORE_INDEX}")


def _trace_class(plane: StrokePlane) -> list[Centerline]:
    return [curve for piece in find_pieces(plane) for curve in _trace_piece(plane, piece)]


def _trace_piece(plane: StrokePlane, piece: Piece) -> list[Centerline]:
    paths, guess_px = thinned_paths(piece)
    curves = []
    for path in paths:
        points, free_ends = path.points, path.free_ends
        if len(points) < 2 and len(paths) > 1:
            continue  # a speck beside the strokes
        if len(paths) == 1 and not path.closed and arc_lengths(points)[-1] < guess_px:
            # Of a piece as long as it is wide, thinning leaves anything.
            points, free_ends = axis_of(piece), (True, True)
        curves.append(trace_centerline(plane, points, guess_px, free_ends, path.closed))
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


# Connected pieces of a class, and the paths that thinning finds through them.

# Thinning looks at strokes about this many px wide: it need only find which pieces there are.
_THINNED_WIDTH_PX = 8.0
# Holes smaller than this share of a square of the stroke's width are flaws of the mask, not loops.
_HOLE = 0.5
# Fewer connected pixels are a flaw of the mask.
_SPECK_AREA = 9
# More pieces of one class, specks left aside, are noise: each takes up to a millisecond.
MOST_PIECES = 1000


@dataclass(frozen=True)
class Piece:
    """A connected piece of a class.

    Attributes:
        pixels: (h, w) uint8, 255 on the piece, in its bounding box.
        corner: (x, y) px of the mask at the box's first pixel.
        perimeter_px: Length of its edge, that of its holes too.
    """

    pixels: np.ndarray
    corner: tuple[int, int]
    perimeter_px: float


def find_pieces(plane: StrokePlane) -> Iterator[Piece]:
    """Pieces of at least 9 pixels, which are neighbors also across a corner.

    Raises:
        NoisyMaskError: more than `MOST_PIECES`.
    """
    # A contour each, and one for each of its holes: much faster than labeling all pixels.
    contours, hierarchy = cv2.findContours(plane.inside, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    perimeters: dict[int, float] = defaultdict(float)
    for index, contour in enumerate(contours):
        around = hierarchy[0, index, 3]
        perimeters[index if around < 0 else around] += cv2.arcLength(contour, True)
    windows = {index: cv2.boundingRect(contours[index]) for index in perimeters}
    windows = {index: box for index, box in windows.items() if box[2] * box[3] >= _SPECK_AREA}
    if len(windows) > MOST_PIECES:
        raise NoisyMaskError(
            f"the mask has {len(windows)} pieces of class {plane.class_id}, more than {MOST_PIECES}: noise"
        )
    for index, (left, top, width, height) in windows.items():
        pixels = np.zeros((height, width), np.uint8)
        cv2.drawContours(pixels, contours, index, 255, -1, 8, hierarchy, 1, (-left, -top))
        if cv2.countNonZero(pixels) >= _SPECK_AREA:
            yield Piece(pixels, (plane.corner[0] + left, plane.corner[1] + top), perimeters[index])


def thinned_paths(piece: Piece) -> tuple[list[SkeletonPath], float]:
    """Paths through a piece's skeleton in px of the frame, and about how wide its strokes are."""
    # Thinned at a size at which that is fast. A ragged edge makes a stroke seem narrower than it is.
    width_px = 2.0 * cv2.countNonZero(piece.pixels) / max(piece.perimeter_px, 1.0)
    factor, small = 0, piece.pixels
    while (better := max(1, round(width_px / _THINNED_WIDTH_PX))) > factor:
        factor = better
        small = _reduced(piece.pixels, factor)
        distance = cv2.distanceTransform(small, cv2.DIST_L2, cv2.DIST_MASK_5)
        # Across a stroke the distance to its edge rises evenly to half its width: the mean is a quarter.
        pixels = max(1, cv2.countNonZero(small))
        width_px = max(1.0, factor * (4.0 * float(cv2.sumElems(distance)[0]) / pixels - 2.0))
    while factor > 1 and (not small.any() or _in_parts(small, width_px / factor)):
        # The piece, or what connects it, is too narrow to be seen at this size.
        factor //= 2
        small = _reduced(piece.pixels, factor)
    small = _fill_flaws(small, _HOLE * (width_px / factor) ** 2)
    origin = np.array(piece.corner) - factor
    paths = skeleton_paths(small > 0)
    return [replace(path, points=(path.points + 0.5) * factor - 0.5 + origin) for path in paths], width_px


def _in_parts(small: np.ndarray, width_px: float) -> bool:
    """Whether more than one connected piece is longer than strokes are wide."""
    contours, _ = cv2.findContours(small, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    return sum(max(cv2.boundingRect(contour)[2:]) > width_px for contour in contours) > 1


def _reduced(pixels: np.ndarray, factor: int) -> np.ndarray:
    """A plane by a whole number smaller, 255 where at least half of a block is."""
    height, width = pixels.shape
    # At least one row and column of background around the strokes, and whole blocks.
    bottom, right = factor + -height % factor, factor + -width % factor
    padded = cv2.copyMakeBorder(pixels, factor, bottom, factor, right, cv2.BORDER_CONSTANT, value=0)
    size = (padded.shape[1] // factor, padded.shape[0] // factor)
    return cv2.inRange(cv2.resize(padded, size, interpolation=cv2.INTER_AREA), 128, 255)


def _fill_flaws(small: np.ndarray, largest: float) -> np.ndarray:
    """Fills holes of at most that many pixels."""
    contours, hierarchy = cv2.findContours(small, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    if not contours or hierarchy[0, :, 3].max() < 0:
        return small
    _, labels, boxes, _ = cv2.connectedComponentsWithStats(cv2.bitwise_not(small), connectivity=4)
    flaws = boxes[:, cv2.CC_STAT_AREA] <= largest
    flaws[0] = False
    return np.where(flaws[labels], np.uint8(255), small)


def axis_of(piece: Piece) -> np.ndarray:
    """(2, 2) px of the frame: a short line through a piece's center along its longest extent."""
    pixels = np.argwhere(piece.pixels)[:, ::-1] + np.array(piece.corner)
    middle = pixels.mean(axis=0)
    _, _, axes = np.linalg.svd(pixels - middle, full_matrices=False)
    return np.stack([middle - axes[0], middle + axes[0]])


# Centerlines of one class that go on behind another class's stroke are one curve.

# Two ends are one curve under another class's stroke if the gap is no longer than this many stroke widths,
# and each points at the other within 45 degrees.
_LONGEST_BRIDGE, _FACING = 3.0, np.cos(np.deg2rad(45))


def bridge(plane: StrokePlane, curves: list[Centerline]) -> list[Centerline]:
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


def _join(curves: list[Centerline], pairs: list[tuple[PieceEnd, PieceEnd]]) -> list[Centerline]:
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


def _chained(chain: list[tuple[Centerline, int]]) -> Centerline:
    points = [curve.points if side == 0 else curve.points[::-1] for curve, side in chain]
    (first, entered), (last, entered_last) = chain[0], chain[-1]
    hidden = (first.hidden[entered], last.hidden[1 - entered_last])
    return Centerline(np.concatenate(points), float(np.mean([curve.width_px for curve, _ in chain])), hidden)


def _end_and_direction(curve: Centerline, side: int) -> tuple[np.ndarray, np.ndarray]:
    """An end of a curve, and the unit vector in which it leaves the curve."""
    points = curve.points if side == 1 else curve.points[::-1]
    along = arc_lengths(points)
    back = max(0, int(np.searchsorted(along, along[-1] - curve.width_px)) - 1)
    step = points[-1] - points[back]
    return points[-1], step / max(np.hypot(*step), 1e-9)
