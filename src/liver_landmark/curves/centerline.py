"""The center of a stroke, to a fraction of a px: from a skeleton's path, by looking across the stroke."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from .polyline import normals, resample, smooth

_STEP_PX = 1.0
# Interpolated at once: bounds the memory, and OpenCV takes no more than 32,766 rows.
_ROWS_AT_ONCE = 8192


@dataclass(frozen=True)
class StrokePlane:
    """One class of a mask, as seen from its strokes.

    Attributes:
        mask: (H, W) uint8 class ids.
        class_id: The class.
        inside: (h, w) uint8, a window of the mask outside of which the class is not: 255 on it, else 0.
        corner: (x, y) px of the mask at the window's first pixel.
    """

    mask: np.ndarray
    class_id: int
    inside: np.ndarray
    corner: tuple[int, int]

    def sample_levels(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """How much of the class is at (rows, columns) px places, interpolated: uint8, 0 to 255."""
        return sample_linear(self.inside, x - self.corner[0], y - self.corner[1])

    def unknown_at(self, points: np.ndarray) -> np.ndarray:
        """Whether the truth is unknown at (N, 2) px points: under another class, or outside the frame."""
        ids, within = self._ids_at(points)
        return ~within | ((ids != 0) & (ids != self.class_id))

    def hidden_at(self, points: np.ndarray) -> np.ndarray:
        """Whether another class lies over (N, 2) px points; outside the frame none does."""
        ids, within = self._ids_at(points)
        return within & (ids != 0) & (ids != self.class_id)

    def background_at(self, points: np.ndarray) -> np.ndarray:
        """Whether the pixels that (N, 2) px points fall in are of no class; outside the frame none is."""
        ids, within = self._ids_at(points)
        return within & (ids == 0)

    def _ids_at(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(N,) class ids of the pixels that points fall in, and whether these are within the frame."""
        height, width = self.mask.shape
        pixels = np.floor(points + 0.5).astype(np.intp)
        x, y = pixels[:, 0], pixels[:, 1]
        within = (x >= 0) & (x < width) & (y >= 0) & (y < height)
        return self.mask[y * within, x * within], within


