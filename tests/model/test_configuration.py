"""Configurations: defaults, validation at the border, and the folders of hub_configs/models."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import ModelCard
from transformers import AutoConfig, AutoImageProcessor, AutoModel

from liver_landmark import LiverLandmarkConfig, LiverLandmarkImageProcessor
from liver_landmark.model.landmarks_liver_landmark import DEFAULT_LANDMARKS
from tiny_models import TINY_DEPTH, TINY_HIERA, TINY_VISION, tiny_config, tiny_model

MODELS = Path(__file__).parents[2] / "hub_configs" / "models"
NAMES = ["base-plus", "large", "paper", "small", "synthetic-tiny", "synthetic-wide", "tiny"]
# SAM 2.1's image encoders and Depth Anything V2 Small, in millions of parameters.
VISION_PARAMETERS = {"tiny": 27.2, "small": 34.3, "base-plus": 69.1, "large": 212.7, "paper": 212.7}
DEPTH_PARAMETERS = 22.1


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

    def millions(module: torch.nn.Module) -> float:
        return sum(parameter.numel() for parameter in module.parameters()) / 1e6

    if name.startswith("synthetic-"):
        assert millions(model) <= {"synthetic-tiny": 5, "synthetic-wide": 8}[name]
        return
    assert millions(model.vision_branch.encoder) == pytest.approx(VISION_PARAMETERS[name], abs=0.06)
    assert millions(model.depth_branch.encoder) == pytest.approx(DEPTH_PARAMETERS, abs=0.06)


@pytest.mark.parametrize("name", NAMES)
def test_processor_and_model_of_a_folder_agree_on_the_size(name: str) -> None:
    config = AutoConfig.from_pretrained(MODELS / name)
    processor = AutoImageProcessor.from_pretrained(MODELS / name)
    assert isinstance(processor, LiverLandmarkImageProcessor)
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
    with torch.device("meta"):
        parameters = sum(parameter.numel() for parameter in AutoModel.from_config(config).parameters())
    [stated] = re.findall(r"\| parameters \| ([\d.]+) M in all", card.text)
    assert float(stated) == pytest.approx(parameters / 1e6, abs=0.06)

    [code] = re.findall(r"```python\n(.*?)```", card.text, re.DOTALL)
    calls = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Call)]
    [call] = [call for call in calls if call.func.attr in ("from_vision_depth_pretrained", "from_config")]
    if call.func.attr == "from_config":
        exec(compile(code.replace("hub_configs/models", str(MODELS)), name, "exec"), {})
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


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("fusion_query", "sound"),
        ("fusion_residual", "depth"),
        ("norm_type", "layer"),
        ("depth_taps", "first"),
        ("fusion_num_heads", 0),
        ("fusion_num_heads", 3),
        ("fusion_num_layers", -1),
        ("fusion_num_layers", True),
        ("image_size", 128.5),
        ("dice_weight", -1),
        ("bce_weight", float("nan")),
        ("foreground_weight", "2"),
        ("fusion_dropout", 1.0),
        ("decoder_channels", [32, 16]),
        ("decoder_channels", [32, 16, 0]),
        ("decoder_channels", 32),
        ("use_depth", "false"),
    ],
)
def test_a_field_that_cannot_be_is_named(field: str, value: Any) -> None:
    with pytest.raises(ValueError, match=field) as error:
        tiny_config(**{field: value})
    assert "\n" not in str(error.value)


def test_both_loss_weights_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="nothing would be learned"):
        tiny_config(dice_weight=0, bce_weight=0.0)


@pytest.mark.parametrize(("field", "kind"), [("vision_config", "vit"), ("depth_config", "vit")])
def test_another_architecture_as_branch_is_refused(field: str, kind: str) -> None:
    with pytest.raises(ValueError, match=f"{field}.model_type"):
        tiny_config(**{field: {"model_type": kind}})


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        # Blocks 1, 2 and 4 open the stages of one, one, two and one blocks after the first.
        *(
            ({"global_attention_blocks": [block]}, rf"global_attention_blocks.*{block}")
            for block in (1, 2, 4)
        ),
        ({"global_attention_blocks": [3, 4]}, "global_attention_blocks.* 4 opens stage 4"),
        *(({"global_attention_blocks": [block]}, r"global_attention_blocks.* 0 to 4") for block in (-1, 5)),
        ({"window_size_per_stage": [4, 1, 4, 2]}, "window_size_per_stage.* even"),
        ({"window_size_per_stage": [4, 3, 4, 2]}, "window_size_per_stage.* even"),
        ({"blocks_per_stage": [1, 0, 2, 1]}, "blocks_per_stage must be positive"),
        ({"patch_stride": [2, 2]}, r"patch_stride must be \[4, 4\]"),
        ({"query_stride": [1, 1]}, r"query_stride must be \[2, 2\]"),
        ({"num_query_pool_stages": 2}, "num_query_pool_stages must be 3"),
    ],
)
def test_a_vision_encoder_that_could_not_run_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=r"vision_config\.backbone_config\." + message) as error:
        tiny_config(vision_config=TINY_VISION | {"backbone_config": TINY_HIERA | fields})
    assert "\n" not in str(error.value)


def test_a_pyramid_of_other_levels_is_refused() -> None:
    with pytest.raises(ValueError, match=r"vision_config\.num_feature_levels must be 3 .*, got 2$"):
        tiny_config(vision_config=TINY_VISION | {"num_feature_levels": 2})


@pytest.mark.parametrize("blocks", [[], [0], [3], [0, 3]])
def test_global_attention_that_is_accepted_runs(blocks: list[int]) -> None:
    hiera = TINY_HIERA | {"global_attention_blocks": blocks}
    model = tiny_model(vision_config=TINY_VISION | {"backbone_config": hiera})
    assert model(torch.zeros(1, 3, 64, 96)).logits.shape == (1, 4, 16, 24)


def test_taps_that_leave_layers_without_a_gradient_are_refused() -> None:
    with pytest.raises(ValueError, match=r"out_indices .*num_hidden_layers to 2"):
        tiny_config(depth_config={**TINY_DEPTH, "out_indices": [1, 2]})
    assert tiny_config(depth_config={**TINY_DEPTH, "out_indices": [2, -1]}).depth_config.out_indices


def test_an_unknown_decoder_is_refused_with_the_choice() -> None:
    with pytest.raises(ValueError, match="progressive, released"):
        AutoModel.from_config(tiny_config(decoder_type="transformer"))
