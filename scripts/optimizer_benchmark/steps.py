"""What a step costs between refreshes and over a cycle of them, and what the state holds."""

from __future__ import annotations

import statistics
import types
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from liver_landmark.optim import SRFTGaLoreAdamW

from .matrices import Shape
from .refresh import Refresh
from .timing import interleave, seconds_of

# More steps than any run takes: after the first one, nothing is refreshed.
NEVER = 10**9
# What the machine alone does to the longest of as many steps.
UNREFRESHED = {"update_proj_gap": NEVER, "stagger": False}
# Equal work for all: APOLLO and GaLore leave the decay out where it is 0.
SETTINGS = {"lr": 1e-5, "weight_decay": 0.01}

Parameters = list[torch.nn.Parameter]


@dataclass(frozen=True)
class Stepper:
    """An optimizer of the list of matrices.

    Attributes:
        build: Parameters and rank to an optimizer that refreshes at its first step only.
        methods: The refresh methods whose steps and state are these.
    """

    build: Callable[[Parameters, int], torch.optim.Optimizer]
    methods: tuple[str, ...]


def steppers(
    methods: Mapping[str, Refresh], peers: Mapping[str, types.ModuleType], adamw: bool
) -> dict[str, Stepper]:
    """The optimizers to measure, by name. Projectors that store a basis share one: they differ at refreshes.

    Args:
        methods: The refresh methods of this run.
        peers: Modules of the peers that are installed.
        adamw: Whether PyTorch's AdamW, which projects nothing, is among them.
    """

    def own(proj_type: str) -> Callable[[Parameters, int], torch.optim.Optimizer]:
        group = {"proj_type": proj_type, "update_proj_gap": NEVER, "stagger": False}
        return lambda parameters, rank: SRFTGaLoreAdamW(parameters, rank=rank, **group, **SETTINGS)

    found = {}
    proj_types = {name: method.settings["proj_type"] for name, method in methods.items() if method.settings}
    storing = [name for name, proj_type in proj_types.items() if proj_type != "srft_oblivious"]
    if storing:
        found["srft"] = Stepper(own("srft"), tuple(storing))
    if "srft_oblivious" in methods:
        found["srft_oblivious"] = Stepper(own("srft_oblivious"), ("srft_oblivious",))
    galore = {"update_proj_gap": NEVER, "scale": 1.0}
    for name, extra in (
        ("galore-torch", galore | {"proj_type": "std"}),
        ("pytorch-optimizer", galore | {"projection_type": "std"}),
        ("apollo-torch", galore | {"proj_type": "std", "proj": "random", "scale_type": "channel"}),
    ):
        if name in peers:
            module = peers[name]
            optimizer = module.GaLore if name == "pytorch-optimizer" else module.AdamW
            # Both of the others warn that transformers' AdamW, which they derive from, is deprecated.
            quiet = {} if name == "pytorch-optimizer" else {"no_deprecation_warning": True}
            found[name] = Stepper(_peer(optimizer, extra, quiet), (name,))
    if adamw:
        found["adamw"] = Stepper(lambda parameters, _: torch.optim.AdamW(parameters, **SETTINGS), ("adamw",))
    return found


def _peer(
    optimizer: Callable[..., torch.optim.Optimizer], group: dict[str, Any], options: dict[str, Any]
) -> Callable[[Parameters, int], torch.optim.Optimizer]:
    return lambda parameters, rank: optimizer(
        [{"params": parameters, "rank": rank, **group}], **SETTINGS, **options
    )


def random_parameters(shapes: list[Shape], device: torch.device) -> Parameters:
    """Parameters of these shapes with normal entries, and gradients that are normal too."""
    generator = torch.Generator().manual_seed(0)
    parameters = []
    for shape in shapes:
        parameter = torch.nn.Parameter((0.02 * torch.randn(shape, generator=generator)).to(device))
        parameter.grad = (0.01 * torch.randn(shape, generator=generator)).to(device)
        parameters.append(parameter)
    return parameters


def measure_steps(
    optimizers: Mapping[str, torch.optim.Optimizer], steps: int, device: torch.device
) -> dict[str, list[float]]:
    """Milliseconds of each step between refreshes; each round takes one step with each optimizer.

    The first step, which refreshes, and a second one are taken before.
    """
    for optimizer in optimizers.values():
        optimizer.step()
        optimizer.step()
    measurements = {
        name: (lambda _, optimizer=optimizer: 1000 * seconds_of(optimizer.step, device))
        for name, optimizer in optimizers.items()
    }
    return interleave(measurements, steps)


def measure_staggered(
    parameters: Parameters, rank: int, gap: int, settings: Mapping[str, Any], device: torch.device
) -> dict[str, Any]:
    """How evenly the refreshes are spread over two cycles of `gap` steps, after the first step.

    Returns:
        `step_ms` in order, their `median_ms` and `max_ms`; `max_over_median`; and `repeated_max_ms`, the
        largest over a cycle's positions of the quicker one of the two cycles: equal work is done at both,
        so that a disturbance of the machine does not count.
    """
    group = {"update_proj_gap": gap, "stagger": True} | settings
    optimizer = SRFTGaLoreAdamW(parameters, rank=rank, **group, **SETTINGS)
    first_ms = 1000 * seconds_of(optimizer.step, device)
    step_ms = [1000 * seconds_of(optimizer.step, device) for _ in range(2 * gap)]
    median_ms = statistics.median(step_ms)
    repeated_max_ms = max(map(min, step_ms[:gap], step_ms[gap:]))
    return {
        "gap": gap,
        "first_step_ms": first_ms,
        "median_ms": median_ms,
        "max_ms": max(step_ms),
        "max_over_median": max(step_ms) / median_ms,
        "repeated_max_ms": repeated_max_ms,
        "repeated_max_over_median": repeated_max_ms / median_ms,
        "step_ms": step_ms,
    }


def state_bytes(optimizer: torch.optim.Optimizer) -> int:
    """Bytes that the optimizer's state keeps alive.

    Each storage counts once and as a whole, however small the view of it. Tensors are found in containers
    and in the attributes of objects, such as a projector.
    """
    storages = (tensor.untyped_storage() for tensor in _tensors(list(optimizer.state.values()), set()))
    unique = {(storage.device, storage.data_ptr()): storage.nbytes() for storage in storages}
    return sum(unique.values())


def _tensors(value: Any, seen: set[int]) -> Iterator[torch.Tensor]:
    if id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, torch.Tensor):
        yield value
        return
    if isinstance(value, Mapping):
        parts = list(value.values())
    elif isinstance(value, list | tuple):
        parts = list(value)
    else:
        parts = list(getattr(value, "__dict__", {}).values())
    for part in parts:
        yield from _tensors(part, seen)
