"""What trains, by the modules' own types; optimizers by name; the learning rate by the closed form."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, get_args, get_type_hints

import pytest
import torch
from torch import nn

from liver_landmark.optim import SRFTGaLoreAdamW
from liver_landmark.training.optimizers import OPTIMIZERS, build_optimizer, build_schedule, freeze_all_but
from liver_landmark.training.recipe import OptimizerConfig, ScheduleConfig, TrainableConfig
from tiny_models import tiny_model


def attention_weights(model: nn.Module, *branches: str) -> set[str]:
    """Weights of the linear layers inside modules that call themselves an attention."""
    names = set()
    for name, module in model.named_modules():
        parts = name.split(".")
        inside = [model.get_submodule(".".join(parts[:end])) for end in range(1, len(parts))]
        attends = any("Attention" in type(parent).__name__ for parent in inside)
        if name.startswith(branches) and isinstance(module, nn.Linear) and attends:
            names.add(f"{name}.weight")
    return names


VISION, DEPTH = "vision_branch.", "depth_branch.encoder."


def test_all_trains_everything() -> None:
    model = tiny_model()
    assert freeze_all_but(model, TrainableConfig()) == [name for name, _ in model.named_parameters()]


def test_attention_trains_the_weights_of_the_attentions_linear_layers() -> None:
    model = tiny_model()
    names = set(freeze_all_but(model, TrainableConfig("attention", "attention", fusion=False, decoder=False)))
    # Five Hiera blocks of qkv and proj; four DINOv2 layers of q, k, v and o.
    assert len(names) == 5 * 2 + 4 * 4
    assert names == attention_weights(model, VISION, DEPTH)


@pytest.mark.parametrize(
    ("use_depth", "choice", "parts"),
    [
        # The projection of the depth features goes with the fusion.
        (True, "none", {"depth_branch", "fusion", "decoder"}),
        (True, "attention", {"vision_branch", "depth_branch", "fusion", "decoder"}),
        (False, "attention", {"vision_branch", "decoder"}),
    ],
)
def test_parts_that_train_and_parts_that_a_model_lacks(use_depth: bool, choice: str, parts: set[str]) -> None:
    names = freeze_all_but(tiny_model(use_depth=use_depth), TrainableConfig(vision=choice, depth=choice))
    assert {name.split(".")[0] for name in names} == parts
    encoders = [name for name in names if ".encoder." in name]
    assert bool(encoders) == (choice != "none")
    assert not any(name.endswith(".bias") for name in encoders)


def test_nothing_to_train_is_refused_by_name() -> None:
    model = tiny_model()
    with pytest.raises(ValueError, match="nothing trains"):
        freeze_all_but(model, TrainableConfig("none", "none", fusion=False, decoder=False))
    for module in model.vision_branch.modules():
        if type(module).__name__ == "Sam2MultiScaleAttention":
            module.requires_grad_(False)
    with pytest.raises(ValueError, match=r"trainable\.vision: attention matches no"):
        freeze_all_but(model, TrainableConfig(vision="attention"))


def test_what_the_model_has_frozen_stays_frozen() -> None:
    model = tiny_model()
    model.decoder.classifier.bias.requires_grad_(False)
    assert "decoder.classifier.bias" not in freeze_all_but(model, TrainableConfig())
    assert not model.decoder.classifier.bias.requires_grad


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
def test_settings_and_names_reach_the_optimizer_but_not_of_frozen_parameters(name: str) -> None:
    model = tiny_model()
    trained = freeze_all_but(model, TrainableConfig(vision="attention", depth="none"))
    config = OptimizerConfig(name=name, lr=0.3, betas=(0.5, 0.6), eps=1e-3, weight_decay=0.7)
    groups = build_optimizer(model, config).state_dict()["param_groups"]
    assert sorted(own_name for group in groups for own_name in group["param_names"]) == sorted(trained)
    assert [groups[0][key] for key in ("lr", "betas", "eps", "weight_decay")] == [0.3, (0.5, 0.6), 1e-3, 0.7]


def test_a_recipe_may_name_every_optimizer_and_no_other() -> None:
    assert set(get_args(get_type_hints(OptimizerConfig)["name"])) == set(OPTIMIZERS)


def projected(model: nn.Module, **settings: Any) -> dict[str, Any]:
    """The one group with a rank that a recipe's section makes."""
    optimizer = build_optimizer(model, OptimizerConfig(name="srft_galore", **settings))
    assert type(optimizer) is SRFTGaLoreAdamW
    [group] = [group for group in optimizer.param_groups if group["rank"] is not None]
    return group


