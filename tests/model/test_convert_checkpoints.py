"""Encoder weights from checkpoints in the layouts of the released ones, written here with random weights."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoConfig,
    DepthAnythingConfig,
    DepthAnythingForDepthEstimation,
    Dinov2Backbone,
    Dinov2Config,
    Sam2Config,
    Sam2Model,
    Sam2VideoConfig,
    Sam2VideoModel,
    Sam2VisionConfig,
    Sam2VisionModel,
    ViTConfig,
)

from liver_landmark import LiverLandmarkForSemanticSegmentation
from liver_landmark.model.branches_liver_landmark import VisionBranch
from tiny_models import TINY_DEPTH, TINY_VISION

SIZES = {"image_size": 128, "depth_image_size": 70, "decoder_channels": [32, 16, 8]}
SAM_CLASSES = {
    "sam2": (Sam2Config, Sam2Model),
    "sam2_video": (Sam2VideoConfig, Sam2VideoModel),
    "sam2_vision_model": (Sam2VisionConfig, Sam2VisionModel),
}


def from_encoders(vision: str | Path, depth: str | Path | None, **fields: Any) -> Any:
    return LiverLandmarkForSemanticSegmentation.from_vision_depth_pretrained(vision, depth, **SIZES, **fields)


def randomize(model: torch.nn.Module) -> torch.nn.Module:
    """Fills everything: new models have zero position embeddings, which would hide a lost one."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model


def write_sam(folder: Path, kind: str) -> torch.nn.Module:
    config_class, model_class = SAM_CLASSES[kind]
    config = (
        config_class(**TINY_VISION)
        if kind == "sam2_vision_model"
        else config_class(vision_config=TINY_VISION)
    )
    model = randomize(model_class(config)).eval()
    model.save_pretrained(folder)
    return model if kind == "sam2_vision_model" else model.vision_encoder


def write_depth_anything(folder: Path) -> torch.nn.Module:
    config = DepthAnythingConfig(
        backbone_config={**TINY_DEPTH, "reshape_hidden_states": False},
        neck_hidden_sizes=[8, 8, 8, 8],
        fusion_hidden_size=8,
        reassemble_hidden_size=32,
    )
    model = randomize(DepthAnythingForDepthEstimation(config)).eval()
    model.save_pretrained(folder)
    return model.backbone


@pytest.fixture
def depth_folder(tmp_path: Path) -> Path:
    write_depth_anything(tmp_path / "depth")
    return tmp_path / "depth"


@pytest.mark.parametrize("kind", SAM_CLASSES)
def test_features_equal_those_of_the_checkpoints_own_models(kind, tmp_path, frames) -> None:
    sam = write_sam(tmp_path / "sam", kind)
    depth = write_depth_anything(tmp_path / "depth")
    model = from_encoders(tmp_path / "sam", tmp_path / "depth").eval()
    assert model.dtype == torch.float32
    pyramid = model.vision_branch(frames)
    assert list(pyramid) == [4, 8, 16]
    for found, expected in zip(pyramid.values(), sam(frames).fpn_hidden_states, strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=0)
    square = torch.randn(1, 3, 70, 70)
    taps = model.depth_branch.encoder(square).feature_maps
    assert len(taps) == 4
    for tap, tokens in zip(taps, depth(square).feature_maps, strict=True):  # theirs: CLS first, flat
        torch.testing.assert_close(tap.flatten(2).transpose(1, 2), tokens[:, 1:])


def test_names_on_disk_are_those_of_the_released_files(tmp_path: Path, depth_folder: Path) -> None:
    """Guards the other tests: what they load is named as the released checkpoints name it."""
    write_sam(tmp_path / "sam", "sam2_video")
    names = set(load_file(tmp_path / "sam" / "model.safetensors"))
    assert "vision_encoder.backbone.blocks.0.attn.qkv.weight" in names
    assert "memory_attention.layers.0.layer_norm1.weight" in names
    assert '"model_type": "sam2_video"' in (tmp_path / "sam" / "config.json").read_text()
    names = set(load_file(depth_folder / "model.safetensors"))
    assert "backbone.encoder.layer.0.attention.attention.query.weight" in names
    assert "backbone.embeddings.mask_token" in names
    assert "neck.fusion_stage.layers.0.residual_layer1.convolution1.weight" in names


def test_says_what_was_and_was_not_loaded(tmp_path, depth_folder, caplog) -> None:
    sam = write_sam(tmp_path / "sam", "sam2_video")
    logging.getLogger("transformers").propagate = True
    _, info = from_encoders(tmp_path / "sam", depth_folder, output_loading_info=True)
    assert info["vision"]["loaded"] == sorted(sam.state_dict())
    assert "memory_attention.layers.0.layer_norm1.weight" in info["vision"]["left_out"]
    assert not any(name.startswith("vision_encoder") for name in info["vision"]["left_out"])
    assert "head.conv1.weight" in info["depth"]["left_out"]
    lines = [record.getMessage() for record in caplog.records if "encoder: loaded" in record.getMessage()]
    assert len(lines) == 2
    assert "mask_decoder" in lines[0]
    assert "neck" in lines[1]
    assert not any("LOAD REPORT" in record.getMessage() for record in caplog.records)


