"""Taking over a saved state: what fits which parameter, in which precision and where."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.distributed.tensor import DTensor

from .projection import Projection

# Scalars that stay on the CPU: reading them must not wait for a GPU.
_COUNTERS = {"step": torch.float32, "refresh_count": torch.int64}


def check_groups(groups: Sequence[dict[str, Any]], saved_groups: Sequence[dict[str, Any]]) -> None:
    """Raises a ValueError where saved groups cannot be those of an optimizer with `groups`."""
    if len(groups) != len(saved_groups):
        raise ValueError(
            f"the loaded state has {len(saved_groups)} parameter group(s), this optimizer {len(groups)}: "
            "build it as the one that was saved"
        )
    for index, (group, saved) in enumerate(zip(groups, saved_groups, strict=True)):
        if len(group["params"]) != len(saved["params"]):
            raise ValueError(
                f"group {index} of the loaded state has {len(saved['params'])} parameter(s), this "
                f"optimizer's {len(group['params'])}{_first_difference(group, saved)}: build it as the one "
                "that was saved"
            )
        ours, theirs = group.get("param_names"), saved.get("param_names")
        if ours and theirs and ours != theirs and sorted(ours) == sorted(theirs):
            name = next(name for name, other in zip(ours, theirs, strict=True) if name != other)
            raise ValueError(
                f"group {index} of the loaded state has its parameters in another order, from {name} on: "
                "build the optimizer as the one that was saved"
            )
        if group["rank"] is not None and "rank" not in saved:
            raise ValueError(
                f"group {index} of the loaded state has no rank, this optimizer's has {group['rank']}: "
                "the state is another optimizer's"
            )


def _first_difference(group: dict[str, Any], saved: dict[str, Any]) -> str:
    """The first name that only one of two groups of different sizes has; nothing without names."""
    ours, theirs = group.get("param_names", []), saved.get("param_names", [])
    alone = [name for name in [*ours, *theirs] if (name in ours) != (name in theirs)]
    return f" (only one has {alone[0]})" if ours and theirs and alone else ""


def restored_state(
    saved: dict[str, torch.Tensor],
    parameter: torch.Tensor,
    projection: Projection | None,
    stores_basis: bool,
    name: str,
) -> dict[str, torch.Tensor]:
    """Copies of one parameter's saved state, where and in the precision that steps need them.

    Args:
        saved: Its part of a `state_dict()`.
        parameter: The parameter.
        projection: How it is projected; None: not at all.
        stores_basis: Whether its basis is state.
        name: Its name, for the message.

    Raises:
        ValueError: an entry that is missing or of another shape.
    """
    moments = torch.promote_types(parameter.dtype, torch.float32)
    shape = tuple(parameter.shape if projection is None else projection.moment_shape)
    expected: dict[str, tuple[tuple[int, ...], torch.dtype]] = {
        "step": ((), _COUNTERS["step"]),
        "exp_avg": (shape, moments),
        "exp_avg_sq": (shape, moments),
    }
    if projection is not None:
        expected["refresh_count"] = ((), _COUNTERS["refresh_count"])
        if stores_basis:
            expected["basis"] = (tuple(projection.basis_shape), torch.float32)
    restored = {}
    for key, (shape, dtype) in expected.items():
        value = saved.get(key)
        if not isinstance(value, torch.Tensor):
            problem = "missing" if key not in saved else "no tensor"
            raise ValueError(f"the state of {name} does not fit: {key} is {problem}, expected {shape}")
        found = tuple(value.shape)
        if found != shape:
            raise ValueError(f"the state of {name} does not fit: {key} is {found}, expected {shape}")
        if key not in _COUNTERS and isinstance(value, DTensor) != isinstance(parameter, DTensor):
            raise ValueError(
                f"the state of {name} does not fit: of {key} and the parameter only one is sharded: load it "
                "by torch.distributed.checkpoint"
            )
        device = "cpu" if key in _COUNTERS else parameter.device
        restored[key] = saved[key].detach().to(device, dtype, copy=True)
    return restored
