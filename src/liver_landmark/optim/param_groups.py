"""Parameter groups of the optimizer: which weights are projected, and the settings a group may have."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn


# The settings of a group, checked when it is added.

# How a basis is found: by a sketch of the gradient (`basis` has one function for each), or otherwise.
SKETCHED_TYPES = ("srft", "srft_energy", "gaussian")
PROJ_TYPES = (*SKETCHED_TYPES, "srft_oblivious", "svd")
SIDES = ("longer", "shorter", "left", "right")
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


def check_projection(proj_type: str, side: str, oversampling: int, power_iterations: int) -> None:
    """Raises a ValueError that names the first of the four that cannot be."""
    if not isinstance(proj_type, str) or proj_type not in PROJ_TYPES:
        raise ValueError(f"proj_type: {proj_type!r} is unknown: choose one of {', '.join(PROJ_TYPES)}")
    if not isinstance(side, str) or side not in SIDES:
        raise ValueError(f"side: {side!r} is unknown: choose one of {', '.join(SIDES)}")
    for name, value in (("oversampling", oversampling), ("power_iterations", power_iterations)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise ValueError(f"{name} must be an integer of at least 0, got {value!r}")
        if value and proj_type not in SKETCHED_TYPES:
            raise ValueError(
                f"{name} means nothing for proj_type {proj_type}: set it to 0, or choose one of "
                f"{', '.join(SKETCHED_TYPES)}"
            )


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


# Which weights of a model are projected.

_GROUP_KEYS = (*PROJECTION_DEFAULTS, "lr", "betas", "eps", "weight_decay", "maximize", "foreach")


def galore_param_groups(
    model: nn.Module,
    target_modules: str | Iterable[str] | None = None,
    rank: int = 128,
    *,
    depth: bool = False,
    **settings: Any,
) -> list[dict[str, Any]]:
    """Parameter groups for `SRFTGaLoreAdamW`: the weights of chosen modules projected, the rest not.

    Args:
        model: The model itself, before it is wrapped for several processes. Frozen parameters are left out.
        target_modules: The modules whose `weight` is projected: a regular expression that their full name
            must match as a whole, or names, each the last part or parts of a full name (`qkv`,
            `attn.qkv`). None: the model's own default, its attribute `galore_target_modules`; for
            `LiverLandmarkForSemanticSegmentation` the `qkv` and `proj` of the vision encoder's attentions.
        rank: k.
        depth: With the model's own default: also the `q_proj` … `o_proj` of the depth encoder.
        **settings: More keys of the projected group: update_proj_gap, scale, proj_type, side, lr, …

    Returns:
        [projected, rest], parameters as (name, parameter); without `rest` where nothing is left.

    Raises:
        ValueError: something that was asked for matches no weight that trains, target_modules is missing
            for a model without a default, or an unknown setting.
    """
    from torch import nn  # here, so that a recipe's settings are checked without it

    unknown = sorted(settings.keys() - _GROUP_KEYS)
    if unknown:
        raise ValueError(f"{unknown[0]} is no setting of a group: choose among {', '.join(_GROUP_KEYS)}")
    # By identity: a tied weight has one name for each of its modules, and named_parameters() gives one.
    targets: set[int] = set()
    for wanted, pattern in _patterns(model, target_modules, depth).items():
        weights = [
            module.weight
            for name, module in model.named_modules(remove_duplicate=False)
            if pattern.fullmatch(name) and isinstance(getattr(module, "weight", None), nn.Parameter)
        ]
        if not any(weight.requires_grad for weight in weights):
            frozen = " (the modules are there, but their weights are frozen)" if weights else ""
            raise ValueError(
                f"target_modules: {wanted!r} matches no weight that trains{frozen}: compare it with the "
                "names of model.named_modules()"
            )
        targets |= {id(weight) for weight in weights}
    trains = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    projected = [(name, parameter) for name, parameter in trains if id(parameter) in targets]
    rest = [(name, parameter) for name, parameter in trains if id(parameter) not in targets]
    groups: list[dict[str, Any]] = [{"params": projected, "rank": rank, **settings}]
    return groups + ([{"params": rest}] if rest else [])


def _patterns(
    model: nn.Module, target_modules: str | Iterable[str] | None, depth: bool
) -> dict[str, re.Pattern[str]]:
    """What was asked for -> the pattern of full module names."""
    if target_modules is None:
        defaults = getattr(model, "galore_target_modules", None)
        if defaults is None:
            raise ValueError(
                f"target_modules must be given: {type(model).__name__} names no default of its own"
            )
        wanted = [defaults["vision"], defaults["depth"]] if depth else [defaults["vision"]]
        return {expression: re.compile(expression) for expression in wanted}
    if depth:
        raise ValueError(
            "depth goes with the model's own default: name its modules in target_modules instead"
        )
    if isinstance(target_modules, str):
        try:
            return {target_modules: re.compile(target_modules)}
        except re.error as error:
            raise ValueError(
                f"target_modules: {target_modules!r} is no regular expression: {error}"
            ) from error
    patterns = {name: re.compile(rf"(.*\.)?{re.escape(name)}") for name in target_modules}
    if not patterns:
        raise ValueError("target_modules names no module")
    return patterns