def sample_linear(picture: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Values of a (H, W) picture at (rows, columns) px places, interpolated, 0 outside of it.

    OpenCV's: places are rounded to 1/32 px. SciPy's `map_coordinates` takes ten times as long.
    """
    sampled = np.empty(x.shape, picture.dtype)
    x, y = x.astype(np.float32, copy=False), y.astype(np.float32, copy=False)
    for start in range(0, len(x), _ROWS_AT_ONCE):
        rows = slice(start, start + _ROWS_AT_ONCE)
        sampled[rows] = cv2.remap(
            picture, x[rows], y[rows], cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=0
        )
    return sampled


def find_edges(
    plane: StrokePlane, points: np.ndarray, directions: np.ndarray, reach_px: float
) -> tuple[np.ndarray, np.ndarray]:
    """How far it is from points inside of a stroke to its edge.

    Args:
        plane: The class.
        points: (N, 2) px.
        directions: (N, 2) unit vectors.
        reach_px: How far to look.

    Returns:
        (N,) px to where the class ends (nan: not within reach, or the point itself lies outside), and (N,)
        bool, whether background begins there, rather than another class or the frame's border.
    """
    offsets = np.arange(0.0, reach_px + _STEP_PX, _STEP_PX, dtype=np.float32)
    starts, steps = points.astype(np.float32), directions.astype(np.float32)
    level = plane.sample_levels(*(starts[:, axis, None] + steps[:, axis, None] * offsets for axis in (0, 1)))
    outside = level < 128
    first = outside.argmax(axis=1)
    rows = np.arange(len(points))
    found = (first > 0) & outside[rows, first]
    before = np.maximum(first - 1, 0)
    high, low = level[rows, before].astype(np.float64), level[rows, first].astype(np.float64)
    part = (high - 127.5) / np.maximum(high - low, 1.0)
    distance = (before + np.clip(part, 0.0, 1.0)) * _STEP_PX
    # Just beyond the edge: a px further on, where no interpolation reaches.
    beyond = points + (distance + 1.0)[:, None] * directions
    seen = found & ~plane.unknown_at(beyond)
    distance[~found] = np.nan
    return distance, seen


# The center of a stroke, to a fraction of a px: from a skeleton's path, by looking across the stroke.

# In stroke widths: how much of a path is smoothed away before and after looking across, how far to look,
# how much of a skeleton's end is not believed, and how near two samples are.
_SMOOTH_BEFORE, _SMOOTH_AFTER, _LOOK, _END, _SPACING = 0.5, 0.2, 1.0, 0.5, 0.2
# A cross-section wider or narrower than the stroke by more than this share is a fork, a crossing or a cap.
_WIDTH_TOLERANCE = 0.3
# Over a fork's gap of at most so many widths a centerline goes straight on; so far beside the gap no edge is
# believed.
_STRAIGHT, _BESIDE = 3.0, 0.4


@dataclass(frozen=True)
class _CrossSections:
    """What lies to the left and right of a path's points: (N,) px to the edges, and whether they are seen."""

    across: np.ndarray
    left: np.ndarray
    right: np.ndarray
    left_seen: np.ndarray
    right_seen: np.ndarray

    @classmethod
    def of(cls, plane: StrokePlane, points: np.ndarray, width_px: float, closed: bool) -> _CrossSections:
        across = normals(points, closed)
        # Both ways at once: the calls cost as much as the sampling.
        distance, seen = find_edges(
            plane, np.concatenate([points, points]), np.concatenate([across, -across]), _LOOK * width_px
        )
        count = len(points)
        return cls(across, distance[:count], distance[count:], seen[:count], seen[count:])

    def width(self, otherwise_px: float) -> float:
        """Median width in px; where nowhere both edges are seen, what is given."""
        widths = (self.left + self.right)[self.left_seen & self.right_seen]
        return max(1.0, float(np.median(widths))) if len(widths) else otherwise_px

    def centered(self, plane: StrokePlane, points: np.ndarray, width_px: float) -> np.ndarray:
        """(N, 2) px: the path's points moved to the middle between the stroke's edges.

        Where only one edge is seen (the other lies under another class, or outside the frame), the middle is
        half a stroke width from it; where neither is, or the stroke is not as wide as elsewhere (a fork, a
        crossing), neighboring points decide.
        """
        left, right, half = self.left, self.right, width_px / 2
        endless = np.isnan(left) | np.isnan(right)
        if endless.any():
            # On another class's stroke there is no edge to find either.
            endless &= ~plane.unknown_at(points)
        with np.errstate(invalid="ignore"):
            as_wide = np.abs(left + right - width_px) < _WIDTH_TOLERANCE * width_px
            both = self.left_seen & self.right_seen
            shift = np.where(both & as_wide, (left - right) / 2, np.nan)
            one = self.left_seen ^ self.right_seen
            from_edge = np.where(self.left_seen, left - half, half - right)
            # One edge alone says little if it is much further away than half a stroke.
            shift = np.where(one & (np.abs(from_edge) <= half), from_edge, shift)
        forked = both & ~as_wide | endless
        known = np.flatnonzero(np.isfinite(shift) & ~_and_beside(forked))
        if len(known) == 0:
            known = np.flatnonzero(np.isfinite(shift))
        if len(known) == 0:
            return points
        if len(known) < len(points):
            shift = np.interp(np.arange(len(points)), known, shift[known])
        moved = points + shift[:, None] * self.across
        # Across a short gap (a fork, a crossing) a straight line: there a skeleton leans to the other stroke.
        gaps = np.flatnonzero((np.diff(known) > 1) & (np.diff(known) <= 1 + _STRAIGHT / _SPACING))
        for start, end in zip(known[gaps].tolist(), known[gaps + 1].tolist(), strict=True):
            if forked[start:end].any():
                part = np.arange(end - start)[:, None] / (end - start)
                moved[start:end] = moved[start] + part * (moved[end] - moved[start])
        return moved


def _and_beside(forked: np.ndarray) -> np.ndarray:
    """Points at a fork and those beside it, where an edge already recedes."""
    if not forked.any():
        return forked
    beside = round(_BESIDE / _SPACING)
    return np.convolve(forked, np.ones(2 * beside + 1))[beside:-beside] > 0


def _extended_ends(
    plane: StrokePlane, points: np.ndarray, sides: list[int], width_px: float
) -> list[tuple[np.ndarray, bool]]:
    """Where the stroke ends beyond the first (side 0) and last (side 1) point of an open path.

    A stroke is drawn with round caps, half a width beyond its last point: so it ends half a width before its
    edge. At the frame's border the cap tells by how wide it is there how far away its middle is; a stroke as
    wide as elsewhere goes on beyond the border, and ends there.

    Returns:
        For each side the (2,) px of the end, and whether another class hides what follows.
    """
    back = min(len(points) - 1, round(1.0 / _SPACING))
    lasts = np.array([points[0] if side == 0 else points[-1] for side in sides])
    steps = lasts - np.array([points[back] if side == 0 else points[-1 - back] for side in sides])
    directions = steps / np.maximum(np.hypot(*steps.T), 1e-9)[:, None]
    distances, seen = find_edges(plane, lasts, directions, 3 * width_px)
    return [
        _extended_end(plane, *end, width_px) for end in zip(lasts, directions, distances, seen, strict=True)
    ]


def _extended_end(
    plane: StrokePlane,
    last: np.ndarray,
    direction: np.ndarray,
    distance: float,
    seen: bool,
    width_px: float,
) -> tuple[np.ndarray, bool]:
    if not np.isfinite(distance):
        # Beyond the edge already: another class cuts the stroke at a slant; it is centered up to that tip.
        return last, bool(plane.hidden_at(last[None])[0])
    half = width_px / 2
    if seen:
        return last + max(0.0, distance - half) * direction, False
    edge = last + distance * direction
    height, width = plane.mask.shape
    beyond = edge + direction
    if -0.5 <= beyond[0] <= width - 0.5 and -0.5 <= beyond[1] <= height - 0.5:
        return edge, True
    across = np.array([[-direction[1], direction[0]], [direction[1], -direction[0]]])
    just_inside = np.repeat((edge - direction)[None], 2, axis=0)
    # Half the chord that the border cuts off the cap; nan where an edge is out of sight.
    half_chord = float(find_edges(plane, just_inside, across, width_px)[0].sum()) / 2
    to_middle = np.sqrt(half**2 - half_chord**2) if half_chord < half else 0.0
    return last + max(0.0, distance - to_middle) * direction, False


@dataclass(frozen=True)
class Centerline:
    """The center of one stroke.

    Attributes:
        points: (N, 2) px, a fifth of a width apart.
        width_px: The stroke's median width.
        hidden: Whether another class hides what follows the start and the end.
    """

    points: np.ndarray
    width_px: float
    hidden: tuple[bool, bool]


def trace_centerline(
    plane: StrokePlane, path: np.ndarray, guess_px: float, free_ends: tuple[bool, bool], closed: bool
) -> Centerline:
    """The center of the stroke that a skeleton's path runs through.

    Args:
        plane: The class.
        path: (N, 2) px.
        guess_px: About how wide the stroke is.
        free_ends: Whether the path's start and end are where the stroke ends, and not at a fork.
        closed: Whether the path is a ring.
    """
    spacing_px = max(1.0, _SPACING * guess_px)
    per_width = guess_px / spacing_px
    points = resample(path, spacing_px)
    trims = [round(_END * per_width) if free and not closed else 0 for free in free_ends]
    # Of a short path as much as possible, but never all.
    longest_trim = (len(points) - 2) // 2
    points = points[min(trims[0], longest_trim) : len(points) - min(trims[1], longest_trim)]
    points = smooth(points, _SMOOTH_BEFORE * per_width, closed)
    sections = _CrossSections.of(plane, points, guess_px, closed)
    width_px = sections.width(otherwise_px=guess_px)
    points = smooth(sections.centered(plane, points, width_px), _SMOOTH_AFTER * per_width, closed)
    hidden = [False, False]
    sides = [side for side in (0, 1) if free_ends[side] and not closed]
    if sides:
        for side, (end, goes_on) in zip(sides, _extended_ends(plane, points, sides, width_px), strict=True):
            hidden[side] = goes_on
            points = np.concatenate([end[None], points] if side == 0 else [points, end[None]])
    if not closed:
        points = resample(points, max(1.0, _SPACING * width_px))
    return Centerline(points, width_px, (hidden[0], hidden[1]))
