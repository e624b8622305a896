"""Which weights are projected: by name, by expression, by the model's own default; and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import AutoConfig, AutoModel

import liver_landmark  # noqa: F401 - registers the model
from liver_landmark.optim import SRFTGaLoreAdamW, galore_param_groups
from tiny_models import tiny_model

LINEARS = ("blocks.0.attn.qkv", "blocks.0.attn.proj", "blocks.0.mlp", "blocks.1.attn.qkv", "head.my_qkv")


def tree(*names: str) -> nn.Module:
    """A model with a linear layer at each of these names."""
    model = nn.Module()
    for name in names:
        parent = model
        *path, last = name.split(".")
        for part in path:
            if not hasattr(parent, part):
                parent.add_module(part, nn.Module())
            parent = parent.get_submodule(part)
        parent.add_module(last, nn.Linear(4, 6))
    return model


def names_of(group: dict[str, Any]) -> set[str]:
    return {name for name, _ in group["params"]}


def projected_modules(model: nn.Module, *arguments: Any, **settings: Any) -> set[str]:
    group = galore_param_groups(model, *arguments, **settings)[0]
    assert all(name.endswith(".weight") for name in names_of(group))
    return {name.removesuffix(".weight") for name in names_of(group)}


@pytest.mark.parametrize(
    ("target_modules", "expected"),
    [
        (["qkv"], {"blocks.0.attn.qkv", "blocks.1.attn.qkv"}),
        (["attn.proj", "mlp"], {"blocks.0.attn.proj", "blocks.0.mlp"}),
        (("blocks.0.attn.qkv",), {"blocks.0.attn.qkv"}),
        (r".*\.attn\..*", {"blocks.0.attn.qkv", "blocks.0.attn.proj", "blocks.1.attn.qkv"}),
        (r"blocks\.0\.(mlp|attn\.qkv)", {"blocks.0.attn.qkv", "blocks.0.mlp"}),
        (r".*qkv", {"blocks.0.attn.qkv", "blocks.1.attn.qkv", "head.my_qkv"}),
    ],
)
def test_names_are_last_parts_and_expressions_match_the_whole(target_modules, expected) -> None:
    assert projected_modules(tree(*LINEARS), target_modules) == expected


@pytest.mark.parametrize("depth", [False, True])
def test_the_models_own_default_is_the_attentions(depth: bool) -> None:
    model = tiny_model()
    blocks = [f"vision_branch.encoder.backbone.blocks.{index}.attn" for index in range(5)]
    layers = [f"depth_branch.encoder.encoder.layer.{index}.attention" for index in range(4)]
    expected = {f"{block}.{name}" for block in blocks for name in ("qkv", "proj")}
    if depth:
        expected |= {f"{layer}.{name}_proj" for layer in layers for name in "qkvo"}
    assert projected_modules(model, depth=depth) == expected


def test_of_sam_2_1_large_the_default_takes_68_6_million_weights_in_96_matrices(repository: Path) -> None:
    config = AutoConfig.from_pretrained(repository / "hub_configs" / "models" / "large")
    with torch.device("meta"):
        group = galore_param_groups(AutoModel.from_config(config))[0]
    assert len(group["params"]) == 96
    assert sum(weight.numel() for _, weight in group["params"]) == pytest.approx(68.6e6, abs=0.05e6)


@pytest.mark.parametrize(
    "attention",
    [
        ("q_proj", "k_proj", "v_proj", "o_proj"),
        ("attention.query", "attention.key", "attention.value", "output.dense"),
    ],
)
def test_dinov2_is_known_by_its_module_names_of_now_and_before(attention: tuple[str, ...]) -> None:
    layer = "depth_branch.encoder.encoder.layer.0"
    vision = "vision_branch.encoder.backbone.blocks.0.attn.qkv"
    expected = {f"{layer}.attention.{name}" for name in attention}
    model = tree(vision, f"{layer}.mlp.fc1", f"{layer}.intermediate.dense", *expected)
    model.galore_target_modules = type(tiny_model()).galore_target_modules
    assert projected_modules(model, depth=True) == {vision, *expected}


def frozen(model: nn.Module, *names: str) -> nn.Module:
    for name in names:
        model.get_submodule(name).requires_grad_(False)
    return model


def linears(*names: str) -> nn.Module:
    return frozen(tree(*LINEARS), *names)


@pytest.mark.parametrize(
    ("build", "target_modules", "settings", "message"),
    [
        (linears, ["qkv", "kv"], {}, "target_modules: 'kv' matches no weight that trains: compare"),
        (linears, r"attn\.qkv", {}, r"target_modules: 'attn\\.qkv' matches no weight that trains"),
        (linears, ["blocks.0.attn"], {}, "target_modules: 'blocks.0.attn' matches no weight that"),
        (linears, [], {}, "target_modules names no module"),
        (linears, "(qkv", {}, "target_modules: '(qkv' is no regular expression: missing )"),
        (linears, None, {}, "target_modules must be given: Module names no default of its own"),
        (linears, ["qkv"], {"depth": True}, "depth goes with the model's own default"),
        (lambda: linears("blocks.0.mlp"), ["qkv", "mlp"], {}, "but their weights are frozen"),
        (linears, ["qkv"], {"update_gap": 3}, "update_gap is no setting of a group: choose among"),
        (lambda: tiny_model(use_depth=False), None, {"depth": True}, "depth_branch"),
        (lambda: frozen(tiny_model(), "vision_branch"), None, {}, "but their weights are frozen"),
    ],
)
def test_what_was_asked_for_and_cannot_be_is_refused_in_one_line(build, target_modules, settings, message):
    with pytest.raises(ValueError, match=r".") as error:
        galore_param_groups(build(), target_modules, **settings)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("asked", ["embedding", "output", r"embedding|output"])
@pytest.mark.parametrize("share", ["weight", "module"])
def test_tied_weights_are_taken_once_by_either_name(asked: str, share: str) -> None:
    model = nn.Module()
    model.embedding = nn.Linear(4, 6, bias=False)
    model.output = nn.Linear(4, 6, bias=False) if share == "weight" else model.embedding
    model.output.weight = model.embedding.weight
    model.norm = nn.LayerNorm(6)
    projected, rest = galore_param_groups(model, asked)
    assert [parameter for _, parameter in projected["params"]] == [model.embedding.weight]
    assert names_of(rest) == {"norm.weight", "norm.bias"}


@pytest.mark.parametrize("target_modules", [None, ["qkv"], r".*(proj|fc1|fc2)"])
def test_all_that_trains_is_there_exactly_once(target_modules: Any) -> None:
    model = frozen(tiny_model(), "decoder.classifier", "vision_branch.encoder.backbone.blocks.0")
    groups = galore_param_groups(model, target_modules, rank=4)
    ours = [(name, id(parameter)) for group in groups for name, parameter in group["params"]]
    expected = [(name, id(p)) for name, p in model.named_parameters() if p.requires_grad]
    assert sorted(ours) == sorted(expected)


def test_a_model_that_is_one_layer_and_nothing_besides() -> None:
    [projected] = galore_param_groups(nn.Linear(4, 6, bias=False), "")
    assert names_of(projected) == {"weight"}


def test_settings_reach_the_projected_group_alone() -> None:
    settings = {"rank": 3, "update_proj_gap": 9, "scale": 0.5, "proj_type": "gaussian", "weight_decay": 0.2}
    optimizer = SRFTGaLoreAdamW(galore_param_groups(tree(*LINEARS), ["qkv"], **settings), lr=0.1)
    projected, rest = optimizer.param_groups
    assert {name: projected[name] for name in settings} == settings
    assert (rest["rank"], rest["weight_decay"]) == (None, 0.01)
    assert (projected["lr"], rest["lr"]) == (0.1, 0.1)
    assert projected["param_names"] == ["blocks.0.attn.qkv.weight", "blocks.1.attn.qkv.weight"]
