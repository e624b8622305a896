"""All polylines of a table at once, as arrays; and which of them cannot be."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..curves.exchange.annotation import OUTSIDE_TOLERANCE_PX
from ..model.landmarks_liver_landmark import LANDMARK_NAMES

_NO_CATEGORY = -1


@dataclass(frozen=True)
class FlatPolylines:
    """The polylines of many frames, one after the other.

    Attributes:
        row: (L,) the row that each polyline belongs to.
        place: (L,) its place among the polylines of that row, from 0.
        category: (L,) 0-based index of its class in the schema's ClassLabel; -1 where it has none.
        count: (L,) its number of points.
        points: (P, 2) float64 px, polyline after polyline; NaN where a coordinate is missing.
    """

    row: np.ndarray
    place: np.ndarray
    category: np.ndarray
    count: np.ndarray
    points: np.ndarray

    @property
    def polyline_of_point(self) -> np.ndarray:
        """(P,) the polyline that each point belongs to."""
        return np.repeat(np.arange(len(self.count)), self.count)

    def lengths_px(self) -> np.ndarray:
        """(L,) length of each polyline in px: the sum of its segments."""
        owner = self.polyline_of_point
        if len(owner) < 2:
            return np.zeros(len(self.count))
        # With one coordinate infinite it is infinite, as math.dist has it; linalg.norm may say NaN.
        segments_px = np.hypot(*np.diff(self.points, axis=0).T)
        # From one polyline's last point to the next one's first there is no segment.
        inside = owner[1:] == owner[:-1]
        return np.bincount(owner[1:][inside], segments_px[inside], minlength=len(self.count))


def flatten_polylines(column: pa.Array | pa.ChunkedArray) -> FlatPolylines:
    """The schema's column `landmarks` as arrays; rows without polylines have none."""
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    row = pc.list_parent_indices(column).to_numpy().astype(np.int64)
    # Sorted by row: a polyline's place is its distance from the first of its row.
    place = np.arange(len(row)) - np.searchsorted(row, row)
    landmarks = column.flatten()
    fields = dict(zip((field.name for field in landmarks.type), landmarks.flatten(), strict=True))
    category = fields["category"].fill_null(_NO_CATEGORY).to_numpy(zero_copy_only=False)
    count = pc.list_value_length(fields["points"]).fill_null(0).to_numpy(zero_copy_only=False)
    pairs = fields["points"].flatten()
    # Flattening skips missing pairs: what is there goes to where it stood.
    points = np.full((len(pairs), 2), np.nan)
    points[pairs.is_valid().to_numpy(zero_copy_only=False)] = (
        pairs.flatten().to_numpy(zero_copy_only=False).reshape(-1, 2)
    )
    return FlatPolylines(row, place, category, count.astype(np.int64), points)


def impossible_polylines(
    polylines: FlatPolylines, width: np.ndarray, height: np.ndarray
) -> Iterator[tuple[int, str]]:
    """(row, reason) of each polyline that no frame can have, the first reason of each.

    Args:
        polylines: Those of a table.
        width: (rows,) width of each frame in px; NaN: not known, nothing lies outside.
        height: Likewise its height.
    """
    owner = polylines.polyline_of_point
    finite = np.isfinite(polylines.points).all(axis=1)
    limits = np.stack([width, height], axis=1).astype(np.float64)[polylines.row[owner]]
    with np.errstate(invalid="ignore"):
        excess = np.maximum(-polylines.points, polylines.points - (limits - 1))
        outside = (excess > OUTSIDE_TOLERANCE_PX).any(axis=1)

    def first_points(wrong: np.ndarray) -> dict[int, int]:
        """Polyline -> its first point of those."""
        places = np.flatnonzero(wrong)
        found, first = np.unique(owner[places], return_index=True)
        return dict(zip(found.tolist(), places[first].tolist(), strict=True))

    not_finite, beyond = first_points(~finite), first_points(outside)
    unknown = (polylines.category < 0) | (polylines.category >= len(LANDMARK_NAMES))
    suspects = {*np.flatnonzero(unknown | (polylines.count < 2)).tolist(), *not_finite, *beyond}
    for index in sorted(suspects):
        row, category = int(polylines.row[index]), int(polylines.category[index])
        name = f"class {category}" if unknown[index] else LANDMARK_NAMES[category]
        if unknown[index]:
            reason = "it is of no known class"
        elif polylines.count[index] < 2:
            reason = f"it has {polylines.count[index]} points, at least 2 are needed"
        elif index in not_finite:
            reason = "a coordinate of it is not finite"
        else:
            x, y = polylines.points[beyond[index]]
            reason = (
                f"its point ({x:g}, {y:g}) lies outside of the frame of {width[row]:g}x{height[row]:g} px"
            )
        yield row, f"polyline {polylines.place[index] + 1} ({name}): {reason}"
