"""Optimizers by name: what decays, seen from what a step with zero gradients changes."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from liver_landmark.training.optimizers import build_optimizer
from liver_landmark.training.recipe import OptimizerConfig, TrainableConfig
from liver_landmark.training.trainable import freeze_all_but
from tiny_models import tiny_model


def test_only_weights_of_linear_and_convolution_layers_decay() -> None:
    model = tiny_model()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(1.0)
            parameter.grad = torch.zeros_like(parameter)
    build_optimizer(model, OptimizerConfig(lr=0.1, weight_decay=0.5)).step()
    for module_name, module in model.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            decays = isinstance(module, nn.Linear | nn.Conv2d) and name == "weight"
            # AdamW: w (1 - lr · decay).
            expected = 0.95 if decays else 1.0
            torch.testing.assert_close(
                parameter.detach(), torch.full_like(parameter, expected), msg=f"{module_name}.{name}"
            )


def test_frozen_parameters_are_left_out_and_names_are_kept() -> None:
    model = tiny_model()
    trained = freeze_all_but(model, TrainableConfig(vision="none", depth="none"))
    groups = build_optimizer(model, OptimizerConfig()).state_dict()["param_groups"]
    assert sorted(name for group in groups for name in group["param_names"]) == sorted(trained)


def test_settings_reach_the_optimizer() -> None:
    config = OptimizerConfig(lr=0.3, betas=(0.5, 0.6), eps=1e-3, weight_decay=0.7)
    group = build_optimizer(tiny_model(), config).param_groups[0]
    assert (group["lr"], group["betas"], group["eps"], group["weight_decay"]) == (0.3, (0.5, 0.6), 1e-3, 0.7)


def test_unknown_name_is_refused() -> None:
    with pytest.raises(ValueError, match=r"optimizer\.name: 'sgdd' is unknown: choose one of adamw"):
        build_optimizer(tiny_model(), OptimizerConfig(name="sgdd"))
