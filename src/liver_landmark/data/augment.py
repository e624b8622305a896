"""Augmentation of a frame and its mask together: flips, rotations, and changes of light.

Flips and rotations are what arXiv 2511.03163 trains with; a mirrored liver is still labelled right,
because the three landmarks are named by what they are and not by the patient's left and right.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np

from ..model.landmarks_liver_landmark import BACKGROUND, IGNORE_INDEX

_OUTSIDE_ID = {"background": BACKGROUND.id, "ignore": IGNORE_INDEX}


@dataclass(frozen=True)
class AugmentationConfig:
    """How frames vary during training; the defaults leave them as they are.

    Attributes:
        horizontal_flip: Probability of a left-right flip, 0 to 1.
        vertical_flip: Probability of an upside-down flip, 0 to 1.
        rotation: Probability of a rotation, 0 to 1.
        rotation_degrees: A rotation's angle is drawn from ± this many degrees.
        outside: What the mask holds where a rotation brings in pixels from outside the frame; the
            image is black there. `background` teaches that black is no landmark, which also holds for
            an endoscope's round border; `ignore` leaves those pixels out of the loss.
        brightness: The image is multiplied by 1 ± this, below 1.
        contrast: Distances from mid-grey are multiplied by 1 ± this, below 1.
        color: Each channel is multiplied by its own 1 ± this (the light's colour), below 1.
        gamma: Intensities are raised to exp(± this).
    """

    horizontal_flip: float = 0.0
    vertical_flip: float = 0.0
    rotation: float = 0.0
    rotation_degrees: float = 0.0
    outside: Literal["background", "ignore"] = "background"
    brightness: float = 0.0
    contrast: float = 0.0
    color: float = 0.0
    gamma: float = 0.0

    def __post_init__(self) -> None:
        for field in ("horizontal_flip", "vertical_flip", "rotation"):
            if not 0 <= getattr(self, field) <= 1:
                raise ValueError(f"augmentation.{field} is a probability, 0 to 1, got {getattr(self, field)}")
        if not 0 <= self.rotation_degrees <= 180:
            raise ValueError(
                f"augmentation.rotation_degrees must be 0 to 180 degrees, got {self.rotation_degrees}"
            )
        if self.outside not in _OUTSIDE_ID:
            raise ValueError(f"augmentation.outside must be one of {', '.join(_OUTSIDE_ID)}")
        for field in ("brightness", "contrast", "color"):
            if not 0 <= getattr(self, field) < 1:
                raise ValueError(f"augmentation.{field} must be at least 0 and below 1")
        if not 0 <= self.gamma <= 2:
            raise ValueError(f"augmentation.gamma must be 0 to 2, got {self.gamma}")


class Augmentation:
    """Draws and applies one variation of a frame; the same one for the same (seed, epoch, index).

    That it depends on nothing else makes a resumed run equal the uninterrupted one, whatever process
    or worker prepares a frame.
    """

    def __init__(self, config: AugmentationConfig, seed: int) -> None:
        self.config = config
        self.seed = seed

    def __call__(
        self, image: np.ndarray, mask: np.ndarray, epoch: int, index: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Varies a frame.

        Args:
            image: (H, W, 3) uint8 RGB.
            mask: (H, W) uint8 class ids, 255 ignored.
            epoch: Pass over the data, from 0.
            index: Row of the dataset.

        Returns:
            Image and mask of the same shapes and types; ids stay ids.
        """
        if image.shape[:2] != mask.shape:
            raise ValueError(f"image {image.shape[:2]} and mask {mask.shape} differ in size")
        config = self.config
        rng = np.random.default_rng([self.seed, epoch, index])
        # All draws first and always: the rotation of a frame does not depend on whether flips are on.
        flip_x, flip_y, rotate = rng.random(3) < [
            config.horizontal_flip,
            config.vertical_flip,
            config.rotation,
        ]
        angle_degrees, brightness, contrast, gamma = rng.uniform(-1, 1, 4)
        color = rng.uniform(-1, 1, 3)

        if flip_x:
            image, mask = image[:, ::-1], mask[:, ::-1]
        if flip_y:
            image, mask = image[::-1], mask[::-1]
        image, mask = np.ascontiguousarray(image), np.ascontiguousarray(mask)
        if rotate:
            image, mask = rotate_frame(
                image, mask, angle_degrees * config.rotation_degrees, _OUTSIDE_ID[config.outside]
            )
        if max(config.brightness, config.contrast, config.color, config.gamma) > 0:
            image = relight(
                image,
                gain=(1 + brightness * config.brightness) * (1 + color * config.color),
                contrast=1 + contrast * config.contrast,
                gamma=math.exp(gamma * config.gamma),
            )
        return image, mask


def rotate_frame(
    image: np.ndarray, mask: np.ndarray, degrees: float, outside_id: int
) -> tuple[np.ndarray, np.ndarray]:
    """Rotates image (bilinear) and mask (nearest: ids stay ids) about the frame's centre.

    Args:
        image: (H, W, 3) uint8.
        mask: (H, W) uint8.
        degrees: Positive turns counter-clockwise, as seen.
        outside_id: The mask's id where pixels from outside the frame come in; the image is black there.
    """
    height, width = mask.shape
    # Integers name pixel centres, so the centre of the frame is at (size - 1) / 2.
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, scale=1.0)
    size = (width, height)
    rotated_image = cv2.warpAffine(image, matrix, size, flags=cv2.INTER_LINEAR, borderValue=(0, 0, 0))
    rotated_mask = cv2.warpAffine(mask, matrix, size, flags=cv2.INTER_NEAREST, borderValue=outside_id)
    return rotated_image, rotated_mask


def relight(image: np.ndarray, gain: np.ndarray, contrast: float, gamma: float) -> np.ndarray:
    """Changes brightness, colour, contrast and gamma of a (H, W, 3) uint8 image, in that order.

    All of it maps each channel's 256 values by itself, so one table of 256 x 3 is all the arithmetic.

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
