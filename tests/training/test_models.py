"""Where weights start."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoConfig

from liver_landmark import LiverLandmarkConfig, LiverLandmarkForSemanticSegmentation
from liver_landmark.model.landmarks_liver_landmark import DEFAULT_LANDMARKS
from liver_landmark.training.models import build_model
from liver_landmark.training.recipe import ModelConfig
from tiny_datasets import tiny_processor
from tiny_models import tiny_config, tiny_model


def saved(folder: Path, model_or_config: LiverLandmarkForSemanticSegmentation | LiverLandmarkConfig) -> str:
    model_or_config.save_pretrained(folder)
    tiny_processor(96).save_pretrained(folder)
    return str(folder)


@pytest.fixture
def saved_model(tmp_path: Path) -> str:
    return saved(tmp_path / "saved", tiny_model(seed=3))


def test_names_of_shipped_architectures_are_known() -> None:
    model, processor = build_model(ModelConfig(architecture="synthetic-tiny"))
    assert model.config.image_size == processor.size["height"] == 256


def test_random_weights_follow_the_global_seed(architecture: Path) -> None:
    models = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        models.append(build_model(ModelConfig(architecture=str(architecture)))[0].decoder.classifier.weight)
    assert torch.equal(models[0], models[1])
    assert not torch.equal(models[0], models[2])


def test_whole_model_from_a_folder(saved_model: str) -> None:
    model, processor = build_model(ModelConfig(init=saved_model))
    for name, tensor in tiny_model(seed=3).state_dict().items():
        assert torch.equal(model.state_dict()[name], tensor), name
    assert processor.size["height"] == 96


def test_half_precision_weights_become_float32_and_a_calibration_is_not_carried_over(tmp_path: Path) -> None:
    landmark = {"weights": [1.0], "bias": 0.0, "threshold": 0.5}
    calibration = {
        "features": ["top"],
        "classes": {name: landmark for name in DEFAULT_LANDMARKS.names},
        "source": {"dataset": "before"},
    }
    half = saved(tmp_path / "half", tiny_model(presence_calibration=calibration).to(torch.bfloat16))
    assert AutoConfig.from_pretrained(half).presence_calibration is not None
    model, _ = build_model(ModelConfig(init=half))
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert model.config.presence_calibration is None


def test_overrides_reach_the_configuration_and_are_checked(saved_model: str, architecture: Path) -> None:
    model, _ = build_model(ModelConfig(init=saved_model, overrides={"dice_weight": 3.0}))
    assert model.config.dice_weight == 3.0
    with pytest.raises(ValueError, match=r"model\.overrides\.dice_wait"):
        build_model(ModelConfig(architecture=str(architecture), overrides={"dice_wait": 3.0}))
    with pytest.raises(ValueError, match="norm_type"):
        build_model(ModelConfig(architecture=str(architecture), overrides={"norm_type": "layer"}))


def test_weights_that_do_not_fit_the_architecture_are_refused(tmp_path: Path, saved_model: str) -> None:
    deeper = saved(tmp_path / "deeper", tiny_config(fusion_num_layers=2))
    with pytest.raises(ValueError, match=r"does not fit the architecture: missing fusion\.layers\.1"):
        build_model(ModelConfig(architecture=deeper, init=saved_model))


def test_encoders_come_from_their_checkpoints_and_the_rest_from_the_architecture(tmp_path: Path) -> None:
    source = tiny_model(seed=1)
    source.vision_branch.encoder.save_pretrained(tmp_path / "vision")
    source.depth_branch.encoder.save_pretrained(tmp_path / "depth")
    fields = {"fusion_query": "rgb", "decoder_type": "released"}
    model, _ = build_model(
        ModelConfig(
            architecture=saved(tmp_path / "architecture", tiny_config(**fields)),
            init="encoders",
            vision=str(tmp_path / "vision"),
            depth=str(tmp_path / "depth"),
            labels=["ridge", "gallbladder"],
            overrides={"label_colors": {"gallbladder": [1, 2, 3]}},
        )
    )
    assert model.config.landmark_table.colors == {"ridge": (255, 0, 0), "gallbladder": (1, 2, 3)}
    assert model.decoder.classifier.out_channels == 3
    assert (model.config.fusion_query, model.config.decoder_type) == ("rgb", "released")
    assert model.config.image_size == 128
    for branch in ("vision_branch", "depth_branch"):
        ours, theirs = getattr(model, branch).encoder, getattr(source, branch).encoder
        for name, tensor in theirs.state_dict().items():
            assert torch.equal(ours.state_dict()[name], tensor), name


@pytest.mark.parametrize(("use_depth", "depth", "verb"), [(True, None, "needs"), (False, "d", "takes no")])
def test_depth_checkpoint_has_to_fit_the_architecture(tmp_path, use_depth, depth, verb) -> None:
    architecture = saved(tmp_path / "architecture", tiny_config(use_depth=use_depth))
    with pytest.raises(ValueError, match=rf"model\.depth: .* {verb} depth checkpoint"):
        build_model(ModelConfig(architecture, "encoders", vision="v", depth=depth))
