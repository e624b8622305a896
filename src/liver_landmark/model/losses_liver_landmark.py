"""The loss: soft Dice and binary cross-entropy, both on the softmax of the logits."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from .landmarks_liver_landmark import IGNORE_INDEX


def landmark_loss(
    logits: Tensor,
    labels: Tensor,
    dice_weight: float = 1.0,
    bce_weight: float = 1.0,
    foreground_weight: float = 1.0,
) -> Tensor:
    """Soft Dice + BCE (arXiv 2511.03163), on one probability model: softmax over the classes.

    Both terms are computed per image and averaged over images, so that a batch, its parts on several
    processes and its accumulated parts give the same gradient. Computed in fp32 whatever the logits'
    dtype. Logits of another size than the labels are resized to them (bilinear): at a stride of 4
    a thin stroke lies between the logits' pixels, and nearest-resized labels would lose it.

    Args:
        logits: (B, K, h, w), class 0 is the background.
        labels: (B, H, W) integer class ids; 255 is ignored.
        dice_weight: Weight of 1 − Dice, averaged over the landmark classes that the image shows (an
            image that shows none contributes 0 here: an absent class is the cross-entropy's matter).
        bce_weight: Weight of the binary cross-entropy, one plane a class, averaged over planes and
            pixels.
        foreground_weight: Weight of landmark pixels in that average; background pixels weigh 1.

    Returns:
        A scalar.

    Raises:
        ValueError: The shapes do not fit, or the labels are no integers or hold an id that is neither a
            class nor 255.
    """
    if labels.ndim != 3 or labels.shape[0] != logits.shape[0]:
        raise ValueError(f"labels must be (B, H, W) with B = {logits.shape[0]}, got {tuple(labels.shape)}")
    if labels.is_floating_point():
        raise ValueError(f"labels must be integer class ids, got {labels.dtype}")
    num_classes = logits.shape[1]
    logits = logits.float()
    if logits.shape[-2:] != labels.shape[-2:]:
        logits = F.interpolate(logits, size=labels.shape[-2:], mode="bilinear", align_corners=False)
    valid = labels != IGNORE_INDEX
    # Ids are checked here, not in the processor alone: an out-of-range id would otherwise surface as
    # an opaque indexing fault (on CUDA, asynchronously). Not while tracing: it reads data.
    if not torch.compiler.is_compiling():
        wrong = valid & ((labels < 0) | (labels >= num_classes))
        if bool(wrong.any()):
            found = int(labels[wrong][0])
            raise ValueError(f"labels hold the id {found}: ids are 0..{num_classes - 1}, 255 is ignored")
    target = F.one_hot(labels.masked_fill(~valid, 0).long(), num_classes).permute(0, 3, 1, 2)
    target = target.to(logits.dtype)
    valid = valid.to(logits.dtype)

    loss = logits.new_zeros(logits.shape[0])
    if dice_weight:
        loss = loss + dice_weight * _dice_loss(logits, target, valid)
    if bce_weight:
        loss = loss + bce_weight * _bce_loss(logits, target, valid, foreground_weight)
    return loss.mean()


def _dice_loss(logits: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """(B,): 1 − soft Dice, averaged over the landmark classes that each image shows."""
    probabilities = logits.softmax(dim=1)[:, 1:] * valid[:, None]
    target = target[:, 1:] * valid[:, None]
    intersection = (probabilities * target).sum(dim=(2, 3))
    total = probabilities.sum(dim=(2, 3)) + target.sum(dim=(2, 3))
    present = (target.sum(dim=(2, 3)) > 0).to(logits.dtype)
    # Where a class is present its truth keeps `total` above 0; elsewhere the term is masked out.
    dice = 2 * intersection / total.clamp_min(1.0)
    return ((1 - dice) * present).sum(dim=1) / present.sum(dim=1).clamp_min(1.0)


def _bce_loss(logits: Tensor, target: Tensor, valid: Tensor, foreground_weight: float) -> Tensor:
    """(B,): weighted mean over planes and pixels of each class's cross-entropy against the rest."""
    num_classes = logits.shape[1]
    planes = []
    for index in range(num_classes):
        others = [other for other in range(num_classes) if other != index]
        # The logit of softmax's p against 1 − p, exactly: z − log Σ exp(other z).
        planes.append(logits[:, index] - logits[:, others].logsumexp(dim=1))
    cross_entropy = F.binary_cross_entropy_with_logits(torch.stack(planes, dim=1), target, reduction="none")
    weight = valid * (1 + (foreground_weight - 1) * (1 - target[:, 0]))
    return (cross_entropy.mean(dim=1) * weight).sum(dim=(1, 2)) / weight.sum(dim=(1, 2)).clamp_min(1.0)


__all__ = ["landmark_loss"]
