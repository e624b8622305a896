"""Where a run's weights start: random, from encoder checkpoints, or from a whole model."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import (
    DepthAnythingConfig,
    DepthAnythingForDepthEstimation,
    Sam2VideoConfig,
    Sam2VideoModel,
)

from liver_landmark import LiverLandmarkImageProcessor
from liver_landmark.training.models import build_model
from liver_landmark.training.recipe import ModelConfig
from tiny_models import TINY_DEPTH, TINY_VISION, tiny_config, tiny_model


@pytest.fixture
def architecture(tmp_path: Path) -> Path:
    """A folder whose configuration differs from the defaults wherever the encoders leave it free."""
    folder = tmp_path / "architecture"
    tiny_config(
        decoder_channels=[24, 16, 8], decoder_type="released", norm_type="batch", fusion_residual="none"
    ).save_pretrained(folder)
    LiverLandmarkImageProcessor(size={"height": 128, "width": 128}).save_pretrained(folder)
    return folder


def test_encoders_bring_weights_and_the_architecture_all_else(architecture: Path, tmp_path: Path) -> None:
    sam = Sam2VideoModel(Sam2VideoConfig(vision_config=TINY_VISION))
    sam.save_pretrained(tmp_path / "sam")
    backbone = {**TINY_DEPTH, "reshape_hidden_states": False}
    DepthAnythingForDepthEstimation(
        DepthAnythingConfig(
            backbone_config=backbone,
            neck_hidden_sizes=[8, 8, 8, 8],
            fusion_hidden_size=8,
            reassemble_hidden_size=32,
        )
    ).save_pretrained(tmp_path / "depth")
    model, processor = build_model(
        ModelConfig(
            architecture=str(architecture),
            init="encoders",
            vision=str(tmp_path / "sam"),
            depth=str(tmp_path / "depth"),
        )
    )
    config = model.config
    assert config.decoder_channels == [24, 16, 8]
    assert (config.decoder_type, config.norm_type, config.fusion_residual) == ("released", "batch", "none")
    assert processor.size == {"height": 128, "width": 128}
    expected = sam.vision_encoder.backbone.blocks[0].attn.qkv.weight
    assert torch.equal(model.vision_branch.encoder.backbone.blocks[0].attn.qkv.weight, expected)


def test_overrides_reach_the_model_and_unknown_ones_are_named(architecture: Path) -> None:
    recipe = ModelConfig(architecture=str(architecture), overrides={"decoder_channels": [8, 8, 8]})
    assert build_model(recipe)[0].config.decoder_channels == [8, 8, 8]
    with pytest.raises(ValueError, match=r"model.overrides.decoder_chanels is no field"):
        build_model(ModelConfig(architecture=str(architecture), overrides={"decoder_chanels": [8, 8, 8]}))


def test_a_whole_model_starts_where_it_was_saved(tmp_path: Path) -> None:
    saved = tiny_model()
    saved.save_pretrained(tmp_path)
    LiverLandmarkImageProcessor(size={"height": 128, "width": 128}).save_pretrained(tmp_path)
    model, _ = build_model(ModelConfig(init=str(tmp_path)))
    for (name, found), expected in zip(model.named_parameters(), saved.parameters(), strict=True):
        assert torch.equal(found, expected), name


def test_weights_that_do_not_fit_are_refused(architecture: Path, tmp_path: Path) -> None:
    tiny_model(use_depth=False).save_pretrained(tmp_path / "rgb")
    with pytest.raises(ValueError, match="does not fit the architecture"):
        build_model(ModelConfig(architecture=str(architecture), init=str(tmp_path / "rgb")))
