"""A network with every kind of weight, and optimizers for it, for the tests of state."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from liver_landmark.optim import SRFTGaLoreAdamW

# Of each projected weight, as a matrix: long side, short side, rank.
LINEAR, CONVOLUTION = [(24, 10, 4), (24, 10, 4), (20, 8, 4)], (27, 6, 3)


@dataclass(frozen=True)
class Configuration:
    """Settings of the projected groups, and the weights' dtype."""

    settings: dict[str, Any] = field(default_factory=dict)
    dtype: torch.dtype = torch.float32


CONFIGURATIONS = {
    "srft": Configuration(),
    "rotated": Configuration({"moment_transfer": "rotate", "singular_basis": True, "oversampling": 2}),
    "oblivious": Configuration({"proj_type": "srft_oblivious", "moment_transfer": "rotate"}),
    "svd": Configuration({"proj_type": "svd", "side": "shorter", "stagger": False}),
    "warm_start": Configuration({"warm_start": True, "power_iterations": 1}),
    "batched": Configuration({"foreach": True, "stagger": False, "moment_transfer": "rotate"}),
    "loop": Configuration({"foreach": False, "proj_type": "gaussian"}),
    "bf16": Configuration({"moment_transfer": "rotate"}, torch.bfloat16),
    "bf16_batched": Configuration({"foreach": True, "proj_type": "srft_energy"}, torch.bfloat16),
    "float64": Configuration({"moment_transfer": "rotate"}, torch.float64),
}


class Network(nn.Module):
    """Weights only: their gradients are set by hand. Two have one shape, one is wide, one a convolution."""

    def __init__(self, seed: int = 0, dtype: torch.dtype = torch.float32, rows: int = 24) -> None:
        super().__init__()
        self.first = nn.Linear(10, rows)
        self.second = nn.Linear(10, 24)
        self.wide = nn.Linear(20, 8, bias=False)
        self.convolution = nn.Conv2d(3, 6, 3)
        self.norm = nn.LayerNorm(8)
        self.to(dtype)
        generator = torch.Generator().manual_seed(seed)
        for parameter in self.parameters():
            parameter.data.copy_(torch.randn(parameter.shape, generator=generator))

    def set_gradients(self, step: int) -> None:
        """Of weights and step, so that one wrong bit is carried on."""
        generator = torch.Generator().manual_seed(1000 + step)
        for parameter in self.parameters():
            noise = torch.randn(parameter.shape, generator=generator).to(parameter)
            parameter.grad = noise + 0.1 * parameter.detach()


def build_optimizer(network: Network, lr: float = 0.02, **settings: Any) -> SRFTGaLoreAdamW:
    """Three groups: linear weights, the convolution's, and the rest without rank."""
    rest = dict(network.named_parameters())
    linear = [(name, rest.pop(name)) for name in ("first.weight", "second.weight", "wide.weight")]
    convolution = [("convolution.weight", rest.pop("convolution.weight"))]
    projected = {"update_proj_gap": 7} | settings
    groups = [
        {"params": linear, "rank": LINEAR[0][2]} | projected,
        {"params": convolution, "rank": CONVOLUTION[2], "matrix_axes": ((0,), (1, 2, 3))} | projected,
        {"params": list(rest.items()), "lr": lr / 2},
    ]
    return SRFTGaLoreAdamW(groups, lr=lr, weight_decay=0.1)


def take_steps(network: Network, optimizer: torch.optim.Optimizer, steps: Iterable[int]) -> None:
    """One step for each number, and Python's and torch's generators stay where they are."""
    for step in steps:
        network.set_gradients(step)
        before = torch.get_rng_state(), random.getstate()
        optimizer.step()
        assert torch.equal(torch.get_rng_state(), before[0])
        assert random.getstate() == before[1]


def assert_equal_runs(
    one: tuple[Network, torch.optim.Optimizer], other: tuple[Network, torch.optim.Optimizer]
) -> None:
    """Same weights, same state, same dtypes, bit for bit."""
    for (name, ours), theirs in zip(one[0].named_parameters(), other[0].parameters(), strict=True):
        assert torch.equal(ours, theirs), name
    ours, theirs = (optimizer.state_dict()["state"] for _, optimizer in (one, other))
    assert_equal_states(ours, theirs)


def assert_equal_states(ours: dict[int, Any], theirs: dict[int, Any]) -> None:
    """Two `state_dict()["state"]`: the same entries, dtypes and bits."""
    assert ours.keys() == theirs.keys()
    for index, entries in ours.items():
        assert entries.keys() == theirs[index].keys()
        for key, value in entries.items():
            assert value.dtype == theirs[index][key].dtype, (index, key)
            assert torch.equal(value, theirs[index][key]), (index, key)
