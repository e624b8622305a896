"""A network without BatchNorm, its groups and its data, alike in the tests and in their worker processes."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from liver_landmark.optim import SRFTGaLoreAdamW

# (row axes, column axes) of a convolution.
CONVOLUTION = ((0,), (1, 2, 3))


def network(dtype: torch.dtype = torch.float64) -> nn.Sequential:
    """Weights of 7 × 18 (a convolution), 13 × 63, 30 × 13 and 1 × 30: uneven, one of a single row."""
    with torch.random.fork_rng():
        torch.manual_seed(7)
        return nn.Sequential(
            nn.Conv2d(2, 7, 3),
            nn.Tanh(),
            nn.Flatten(),
            nn.Linear(63, 13),
            nn.LayerNorm(13),
            nn.Tanh(),
            nn.Linear(13, 30),
            nn.Tanh(),
            nn.Linear(30, 1),
        ).to(dtype)


def groups(model: nn.Module, side: str = "longer", **settings: Any) -> list[dict[str, Any]]:
    """Projected and plain groups, with several refreshes within sixteen steps.

    One of the projected groups is oblivious where no settings of theirs are given.
    """
    weights = {name: weight for name, weight in model.named_parameters()}
    convolution, wide, tall, row = (
        [(name, weights.pop(name)) for name in (f"{index}.weight",)] for index in (0, 3, 6, 8)
    )
    projected = {"update_proj_gap": 5, "side": side} | settings
    return [
        {"params": convolution, "rank": 3, "matrix_axes": CONVOLUTION} | projected,
        {"params": wide + row, "rank": 4, "scale": 0.5} | projected,
        {"params": tall, "rank": 5} | projected | ({} if settings else {"proj_type": "srft_oblivious"}),
        {"params": list(weights.items()), "weight_decay": 0.1},
    ]


def optimizer_of(model: nn.Module, side: str = "longer", **settings: Any) -> SRFTGaLoreAdamW:
    """`settings` are those of the optimizer as a whole."""
    return SRFTGaLoreAdamW(groups(model, side), lr=1e-2, **settings)


def frames(step: int, size: int = 8, dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs (size, 2, 5, 5) and targets (size, 1) of one step."""
    generator = torch.Generator().manual_seed(1000 + step)
    inputs = torch.randn(size, 2, 5, 5, generator=generator, dtype=dtype)
    return inputs, torch.randn(size, 1, generator=generator, dtype=dtype)


def loss_of(model: nn.Module, batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    """A mean over the batch, so that halves of a batch average to the whole."""
    inputs, targets = batch
    return (model(inputs) - targets).square().mean()


def part(batch: tuple[torch.Tensor, torch.Tensor], index: int, parts: int) -> tuple[torch.Tensor, ...]:
    """Every `parts`-th sample, from `index` on."""
    return tuple(tensor[index::parts] for tensor in batch)


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: range) -> None:
    """One process on whole batches."""
    for step in steps:
        loss_of(model, frames(step)).backward()
        optimizer.step()
        optimizer.zero_grad()


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """A copy, of a sharded tensor the whole."""
    tensor = tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor
    return tensor.detach().clone()


def weights_of(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: whole(weight) for name, weight in model.named_parameters()}


def states_of(optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """Every tensor of the state, by parameter and key."""
    return {
        f"{name}/{key}": whole(value)
        for group in optimizer.param_groups
        for name, parameter in zip(group["param_names"], group["params"], strict=True)
        for key, value in optimizer.state[parameter].items()
    }


def equal(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> bool:
    """Bit for bit, and of the same dtypes."""
    return ours.keys() == theirs.keys() and all(
        ours[name].dtype == theirs[name].dtype and torch.equal(ours[name], theirs[name]) for name in ours
    )
