"""Test-time augmentation: the mean over mirrored and scaled views of a frame, and how far they differ."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..model import LiverLandmarkImageProcessor

# Hiera takes heights and widths that are multiples of it.
_SIZE_STEP_PX = 32
_LARGEST_SCALE = 4.0


@dataclass(frozen=True)
class AveragedViews:
    """Which views of a frame are averaged: every scale, and each of them mirrored too with `flip`.

    The landmarks have no sides (a mirrored ridge is a ridge), so that mirroring needs no change of classes.
    Whether averaging helps depends on the views that the model was trained with, and has to be measured: the
    quick start's loses by it (docs/results/test_time_cpu.md).

    Attributes:
        flip: Average with the view mirrored left to right, which doubles the forward passes.
        scales: Factors of the processor's size; the result has the first one's resolution. Others than 1 are
            rounded to sizes that the model takes, multiples of 32 px.
    """

    flip: bool = True
    scales: tuple[float, ...] = (1.0,)

    def __post_init__(self) -> None:
        if not isinstance(self.flip, bool):
            raise ValueError(f"flip={self.flip!r}: expected true or false")
        scales = tuple(float(scale) for scale in self.scales)
        if not scales:
            raise ValueError("scales: give at least one, 1.0 for the processor's own size")
        for scale in scales:
            if not (math.isfinite(scale) and 0 < scale <= _LARGEST_SCALE):
                raise ValueError(f"scales: {scale:g} is not above 0 and at most {_LARGEST_SCALE:g}")
        object.__setattr__(self, "scales", scales)

    @property
    def count(self) -> int:
        """Forward passes for a frame."""
        return len(self.scales) * (2 if self.flip else 1)

    def view_sizes(self, processor: LiverLandmarkImageProcessor) -> list[tuple[int, int]]:
        """(height, width) of `pixel_values` for each scale, px.

        Raises:
            ValueError: a processor that does not resize, or scales that come to the same size.
        """
        if not processor.do_resize:
            raise ValueError("views: the image processor has do_resize off, so it gives no size to scale")
        height, width = processor.size["height"], processor.size["width"]
        sizes: dict[tuple[int, int], float] = {}
        for scale in self.scales:
            size = (height, width) if scale == 1 else (_rounded(height * scale), _rounded(width * scale))
            if size in sizes:
                raise ValueError(
                    f"scales: {sizes[size]:g} and {scale:g} both come to {size[1]}×{size[0]} px: drop one"
                )
            sizes[size] = scale
        return list(sizes)


def _rounded(pixels: float) -> int:
    return max(math.floor(pixels / _SIZE_STEP_PX + 0.5), 1) * _SIZE_STEP_PX


@torch.no_grad()
def averaged_forward(
    forward: Callable[[Tensor], Tensor], pixel_values_per_scale: Sequence[Tensor], views: AveragedViews
) -> tuple[Tensor, Tensor]:
    """The mean of the views' probabilities, and their variance.

    Args:
        forward: (B, 3, H, W) pixel values -> (B, C, h, w) logits. Called once a view.
        pixel_values_per_scale: (B, 3, H_s, W_s) for each scale of the views, in their order: frames that the
            processor resized to `AveragedViews.view_sizes`.
        views: Which views.

    Returns:
        (B, C, h, w) float32 log-probabilities, the logarithm of the mean probability, at the resolution of
        the first scale's logits; and the (B, h, w) float32 variance, the sum over classes of the population
        variance of the views' probabilities: 0 where all views agree and for a single one, at most 1 - 1/n
        for n views and 1 - 1/C for C classes.

    Raises:
        ValueError: another number of tensors than scales.
    """
    if len(pixel_values_per_scale) != len(views.scales):
        raise ValueError(f"views: {len(pixel_values_per_scale)} sizes for {len(views.scales)} scales")
    probabilities: list[Tensor] = []
    for pixel_values in pixel_values_per_scale:
        probabilities.append(_probabilities(forward(pixel_values), like=probabilities))
        if views.flip:
            mirrored = forward(pixel_values.flip(-1)).flip(-1)
            probabilities.append(_probabilities(mirrored, like=probabilities))
    stacked = torch.stack(probabilities)
    mean = stacked.mean(dim=0)
    variance = (stacked - mean).square().mean(dim=0).sum(dim=1)
    # A probability that is too small for a float32 stays finite as a logarithm.
    return mean.clamp_min(torch.finfo(mean.dtype).tiny).log(), variance


def _probabilities(logits: Tensor, like: Sequence[Tensor]) -> Tensor:
    """The softmax in float32, at the resolution of the first view if there is one."""
    probabilities = logits.float().softmax(dim=1)
    if like and like[0].shape[-2:] != probabilities.shape[-2:]:
        # Antialiasing changes nothing where this enlarges. The weights are convex: the sum stays 1.
        probabilities = F.interpolate(
            probabilities, size=like[0].shape[-2:], mode="bilinear", align_corners=False, antialias=True
        )
    return probabilities


__all__ = ["AveragedViews", "averaged_forward"]
