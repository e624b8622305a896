"""Draws and applies one variation of a frame."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ...curves import get_protocol, rasterize_landmarks
from ...model.landmarks_liver_landmark import BACKGROUND, IGNORE_INDEX
from .config import AugmentationConfig
from .geometry import Geometry, comes_from_frame, flip_picture, transform_landmarks, warp_image, warp_mask
from .light import add_noise, blur, relight
from .occlusion import draw_blood, draw_clouds, draw_smoke, lay_over, veil_size

_OUTSIDE_ID = {"background": BACKGROUND.id, "ignore": IGNORE_INDEX}


@dataclass(frozen=True)
class LabelledFrame:
    """A frame with its label and the curves that the label shows.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        mask: (H, W) uint8 class ids, 255 ignored.
        landmarks: The schema's `{"category": name or index, "points": [(x, y), …]}` in px of the
            frame, in the order annotated; empty where there are none.
        protocol: The rasterising protocol that drew `mask` from `landmarks`, by its name. None: another
            hand drew it, and it can only be warped.
    """

    image: np.ndarray
    mask: np.ndarray
    landmarks: Sequence[Mapping[str, Any]] = ()
    protocol: str | None = None


class Augmentation:
    """Draws and applies one variation of a frame; the same one for the same (seed, epoch, index).

    That it depends on nothing else makes a resumed run equal the uninterrupted one, whatever process
    or worker prepares a frame.
    """

    def __init__(self, config: AugmentationConfig, seed: int) -> None:
        self.config = config
        self.seed = seed

    def __call__(self, frame: LabelledFrame, epoch: int, index: int) -> LabelledFrame:
        """Varies a frame.

        Where its geometry changes and a protocol drew the mask, the mask is drawn anew from the moved
        polylines: the stroke keeps the width that the protocol gives it. A frame whose geometry stays keeps
        mask and polylines as they are.

        Args:
            frame: Left as it is; what does not change is shared with the result.
            epoch: Pass over the data, from 0.
            index: Row of the dataset.

        Returns:
            The varied frame, of the same size; ids stay ids, and polylines are clipped to the frame.

        Raises:
            ValueError: image and mask differ in size, or the protocol is unknown.
        """
        if frame.image.shape[:2] != frame.mask.shape:
            raise ValueError(f"image {frame.image.shape[:2]} and mask {frame.mask.shape} differ in size")
        drawn = draw_variation(self.config, np.random.default_rng([self.seed, epoch, index]))
        # What is in the way belongs to the scene: it moves with it, and none of it is outside of it.
        frame = replace(frame, image=drawn.occlude(frame.image))
        if not drawn.geometry.is_identity:
            frame = move_frame(frame, drawn.geometry, _OUTSIDE_ID[self.config.outside])
        return replace(frame, image=drawn.light(frame.image))


@dataclass(frozen=True)
class Variation:
    """All that is drawn for one frame; the defaults of `Geometry` and the neutral values change nothing.

    Attributes:
        geometry: Where everything goes.
        gain: (3,) factors of the channels.
        contrast: Factor on the distance from mid-grey.
        gamma: Exponent on intensities.
        blur_px: Standard deviation in px of a frame 1080 px high.
        noise: Standard deviation as a share of full intensity.
        smoke_density: Opacity of the thickest smoke; 0: none.
        blood_area: Share of the frame under blood; 0: none.
        noise_rng: Draws the noise.
        smoke_rng: Draws the smoke.
        blood_rng: Draws the blood.
    """

    geometry: Geometry
    gain: np.ndarray
    contrast: float
    gamma: float
    blur_px: float
    noise: float
    smoke_density: float
    blood_area: float
    noise_rng: np.random.Generator
    smoke_rng: np.random.Generator
    blood_rng: np.random.Generator

    def occlude(self, image: np.ndarray) -> np.ndarray:
        """Blood and, before it, smoke."""
        candidates = (
            (draw_blood, self.blood_area, self.blood_rng),
            (draw_smoke, self.smoke_density, self.smoke_rng),
        )
        wanted = [candidate for candidate in candidates if candidate[1] > 0]
        if not wanted:
            return image
        clouds = draw_clouds(veil_size(image.shape[1], image.shape[0]), [rng for _, _, rng in wanted])
        veils = [draw(own, strength, rng) for own, (draw, strength, rng) in zip(clouds, wanted, strict=True)]
        return lay_over(image, veils)

    def light(self, image: np.ndarray) -> np.ndarray:
        """Light, blur and noise, in the order in which a camera meets them."""
        if (self.gain != 1).any() or self.contrast != 1 or self.gamma != 1:
            image = relight(image, self.gain, self.contrast, self.gamma)
        if self.blur_px > 0:
            image = blur(image, self.blur_px)
        return add_noise(image, self.noise, self.noise_rng) if self.noise > 0 else image


def draw_variation(config: AugmentationConfig, rng: np.random.Generator) -> Variation:
    """Draws everything, whether or not it is on: a frame's rotation does not depend on other settings."""
    flip_x, flip_y, rotate = rng.random(3) < [config.horizontal_flip, config.vertical_flip, config.rotation]
    angle, brightness, contrast, gamma = rng.uniform(-1, 1, 4)
    color = rng.uniform(-1, 1, 3)
    scale, crop, smoke, blood = rng.random(4) < [config.scale, config.crop, config.smoke, config.blood]
    log_scale = rng.uniform(*config.log_scale_range())
    crop_side = rng.uniform(config.crop_min_side, 1)
    crop_x, crop_y, blur_strength, noise, smoke_density, blood_area = rng.random(6)
    # Generators of their own: how much one of them draws moves no other.
    noise_rng, smoke_rng, blood_rng = rng.spawn(3)
    return Variation(
        geometry=Geometry(
            flip_x=bool(flip_x),
            flip_y=bool(flip_y),
            angle_degrees=angle * config.rotation_degrees if rotate else 0.0,
            scale=math.exp(log_scale) if scale else 1.0,
            crop_side=crop_side if crop else 1.0,
            crop_x=crop_x,
            crop_y=crop_y,
        ),
        gain=(1 + brightness * config.brightness) * (1 + color * config.color),
        contrast=1 + contrast * config.contrast,
        gamma=math.exp(gamma * config.gamma),
        blur_px=blur_strength * config.blur_px,
        noise=noise * config.noise,
        smoke_density=smoke_density * config.smoke_density if smoke else 0.0,
        blood_area=blood_area * config.blood_area if blood else 0.0,
        noise_rng=noise_rng,
        smoke_rng=smoke_rng,
        blood_rng=blood_rng,
    )


