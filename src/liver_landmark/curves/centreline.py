"""The centre of a stroke, to a fraction of a px: from a skeleton's path, by looking across the stroke."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter1d, map_coordinates

# In stroke widths: how much of a path is smoothed away before and after looking across, how far to look,
# how much of a skeleton's end is not believed, and how near two samples are.
_SMOOTH_BEFORE, _SMOOTH_AFTER, _LOOK, _END, _SPACING = 0.5, 0.2, 1.2, 0.5, 0.1
# A cross-section wider or narrower than the stroke by more than this share is a fork, a crossing or a cap.
_WIDTH_TOLERANCE = 0.3
_STEP_PX = 0.5


@dataclass(frozen=True)
class StrokePlane:
    """One class of a mask, as seen from its strokes.

    Attributes:
        inside: (H, W) uint8, 1 on the class.
        hidden: (H, W) uint8, 1 where another class lies over it, so that it may go on below.
    """

    inside: np.ndarray
    hidden: np.ndarray

    def sample_inside(self, points: np.ndarray) -> np.ndarray:
        """How much of the class is at (..., 2) px points, 0 to 1, between pixels by interpolation."""
        return sample_linear(self.inside, points)

    def sample_hidden(self, points: np.ndarray, beyond_frame: bool = False) -> np.ndarray:
        """Whether another class lies over (..., 2) px points; outside the frame, `beyond_frame`."""
        at = _rows_and_columns(points)
        return map_coordinates(self.hidden, at, order=0, mode="grid-constant", cval=int(beyond_frame)) > 0

    def sample_unknown(self, points: np.ndarray) -> np.ndarray:
        """Whether the truth is unknown at (..., 2) px points: under another class, or outside the frame."""
        return self.sample_hidden(points, beyond_frame=True)

    def sample_background(self, points: np.ndarray) -> np.ndarray:
        """Whether the pixels that (..., 2) px points fall in are of no class; outside the frame none is."""
        at = _rows_and_columns(points)
        inside = map_coordinates(self.inside, at, order=0, mode="grid-constant", cval=0) > 0
        return ~(inside | self.sample_unknown(points))


def sample_linear(picture: np.ndarray, points: np.ndarray) -> np.ndarray:
    """(…) float32 values of a (H, W) picture at (…, 2) px points, interpolated, 0 outside of it."""
    at = _rows_and_columns(points)
    return map_coordinates(picture, at, output=np.float32, order=1, mode="grid-constant", cval=0)


def _rows_and_columns(points: np.ndarray) -> np.ndarray:
    return np.stack([points[..., 1], points[..., 0]])


def arc_lengths(points: np.ndarray) -> np.ndarray:
    """(N,) length of a polyline (N, 2) from its start to each point."""
    return np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(points, axis=0).T))])


def resample(points: np.ndarray, spacing_px: float) -> np.ndarray:
    """A polyline's points anew, evenly spaced by about `spacing_px`, the ends kept."""
    along = arc_lengths(points)
    count = max(2, round(along[-1] / spacing_px) + 1)
    at = np.linspace(0.0, along[-1], count)
    return np.stack([np.interp(at, along, points[:, axis]) for axis in (0, 1)], axis=1)


def smooth(points: np.ndarray, sigma: float, closed: bool) -> np.ndarray:
    """Gaussian smoothing by `sigma` samples; an open curve keeps its ends."""
    if closed:
        ring = gaussian_filter1d(points[:-1], sigma, axis=0, mode="wrap")
        return np.vstack([ring, ring[:1]])
    # Mirrored through the end points themselves, so that they stay where they are.
    reach = min(len(points) - 1, int(4 * sigma) + 1)
    before = 2 * points[0] - points[reach:0:-1]
    after = 2 * points[-1] - points[-2 : -reach - 2 : -1]
    return gaussian_filter1d(np.vstack([before, points, after]), sigma, axis=0)[reach : reach + len(points)]


def normals(points: np.ndarray, closed: bool = False) -> np.ndarray:
    """(N, 2) unit normals of a polyline."""
    if closed:
        tangents = np.roll(points[:-1], -1, axis=0) - np.roll(points[:-1], 1, axis=0)
        tangents = np.vstack([tangents, tangents[:1]])
    else:
        tangents = np.gradient(points, axis=0)
    tangents /= np.maximum(np.hypot(*tangents.T), 1e-9)[:, None]
    return np.stack([-tangents[:, 1], tangents[:, 0]], axis=1)


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
    offsets = np.arange(0.0, reach_px + _STEP_PX, _STEP_PX)
    rays = points[:, None] + offsets[None, :, None] * directions[:, None]
    level = plane.sample_inside(rays)
    outside = level < 0.5
    first = outside.argmax(axis=1)
    rows = np.arange(len(points))
    found = outside.any(axis=1) & (first > 0)
    before = np.maximum(first - 1, 0)
    high, low = level[rows, before], level[rows, first]
    part = (high - 0.5) / np.maximum(high - low, 1e-6)
    distance = np.where(found, (before + np.clip(part, 0.0, 1.0)) * _STEP_PX, np.nan)
    # Just beyond the edge: a px further on, where no interpolation reaches.
    beyond = points + (np.nan_to_num(distance) + 1.0)[:, None] * directions
    return distance, found & ~plane.sample_unknown(beyond)


