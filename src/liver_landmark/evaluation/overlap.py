"""Dice and IoU: pooled as the L3D papers compute them, per class, and their macro means."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..model.landmarks_liver_landmark import LANDMARK_NAMES, LANDMARKS
from .masks import MaskPair
from .metric import MetricSummary, mean_or_none

# The L3D papers' smoothing, in numerator and denominator alike: a frame that is empty on both sides scores 1.
SMOOTHING = 1e-5


def dice(intersection: float, size_a: float, size_b: float) -> float:
    """(2 I + 1e-5) / (A + B + 1e-5), from pixel counts."""
    return (2 * intersection + SMOOTHING) / (size_a + size_b + SMOOTHING)


def iou_from_dice(dice_value: float) -> float:
    """D / (2 - D): the papers' IoU follows from their Dice and carries its smoothing."""
    return dice_value / (2 - dice_value)


def pooled_overlap(truth: np.ndarray, prediction: np.ndarray) -> tuple[float, float]:
    """(DSC, IoU) of one frame as the L3D papers compute them.

    The three foreground planes are flattened *together*: I counts the pixels that have the same
    landmark on both sides, P and G the pixels of any landmark; DSC = (2 I + 1e-5) / (P + G + 1e-5)
    and IoU = DSC / (2 - DSC). The papers' number is the mean of this over the frames, at 1024².

    Args:
        truth: (H, W) uint8 class ids, 255 = ignored.
        prediction: (H, W) uint8 class ids.
    """
    return _pooled(MaskPair(truth, prediction).confusion)


def class_overlap(truth: np.ndarray, prediction: np.ndarray) -> dict[str, tuple[float, float] | None]:
    """(DSC, IoU) of each landmark in one frame, by name; None for a landmark that the truth lacks.

    A false positive on an absent landmark has no DSC: it shows in the pooled overlap and in `presence`.
    """
    return _by_class(MaskPair(truth, prediction).confusion)


def _pooled(confusion: np.ndarray) -> tuple[float, float]:
    intersection = np.trace(confusion[1:, 1:])
    value = float(dice(intersection, confusion[1:].sum(), confusion[:, 1:].sum()))
    return value, iou_from_dice(value)


def _by_class(confusion: np.ndarray) -> dict[str, tuple[float, float] | None]:
    overlaps: dict[str, tuple[float, float] | None] = {}
    for landmark in LANDMARKS:
        truth_px = confusion[landmark.id].sum()
        value = float(dice(confusion[landmark.id, landmark.id], truth_px, confusion[:, landmark.id].sum()))
        overlaps[landmark.name] = (value, iou_from_dice(value)) if truth_px > 0 else None
    return overlaps


class OverlapMetric:
    """Pooled, per-class and macro DSC and IoU."""

    definitions: Mapping[str, str] = {
        "dsc": (
            "L3D papers' pooled Dice: the three landmark planes of a frame flattened together, "
            "(2 I + 1e-5) / (P + G + 1e-5), then the mean over all frames"
        ),
        "iou": "L3D papers' pooled IoU: D / (2 - D) of a frame's pooled Dice, then the mean over all frames",
        "per_class.dsc": (
            "Dice of the landmark's own plane, mean over the frames whose truth shows it; null where none "
            "does; false positives in other frames count in `dsc` and in `presence_accuracy`"
        ),
        "per_class.iou": "D / (2 - D) of the landmark's Dice, mean over the frames whose truth shows it",
        "macro_dsc": "mean of `per_class.dsc` over the landmarks that any frame shows",
        "macro_iou": "mean of `per_class.iou` over the landmarks that any frame shows",
    }

    def score(self, pair: MaskPair) -> dict[str, float | None]:
        """Columns `dsc`, `iou`, `dsc_<class>`, `iou_<class>` of one frame."""
        dsc, iou = _pooled(pair.confusion)
        columns: dict[str, float | None] = {"dsc": dsc, "iou": iou}
        for name, overlap in _by_class(pair.confusion).items():
            columns[f"dsc_{name}"], columns[f"iou_{name}"] = overlap or (None, None)
        return columns

    def summarize(self, frames: Sequence[Mapping[str, Any]]) -> MetricSummary:
        """Means over frames, as the definitions say."""
        per_class = {
            name: {
                "dsc": mean_or_none(frame[f"dsc_{name}"] for frame in frames),
                "iou": mean_or_none(frame[f"iou_{name}"] for frame in frames),
            }
            for name in LANDMARK_NAMES
        }
        pooled = {
            "dsc": mean_or_none(frame["dsc"] for frame in frames),
            "iou": mean_or_none(frame["iou"] for frame in frames),
            "macro_dsc": mean_or_none(scores["dsc"] for scores in per_class.values()),
            "macro_iou": mean_or_none(scores["iou"] for scores in per_class.values()),
        }
        return MetricSummary(pooled, per_class)
