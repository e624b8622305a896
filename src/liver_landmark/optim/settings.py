"""What may stand in a parameter group, checked when the group is added."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from .basis import check_projection

# GaLore's own projection types say which side is projected, and nothing else.
_GALORE_SIDES = {"std": "shorter", "reverse_std": "longer", "left": "left", "right": "right"}

# Of the settings of a group with `rank`.
PROJECTION_DEFAULTS: dict[str, Any] = {
    "update_proj_gap": 50,
    "scale": 1.0,
    "proj_type": "srft",
    "side": "longer",
    "oversampling": 0,
    "power_iterations": 0,
    "warm_start": False,
    "singular_basis": False,
    "moment_transfer": "none",
    "stagger": True,
    "matrix_axes": None,
    "seed": 0,
}
MOMENT_TRANSFERS = ("none", "rotate")
NONFINITE = ("raise", "skip")


def with_side_of_galore(group: dict[str, Any]) -> dict[str, Any]:
    """The group with one of GaLore's own values of `proj_type` taken as the `side` that it means.

    Such a group has no `proj_type` then, so that the default applies.
    """
    proj_type = group.get("proj_type")
    if proj_type == "full":
        raise ValueError(
            "proj_type: 'full' projects both sides, which is not supported: choose a side by 'left', "
            "'right', 'std' or 'reverse_std'"
        )
    if not isinstance(proj_type, str) or proj_type not in _GALORE_SIDES:
        return group
    rest = {name: value for name, value in group.items() if name != "proj_type"}
    return rest | {"side": _GALORE_SIDES[proj_type]}


def _number(name: str, value: Any) -> float:
    # Text is refused even where it spells a number: steps would fail on it.
    try:
        if not isinstance(value, str):
            return float(value)
    except TypeError:
        pass
    raise ValueError(f"{name} must be a number, got {value!r}")


def check_group(group: dict[str, Any]) -> None:
    """Raises a ValueError that names the first hyper-parameter that is out of its range."""
    for name in ("lr", "eps", "weight_decay"):
        value = _number(name, group[name])
        if not 0 <= value < math.inf:
            raise ValueError(f"{name} must be at least 0 and finite, got {value}")
    if group["eps"] == 0:
        # The step of a gradient of zero would be 0 / 0.
        raise ValueError("eps must be more than 0")
    for name, allowed in (("maximize", (True, False)), ("foreach", (True, False, None))):
        if not any(group[name] is value for value in allowed):
            raise ValueError(f"{name} must be one of {allowed}, got {group[name]!r}")
    betas = group["betas"]
    pair = isinstance(betas, Sequence) and len(betas) == 2
    if not pair or not all(0 <= _number("betas", beta) < 1 for beta in betas):
        raise ValueError(f"betas must be two numbers of at least 0 and below 1, got {betas}")
    if group["rank"] is not None:
        check_projected_group(group)


def check_projected_group(group: dict[str, Any]) -> None:
    """As `check_group`, for what concerns projection; settings that are missing have their defaults."""
    group = PROJECTION_DEFAULTS | with_side_of_galore(group)
    for name, least in (("rank", 1), ("update_proj_gap", 1), ("seed", 0)):
        value = group[name]
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ValueError(f"{name} must be an integer of at least {least}, got {value!r}")
    for name in ("warm_start", "singular_basis", "stagger"):
        if not isinstance(group[name], bool):
            raise ValueError(f"{name} must be True or False, got {group[name]!r}")
    if not 0 < _number("scale", group["scale"]) < math.inf:
        raise ValueError(f"scale must be positive and finite, got {group['scale']}")
    check_projection(group["proj_type"], group["side"], group["oversampling"], group["power_iterations"])
    if group["moment_transfer"] not in MOMENT_TRANSFERS:
        raise ValueError(
            f"moment_transfer: {group['moment_transfer']!r} is unknown: choose one of "
            f"{', '.join(MOMENT_TRANSFERS)}"
        )
    for name in ("warm_start", "singular_basis"):
        if group[name] and group["proj_type"] in ("svd", "srft_oblivious"):
            raise ValueError(f"{name} means nothing for proj_type {group['proj_type']}: set it to False")


def normalized_axes(matrix_axes: Sequence[Sequence[int]] | None, dimensions: int, name: str) -> tuple:
    """(batch axes, row axes, column axes) of a weight that is read as a matrix or a batch of matrices.

    Args:
        matrix_axes: (row axes, column axes); None: those of a 2-D weight.
        dimensions: The weight's.
        name: The weight's, for the message.

    Raises:
        ValueError: a weight that has no matrix, or axes that are not its own.
    """
    if dimensions < 2:
        raise ValueError(
            f"{name} has {dimensions} dimension(s) and no matrix to project: move it to a group without rank"
        )
    if matrix_axes is None:
        if dimensions > 2:
            raise ValueError(
                f"{name} has {dimensions} dimensions: say which form the matrix by matrix_axes, for a "
                "convolution ((0,), (1, 2, 3)), or move it to a group without rank"
            )
        return (), (0,), (1,)
    pair = isinstance(matrix_axes, Sequence) and len(matrix_axes) == 2
    if not pair or not all(isinstance(axes, Sequence) and axes for axes in matrix_axes):
        raise ValueError(f"matrix_axes must be (row axes, column axes), neither empty, got {matrix_axes}")
    named = [axis for axes in matrix_axes for axis in axes]
    if not all(isinstance(axis, int) and -dimensions <= axis < dimensions for axis in named):
        raise ValueError(
            f"matrix_axes {matrix_axes} must name axes of {name}'s {dimensions} by their numbers"
        )
    rows, columns = (tuple(axis % dimensions for axis in axes) for axes in matrix_axes)
    used = rows + columns
    if len(set(used)) < len(used):
        raise ValueError(f"matrix_axes {matrix_axes} must name different axes of {name}'s {dimensions}")
    return tuple(axis for axis in range(dimensions) if axis not in used), rows, columns
