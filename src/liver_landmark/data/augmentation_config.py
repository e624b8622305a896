"""The settings of the augmentation, checked at the border: a recipe needs them without what applies them."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal, get_args

Outside = Literal["background", "ignore"]

_PROBABILITIES = ("horizontal_flip", "vertical_flip", "rotation", "scale", "crop", "smoke", "blood")
_SHARES_BELOW_ONE = ("brightness", "contrast", "color", "noise", "smoke_density", "blood_area")
# Beyond, nothing of a frame is left to learn from; what is asked for is then a slip of the pen.
_LARGEST_SCALE = 10.0
_SMALLEST_CROP = 0.1
_LARGEST_BLUR_PX = 50.0


@dataclass(frozen=True)
class AugmentationConfig:
    """How frames vary during training; the defaults leave them as they are.

    The fields you will actually change: the probabilities, `rotation_degrees` and `brightness`. A
    strength beside a probability (`scale_range`, `crop_min_side`, `smoke_density`, `blood_area`) does
    nothing while that is 0. Geometry moves image, mask and polylines alike; light and occlusion change
    the image alone, because annotators draw landmarks through light veils and the model is to look at
    what surrounds them.

    Attributes:
        horizontal_flip: Probability of a left-right flip, 0 to 1.
        vertical_flip: Probability of an upside-down flip, 0 to 1.
        rotation: Probability of a rotation about the frame's center, 0 to 1.
        rotation_degrees: A rotation's angle is drawn from ± this many degrees.
        scale: Probability of a change of scale about the frame's center, 0 to 1.
        scale_range: The factor is drawn between these two, evenly in its logarithm; above 1 enlarges.
        crop: Probability that a window of the frame is enlarged to the frame's size, 0 to 1.
        crop_min_side: The window's sides are drawn from this share of the frame's sides up to all of
            them; it has the frame's proportions and lies anywhere within.
        outside: What the mask holds where geometry brings in pixels from outside the frame; the
            image is black there. `background` teaches that black is no landmark, which also holds for
            an endoscope's round border; `ignore` leaves those pixels out of the loss.
        brightness: The image is multiplied by 1 ± this, below 1.
        contrast: Distances from mid-gray are multiplied by 1 ± this, below 1.
        color: Each channel is multiplied by its own 1 ± this (the light's color), below 1.
        gamma: Intensities are raised to exp(± this).
        blur_px: The image is blurred by a Gaussian whose standard deviation is drawn from 0 to this
            many px of a frame 1080 px high (in a lower frame, by fewer px of its own).
        noise: Gray Gaussian noise is added whose standard deviation is drawn from 0 to this share of
            full intensity, below 1; its grain is that of a frame at most 540 px high.
        smoke: Probability of smoke, 0 to 1: a cloudy gray-white veil over the frame.
        smoke_density: The veil's opacity where it is thickest is drawn from 0 to this, below 1.
        blood: Probability of blood, 0 to 1: ragged, dark red blots with soft edges in one to three places.
        blood_area: The share of the frame that they cover is drawn from 0 to this, below 1.
    """

    horizontal_flip: float = 0.0
    vertical_flip: float = 0.0
    rotation: float = 0.0
    rotation_degrees: float = 0.0
    outside: Outside = "background"
    brightness: float = 0.0
    contrast: float = 0.0
    color: float = 0.0
    gamma: float = 0.0
    scale: float = 0.0
    scale_range: tuple[float, float] = (0.8, 1.25)
    crop: float = 0.0
    crop_min_side: float = 0.7
    blur_px: float = 0.0
    noise: float = 0.0
    smoke: float = 0.0
    smoke_density: float = 0.5
    blood: float = 0.0
    blood_area: float = 0.05

    def __post_init__(self) -> None:
        for field in _PROBABILITIES:
            if not 0 <= getattr(self, field) <= 1:
                raise ValueError(f"augmentation.{field} is a probability, 0 to 1, got {getattr(self, field)}")
        for field in _SHARES_BELOW_ONE:
            if not 0 <= getattr(self, field) < 1:
                raise ValueError(
                    f"augmentation.{field} must be at least 0 and below 1, got {getattr(self, field)}"
                )
        if not 0 <= self.rotation_degrees <= 180:
            raise ValueError(
                f"augmentation.rotation_degrees must be 0 to 180 degrees, got {self.rotation_degrees}"
            )
        if self.outside not in get_args(Outside):
            raise ValueError(
                f"augmentation.outside must be one of {', '.join(get_args(Outside))}, got {self.outside!r}"
            )
        if not 0 <= self.gamma <= 2:
            raise ValueError(f"augmentation.gamma must be 0 to 2, got {self.gamma}")
        smallest, largest = self.scale_range
        if not 1 / _LARGEST_SCALE <= smallest <= largest <= _LARGEST_SCALE:
            raise ValueError(
                "augmentation.scale_range must be two rising factors between "
                f"{1 / _LARGEST_SCALE:g} and {_LARGEST_SCALE:g}, got {self.scale_range}"
            )
        if not _SMALLEST_CROP <= self.crop_min_side <= 1:
            raise ValueError(
                f"augmentation.crop_min_side must be {_SMALLEST_CROP:g} to 1, got {self.crop_min_side}"
            )
        if not 0 <= self.blur_px <= _LARGEST_BLUR_PX:
            raise ValueError(f"augmentation.blur_px must be 0 to {_LARGEST_BLUR_PX:g} px, got {self.blur_px}")

    def scaled(self, factor: float) -> AugmentationConfig:
        """The same variation, rarer and weaker by a factor of 0 to 1: probabilities and ranges shrink alike.

        `smoke_density` and `blood_area`, which belong to a probability, and `outside` stay.
        """
        shrunk = {
            field: getattr(self, field) * factor
            for field in (
                *_PROBABILITIES,
                "rotation_degrees",
                "brightness",
                "contrast",
                "color",
                "gamma",
                "blur_px",
                "noise",
            )
        }
        low, high = self.log_scale_range()
        return replace(
            self,
            **shrunk,
            scale_range=(math.exp(low * factor), math.exp(high * factor)),
            crop_min_side=1 - (1 - self.crop_min_side) * factor,
        )

    def log_scale_range(self) -> tuple[float, float]:
        """Natural logarithms of `scale_range`."""
        return math.log(self.scale_range[0]), math.log(self.scale_range[1])
