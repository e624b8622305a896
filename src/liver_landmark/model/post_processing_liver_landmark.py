"""Class maps, scores and probabilities at a frame's own size, from logits at the model's resolution.

Bilinear interpolation takes a convex combination of the logits at a cell's corners. So a class that is the
largest at all four is so in the whole cell, and one that is the largest at both ends of a column of pixels
is so along it. Only columns whose ends disagree are computed.

Upsampling every plane to a 1080p frame and taking the largest costs over 100 ms on one core, and nearly all
of it goes into background. On the CPU, few pixels are interpolated instead (`FrameColumns`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from .landmarks_liver_landmark import LandmarkTable

INTERPOLATIONS = ("bilinear", "nearest")
# Below this magnification few cells hold more than a pixel or two, and whole planes cost less.
_LEAST_MAGNIFICATION = 2


def class_map(
    logits: torch.Tensor, size: tuple[int, int], interpolation: str = "bilinear", name: str = "logits"
) -> torch.Tensor:
    """The class of every pixel: the largest of the upsampled logits.

    Equal to `F.interpolate(logits, size).argmax()`, but where the two largest are within float rounding of
    each other.

    Args:
        logits: (C, h, w) of any float type, C at most 256.
        size: (H, W) of the frame, px.
        interpolation: "bilinear" (half-pixel centers, align_corners=False) or "nearest".
        name: What errors call the logits.

    Returns:
        (H, W) uint8 class ids on the logits' device.

    Raises:
        ValueError: logits that are not (C, h, w) or not finite, or another interpolation.
    """
    logits, size = _checked(logits, interpolation, name), tuple(size)
    if size == tuple(logits.shape[-2:]):
        return logits.argmax(dim=0).to(torch.uint8)
    if interpolation == "nearest":
        winners = logits.argmax(dim=0).to(torch.uint8)
        return F.interpolate(winners[None, None], size=size, mode="nearest-exact")[0, 0]
    if not _few_pixels_matter(logits, size):
        return upsample(logits, size).argmax(dim=0).to(torch.uint8)
    return torch.from_numpy(class_map_by_columns(FrameColumns.of(logits, size)))


def landmark_scores(
    logits: torch.Tensor,
    segmentation: torch.Tensor,
    landmarks: LandmarkTable,
    names: Sequence[str] | None = None,
    interpolation: str = "bilinear",
    name: str = "logits",
) -> dict[str, float]:
    """How sure the model is of what it drew: a class's mean probability over the pixels that it was given.

    Args:
        logits: (C, h, w) of any float type.
        segmentation: (H, W) class ids, as `class_map` gives them, on the logits' device.
        landmarks: The C classes of the model.
        names: The classes that are wanted; None: all landmarks. The background costs the interpolation of
            the whole frame.
        interpolation: What the segmentation was made with.
        name: What errors call the logits.

    Returns:
        Name -> mean softmax probability, 0.0 for a class that was given no pixel.

    Raises:
        ValueError: logits that are not (C, h, w) or not finite, an unknown class, or another interpolation.
    """
    logits = _checked(logits, interpolation, name)
    if len(logits) != landmarks.num_classes:
        raise ValueError(f"scores: {len(logits)} channels of {name} for {landmarks.num_classes} classes")
    names = landmarks.names if names is None else names
    label2id = landmarks.label2id
    unknown = [class_name for class_name in names if class_name not in label2id]
    if unknown:
        raise ValueError(f"scores: unknown class {unknown[0]!r}: choose from {', '.join(label2id)}")
    size, class_ids = tuple(segmentation.shape), [label2id[class_name] for class_name in names]
    if interpolation == "bilinear" and _few_pixels_matter(logits, size):
        columns = FrameColumns.of(logits, size)
        means = mean_probabilities_by_columns(columns, segmentation.numpy(), class_ids)
    else:
        probabilities = upsampled_probabilities(logits, size, interpolation)
        means = []
        for class_id in class_ids:
            given = segmentation == class_id
            total = (probabilities[class_id] * given).sum(dtype=torch.float64).item()
            means.append(total / max(int(given.sum()), 1))
    return dict(zip(names, means, strict=True))


def upsampled_probabilities(
    logits: torch.Tensor, size: tuple[int, int], interpolation: str = "bilinear", name: str = "logits"
) -> torch.Tensor:
    """(C, h, w) logits -> (C, H, W) float32: the softmax of the upsampled logits.

    Raises:
        ValueError: logits that are not (C, h, w) or not finite, or another interpolation.
    """
    upsampled = upsample(_checked(logits, interpolation, name), tuple(size), interpolation)
    # softmax(dim=0) gives the same, and is slower on planes.
    probabilities = upsampled.sub(upsampled.amax(dim=0)).exp_()
    return probabilities.div_(probabilities.sum(dim=0))


def upsample(logits: torch.Tensor, size: tuple[int, int], interpolation: str = "bilinear") -> torch.Tensor:
    """(C, h, w) -> (C, H, W), with half-pixel centers; without antialiasing where it shrinks."""
    if size == tuple(logits.shape[-2:]):
        return logits
    if interpolation == "nearest":
        return F.interpolate(logits[None], size=size, mode="nearest-exact")[0]
    return F.interpolate(logits[None], size=size, mode="bilinear", align_corners=False)[0]


def _checked(logits: torch.Tensor, interpolation: str, name: str) -> torch.Tensor:
    """The logits in float32, without their graph."""
    if interpolation not in INTERPOLATIONS:
        raise ValueError(f"interpolation={interpolation!r}: choose 'bilinear' or 'nearest'")
    if logits.ndim != 3 or not 1 <= len(logits) <= 256:
        raise ValueError(f"{name}: expected (C, h, w) with at most 256 classes, got {tuple(logits.shape)}")
    logits = logits.detach().float()
    if not torch.isfinite(logits).all():
        raise ValueError(f"{name}: not all values are finite")
    return logits


def _few_pixels_matter(logits: torch.Tensor, size: tuple[int, int]) -> bool:
    height, width = logits.shape[-2:]
    return (
        logits.device.type == "cpu"
        and size[0] >= _LEAST_MAGNIFICATION * height
        and size[1] >= _LEAST_MAGNIFICATION * width
    )


# A magnified frame as columns of pixels: which class each pixel has, by interpolating few of them.

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
        """Of (C, h, w) float32 logits on the CPU and a frame of (H, W) px."""
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


__all__ = [
    "INTERPOLATIONS",
    "FrameColumns",
    "class_map",
    "class_map_by_columns",
    "landmark_scores",
    "mean_probabilities_by_columns",
    "upsample",
    "upsampled_probabilities",
]
