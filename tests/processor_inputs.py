"""Pictures for the image processor, and its pixels on the way back."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import strategies as st

from liver_landmark.model.image_processing_liver_landmark import LiverLandmarkImageProcessor

IMAGENET_MEAN = np.array([0.485, 0.456, 0.406])
IMAGENET_STD = np.array([0.229, 0.224, 0.225])
sizes = st.integers(1, 70)
new_sizes = st.integers(2, 70)


def make_processor(height: int = 24, width: int = 32, **fields) -> LiverLandmarkImageProcessor:
    return LiverLandmarkImageProcessor(size={"height": height, "width": width}, **fields)


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def to_8_bit(pixel_values: torch.Tensor) -> np.ndarray:
    """(B, 3, H, W) normalized -> (B, H, W, 3) of 0..255."""
    array = pixel_values.double().numpy().transpose(0, 2, 3, 1)
    return (array * IMAGENET_STD + IMAGENET_MEAN) * 255
