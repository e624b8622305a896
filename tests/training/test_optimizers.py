"""Optimizers by name: what decays, seen from what a step with zero gradients changes; what is projected."""

from __future__ import annotations

import dataclasses
from typing import Any, get_args, get_type_hints

import pytest
import torch
from torch import nn

from liver_landmark.optim import SRFTGaLoreAdamW
from liver_landmark.training.optimizers import OPTIMIZERS, build_optimizer, freeze_all_but
from liver_landmark.training.recipe import OptimizerConfig, TrainableConfig
from tiny_models import tiny_model


@pytest.mark.parametrize("name", ["adamw", "srft_galore"])
def test_only_weights_of_linear_and_convolution_layers_decay(name: str) -> None:
    """The projected weights too."""
    model = tiny_model()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(1.0)
            parameter.grad = torch.zeros_like(parameter)
    build_optimizer(model, OptimizerConfig(name=name, lr=0.1, weight_decay=0.5, rank=4)).step()
    for module_name, module in model.named_modules():
        for own_name, parameter in module.named_parameters(recurse=False):
            decays = isinstance(module, nn.Linear | nn.Conv2d) and own_name == "weight"
            # AdamW: w (1 - lr · decay).
            expected = 0.95 if decays else 1.0
            torch.testing.assert_close(
                parameter.detach(), torch.full_like(parameter, expected), msg=f"{module_name}.{own_name}"
            )


@pytest.mark.parametrize("name", ["adamw", "srft_galore"])
def test_frozen_parameters_are_left_out_and_names_are_kept(name: str) -> None:
    model = tiny_model()
    trained = freeze_all_but(model, TrainableConfig(vision="attention", depth="none"))
    groups = build_optimizer(model, OptimizerConfig(name=name)).state_dict()["param_groups"]
    assert sorted(own_name for group in groups for own_name in group["param_names"]) == sorted(trained)


@pytest.mark.parametrize("name", ["adamw", "srft_galore"])
def test_settings_reach_the_optimizer(name: str) -> None:
    config = OptimizerConfig(name=name, lr=0.3, betas=(0.5, 0.6), eps=1e-3, weight_decay=0.7)
    group = build_optimizer(tiny_model(), config).param_groups[0]
    assert (group["lr"], group["betas"], group["eps"], group["weight_decay"]) == (0.3, (0.5, 0.6), 1e-3, 0.7)


def test_a_recipe_may_name_every_optimizer_and_no_other() -> None:
    assert set(get_args(get_type_hints(OptimizerConfig)["name"])) == set(OPTIMIZERS)


def projected(model: nn.Module, **settings: Any) -> dict[str, Any]:
    """The one group with a rank that a recipe's section makes."""
    optimizer = build_optimizer(model, OptimizerConfig(name="srft_galore", **settings))
    assert type(optimizer) is SRFTGaLoreAdamW
    [group] = [group for group in optimizer.param_groups if group["rank"] is not None]
    return group


def test_settings_of_the_projection_reach_the_optimizer() -> None:
    settings = {
        "rank": 5,
        "update_proj_gap": 7,
        "scale": 0.5,
        "side": "shorter",
        "proj_type": "gaussian",
        "power_iterations": 2,
        "singular_basis": True,
        "moment_transfer": "rotate",
    }
    plain = {"name", "lr", "weight_decay", "betas", "eps", "target_modules"}
    assert set(settings) == {field.name for field in dataclasses.fields(OptimizerConfig)} - plain
    assert all(value != getattr(OptimizerConfig(), name) for name, value in settings.items())
    group = projected(tiny_model(), **settings)
    assert {name: group[name] for name in settings} == settings


VISION = {
    f"vision_branch.encoder.backbone.blocks.{index}.attn.{name}.weight"
    for index in range(5)
    for name in ("qkv", "proj")
}
DEPTH = {
    f"depth_branch.encoder.encoder.layer.{index}.attention.{name}_proj.weight"
    for index in range(4)
    for name in "qkvo"
}


@pytest.mark.parametrize(
    ("vision", "depth", "expected"),
    [
        ("attention", "attention", VISION | DEPTH),
        ("all", "all", VISION | DEPTH),
        ("attention", "none", VISION),
        ("none", "attention", DEPTH),
    ],
)
def test_the_attentions_of_the_branches_that_train_are_projected(
    vision: str, depth: str, expected: set[str]
) -> None:
    model = tiny_model()
    freeze_all_but(model, TrainableConfig(vision=vision, depth=depth))
    assert set(projected(model)["param_names"]) == expected


def test_an_rgb_only_model_has_its_vision_attentions_projected() -> None:
    model = tiny_model(use_depth=False)
    freeze_all_but(model, TrainableConfig(vision="attention", depth="attention"))
    assert set(projected(model)["param_names"]) == VISION


@pytest.mark.parametrize("target_modules", [["fc1"], r".*\.fc1"])
def test_named_modules_are_projected_instead(target_modules: str | list[str]) -> None:
    names = projected(tiny_model(), target_modules=target_modules)["param_names"]
    assert set(names) == {f"depth_branch.encoder.encoder.layer.{index}.mlp.fc1.weight" for index in range(4)}


@pytest.mark.parametrize(
    ("trainable", "target_modules", "message"),
    [
        ({"vision": "none", "depth": "none"}, None, "optimizer.name: srft_galore finds no attention"),
        ({"vision": "attention", "depth": "none"}, ["fc1"], "target_modules: 'fc1' matches no weight"),
        ({}, ["qqkv"], "target_modules: 'qqkv' matches no weight"),
    ],
)
def test_nothing_to_project_is_refused_by_name(
    trainable: dict[str, str], target_modules: list[str] | None, message: str
) -> None:
    model = tiny_model()
    freeze_all_but(model, TrainableConfig(**trainable))
    with pytest.raises(ValueError, match=message) as error:
        build_optimizer(model, OptimizerConfig(name="srft_galore", target_modules=target_modules))
    assert "\n" not in str(error.value)


def test_the_seed_decides_the_projections() -> None:
    bases = []
    for seed in (3, 3, 4):
        model = tiny_model()
        optimizer = build_optimizer(model, OptimizerConfig(name="srft_galore", rank=4), seed)
        for parameter in model.parameters():
            parameter.grad = torch.ones_like(parameter) + parameter.detach()
        optimizer.step()
        bases.append([state["basis"] for state in optimizer.state.values() if "basis" in state])
    assert all(map(torch.equal, bases[0], bases[1]))
    assert not any(map(torch.equal, bases[0], bases[2]))


def test_targets_that_name_nothing_are_no_default() -> None:
    with pytest.raises(ValueError, match="target_modules"):
        build_optimizer(tiny_model(), OptimizerConfig(name="srft_galore", target_modules=[]))
