"""Which parameters train: the recipe's `trainable` section applied to a model."""

from __future__ import annotations

import re

from torch import nn

from .. import LiverLandmarkForSemanticSegmentation
from .recipe import TrainableConfig

_ATTENTIONS = LiverLandmarkForSemanticSegmentation.galore_target_modules

# (field, choice) -> pattern of the full names of the parameters that train.
_PATTERNS: dict[tuple[str, str | bool], str] = {
    ("vision", "all"): r"vision_branch\.encoder\..*",
    ("vision", "attention"): rf"{_ATTENTIONS['vision']}\.weight",
    ("depth", "all"): r"depth_branch\.encoder\..*",
    ("depth", "attention"): rf"{_ATTENTIONS['depth']}\.weight",
    # Without the projection the fusion would ask with random features.
    ("fusion", True): r"(depth_branch\.projection|fusion)\..*",
    ("decoder", True): r"decoder\..*",
}
# Parts that an RGB-only model does not have, whatever the recipe says of them.
_DEPTH_PARTS = ("depth", "fusion")


def freeze_all_but(model: nn.Module, trainable: TrainableConfig) -> list[str]:
    """Freezes every parameter of `model` that `trainable` does not name.

    Parameters that the model itself has frozen, because they could never get a gradient, stay frozen.

    Returns:
        The names of the parameters that train.

    Raises:
        ValueError: a choice that matches no parameter of this model, or nothing that trains.
    """
    has_depth = any(name.startswith("depth_branch.") for name, _ in model.named_parameters())
    patterns: list[re.Pattern] = []
    for field in ("vision", "depth", "fusion", "decoder"):
        choice = getattr(trainable, field)
        if choice in (False, "none") or (field in _DEPTH_PARTS and not has_depth):
            continue
        pattern = re.compile(_PATTERNS[field, choice])
        if not any(pattern.fullmatch(name) and p.requires_grad for name, p in model.named_parameters()):
            raise ValueError(
                f"trainable.{field}: {choice} matches no trainable parameter of this model "
                f"(pattern {pattern.pattern})"
            )
        patterns.append(pattern)
    if not patterns:
        raise ValueError("trainable: nothing trains: vision, depth, fusion and decoder are all frozen")

    names = []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and any(pattern.fullmatch(name) for pattern in patterns):
            names.append(name)
        else:
            parameter.requires_grad_(False)
    return names
