"""Adam's moments and directions (Kingma, Ba, arXiv 1412.6980), over lists of tensors of one device."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch


def update_moments(
    gradients: list[torch.Tensor],
    averages: list[torch.Tensor],
    squares: list[torch.Tensor],
    betas: Sequence[float],
) -> None:
    """m ← β₁ m + (1 - β₁) g and v ← β₂ v + (1 - β₂) g², in place; all of one dtype."""
    torch._foreach_lerp_(averages, gradients, 1 - betas[0])
    torch._foreach_mul_(squares, betas[1])
    torch._foreach_addcmul_(squares, gradients, gradients, 1 - betas[1])


def denominators(
    squares: list[torch.Tensor], steps: Sequence[int], beta2: float, eps: float
) -> list[torch.Tensor]:
    """√v + ε √(1 - β₂ᵗ), new tensors: what stands below m once the corrections are in `step_factors`."""
    roots = torch._foreach_sqrt(squares)
    torch._foreach_add_(roots, [eps * math.sqrt(1 - beta2**step) for step in steps])
    return roots


def step_factors(steps: Sequence[int], betas: Sequence[float]) -> list[float]:
    """√(1 - β₂ᵗ) / (1 - β₁ᵗ): both bias corrections as one number, so that they cost no pass of their own."""
    return [math.sqrt(1 - betas[1] ** step) / (1 - betas[0] ** step) for step in steps]


def rotate_moments(
    average: torch.Tensor, square: torch.Tensor, rotation: torch.Tensor, step: int, betas: Sequence[float]
) -> None:
    """Carries moments of k × n low-rank gradients into a new basis, in place.

    With C = P_newᵀ P_old the new gradient is about C times the old one, and so m ← C m. The second moment
    is a variance plus a squared mean; if the old coordinates are uncorrelated, C maps the variances by its
    squared entries: v ← C² (v - m²) + (C m)², on bias-corrected moments (LDAdam, Robert et al.,
    arXiv 2410.16103, section 3.2). Where v < m², as decay rates of their own allow, the variance counts as
    none; LDAdam takes the magnitude of the sum instead. O(k² n).

    Args:
        average, square: m and v (…, k, n).
        rotation: C (…, k, k).
        step: Steps that the moments have seen, at least 1.
        betas: β₁, β₂.
    """
    correction1, correction2 = 1 - betas[0] ** step, 1 - betas[1] ** step
    mean = average / correction1
    # A square that has overflowed stays huge, and spoils no other.
    most = torch.finfo(square.dtype).max / (2 * rotation.shape[-1])
    variance = (square / correction2).clamp_max_(most).sub_(mean.square().clamp_max_(most)).clamp_min_(0)
    rotated = rotation @ mean
    square.copy_((rotation.square() @ variance + rotated.square()) * correction2)
    average.copy_(rotated * correction1)
