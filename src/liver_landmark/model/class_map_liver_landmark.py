"""Class maps, scores and probabilities at a frame's own size, from logits at the model's resolution.

Upsampling every plane to a 1080p frame and taking the largest costs over 100 ms on one core, and nearly all
of it goes into background. On the CPU, few pixels are interpolated instead (`FrameColumns`).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F

from .frame_columns_liver_landmark import FrameColumns, class_map_by_columns, mean_probabilities_by_columns
from .landmarks_liver_landmark import ID2LABEL, LABEL2ID, LANDMARK_NAMES

INTERPOLATIONS = ("bilinear", "nearest")
# Below this magnification few cells hold more than a pixel or two, and whole planes cost less.
_LEAST_MAGNIFICATION = 2


def class_map(
    logits: torch.Tensor, size: tuple[int, int], interpolation: str = "bilinear", name: str = "logits"
) -> torch.Tensor:
    """The class of every pixel: the largest of the upsampled logits.

    Equal to `F.interpolate(logits, size).argmax()`, but where the two largest are within float rounding of
    each other.

    Args:
        logits: (C, h, w) of any float type, C at most 256.
        size: (H, W) of the frame, px.
        interpolation: "bilinear" (half-pixel centres, align_corners=False) or "nearest".
        name: What errors call the logits.

    Returns:
        (H, W) uint8 class ids on the logits' device.

    Raises:
        ValueError: logits that are not (C, h, w) or not finite, or another interpolation.
    """
    logits, size = _checked(logits, interpolation, name), tuple(size)
    if size == tuple(logits.shape[-2:]):
        return logits.argmax(dim=0).to(torch.uint8)
    if interpolation == "nearest":
        winners = logits.argmax(dim=0).to(torch.uint8)
        return F.interpolate(winners[None, None], size=size, mode="nearest-exact")[0, 0]
    if not _few_pixels_matter(logits, size):
        return upsample(logits, size).argmax(dim=0).to(torch.uint8)
    return torch.from_numpy(class_map_by_columns(FrameColumns.of(logits, size)))


def landmark_scores(
    logits: torch.Tensor,
    segmentation: torch.Tensor,
    names: Sequence[str] = LANDMARK_NAMES,
    interpolation: str = "bilinear",
    name: str = "logits",
) -> dict[str, float]:
    """How sure the model is of what it drew: a class's mean probability over the pixels that it was given.

    Args:
        logits: (4, h, w) of any float type.
        segmentation: (H, W) class ids, as `class_map` gives them, on the logits' device.
        names: The classes that are wanted. "background" costs the interpolation of the whole frame.
        interpolation: What the segmentation was made with.
        name: What errors call the logits.

    Returns:
        Name -> mean softmax probability, 0.0 for a class that was given no pixel.

    Raises:
        ValueError: logits that are not (4, h, w) or not finite, an unknown class, or another interpolation.
    """
    logits = _checked(logits, interpolation, name)
    if len(logits) != len(ID2LABEL):
        raise ValueError(f"scores: {len(logits)} channels of {name} for {len(ID2LABEL)} classes")
    unknown = [class_name for class_name in names if class_name not in LABEL2ID]
    if unknown:
        raise ValueError(f"scores: unknown class {unknown[0]!r}: choose from {', '.join(LABEL2ID)}")
    size, class_ids = tuple(segmentation.shape), [LABEL2ID[class_name] for class_name in names]
    if interpolation == "bilinear" and _few_pixels_matter(logits, size):
        columns = FrameColumns.of(logits, size)
        means = mean_probabilities_by_columns(columns, segmentation.numpy(), class_ids)
    else:
        probabilities = upsampled_probabilities(logits, size, interpolation)
        means = []
        for class_id in class_ids:
            given = segmentation == class_id
            total = (probabilities[class_id] * given).sum(dtype=torch.float64).item()
            means.append(total / max(int(given.sum()), 1))
    return dict(zip(names, means, strict=True))


def upsampled_probabilities(
    logits: torch.Tensor, size: tuple[int, int], interpolation: str = "bilinear", name: str = "logits"
) -> torch.Tensor:
    """(C, h, w) logits -> (C, H, W) float32: the softmax of the upsampled logits.

    Raises:
        ValueError: logits that are not (C, h, w) or not finite, or another interpolation.
    """
    upsampled = upsample(_checked(logits, interpolation, name), tuple(size), interpolation)
    # softmax(dim=0) gives the same, and is slower on planes.
    probabilities = upsampled.sub(upsampled.amax(dim=0)).exp_()
    return probabilities.div_(probabilities.sum(dim=0))


def upsample(logits: torch.Tensor, size: tuple[int, int], interpolation: str = "bilinear") -> torch.Tensor:
    """(C, h, w) -> (C, H, W), with half-pixel centres; without antialiasing where it shrinks."""
    if size == tuple(logits.shape[-2:]):
        return logits
    if interpolation == "nearest":
        return F.interpolate(logits[None], size=size, mode="nearest-exact")[0]
    return F.interpolate(logits[None], size=size, mode="bilinear", align_corners=False)[0]


def _checked(logits: torch.Tensor, interpolation: str, name: str) -> torch.Tensor:
    """The logits in float32, without their graph."""
    if interpolation not in INTERPOLATIONS:
        raise ValueError(f"interpolation={interpolation!r}: choose 'bilinear' or 'nearest'")
    if logits.ndim != 3 or not 1 <= len(logits) <= 256:
        raise ValueError(f"{name}: expected (C, h, w) with at most 256 classes, got {tuple(logits.shape)}")
    logits = logits.detach().float()
    if not torch.isfinite(logits).all():
        raise ValueError(f"{name}: not all values are finite")
    return logits


def _few_pixels_matter(logits: torch.Tensor, size: tuple[int, int]) -> bool:
    height, width = logits.shape[-2:]
    return (
        logits.device.type == "cpu"
        and size[0] >= _LEAST_MAGNIFICATION * height
        and size[1] >= _LEAST_MAGNIFICATION * width
    )


__all__ = ["INTERPOLATIONS", "class_map", "landmark_scores", "upsample", "upsampled_probabilities"]
