"""Optimizers by name."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn

from ..optim import SRFTGaLoreAdamW, galore_param_groups
from .recipe import OptimizerConfig

# Biases, norms, gates and position embeddings are not: shrinking them regularises nothing.
_DECAYING_MODULES = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """The parameters that train, with their names, in two groups: decaying and not.

    Weights of linear and convolution layers decay. A group without parameters is left out.
    """
    trains = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    return _split_by_decay(model, trains, weight_decay)


def _split_by_decay(
    model: nn.Module, parameters: Iterable[tuple[str, nn.Parameter]], weight_decay: float
) -> list[dict[str, Any]]:
    decaying = {
        f"{name}.weight" if name else "weight"
        for name, module in model.named_modules()
        if isinstance(module, _DECAYING_MODULES)
    }
    groups: list[dict[str, Any]] = [
        {"params": [], "weight_decay": weight_decay},
        {"params": [], "weight_decay": 0.0},
    ]
    for name, parameter in parameters:
        groups[name not in decaying]["params"].append((name, parameter))
    return [group for group in groups if group["params"]]


def _adamw(model: nn.Module, config: OptimizerConfig, seed: int) -> torch.optim.Optimizer:
    return torch.optim.AdamW(
        parameter_groups(model, config.weight_decay), lr=config.lr, betas=config.betas, eps=config.eps
    )


def _srft_galore(model: nn.Module, config: OptimizerConfig, seed: int) -> torch.optim.Optimizer:
    targets = config.target_modules
    if targets is None:
        targets = _attentions_that_train(model)
    projected, *rest = galore_param_groups(model, targets, **config.projection_settings())
    projected["weight_decay"] = config.weight_decay
    others = [parameter for group in rest for parameter in group["params"]]
    return SRFTGaLoreAdamW(
        [projected, *_split_by_decay(model, others, config.weight_decay)],
        lr=config.lr,
        betas=config.betas,
        eps=config.eps,
        seed=seed,
    )


def _attentions_that_train(model: nn.Module) -> str:
    """The model's own targets, of the branches of which at least one trains."""
    trains = {
        name.removesuffix(".weight")
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    }
    patterns = [
        pattern
        for pattern in model.galore_target_modules.values()
        if any(re.fullmatch(pattern, name) for name in trains)
    ]
    if not patterns:
        raise ValueError(
            "optimizer.name: srft_galore finds no attention that trains: set trainable.vision or "
            "trainable.depth to attention or all, or name modules in optimizer.target_modules"
        )
    return "|".join(f"({pattern})" for pattern in patterns)


# An optimizer takes the model, the recipe's section and its seed, and chooses its own parameter groups: one
# that projects some weights needs to know which modules they belong to.
OPTIMIZERS: dict[str, Callable[[nn.Module, OptimizerConfig, int], torch.optim.Optimizer]] = {
    "adamw": _adamw,
    "srft_galore": _srft_galore,
}


def build_optimizer(model: nn.Module, config: OptimizerConfig, seed: int = 0) -> torch.optim.Optimizer:
    """The optimizer of that name over the parameters of `model` that train; `seed`: of its own draws."""
    if config.name not in OPTIMIZERS:
        raise ValueError(
            f"optimizer.name: {config.name!r} is unknown: choose one of {', '.join(sorted(OPTIMIZERS))}"
        )
    return OPTIMIZERS[config.name](model, config, seed)
