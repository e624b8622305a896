"""What trains: names against the modules' own types, and gradients."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from liver_landmark.training.optimizers import freeze_all_but
from liver_landmark.training.recipe import TrainableConfig
from tiny_models import tiny_model


def attention_weights(model: nn.Module, branch: str) -> set[str]:
    """Weights of the linear layers inside modules that call themselves an attention."""
    names = set()
    for name, module in model.named_modules():
        inside = [parent for parent in parents(model, name) if "Attention" in type(parent).__name__]
        if name.startswith(branch) and isinstance(module, nn.Linear) and inside:
            names.add(f"{name}.weight")
    return names


def parents(model: nn.Module, name: str) -> list[nn.Module]:
    parts = name.split(".")
    return [model.get_submodule(".".join(parts[:end])) for end in range(1, len(parts))]


def test_all_trains_everything() -> None:
    model = tiny_model()
    assert freeze_all_but(model, TrainableConfig()) == [name for name, _ in model.named_parameters()]


def test_attention_trains_the_weights_of_the_attentions_linear_layers() -> None:
    model = tiny_model()
    names = set(freeze_all_but(model, TrainableConfig("attention", "attention", fusion=False, decoder=False)))
    expected = attention_weights(model, "vision_branch") | attention_weights(model, "depth_branch.encoder")
    # Five Hiera blocks of qkv and proj; four DINOv2 layers of q, k, v and o.
    assert len(expected) == 5 * 2 + 4 * 4
    assert names == expected


def test_the_papers_choice_freezes_the_rest_of_the_encoders() -> None:
    model = tiny_model().train()
    names = freeze_all_but(model, TrainableConfig(vision="attention", depth="attention"))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    model(torch.randn(1, 3, 128, 128), labels=torch.randint(0, 4, (1, 128, 128))).loss.backward()
    with_gradient = [name for name, parameter in model.named_parameters() if parameter.grad is not None]
    assert with_gradient == names
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    optimizer.step()
    changed = [name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])]
    assert set(changed) <= set(names)
    assert any(name.startswith("depth_branch.projection.") for name in changed)
    assert any(name.startswith("vision_branch.encoder.backbone.blocks.0.attn.qkv") for name in changed)
    assert not any(name.endswith(".bias") for name in names if "encoder" in name)


def test_none_freezes_an_encoder() -> None:
    names = freeze_all_but(tiny_model(), TrainableConfig(vision="none", depth="none"))
    assert {name.split(".")[0] for name in names} == {"depth_branch", "fusion", "decoder"}
    assert not any(".encoder." in name for name in names)


def test_rgb_only_model_has_no_depth_parts_to_miss() -> None:
    names = freeze_all_but(
        tiny_model(use_depth=False), TrainableConfig(vision="attention", depth="attention")
    )
    assert {name.split(".")[0] for name in names} == {"vision_branch", "decoder"}


def test_a_choice_that_matches_nothing_is_refused_by_name() -> None:
    model = tiny_model()
    for module in model.vision_branch.modules():
        if type(module).__name__ == "Sam2MultiScaleAttention":
            module.requires_grad_(False)
    with pytest.raises(ValueError, match=r"trainable\.vision: attention matches no"):
        freeze_all_but(model, TrainableConfig(vision="attention"))


def test_nothing_to_train_is_refused() -> None:
    with pytest.raises(ValueError, match="nothing trains"):
        freeze_all_but(tiny_model(), TrainableConfig("none", "none", fusion=False, decoder=False))


def test_what_the_model_has_frozen_stays_frozen() -> None:
    model = tiny_model()
    model.decoder.classifier.bias.requires_grad_(False)
    assert "decoder.classifier.bias" not in freeze_all_but(model, TrainableConfig())
    assert not model.decoder.classifier.bias.requires_grad
