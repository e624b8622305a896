"""How much masks flicker from frame to frame, and how right they are."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from liver_landmark.curves import get_protocol, rasterize_landmarks
from liver_landmark.evaluation.metrics import class_overlap, pooled_overlap
from liver_landmark.model.landmarks_liver_landmark import DEFAULT_LANDMARKS


def true_masks(landmarks: list[list[dict]], width: int, height: int) -> list[np.ndarray]:
    """(H, W) uint8 class ids of each frame, as the synthetic benchmark draws them."""
    protocol = get_protocol("synthetic")
    return [
        rasterize_landmarks(
            [mark | {"points": np.asarray(mark["points"])} for mark in marks], width, height, protocol
        )
        for marks in landmarks
    ]


def steadiness(masks: Iterable[np.ndarray]) -> dict[str, float]:
    """Mean over consecutive frames of each landmark's IoU with itself, and of how often it comes or goes.

    A landmark that neither of two frames shows has no IoU; one that one of them shows has 0.
    """
    overlaps: dict[str, list[float]] = {name: [] for name in DEFAULT_LANDMARKS.names}
    changes = pairs = 0
    before: np.ndarray | None = None
    for mask in masks:
        if before is not None:
            for landmark in DEFAULT_LANDMARKS.landmarks:
                old, new = before == landmark.id, mask == landmark.id
                union = np.count_nonzero(old | new)
                changes += old.any() != new.any()
                pairs += 1
                if union:
                    overlaps[landmark.name].append(np.count_nonzero(old & new) / union)
        before = mask
    means = {name: float(np.mean(values)) for name, values in overlaps.items() if values}
    figures = {"iou_with_the_frame_before": float(np.mean(list(means.values())))} if means else {}
    return figures | {
        **{f"iou_with_the_frame_before_{name}": value for name, value in means.items()},
        "comes_or_goes_per_100_frames": 100 * changes / max(pairs / len(DEFAULT_LANDMARKS.landmarks), 1),
    }


def agreement(truth: list[np.ndarray], masks: list[np.ndarray]) -> dict[str, float]:
    """DSC pooled over the landmarks, the frames' mean, and of each landmark over the frames that show it."""
    pooled = [pooled_overlap(*pair)[0] for pair in zip(truth, masks, strict=True)]
    by_class: dict[str, list[float]] = {name: [] for name in DEFAULT_LANDMARKS.names}
    for pair in zip(truth, masks, strict=True):
        for name, overlap in class_overlap(*pair).items():
            if overlap is not None:
                by_class[name].append(overlap[0])
    return {"dsc": float(np.mean(pooled))} | {
        f"dsc_{name}": float(np.mean(values)) for name, values in by_class.items() if values
    }