def test_depth_none_is_the_rgb_only_model(tmp_path: Path, frames: torch.Tensor) -> None:
    write_sam(tmp_path / "sam", "sam2")
    model = from_encoders(tmp_path / "sam", None)
    assert not model.config.use_depth
    assert model(frames).logits.shape == (2, 4, 24, 32)


def test_a_plain_dinov2_is_accepted(tmp_path: Path) -> None:
    write_sam(tmp_path / "sam", "sam2")
    backbone = randomize(Dinov2Backbone(Dinov2Config(**TINY_DEPTH)))
    backbone.save_pretrained(tmp_path / "dino")
    model = from_encoders(tmp_path / "sam", tmp_path / "dino")
    expected = backbone.encoder.layer[3].attention.o_proj.weight
    assert torch.equal(model.depth_branch.encoder.encoder.layer[3].attention.o_proj.weight, expected)


@pytest.mark.parametrize("branch", ["vision", "depth"])
def test_a_checkpoint_of_another_architecture_is_named(branch, tmp_path, depth_folder) -> None:
    write_sam(tmp_path / "sam", "sam2")
    ViTConfig().save_pretrained(tmp_path / "vit")
    folders = {"vision": tmp_path / "sam", "depth": depth_folder, branch: tmp_path / "vit"}
    with pytest.raises(ValueError, match=f"{branch} checkpoint .*'vit': expected one of") as error:
        from_encoders(**folders)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("branch", ["vision", "depth"])
def test_an_incomplete_checkpoint_is_an_error(branch: str, tmp_path: Path, depth_folder: Path) -> None:
    write_sam(tmp_path / "sam", "sam2")
    file = (depth_folder if branch == "depth" else tmp_path / "sam") / "model.safetensors"
    needle = "layer.2.norm1.weight" if branch == "depth" else "blocks.3.layer_norm1.weight"
    weights = {name: tensor for name, tensor in load_file(file).items() if needle not in name}
    save_file(weights, file, metadata={"format": "pt"})
    with pytest.raises(ValueError, match=rf"{branch} checkpoint .* lacks 1 tensors of the encoder"):
        from_encoders(tmp_path / "sam", depth_folder)


def test_a_sharded_half_precision_checkpoint_loads_as_float32(tmp_path: Path, depth_folder: Path) -> None:
    model = randomize(Sam2VideoModel(Sam2VideoConfig(vision_config=TINY_VISION))).half()
    model.save_pretrained(tmp_path / "sam", max_shard_size="300KB")
    assert len(list((tmp_path / "sam").glob("*.safetensors"))) > 1
    loaded = from_encoders(tmp_path / "sam", depth_folder)
    weight = loaded.vision_branch.encoder.backbone.blocks[0].attn.qkv.weight
    assert weight.dtype == torch.float32
    torch.testing.assert_close(weight, model.vision_encoder.backbone.blocks[0].attn.qkv.weight.float())


@pytest.mark.parametrize(
    ("depth", "fields", "message"),
    [
        ("y", {"decoder_typ": "released"}, "'decoder_typ' is no field"),
        (None, {"use_depth": True}, "use_depth=True contradicts depth=None"),
        ("y", {"use_depth": False}, "use_depth=False contradicts depth='y'"),
        ("y", {"vision_config": {}}, "vision_config is the checkpoint's"),
    ],
)
def test_fields_that_are_none_or_contradict_the_checkpoints_are_named(depth, fields, message) -> None:
    with pytest.raises(ValueError, match=message):
        from_encoders("x", depth, **fields)


def test_the_encoder_equals_metas_own(frames: torch.Tensor) -> None:
    """SAM 2's published code on the same weights gives the same pyramid (where it is installed)."""
    build_sam = pytest.importorskip("sam2.build_sam", reason="the sam2 package is not installed")
    theirs = build_sam.build_sam2(
        "configs/sam2.1/sam2.1_hiera_t.yaml", None, device="cpu"
    ).image_encoder.eval()
    randomize(theirs)
    renames = {
        "trunk.": "backbone.",
        "patch_embed.proj": "patch_embed.projection",
        ".norm": ".layer_norm",
        "mlp.layers.0": "mlp.proj_in",
        "mlp.layers.1": "mlp.proj_out",
    }
    state = {}
    for name, tensor in theirs.state_dict().items():
        for old, new in renames.items():
            name = name.replace(old, new)
        state[name.replace(".conv.", ".") if name.startswith("neck") else name] = tensor
    config = AutoConfig.from_pretrained(Path(__file__).parents[2] / "hub_configs" / "models" / "tiny")
    ours = VisionBranch(config).eval()
    ours.encoder.load_state_dict(state)
    frame = torch.randn(1, 3, 256, 256)
    with torch.no_grad():
        for found, expected in zip(ours(frame), theirs(frame)["backbone_fpn"], strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
