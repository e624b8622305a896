"""One optimizer step, against the gradient that it should follow."""

from __future__ import annotations

import copy

import pytest
import torch
from accelerate import Accelerator
from accelerate.utils import GradientAccumulationPlugin
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from liver_landmark.training.loop import StepResult, training_step
from tiny_models import tiny_model


def batch(seed: int, frames: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        "pixel_values": torch.randn(frames, 3, 64, 64, generator=generator, dtype=torch.float64),
        "labels": torch.randint(0, 4, (frames, 64, 64), generator=generator),
    }


def step(
    model: nn.Module, batches: list, max_grad_norm: float | None = None, lr: float = 0.1, **options
) -> tuple[StepResult, LambdaLR]:
    accelerator = Accelerator(
        cpu=True,
        gradient_accumulation_plugin=GradientAccumulationPlugin(
            num_steps=len(batches), sync_with_dataloader=False
        ),
        **options,
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    schedule = LambdaLR(optimizer, lambda done: 0.5**done)
    wrapped, optimizer = accelerator.prepare(model, optimizer)
    result = training_step(accelerator, wrapped, optimizer, schedule, batches, max_grad_norm, step=7)
    return result, schedule


def double_model() -> nn.Module:
    return tiny_model().to(torch.float64).train()


def test_accumulated_batches_move_the_weights_as_one_batch_does() -> None:
    one, parts = double_model(), double_model()
    whole = batch(0, 4)
    halves = [{name: tensor[part] for name, tensor in whole.items()} for part in (slice(0, 2), slice(2, 4))]
    whole_result, _ = step(one, [whole])
    parts_result, _ = step(parts, halves)
    assert parts_result.loss == pytest.approx(whole_result.loss, rel=1e-6)
    assert parts_result.grad_norm == pytest.approx(whole_result.grad_norm, rel=1e-6)
    for (name, ours), theirs in zip(one.named_parameters(), parts.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-9, msg=name)


@pytest.mark.parametrize("part", [0.1, None, 10])
def test_step_is_plain_gradient_descent_clipped_to_the_limit(part: float | None) -> None:
    model = double_model()
    reference = copy.deepcopy(model)
    reference(**batch(1, 2)).loss.backward()
    gradients = [parameter.grad for parameter in reference.parameters()]
    norm = torch.sqrt(sum((gradient**2).sum() for gradient in gradients)).item()
    before = [parameter.detach().clone() for parameter in model.parameters()]
    result, schedule = step(model, [batch(1, 2)], max_grad_norm=part and norm * part)
    assert result.grad_norm == pytest.approx(norm)
    assert result.lr == 0.1
    # The schedule has been stepped once.
    assert schedule.get_last_lr() == [0.05]
    kept = min(part or 1, 1)
    for old, new, gradient in zip(before, model.parameters(), gradients, strict=True):
        torch.testing.assert_close(new.detach(), old - 0.1 * kept * gradient, rtol=1e-4, atol=1e-9)


@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_non_finite_values_end_the_run_before_the_weights_move(where: str) -> None:
    model = double_model()
    if where == "loss":
        with torch.no_grad():
            model.decoder.classifier.bias.fill_(float("nan"))
    else:
        model.decoder.classifier.weight.register_hook(lambda gradient: gradient * float("inf"))
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(FloatingPointError, match="step 7"):
        step(model, [batch(2, 1)])
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor.nan_to_num(), before[name].nan_to_num()), name


def test_bf16_computes_in_half_precision_and_keeps_float32_weights() -> None:
    model = tiny_model().train()
    seen = []
    model.decoder.classifier.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    inputs = batch(3, 2)
    inputs["pixel_values"] = inputs["pixel_values"].float()
    before = copy.deepcopy(model.state_dict())
    result, _ = step(model, [inputs], mixed_precision="bf16")
    assert seen == [torch.bfloat16]
    assert torch.isfinite(torch.tensor(result.loss))
    assert all(parameter.dtype == torch.float32 for parameter in model.parameters())
    assert not torch.equal(model.decoder.classifier.weight, before["decoder.classifier.weight"])
