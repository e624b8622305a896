"""Weights and gradients that are the same for every copy of an optimizer under test."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import nn


def weights(*shapes: Sequence[int], seed: int = 0, dtype: torch.dtype = torch.float32) -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(seed)
    return [nn.Parameter(torch.randn(shape, generator=generator).to(dtype)) for shape in shapes]


def set_gradients(parameters: Sequence[nn.Parameter], step: int) -> None:
    """Gradients that differ from step to step, the same for every copy of the parameters."""
    generator = torch.Generator().manual_seed(1000 + step)
    for parameter in parameters:
        parameter.grad = torch.randn(parameter.shape, generator=generator).to(parameter.dtype)


def run(
    parameters: list[nn.Parameter], optimizer: torch.optim.Optimizer, steps: int, first: int = 0
) -> list[torch.Tensor]:
    for step in range(first, first + steps):
        set_gradients(parameters, step)
        optimizer.step()
    return [parameter.detach().clone() for parameter in parameters]


def quadratic(seed: int = 0) -> tuple[nn.Parameter, Callable[[], torch.Tensor]]:
    """A least-squares problem in a matrix of which all directions count."""
    generator = torch.Generator().manual_seed(seed)
    target = torch.randn(24, 16, generator=generator)
    inputs = torch.randn(64, 16, generator=generator) * torch.arange(1, 17).float().pow(-0.5)
    weight = nn.Parameter(torch.zeros(24, 16))
    return weight, lambda: (inputs @ (weight - target).T).square().mean()
