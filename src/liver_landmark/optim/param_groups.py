"""Which weights of a model are projected."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from torch import nn


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
        ValueError: something that was asked for matches no weight that trains, or target_modules is
            missing for a model without a default.
    """
    patterns = _patterns(model, target_modules, depth)
    trains = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    targets = []
    for wanted, pattern in patterns.items():
        matches = [
            f"{name}.weight" if name else "weight"
            for name, _ in model.named_modules()
            if pattern.fullmatch(name)
        ]
        if not any(name in trains for name in matches):
            frozen = " (the modules are there, but their weights are frozen)" if matches else ""
            raise ValueError(
                f"target_modules: {wanted!r} matches no weight that trains{frozen}: compare it with the "
                "names of model.named_modules()"
            )
        targets += matches
    projected = [(name, trains[name]) for name in trains if name in set(targets)]
    rest = [(name, trains[name]) for name in trains if name not in set(targets)]
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
        return {target_modules: re.compile(target_modules)}
    patterns = {name: re.compile(rf"(.*\.)?{re.escape(name)}") for name in target_modules}
    if not patterns:
        raise ValueError("target_modules names no module")
    return patterns
