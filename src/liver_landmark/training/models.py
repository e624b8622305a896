"""A recipe's model section -> a model whose weights are where the recipe says, and its processor."""

from __future__ import annotations

import json
import logging
from dataclasses import fields
from typing import Any

import torch

from .. import LiverLandmarkConfig, LiverLandmarkForSemanticSegmentation, LiverLandmarkImageProcessor
from ..utils.hub_configs import preset_folder
from .recipe import ModelConfig

logger = logging.getLogger(__name__)


def build_model(
    recipe: ModelConfig,
) -> tuple[LiverLandmarkForSemanticSegmentation, LiverLandmarkImageProcessor]:
    """Builds model (float32) and image processor.

    Random weights are drawn from torch's global generator: seed it first.

    Raises:
        ValueError: an architecture, field or combination that does not exist, or weights that do not
            fit the architecture.
        OSError: a folder or Hub id that cannot be read.
    """
    if recipe.architecture is None:
        config = LiverLandmarkConfig.from_pretrained(recipe.init)
        processor = LiverLandmarkImageProcessor.from_pretrained(recipe.init)
    else:
        try:
            folder = preset_folder(recipe.architecture)
        except ValueError as error:
            raise ValueError(f"model.architecture: {error}") from error
        config = LiverLandmarkConfig.from_pretrained(folder)
        processor = LiverLandmarkImageProcessor.from_pretrained(folder)
    config = _with_overrides(config, recipe.overrides)
    # Of the weights that training starts from, not of those that it ends with.
    config.presence_calibration = None
    if recipe.init == "random":
        model = LiverLandmarkForSemanticSegmentation(config)
    elif recipe.init == "encoders":
        model = _from_encoders(recipe, config)
    else:
        model = _from_whole_model(recipe.init, config)
    # Training in half precision goes by autocast; the weights that the optimizer moves are float32.
    return model.to(torch.float32), processor


def _config_fields() -> set[str]:
    return {field.name for field in fields(LiverLandmarkConfig)}


def _with_overrides(config: LiverLandmarkConfig, overrides: dict[str, Any]) -> LiverLandmarkConfig:
    for name in overrides:
        if name not in _config_fields():
            raise ValueError(f"model.overrides.{name} is no field of the model's configuration")
    # Built anew, not set one by one, so that the configuration checks its fields.
    return LiverLandmarkConfig.from_dict(config.to_dict() | overrides) if overrides else config


def _from_encoders(recipe: ModelConfig, config: LiverLandmarkConfig) -> LiverLandmarkForSemanticSegmentation:
    if config.use_depth != (recipe.depth is not None):
        needs = "needs" if config.use_depth else "takes no"
        raise ValueError(f"model.depth: architecture {recipe.architecture!r} {needs} depth checkpoint")
    # The encoders' shapes come from their checkpoints, everything else from the architecture.
    written = json.loads(config.to_json_string(use_diff=False))
    elsewhere = {"vision_config", "depth_config", "architectures", "dtype", "transformers_version"}
    own = {name: written[name] for name in _config_fields() - elsewhere if name in written}
    return LiverLandmarkForSemanticSegmentation.from_vision_depth_pretrained(
        recipe.vision, recipe.depth, **own
    )


def _from_whole_model(init: str, config: LiverLandmarkConfig) -> LiverLandmarkForSemanticSegmentation:
    # Mismatches are let through so that they come out below, in one line like the other problems.
    model, info = LiverLandmarkForSemanticSegmentation.from_pretrained(
        init, config=config, dtype=torch.float32, output_loading_info=True, ignore_mismatched_sizes=True
    )
    # transformers would fill the gaps with random weights and go on with a warning.
    for problem in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if info[problem]:
            name = sorted(map(str, info[problem]))[0]
            raise ValueError(
                f"model.init: {init} does not fit the architecture: {problem.removesuffix('_keys')} {name} "
                f"({len(info[problem])} in all); set model.architecture to null to take the folder's own"
            )
    return model
