"""Frames that show their landmarks in their colors, and settings that vary all there is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from liver_landmark.curves import get_protocol, rasterize_landmarks
from liver_landmark.data.augmentation import Augmentation, AugmentationConfig, LabeledFrame
from liver_landmark.model.landmarks_liver_landmark import DEFAULT_LANDMARKS

HEIGHT, WIDTH = 108, 192
EVERYTHING = AugmentationConfig(
    horizontal_flip=0.5,
    vertical_flip=0.5,
    rotation=0.8,
    rotation_degrees=60,
    scale=0.8,
    scale_range=(0.5, 2.0),
    crop=0.8,
    crop_min_side=0.5,
    outside="ignore",
    brightness=0.3,
    contrast=0.3,
    color=0.2,
    gamma=0.3,
    blur_px=10,
    noise=0.05,
    smoke=0.7,
    blood=0.7,
)
GEOMETRY = replace(
    EVERYTHING, brightness=0, contrast=0, color=0, gamma=0, blur_px=0, noise=0, smoke=0, blood=0
)


def labeled(seed: int, protocol: str | None = "slippa") -> LabeledFrame:
    """A frame that shows each landmark of its mask in that landmark's color."""
    rng = np.random.default_rng(seed)
    landmarks = tuple(
        {"category": name, "points": rng.uniform((0, 0), (WIDTH - 1, HEIGHT - 1), (4, 2))}
        for name in ("ridge", "silhouette", "ligament")
    )
    mask = rasterize_landmarks(landmarks, WIDTH, HEIGHT, get_protocol("slippa"))
    return LabeledFrame(DEFAULT_LANDMARKS.palette[mask], mask, landmarks, protocol)


def varied(config: AugmentationConfig, frame: LabeledFrame, seed=0, epoch=0, index=0) -> LabeledFrame:
    return Augmentation(config, seed)(frame, epoch, index)


def same(one: LabeledFrame, other: LabeledFrame) -> bool:
    return (
        np.array_equal(one.image, other.image)
        and np.array_equal(one.mask, other.mask)
        and len(one.landmarks) == len(other.landmarks)
        and all(
            a["category"] == b["category"] and np.array_equal(a["points"], b["points"])
            for a, b in zip(one.landmarks, other.landmarks, strict=True)
        )
    )