@pytest.mark.parametrize("name", ["adamw", "srft_galore"])
def test_encoders_have_a_rate_of_their_own(name: str) -> None:
    model = tiny_model()
    config = OptimizerConfig(name=name, lr=1e-2, encoder_lr_factor=0.25, rank=4)
    optimizer = build_optimizer(model, config)
    rates = {parameter: group["lr"] for group in optimizer.param_groups for parameter in group["params"]}
    assert len(rates) == len(list(model.parameters()))
    for name, parameter in model.named_parameters():
        of_encoder = name.startswith(("vision_branch.encoder.", "depth_branch.encoder."))
        assert rates[parameter] == (0.25e-2 if of_encoder else 1e-2), name
    # The schedule moves both alike.
    schedule = build_schedule(optimizer, ScheduleConfig(min_lr=1e-3), config.lr, 5)
    for _ in range(4):
        optimizer.step()
        schedule.step()
    assert {round(group["lr"], 9) for group in optimizer.param_groups} == {1e-3, 0.25e-3}


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
    plain = {"name", "lr", "encoder_lr_factor", "weight_decay", "betas", "eps", "target_modules"}
    assert set(settings) == {field.name for field in dataclasses.fields(OptimizerConfig)} - plain
    assert all(value != getattr(OptimizerConfig(), name) for name, value in settings.items())
    group = projected(tiny_model(), **settings)
    assert {name: group[name] for name in settings} == settings


@pytest.mark.parametrize(
    ("vision", "depth", "use_depth", "expected"),
    [
        ("attention", "attention", True, (VISION, DEPTH)),
        ("all", "all", True, (VISION, DEPTH)),
        ("attention", "none", True, (VISION,)),
        ("none", "attention", True, (DEPTH,)),
        ("attention", "attention", False, (VISION,)),
    ],
)
def test_the_attentions_of_the_branches_that_train_are_projected(vision, depth, use_depth, expected) -> None:
    model = tiny_model(use_depth=use_depth)
    freeze_all_but(model, TrainableConfig(vision=vision, depth=depth))
    assert set(projected(model)["param_names"]) == attention_weights(model, *expected)


def test_named_modules_are_projected_instead() -> None:
    names = projected(tiny_model(), target_modules=["fc1"])["param_names"]
    assert set(names) == {f"depth_branch.encoder.encoder.layer.{index}.mlp.fc1.weight" for index in range(4)}


@pytest.mark.parametrize(
    ("target_modules", "message"),
    [
        (None, "optimizer.name: srft_galore finds no attention"),
        (["fc1"], "target_modules: 'fc1' matches no weight"),
        ([], "target_modules names no module"),
    ],
)
def test_nothing_to_project_is_refused_by_name(target_modules: list[str] | None, message: str) -> None:
    model = tiny_model()
    freeze_all_but(model, TrainableConfig(vision="none", depth="none"))
    with pytest.raises(ValueError, match=message) as error:
        projected(model, target_modules=target_modules)
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


def rates(config: ScheduleConfig, peak: float, total_steps: int) -> list[float]:
    """The rate that each optimizer step uses."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=peak)
    schedule = build_schedule(optimizer, config, peak, total_steps)
    used = []
    for _ in range(total_steps):
        used.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return used


@pytest.mark.parametrize(("fraction", "warmup"), [(0.2, 10), (0.0, 0)])
def test_cosine_is_the_closed_form(fraction: float, warmup: int) -> None:
    used = rates(ScheduleConfig(warmup_fraction=fraction, min_lr=1e-4), 1e-2, 50)
    assert used[:warmup] == pytest.approx([1e-2 * (step + 1) / 10 for step in range(warmup)])
    last = 49 - warmup
    cosine = [1e-4 + (1e-2 - 1e-4) * (1 + math.cos(math.pi * n / last)) / 2 for n in range(last + 1)]
    assert used[warmup:] == pytest.approx(cosine)


def test_constant_stays_at_the_peak_after_warmup() -> None:
    used = rates(ScheduleConfig(name="constant", warmup_fraction=0.5), 1.0, 8)
    assert used == pytest.approx([0.25, 0.5, 0.75, 1, 1, 1, 1, 1])


@pytest.mark.parametrize("total_steps", [1, 2, 3])
def test_short_runs_have_positive_rates(total_steps: int) -> None:
    used = rates(ScheduleConfig(warmup_fraction=0.05, min_lr=1e-5), 1e-3, total_steps)
    assert used[0] == pytest.approx(1e-3)
    assert min(used) >= 1e-5 - 1e-12