def stroke_width(plane: StrokePlane, points: np.ndarray, guess_px: float, closed: bool) -> float:
    """Median width in px across a path; `guess_px` where nowhere both edges are seen."""
    across = normals(points, closed)
    left, left_seen = find_edges(plane, points, across, _LOOK * guess_px)
    right, right_seen = find_edges(plane, points, -across, _LOOK * guess_px)
    widths = (left + right)[left_seen & right_seen]
    return max(1.0, float(np.median(widths))) if len(widths) else guess_px


def centre(plane: StrokePlane, points: np.ndarray, width_px: float, closed: bool) -> np.ndarray:
    """Moves a path's points to the middle between the stroke's edges.

    Where only one edge is seen (the other lies under another class, or outside the frame), the middle is half
    a stroke width from it; where neither is, or the stroke is not as wide as elsewhere (a fork, a crossing),
    neighbouring points decide.
    """
    across = normals(points, closed)
    left, left_seen = find_edges(plane, points, across, _LOOK * width_px)
    right, right_seen = find_edges(plane, points, -across, _LOOK * width_px)
    with np.errstate(invalid="ignore"):
        as_wide = np.abs(left + right - width_px) < _WIDTH_TOLERANCE * width_px
    shift = np.full(len(points), np.nan)
    both = left_seen & right_seen & as_wide
    shift[both] = (left - right)[both] / 2
    half = width_px / 2
    only_left, only_right = left_seen & ~right_seen, right_seen & ~left_seen
    shift[only_left] = left[only_left] - half
    shift[only_right] = half - right[only_right]
    # One edge alone says little if it is much further away than half a stroke.
    shift[(only_left | only_right) & (np.abs(shift) > half)] = np.nan
    known = np.isfinite(shift)
    if not known.any():
        return points
    index = np.arange(len(points))
    return points + np.interp(index, index[known], shift[known])[:, None] * across


def extended_end(plane: StrokePlane, points: np.ndarray, width_px: float) -> tuple[np.ndarray, bool]:
    """Where the stroke ends beyond the last point of an open path.

    A stroke is drawn with round caps, half a width beyond its last point: so it ends half a width before its
    edge. At the frame's border the cap tells by how wide it is there how far away its middle is; a stroke as
    wide as elsewhere goes on beyond the border, and ends there.

    Returns:
        (2,) px of the end, and whether another class hides what follows.
    """
    back = max(0, len(points) - 1 - round(1.0 / _SPACING))
    step = points[-1] - points[back]
    direction = step / max(np.hypot(*step), 1e-9)
    [distance], [seen] = find_edges(plane, points[-1:], direction[None], 3 * width_px)
    if not np.isfinite(distance):
        # Already beyond the edge: a stroke that another class cuts at a slant is centred up to the cut's tip.
        return points[-1], bool(plane.sample_hidden(points[-1:])[0])
    half = width_px / 2
    if seen:
        return points[-1] + max(0.0, distance - half) * direction, False
    edge = points[-1] + distance * direction
    height, width = plane.inside.shape
    beyond = edge + direction
    if -0.5 <= beyond[0] <= width - 0.5 and -0.5 <= beyond[1] <= height - 0.5:
        return edge, True
    across = np.array([[-direction[1], direction[0]]])
    just_inside = (edge - direction)[None]
    sides = [find_edges(plane, just_inside, sign * across, width_px)[0][0] for sign in (1, -1)]
    # Half the chord that the border cuts off the cap; nan where an edge is out of sight.
    half_chord = sum(sides) / 2
    to_middle = np.sqrt(half**2 - half_chord**2) if half_chord < half else 0.0
    return points[-1] + max(0.0, distance - to_middle) * direction, False


def trace_centreline(
    plane: StrokePlane, path: np.ndarray, width_px: float, free_ends: tuple[bool, bool], closed: bool
) -> tuple[np.ndarray, tuple[bool, bool]]:
    """The centre of the stroke that a skeleton's path runs through.

    Args:
        plane: The class.
        path: (N, 2) px.
        width_px: The stroke's width.
        free_ends: Whether the path's start and end are where the stroke ends, and not at a fork.
        closed: Whether the path is a ring.

    Returns:
        (M, 2) px points a tenth of a width apart, and whether another class hides what follows the start and
        the end.
    """
    spacing_px = max(1.0, _SPACING * width_px)
    per_width = width_px / spacing_px
    points = resample(path, spacing_px)
    trims = [round(_END * per_width) if free and not closed else 0 for free in free_ends]
    # Of a short path as much as possible, but never all.
    longest_trim = (len(points) - 2) // 2
    points = points[min(trims[0], longest_trim) : len(points) - min(trims[1], longest_trim)]
    points = smooth(points, _SMOOTH_BEFORE * per_width, closed)
    for _ in range(2):
        points = smooth(centre(plane, points, width_px, closed), _SMOOTH_AFTER * per_width, closed)
    hidden = [False, False]
    if not closed:
        for side in (0, 1):
            if free_ends[side]:
                ordered = points[::-1] if side == 0 else points
                end, hidden[side] = extended_end(plane, ordered, width_px)
                points = np.vstack([end, points]) if side == 0 else np.vstack([points, end])
        points = resample(points, spacing_px)
    return points, (hidden[0], hidden[1])
