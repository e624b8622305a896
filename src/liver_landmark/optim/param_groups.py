"""Which weights of a model are projected."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from torch import nn

from .settings import PROJECTION_DEFAULTS

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