def move_frame(frame: LabelledFrame, geometry: Geometry, outside_id: int) -> LabelledFrame:
    """Image, mask and polylines moved by one matrix.

    Args:
        frame: The frame.
        geometry: Where everything goes.
        outside_id: The mask's id where pixels from outside the frame come in; the image is black there.
    """
    height, width = frame.mask.shape
    matrix = geometry.matrix(width, height)
    landmarks = transform_landmarks(frame.landmarks, matrix, width, height)
    redrawn = bool(frame.landmarks) and frame.protocol is not None

    def moved(mask: np.ndarray, outside: int) -> np.ndarray:
        return flip_picture(mask, geometry) if geometry.only_flips else warp_mask(mask, matrix, outside)

    image = flip_picture(frame.image, geometry) if geometry.only_flips else warp_image(frame.image, matrix)
    if not redrawn:
        return LabelledFrame(image, moved(frame.mask, outside_id), landmarks, frame.protocol)
    mask = rasterize_landmarks(landmarks, width, height, get_protocol(frame.protocol))
    if not geometry.only_flips:
        # A stroke is as wide as it is: beside the frame's old border it would lie on black.
        mask[~comes_from_frame(matrix, width, height)] = outside_id
    ignored = frame.mask == IGNORE_INDEX
    if ignored.any():
        mask[moved(ignored.view(np.uint8), 0) == 1] = IGNORE_INDEX
    return LabelledFrame(image, mask, landmarks, frame.protocol)
