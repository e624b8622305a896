"""A recipe's model section -> a model whose weights are where the recipe says, and its processor."""

from __future__ import annotations

import json
import logging
from dataclasses import fields
from typing import Any

import torch

from .. import LiverLandmarkConfig, LiverLandmarkForSemanticSegmentation, LiverLandmarkImageProcessor
from ..model.decoders_liver_landmark import OneRowPerClass
from ..model.landmarks_liver_landmark import LandmarkTable
from ..utils.hub_configs import preset_folder
from .recipe import ModelConfig

logger = logging.getLogger(__name__)


def build_model(
    recipe: ModelConfig, dataset: LandmarkTable | None = None
) -> tuple[LiverLandmarkForSemanticSegmentation, LiverLandmarkImageProcessor]:
    """Builds model (float32) and image processor.

    Random weights are drawn from torch's global generator: seed it first.

    Args:
        recipe: The recipe's model section.
        dataset: The landmarks of the data that the model is to learn from; None: they are not looked at.

    Raises:
        ValueError: an architecture, field or combination that does not exist, weights that do not fit the
            architecture, or landmarks that are not those of the data.
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
    # Of the weights that training starts from, not of those that it ends with.
    config.presence_calibration = None
    # With the landmarks of the weights: `label_colors` may name others.
    start = _with_overrides(config, {k: v for k, v in recipe.overrides.items() if k != "label_colors"})
    config = _with_overrides(_with_labels(config, recipe.labels), recipe.overrides)
    if dataset is not None:
        _check_landmarks(recipe.labels, config.landmark_table, dataset)
    if recipe.init == "random":
        model = LiverLandmarkForSemanticSegmentation(config)
    elif recipe.init == "encoders":
        model = _from_encoders(recipe, config)
    else:
        model = _from_whole_model(recipe.init, start)
        if start.landmark_table.class_names != config.landmark_table.class_names:
            model = _with_other_head(model, config)
        model.config.label_colors = config.label_colors
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


def _with_labels(config: LiverLandmarkConfig, labels: list[str] | None) -> LiverLandmarkConfig:
    """The configuration with these landmarks; those that it has already keep their colors."""
    if labels is None:
        return config
    known = config.landmark_table
    colors = {name: color for name, color in known.colors.items() if name in labels}
    table = LandmarkTable.from_names(labels, colors, known.background)
    fields = {"id2label": table.id2label, "label_colors": {name: list(c) for name, c in table.colors.items()}}
    # `label2id` follows from it.
    kept = {name: value for name, value in config.to_dict().items() if name != "label2id"}
    return LiverLandmarkConfig.from_dict(kept | fields)


def _check_landmarks(labels: list[str] | None, model: LandmarkTable, dataset: LandmarkTable) -> None:
    """Raises a ValueError where a dataset lacks a landmark of the model, or the recipe does not say which."""
    missing = [name for name in model.names if name not in dataset.names]
    if labels is not None and missing:
        raise ValueError(
            f"model.labels: the dataset has no landmark {missing[0]!r} "
            f"(there are: {', '.join(dataset.names)})"
        )
    if labels is None and set(model.names) != set(dataset.names):
        raise ValueError(
            f"model.labels must be set: the model's landmarks are {', '.join(model.names)}, those of the "
            f"dataset {', '.join(dataset.names)}; for these: model.labels: [{', '.join(dataset.names)}]"
        )


def _with_other_head(
    model: LiverLandmarkForSemanticSegmentation, config: LiverLandmarkConfig
) -> LiverLandmarkForSemanticSegmentation:
    """The model with other classes: what its decoder knows of a class is carried over by the class's name.

    Classes that it does not know start as in a new model.
    """
    old_names, new_names = (c.landmark_table.class_names for c in (model.config, config))
    changed = LiverLandmarkForSemanticSegmentation(config)
    weights, new_weights = model.state_dict(), changed.state_dict()
    keys = [
        f"{name}.{part}"
        for name, module in changed.named_modules()
        if isinstance(module, OneRowPerClass)
        for part, _ in module.named_parameters(recurse=False)
    ]
    for key in keys:
        rows = new_weights[key].clone()
        for row, name in enumerate(new_names):
            # The background is class 0, whatever its name.
            if row == 0 or name in old_names[1:]:
                rows[row] = weights[key][0 if row == 0 else old_names.index(name, 1)]
        weights[key] = rows
    changed.load_state_dict(weights)
    return changed


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
