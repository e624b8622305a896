"""The methods that are compared: what trains, by which optimizer, at which rates."""

from __future__ import annotations

import importlib
import importlib.util
import math
import re
import statistics
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from liver_landmark.cli_options import CommandError
from liver_landmark.optim import SRFTGaLoreAdamW, galore_param_groups
from liver_landmark.training.optimizers import build_schedule, parameter_groups
from liver_landmark.training.recipe import Recipe

RANK, GAP = 12, 50


@dataclass(frozen=True)
class Method:
    """How the attention weights are trained.

    Attributes:
        lrs: Peak learning rates to choose from.
        kind: `galore`, `adamw`, or `lora`: AdamW on adapters beside the weights.
        keys: Of the projected group: projector, moment transfer …
    """

    lrs: tuple[float, ...]
    kind: str = "galore"
    keys: dict[str, Any] = field(default_factory=dict)


_GALORE_LRS = (1e-3, 3e-3, 1e-2)
METHODS = {
    "srft": Method(_GALORE_LRS),
    "svd": Method(_GALORE_LRS, keys={"proj_type": "svd"}),
    "adamw": Method((3e-4, 1e-3, 3e-3), kind="adamw"),
    "lora": Method((2e-3, 6e-3, 2e-2), kind="lora"),
    "srft_singular": Method(_GALORE_LRS, keys={"singular_basis": True}),
    "srft_rotate": Method(_GALORE_LRS, keys={"moment_transfer": "rotate"}),
    "srft_rotate_singular": Method(_GALORE_LRS, keys={"moment_transfer": "rotate", "singular_basis": True}),
    "srft_power1": Method(_GALORE_LRS, keys={"power_iterations": 1}),
    "srft_oblivious": Method(_GALORE_LRS, keys={"proj_type": "srft_oblivious"}),
    "gaussian": Method(_GALORE_LRS, keys={"proj_type": "gaussian"}),
    "svd_rotate": Method(_GALORE_LRS, keys={"proj_type": "svd", "moment_transfer": "rotate"}),
    "svd_shorter": Method(_GALORE_LRS, keys={"proj_type": "svd", "side": "shorter"}),
}


def check_installed(names: Sequence[str]) -> None:
    """Refuses methods whose package is missing before any run starts."""
    for name in names:
        if name in METHODS and METHODS[name].kind == "lora" and importlib.util.find_spec("peft") is None:
            raise CommandError(f"method {name} needs peft: pip install peft, or leave it out of --methods")


def trained_modules(model: nn.Module) -> str:
    """A pattern of the full names of the layers whose weights train: the same for every method."""
    names = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    return "|".join(re.escape(name.removesuffix(".weight")) for name in names)


def add_lora(model: nn.Module) -> None:
    """Puts adapters of scale 1 beside the layers that train; from then on only the adapters do.

    Their start is drawn from torch's global generator: seed it first.
    """
    peft = importlib.import_module("peft")
    config = peft.LoraConfig(r=RANK, lora_alpha=RANK, bias="none", target_modules=trained_modules(model))
    peft.inject_adapter_in_model(config, model)


def build_optimizer(method: Method, model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """The method's optimizer over what trains, with the recipe's settings of AdamW."""
    settings = recipe.optimizer
    shared = {"lr": settings.lr, "betas": settings.betas, "eps": settings.eps}
    if method.kind != "galore":
        return torch.optim.AdamW(parameter_groups(model, settings.weight_decay), **shared)
    groups = galore_param_groups(
        model, trained_modules(model), RANK, update_proj_gap=GAP, scale=1.0, **method.keys
    )
    return SRFTGaLoreAdamW(groups, weight_decay=settings.weight_decay, seed=recipe.seed, **shared)


def train(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    batches: Iterable[dict[str, torch.Tensor]],
    recipe: Recipe,
) -> dict[str, Any]:
    """One optimizer step a batch; a loss or gradient that is not finite ends it.

    Returns:
        Mean seconds of a step (frames, forward, backward, optimizer) and milliseconds of the optimizer's
        part, the loss of the last steps, and the step that diverged or None.
    """
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    schedule = build_schedule(optimizer, recipe.schedule, recipe.optimizer.lr, recipe.budget.steps)
    losses, optimizer_seconds, diverged = [], 0.0, None
    model.train()
    start = time.perf_counter()
    for batch in batches:
        images = batch["pixel_values"].to(memory_format=torch.channels_last)
        loss = model(pixel_values=images, labels=batch["labels"]).loss
        loss.backward()
        norm = nn.utils.clip_grad_norm_(parameters, recipe.max_grad_norm or math.inf)
        losses.append(loss.item())
        if not (math.isfinite(losses[-1]) and math.isfinite(norm.item())):
            diverged = len(losses)
            break
        before = time.perf_counter()
        optimizer.step()
        optimizer_seconds += time.perf_counter() - before
        optimizer.zero_grad()
        schedule.step()
    return {
        "steps": len(losses),
        "seconds_per_step": (time.perf_counter() - start) / len(losses),
        "optimizer_ms_per_step": 1000 * optimizer_seconds / len(losses),
        "last_loss": statistics.mean(losses[-10:]) if diverged is None else None,
        "diverged_at_step": diverged,
    }


def state_bytes(optimizer: torch.optim.Optimizer) -> int:
    """Bytes of memory that the optimizer's state holds on to: whole storages, each counted once."""
    tensors = [value for state in optimizer.state.values() for value in state.values()]
    storages = {
        t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors if torch.is_tensor(t)
    }
    return sum(storages.values())
