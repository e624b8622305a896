"""Surface distances per landmark in 2-D: symmetric ASSD and HD95, in px of the scored size.

The surface of a mask is the set of its pixels that have a 4-neighbor outside the mask or lie on the
frame's edge, and distances run between pixel centers. The published 'ASSD's of this field are
other things (the class axis taken as a third spatial axis, one direction only, the background's
distance): never compare across papers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
from scipy.spatial import cKDTree

from ..model.landmarks_liver_landmark import DEFAULT_LANDMARKS
from .metrics import MaskPair, MetricSummary, mean_or_none

_CROSS = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))


def surface_points(mask: np.ndarray) -> np.ndarray:
    """Surface of a mask, in px.

    Args:
        mask: (H, W) bool or uint8; everything but 0 is inside.

    Returns:
        (N, 2) int32 pixel centers (x, y); N = 0 for an empty mask.
    """
    inside = (mask != 0).view(np.uint8)
    eroded = cv2.erode(inside, _CROSS, borderType=cv2.BORDER_CONSTANT, borderValue=0)
    points = cv2.findNonZero(inside - eroded)
    return np.empty((0, 2), np.int32) if points is None else points.reshape(-1, 2)


def surface_distances(truth: np.ndarray, prediction: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distance of every surface pixel to the other mask's nearest surface pixel, in px.

    Exact Euclidean distances: a k-d tree over the surfaces, whose few thousand pixels make it several
    times faster than a distance transform of the frame.

    Args:
        truth: (H, W) mask.
        prediction: (H, W) mask of the same size.

    Returns:
        (distances truth -> prediction, distances prediction -> truth), float64, one for each surface pixel.

    Raises:
        ValueError: a mask is empty, so that no distance exists.
    """
    truth_points, predicted_points = surface_points(truth), surface_points(prediction)
    if not len(truth_points) or not len(predicted_points):
        raise ValueError("surface distances need two masks that are not empty")
    to_prediction, _ = cKDTree(predicted_points).query(truth_points)
    to_truth, _ = cKDTree(truth_points).query(predicted_points)
    return to_prediction, to_truth


def assd_px(distances: tuple[np.ndarray, np.ndarray]) -> float:
    """Average symmetric surface distance: the mean over the pixels of both surfaces together."""
    return float(np.concatenate(distances).mean())


def hd95_px(distances: tuple[np.ndarray, np.ndarray]) -> float:
    """95 % Hausdorff distance: the larger of both directions' 95th percentiles (linear interpolation)."""
    return float(max(np.percentile(direction, 95) for direction in distances))


def diagonal_px(shape: tuple[int, int]) -> float:
    """Length of the frame's diagonal: what a landmark scores that only one side has."""
    return float(np.hypot(*shape))


class DistanceMetric:
    """ASSD and HD95 of each landmark, with the rule for empty masks spelled out in the result."""

    definitions: Mapping[str, str] = {
        "surface": (
            "pixels of a landmark's mask with a 4-neighbor outside it or on the frame's edge; "
            "distances between pixel centers in px of the scored size; ignored pixels belong to no mask"
        ),
        "per_class.assd_px": (
            "symmetric 2-D ASSD of the landmark: mean distance of the pixels of both surfaces together to "
            "the nearest pixel of the other surface, then the mean over frames; a frame where only one side "
            "has the landmark counts as the scored frame's diagonal, a frame where neither has it is left out"
        ),
        "per_class.hd95_px": (
            "symmetric 2-D HD95: the larger of the two directions' 95th percentiles, then the mean over "
            "frames by the rule of `per_class.assd_px`"
        ),
        "per_class.assd_px_both": "`per_class.assd_px` over the frames where both sides have the landmark",
        "per_class.hd95_px_both": "`per_class.hd95_px` over the frames where both sides have the landmark",
        "per_class.frames_one_empty": "frames that counted as the diagonal",
        "per_class.frames_both_empty": "frames that were left out",
        "assd_px": "ASSD, mean over all pairs of a frame and a landmark by the rule of `per_class.assd_px`",
        "hd95_px": "HD95, mean over all pairs of a frame and a landmark by the rule of `per_class.assd_px`",
    }

    def __init__(self, names: Sequence[str] = DEFAULT_LANDMARKS.names) -> None:
        self.names = tuple(names)

    def score(self, pair: MaskPair) -> dict[str, float | None]:
        """Columns `assd_px_<class>` and `hd95_px_<class>` of one frame, None where both masks are empty."""
        columns: dict[str, float | None] = {}
        for landmark in pair.landmarks.landmarks:
            shown = pair.confusion[landmark.id].any()
            found = pair.confusion[:, landmark.id].any()
            assd: float | None = None
            hd95: float | None = None
            if shown and found:
                distances = surface_distances(*pair.class_masks(landmark.id))
                assd, hd95 = assd_px(distances), hd95_px(distances)
            elif shown or found:
                assd = hd95 = diagonal_px(pair.truth.shape)
            columns[f"assd_px_{landmark.name}"] = assd
            columns[f"hd95_px_{landmark.name}"] = hd95
        return columns

    def summarize(self, frames: Sequence[Mapping[str, Any]]) -> MetricSummary:
        """Means over frames, as the definitions say."""
        per_class: dict[str, dict[str, float | int | None]] = {}
        for name in self.names:
            sides = [
                (frame[f"truth_px_{name}"] > 0) + (frame[f"predicted_px_{name}"] > 0) for frame in frames
            ]
            both = [frame for frame, count in zip(frames, sides, strict=True) if count == 2]
            per_class[name] = {
                "assd_px": mean_or_none(frame[f"assd_px_{name}"] for frame in frames),
                "hd95_px": mean_or_none(frame[f"hd95_px_{name}"] for frame in frames),
                "assd_px_both": mean_or_none(frame[f"assd_px_{name}"] for frame in both),
                "hd95_px_both": mean_or_none(frame[f"hd95_px_{name}"] for frame in both),
                "frames_one_empty": sides.count(1),
                "frames_both_empty": sides.count(0),
            }
        pooled = {
            key: mean_or_none(frame[f"{key}_{name}"] for frame in frames for name in self.names)
            for key in ("assd_px", "hd95_px")
        }
        return MetricSummary(pooled, per_class)
