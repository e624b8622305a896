"""Which parameters train, the optimizer that moves them, by its name, and its learning rate over the run."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from ..model import LiverLandmarkForSemanticSegmentation
from ..optim import SRFTGaLoreAdamW, galore_param_groups
from .recipe import OptimizerConfig, ScheduleConfig, TrainableConfig

# Which parameters train: the recipe's `trainable` section applied to a model.

_ATTENTIONS = LiverLandmarkForSemanticSegmentation.galore_target_modules

# (field, choice) -> pattern of the full names of the parameters that train.
_PATTERNS: dict[tuple[str, str | bool], str] = {
    ("vision", "all"): r"vision_branch\.encoder\..*",
    ("vision", "attention"): rf"{_ATTENTIONS['vision']}\.weight",
    ("depth", "all"): r"depth_branch\.encoder\..*",
    ("depth", "attention"): rf"{_ATTENTIONS['depth']}\.weight",
    # Without the projection the fusion would ask with random features.
    ("fusion", True): r"(depth_branch\.(finer_)?projections?|fusion)\..*",
    ("decoder", True): r"(decoder|depth_head|vision_branch\.(detail|projections|pyramid))\..*",
}
# Parts that an RGB-only model does not have, whatever the recipe says of them.
_DEPTH_PARTS = ("depth", "fusion")


def freeze_all_but(model: nn.Module, trainable: TrainableConfig) -> list[str]:
    """Freezes every parameter of `model` that `trainable` does not name.

    Parameters that the model itself has frozen, because they could never get a gradient, stay frozen.

    Returns:
        The names of the parameters that train.

    Raises:
        ValueError: a choice that matches no parameter of this model, or nothing that trains.
    """
    has_depth = any(name.startswith("depth_branch.") for name, _ in model.named_parameters())
    patterns: list[re.Pattern] = []
    for field in ("vision", "depth", "fusion", "decoder"):
        choice = getattr(trainable, field)
        if choice in (False, "none") or (field in _DEPTH_PARTS and not has_depth):
            continue
        pattern = re.compile(_PATTERNS[field, choice])
        if not any(pattern.fullmatch(name) and p.requires_grad for name, p in model.named_parameters()):
            raise ValueError(
                f"trainable.{field}: {choice} matches no trainable parameter of this model "
                f"(pattern {pattern.pattern})"
            )
        patterns.append(pattern)
    if not patterns:
        raise ValueError("trainable: nothing trains: vision, depth, fusion and decoder are all frozen")

    names = []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and any(pattern.fullmatch(name) for pattern in patterns):
            names.append(name)
        else:
            parameter.requires_grad_(False)
    return names


# Optimizers by name.

# Biases, norms, gates and position embeddings are not: shrinking them regularizes nothing.
_DECAYING_MODULES = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)


def parameter_groups(
    model: nn.Module, weight_decay: float, lr: float | None = None, encoder_lr_factor: float = 1.0
) -> list[dict[str, Any]]:
    """The parameters that train, with their names, in groups: decaying or not, of the encoders or not.

    Weights of linear and convolution layers decay. A group without parameters is left out. Groups say their
    learning rate where the encoders have another one (`encoder_lr_factor` is not 1).
    """
    if lr is None and encoder_lr_factor != 1:
        raise ValueError("encoder_lr_factor needs the learning rate, lr")
    trains = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    return _split(model, trains, weight_decay, lr, encoder_lr_factor)


def _split(
    model: nn.Module,
    parameters: Iterable[tuple[str, nn.Parameter]],
    weight_decay: float,
    lr: float | None,
    encoder_lr_factor: float,
) -> list[dict[str, Any]]:
    decaying = {
        f"{name}.weight" if name else "weight"
        for name, module in model.named_modules()
        if isinstance(module, _DECAYING_MODULES)
    }
    groups: dict[tuple[bool, bool], dict[str, Any]] = {}
    # Others before encoders, and decaying before not: their order is the state's.
    for is_encoder in (False, True):
        for decays in (True, False):
            group: dict[str, Any] = {"params": [], "weight_decay": weight_decay if decays else 0.0}
            if encoder_lr_factor != 1:
                group["lr"] = lr * (encoder_lr_factor if is_encoder else 1.0)
            groups[is_encoder, decays] = group
    for name, parameter in parameters:
        is_encoder = encoder_lr_factor != 1 and is_of_encoder(name)
        groups[is_encoder, name in decaying]["params"].append((name, parameter))
    return [group for group in groups.values() if group["params"]]


def is_of_encoder(name: str) -> bool:
    """Whether a parameter of that name is of an encoder, whose weights come from a checkpoint."""
    return re.search(r"(^|\.)(vision|depth)_branch\.encoder\.", name) is not None


def _adamw(model: nn.Module, config: OptimizerConfig, seed: int) -> torch.optim.Optimizer:
    groups = parameter_groups(model, config.weight_decay, config.lr, config.encoder_lr_factor)
    # One pass over the memory instead of ten: a quarter of the time, on the CPU too.
    return torch.optim.AdamW(groups, lr=config.lr, betas=config.betas, eps=config.eps, fused=True)


def _srft_galore(model: nn.Module, config: OptimizerConfig, seed: int) -> torch.optim.Optimizer:
    targets = config.target_modules
    if targets is None:
        targets = _attentions_that_train(model)
    projected, *rest = galore_param_groups(model, targets, **config.projection_settings())
    projected["weight_decay"] = config.weight_decay
    if config.encoder_lr_factor != 1:
        of_encoders = {is_of_encoder(name) for name, _ in projected["params"]}
        if len(of_encoders) > 1:
            raise ValueError(
                "optimizer.encoder_lr_factor: target_modules projects weights of encoders and others: "
                "choose one kind, or set the factor to 1"
            )
        projected["lr"] = config.lr * (config.encoder_lr_factor if of_encoders == {True} else 1.0)
    others = [parameter for group in rest for parameter in group["params"]]
    return SRFTGaLoreAdamW(
        [projected, *_split(model, others, config.weight_decay, config.lr, config.encoder_lr_factor)],
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
    return OPTIMIZERS[config.name](model, config, seed)


# The learning rate over the run.


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
