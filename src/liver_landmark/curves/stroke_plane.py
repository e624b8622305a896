"""One class of a mask, looked up between pixels: where its strokes' edges are, and what hides them."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

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
