"""A magnified frame as columns of pixels: which class each pixel has, by interpolating few of them.

Bilinear interpolation takes a convex combination of the logits at a cell's corners. So a class that is the
largest at all four is so in the whole cell, and one that is the largest at both ends of a column of pixels
is so along it. Only columns whose ends disagree are computed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

# Values of one class that are worked on at once: all classes of it stay in a core's second-level cache.
_CHUNK_VALUES = 2**15


@dataclass(frozen=True)
class _Axis:
    """Where the pixels of one axis lie among the `n` logits of it.

    Attributes:
        cells: (N,) for each pixel the logit before it; the one after it is the next, or the last again.
        weights: (N,) float32, of the logit after it.
        counts: (n,) how many pixels each cell has: none has 0, as the axis is magnified.
        pixels: (m, n) the cells' pixels, m being the largest count; a cell with fewer repeats its last one.
    """

    cells: np.ndarray
    weights: np.ndarray
    counts: np.ndarray
    pixels: np.ndarray

    @classmethod
    def of(cls, logits: int, pixels: int) -> _Axis:
        # In single precision, as torch's own kernel: the positions round alike.
        scale = np.float32(logits) / np.float32(pixels)
        positions = scale * (np.arange(pixels, dtype=np.float32) + np.float32(0.5)) - np.float32(0.5)
        positions = np.clip(positions, 0, logits - 1)
        cells = positions.astype(np.intp)
        starts = np.searchsorted(cells, np.arange(logits))
        counts = np.diff(starts, append=pixels)
        number = np.arange(counts.max())[:, None]
        return cls(
            cells, positions - cells.astype(np.float32), counts, starts + np.minimum(number, counts - 1)
        )


@dataclass(frozen=True)
class FrameColumns:
    """A frame as columns: one for each row of logits and pixel of the frame's width, down to the next row.

    Attributes:
        logits: (C, h, w) float32.
        rows: The frame's height.
        across: The frame's width.
    """

    logits: np.ndarray
    rows: _Axis
    across: _Axis

    @classmethod
    def of(cls, logits: torch.Tensor, size: tuple[int, int]) -> FrameColumns:
        height, width = logits.shape[-2:]
        return cls(logits.contiguous().numpy(), _Axis.of(height, size[0]), _Axis.of(width, size[1]))

    @property
    def shape(self) -> tuple[int, int]:
        """(h, W): the columns."""
        return self.logits.shape[1], len(self.across.cells)

    def ends(self, columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The logits at the upper and the lower end of columns (their flat indices, n): (C, n) each."""
        _, height, width = self.logits.shape
        row, x = np.divmod(columns, self.shape[1])
        left = self.across.cells[x]
        right = np.minimum(left + 1, width - 1)
        weight = self.across.weights[x]
        flat = self.logits.reshape(len(self.logits), -1)

        def at(first: np.ndarray) -> np.ndarray:
            before, after = flat.take(first + left, axis=1), flat.take(first + right, axis=1)
            after -= before
            after *= weight
            after += before
            return after

        return at(row * width), at(np.minimum(row + 1, height - 1) * width)

    def columns_with(self, segmentation: np.ndarray, class_ids: Sequence[int]) -> np.ndarray:
        """(h, W): columns that may hold a pixel of these classes; all that hold another than class 0 may."""
        if 0 in class_ids:
            return np.ones(self.shape, bool)
        # np.maximum.reduceat over the first axis takes ten times as long.
        found = np.zeros(self.shape, segmentation.dtype)
        for pixels in self.rows.pixels:
            found |= segmentation[pixels]
        return found != 0

    def interpolated(
        self, columns: np.ndarray, upper: np.ndarray, lower: np.ndarray
    ) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """The columns' pixels, some columns at a time.

        Yields:
            (C, r, n) logits, (r, n) flat indices into the frame, and (r, n) whether they are pixels of the
            column: one that is shorter than the longest of its part repeats its last pixel.
        """
        frame_width = self.shape[1]
        weights, offsets = self.rows.weights[self.rows.pixels], self.rows.pixels * frame_width
        number = np.arange(len(offsets))[:, None]
        step = max(_CHUNK_VALUES // len(offsets), 1)
        buffer = np.empty((len(upper), len(offsets), min(step, len(columns))), np.float32)
        for start in range(0, len(columns), step):
            part = slice(start, start + step)
            row, x = np.divmod(columns[part], frame_width)
            count = self.rows.counts[row]
            longest = count.max()  # the first row's cells are half as long again: they reach the border
            top = upper[:, None, part]
            logits = buffer[:, :longest, : len(row)]
            np.multiply(lower[:, None, part] - top, weights[:longest].take(row, axis=1), out=logits)
            logits += top
            yield logits, offsets[:longest].take(row, axis=1) + x, number[:longest] < count


def _winners(logits: np.ndarray) -> np.ndarray:
    """(C, …) -> (…) uint8: np.argmax, which is slow over a short first axis."""
    best, winners = logits[0].copy(), np.zeros(logits.shape[1:], np.uint8)
    for class_id in range(1, len(logits)):
        larger = logits[class_id] > best
        np.maximum(winners, larger.view(np.uint8) * np.uint8(class_id), out=winners)
        np.maximum(best, logits[class_id], out=best)
    return winners


def class_map_by_columns(frame: FrameColumns) -> np.ndarray:
    """(H, W) uint8."""
    corners = _winners(frame.logits)
    mixed = np.zeros(corners.shape, bool)
    mixed[:, :-1] = corners[:, :-1] != corners[:, 1:]
    mixed[:-1] |= mixed[1:] | (corners[:-1] != corners[1:])
    # The class of each column, if it has one: its cell's or, in mixed cells, that of both of its ends.
    classes = corners.take(frame.across.cells, axis=1)
    columns = np.flatnonzero(mixed.take(frame.across.cells, axis=1))
    upper, lower = frame.ends(columns)
    upper_class = _winners(upper)
    classes.ravel()[columns] = upper_class
    result = classes.take(frame.rows.cells, axis=0)
    split = np.flatnonzero(upper_class != _winners(lower))
    flat = result.ravel()
    for logits, pixels, _ in frame.interpolated(columns[split], upper[:, split], lower[:, split]):
        flat[pixels] = _winners(logits)
    return result


def mean_probabilities_by_columns(
    frame: FrameColumns, segmentation: np.ndarray, class_ids: Sequence[int]
) -> list[float]:
    """The mean probability of each class over its pixels of the (H, W) segmentation."""
    totals, counts = np.zeros(len(class_ids)), np.zeros(len(class_ids), np.intp)
    columns = np.flatnonzero(frame.columns_with(segmentation, class_ids))
    flat = np.ascontiguousarray(segmentation).ravel()
    for logits, pixels, real in frame.interpolated(columns, *frame.ends(columns)):
        logits -= logits.max(axis=0)
        exponentials = np.exp(logits, out=logits)
        certainty = 1 / exponentials.sum(axis=0)
        classes = flat.take(pixels)
        for index, class_id in enumerate(class_ids):
            chosen = (classes == class_id) & real
            totals[index] += np.vdot(exponentials[class_id] * certainty, chosen)
            counts[index] += np.count_nonzero(chosen)
    return (totals / np.maximum(counts, 1)).tolist()


__all__ = ["FrameColumns", "class_map_by_columns", "mean_probabilities_by_columns"]
