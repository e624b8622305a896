"""Encoder weights from SAM 2 and Depth Anything V2 checkpoints, by Hub id or from a folder."""

from __future__ import annotations

import logging as python_logging
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, PreTrainedConfig, PreTrainedModel
from transformers.utils import logging

logger = logging.get_logger(__name__)


@dataclass(frozen=True)
class _Layout:
    """Where one type of checkpoint keeps the encoder: its config, and the prefix of its tensors."""

    config_field: str | None
    prefix: str


# Released SAM 2.1 folders are of type sam2_video; a saved encoder alone is a sam2_vision_model.
_VISION_LAYOUTS = {
    "sam2": _Layout("vision_config", "vision_encoder."),
    "sam2_video": _Layout("vision_config", "vision_encoder."),
    "sam2_vision_model": _Layout(None, ""),
}
_DEPTH_LAYOUTS = {
    "depth_anything": _Layout("backbone_config", "backbone."),
    "dinov2": _Layout(None, ""),
}


def _read_layout(
    kind: str, source: str | os.PathLike, layouts: dict[str, _Layout], hub_kwargs: dict[str, Any]
) -> tuple[_Layout, PreTrainedConfig]:
    """The layout and the encoder's config of a checkpoint; a ValueError names one of another type."""
    config = AutoConfig.from_pretrained(source, **hub_kwargs)
    layout = layouts.get(config.model_type)
    if layout is None:
        raise ValueError(
            f"{kind} checkpoint {source} is of type {config.model_type!r}: "
            f"expected one of {', '.join(layouts)}"
        )
    return layout, config if layout.config_field is None else getattr(config, layout.config_field)


def read_branch_configs(
    vision: str | os.PathLike, depth: str | os.PathLike | None, hub_kwargs: dict[str, Any]
) -> dict[str, PreTrainedConfig]:
    """The `vision_config` and, with a depth checkpoint, the `depth_config` that the checkpoints have."""
    configs = {"vision_config": _read_layout("vision", vision, _VISION_LAYOUTS, hub_kwargs)[1]}
    if depth is not None:
        configs["depth_config"] = _read_layout("depth", depth, _DEPTH_LAYOUTS, hub_kwargs)[1]
    return configs


def load_branches(
    model: nn.Module,
    vision: str | os.PathLike,
    depth: str | os.PathLike | None,
    hub_kwargs: dict[str, Any],
) -> dict[str, dict[str, list[str]]]:
    """Copies the checkpoints' encoder weights into a model built with `read_branch_configs`.

    Returns:
        For "vision" and "depth": the tensors "loaded" (names in the encoder) and "left_out" (names in
        the checkpoint).
    """
    info = {
        "vision": _load_encoder("vision", model.vision_branch.encoder, vision, _VISION_LAYOUTS, hub_kwargs)
    }
    if depth is not None:
        info["depth"] = _load_encoder("depth", model.depth_branch.encoder, depth, _DEPTH_LAYOUTS, hub_kwargs)
    return info


def _load_encoder(
    kind: str,
    encoder: PreTrainedModel,
    source: str | os.PathLike,
    layouts: dict[str, _Layout],
    hub_kwargs: dict[str, Any],
) -> dict[str, list[str]]:
    layout, _ = _read_layout(kind, source, layouts, hub_kwargs)
    key_mapping = {f"^{layout.prefix.replace('.', '[.]')}": ""} if layout.prefix else None
    with _complete_and_quiet_report(type(encoder)):
        # transformers' own loader, because it knows the names on disk of every version.
        loaded, report = type(encoder).from_pretrained(
            source,
            config=encoder.config,
            key_mapping=key_mapping,
            dtype=torch.float32,
            output_loading_info=True,
            **hub_kwargs,
        )
    missing = sorted(report["missing_keys"])
    if missing:
        raise ValueError(
            f"{kind} checkpoint {source} lacks {len(missing)} tensors of the encoder, {missing[0]} first: "
            "is it complete?"
        )
    weights = loaded.state_dict()
    encoder.load_state_dict(weights)
    left_out = sorted(report["unexpected_keys"])
    parameters = sum(weight.numel() for weight in weights.values())
    parts = Counter(name.split(".")[0] for name in left_out)
    logger.warning(
        f"{kind} encoder: loaded {len(weights)} tensors ({parameters / 1e6:.1f} M parameters) from {source}; "
        f"left out {len(left_out)}"
        + (f" ({', '.join(f'{part} {count}' for part, count in sorted(parts.items()))})" if parts else "")
    )
    return {"loaded": sorted(weights), "left_out": left_out}


@contextmanager
def _complete_and_quiet_report(encoder_class: type[PreTrainedModel]) -> Iterator[None]:
    """Makes the loading info complete, and holds back its table, a hundred lines long; ours is one line."""

    def keep(record: python_logging.LogRecord) -> bool:
        return "LOAD REPORT" not in record.getMessage()

    # SAM 2's base class keeps silent about the video model's tensors; what is left out is to be told.
    # The attribute is changed where it is defined, because the encoder's children read it too.
    field = "_keys_to_ignore_on_load_unexpected"
    owner = next(ancestor for ancestor in encoder_class.__mro__ if field in vars(ancestor))
    ignored = getattr(owner, field)
    upstream = logging.get_logger("transformers.modeling_utils")
    upstream.addFilter(keep)
    setattr(owner, field, None)
    try:
        yield
    finally:
        setattr(owner, field, ignored)
        upstream.removeFilter(keep)


__all__ = ["load_branches", "read_branch_configs"]
