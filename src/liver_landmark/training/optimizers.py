"""Optimizers by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from .recipe import OptimizerConfig

# Biases, norms, gates and position embeddings are not: shrinking them regularises nothing.
_DECAYING_MODULES = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """The parameters that train, with their names, in two groups: decaying and not.

    Weights of linear and convolution layers decay. A group without parameters is left out.
    """
    decaying = {
        f"{name}.weight" if name else "weight"
        for name, module in model.named_modules()
        if isinstance(module, _DECAYING_MODULES)
    }
    groups: list[dict[str, Any]] = [
        {"params": [], "weight_decay": weight_decay},
        {"params": [], "weight_decay": 0.0},
    ]
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            groups[name not in decaying]["params"].append((name, parameter))
    return [group for group in groups if group["params"]]


def _adamw(model: nn.Module, config: OptimizerConfig) -> torch.optim.Optimizer:
    return torch.optim.AdamW(
        parameter_groups(model, config.weight_decay), lr=config.lr, betas=config.betas, eps=config.eps
    )


# An optimizer takes the model and the recipe's section and chooses its own parameter groups: one that
# projects some weights needs to know which modules they belong to.
OPTIMIZERS: dict[str, Callable[[nn.Module, OptimizerConfig], torch.optim.Optimizer]] = {"adamw": _adamw}


def build_optimizer(model: nn.Module, config: OptimizerConfig) -> torch.optim.Optimizer:
    """The optimizer of that name over the parameters of `model` that train."""
    if config.name not in OPTIMIZERS:
        raise ValueError(
            f"optimizer.name: {config.name!r} is unknown: choose one of {', '.join(sorted(OPTIMIZERS))}"
        )
    return OPTIMIZERS[config.name](model, config)
