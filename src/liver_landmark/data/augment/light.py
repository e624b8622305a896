"""Light and camera: brightness, contrast, colour and gamma by one table; blur; noise."""

from __future__ import annotations

import cv2
import numpy as np

_BLUR_REFERENCE_HEIGHT_PX = 1080
# OpenCV's Gaussian below this is the identity on 8 bits.
_SMALLEST_SIGMA_PX = 0.2
_GRAIN_HEIGHT_PX = 540


def relight(image: np.ndarray, gain: np.ndarray, contrast: float, gamma: float) -> np.ndarray:
    """Changes brightness, colour, contrast and gamma of a (H, W, 3) uint8 image, in that order.

    All of it maps each channel's 256 values by itself, so one table of 256 x 3 is all the arithmetic:
    exact to rounding, and quicker than one pass over the pixels for each. kornia's contrast is about
    zero or the frame's mean and not about mid-grey.

    Args:
        image: (H, W, 3) uint8.
        gain: (3,) factors of the channels.
        contrast: Factor on the distance from mid-grey.
        gamma: Exponent on intensities of 0 to 1.
    """
    levels = np.arange(256)[:, None] / 255 * gain
    levels = np.clip(0.5 + (levels - 0.5) * contrast, 0, 1) ** gamma
    table = np.rint(levels * 255).astype(np.uint8)
    return cv2.LUT(image, table[:, None, :])


def blur(image: np.ndarray, sigma_px: float) -> np.ndarray:
    """Blurs a (H, W, 3) uint8 image by a Gaussian.

    OpenCV's, in 8 bits: kornia's takes twenty times as long on a 1080p frame.

    Args:
        image: (H, W, 3) uint8.
        sigma_px: Standard deviation in px of a frame 1080 px high.
    """
    sigma_px *= image.shape[0] / _BLUR_REFERENCE_HEIGHT_PX
    if sigma_px < _SMALLEST_SIGMA_PX:
        return image
    return cv2.GaussianBlur(image, (0, 0), sigma_px)


def add_noise(image: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Adds the same Gaussian noise to all channels of a (H, W, 3) uint8 image.

    Args:
        image: (H, W, 3) uint8.
        strength: Standard deviation as a share of full intensity.
        rng: Draws the noise.
    """
    height, width = image.shape[:2]
    # A grain of some px in large frames: what the model still sees after resizing, and less to draw.
    grain_px = max(1, round(height / _GRAIN_HEIGHT_PX))
    grains = rng.standard_normal((-(-height // grain_px), -(-width // grain_px)), dtype=np.float32)
    noise = np.rint(grains * np.float32(255 * strength)).astype(np.int16)
    if grain_px > 1:
        noise = noise.repeat(grain_px, axis=0)[:height].repeat(grain_px, axis=1)[:, :width]
    return cv2.add(image, cv2.merge([noise] * 3), dtype=cv2.CV_8U)
