"""One optimizer step."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from accelerate import Accelerator
from torch import nn
from torch.optim.lr_scheduler import LRScheduler


@dataclass(frozen=True)
class StepResult:
    """What one optimizer step did.

    Attributes:
        loss: Mean over the step's batches and processes.
        grad_norm: Total norm of the gradients before clipping.
        lr: The (first group's) learning rate that was used.
        skipped: The fp16 loss scale overflowed, so the weights were left as they were.
    """

    loss: float
    grad_norm: float
    lr: float
    skipped: bool


def training_step(
    accelerator: Accelerator,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    schedule: LRScheduler,
    batches: Iterable[dict[str, torch.Tensor]],
    max_grad_norm: float | None,
    step: int,
) -> StepResult:
    """Moves the weights once, by the mean gradient over `batches`.

    Args:
        accelerator: Made with as many accumulation steps as there are batches.
        model: Prepared by the accelerator, in training mode.
        optimizer: Prepared by the accelerator.
        schedule: Not prepared: accelerate's wrapper steps it once for every process.
        batches: The step's batches, on this process's device.
        max_grad_norm: Limit of the gradients' total norm; None: no clipping.
        step: Number of this step, for error messages.

    Raises:
        FloatingPointError: loss or gradients are not finite; the weights have not been touched.
    """
    lr = optimizer.param_groups[0]["lr"]
    losses: list[torch.Tensor] = []
    for batch in batches:
        # Under several processes, gradients are exchanged in the last batch of the step only.
        with accelerator.accumulate(model):
            # `prepare` has put autocast around forward; the loss inside it is computed in float32.
            loss = model(**batch).loss
            losses.append(loss.detach().float())
            # Divides by the number of accumulated batches, and scales under fp16.
            accelerator.backward(loss)

    # A mean over processes, so that all of them come to the same verdict and none waits for the others.
    mean_loss = accelerator.reduce(torch.stack(losses).mean(), reduction="mean").item()
    if not math.isfinite(mean_loss):
        raise FloatingPointError(
            f"step {step}: the loss is {mean_loss}: lower optimizer.lr or set max_grad_norm"
        )
    # Clipping to infinity changes nothing and gives the norm. Under fp16 it unscales the gradients first.
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    limit = math.inf if max_grad_norm is None else max_grad_norm
    grad_norm = accelerator.clip_grad_norm_(parameters, limit).item()
    # Under fp16 an overflow is how the scaler finds its scale: it skips the step by itself.
    if not math.isfinite(grad_norm) and accelerator.mixed_precision != "fp16":
        raise FloatingPointError(
            f"step {step}: the gradients' norm is {grad_norm}: lower optimizer.lr or set max_grad_norm"
        )
    optimizer.step()
    optimizer.zero_grad()
    # Once an optimizer step. Also after one that fp16 skipped: the schedule counts the budget's steps.
    schedule.step()
    return StepResult(mean_loss, grad_norm, lr, skipped=bool(accelerator.optimizer_step_was_skipped))
