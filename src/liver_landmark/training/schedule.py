"""The learning rate over the run."""

from __future__ import annotations

import math

import torch
from torch.optim.lr_scheduler import LambdaLR

from .recipe import ScheduleConfig


def learning_rate_factor(
    step: int, total_steps: int, warmup_steps: int, min_factor: float, name: str = "cosine"
) -> float:
    """Factor on the peak learning rate for the optimizer step after `step` completed ones.

    Warm-up: (step + 1) / warmup_steps, so that no step is lost to a rate of zero. Then, for `cosine`,
    min + (1 - min) · (1 + cos(π t)) / 2 with t from 0 at the first step to 1 at the last.
    """
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    if name == "constant":
        return 1.0
    progress = (step - warmup_steps) / max(1, total_steps - 1 - warmup_steps)
    return min_factor + (1 - min_factor) * (1 + math.cos(math.pi * min(1.0, progress))) / 2


def build_schedule(
    optimizer: torch.optim.Optimizer, config: ScheduleConfig, peak_lr: float, total_steps: int
) -> LambdaLR:
    """The schedule for a run of `total_steps`: step it once after each optimizer step."""
    warmup_steps = round(config.warmup_fraction * total_steps)
    return LambdaLR(
        optimizer,
        lambda step: learning_rate_factor(
            step, total_steps, warmup_steps, config.min_lr / peak_lr, config.name
        ),
    )
