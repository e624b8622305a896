"""Layer-wise mode does what the ordinary one does, and holds one gradient at a time."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.optim.lr_scheduler import LambdaLR

from liver_landmark.optim import LayerwiseStepper, SRFTGaLoreAdamW
from optim.gradients import weights
from optim.small_network import (
    equal,
    frames,
    loss_of,
    network,
    optimizer_of,
    part,
    states_of,
    train,
    weights_of,
)

STEPS = range(16)
Losses = list[Callable[[], torch.Tensor]]


def whole(model: nn.Module, step: int) -> Losses:
    return [lambda: loss_of(model, frames(step))]


def halves(model: nn.Module, step: int) -> Losses:
    return [lambda index=index: loss_of(model, part(frames(step), index, 2)) / 2 for index in range(2)]


def uneven(model: nn.Module, step: int) -> Losses:
    """The last two layers take part in the first pass only, at every second step in none."""
    inputs, _ = frames(step)
    without = [lambda: model[:6](inputs).square().mean(), lambda: model[:6](2 * inputs).square().mean()]
    return without if step % 2 else [halves(model, step)[0], without[1]]


def without_projection(model: nn.Module) -> SRFTGaLoreAdamW:
    return SRFTGaLoreAdamW(list(model.named_parameters()), lr=1e-2)


@pytest.mark.parametrize("losses", [whole, halves, uneven])
@pytest.mark.parametrize("build", [optimizer_of, without_projection])
def test_equals_the_ordinary_mode_bit_for_bit(build, losses) -> None:
    ordinary, layerwise = network(), network()
    optimizer, hooked = build(ordinary), build(layerwise)
    stepper = LayerwiseStepper(hooked, accumulation_steps=1 if losses is whole else 2)
    schedules = [LambdaLR(each, lambda step: 0.8**step) for each in (optimizer, hooked)]
    assert stepper.last_step is None
    for step in STEPS:
        for loss in losses(ordinary, step):
            loss().backward()
        gradients = [weight.grad for weight in ordinary.parameters() if weight.grad is not None]
        norm, lr = torch.nn.utils.get_total_norm(gradients).item(), 1e-2 * 0.8**step
        optimizer.step()
        optimizer.zero_grad()
        for loss in losses(layerwise, step):
            loss().backward()
        hooked.step()
        assert all(weight.grad is None for weight in layerwise.parameters())
        for schedule in schedules:
            schedule.step()
        assert stepper.last_step.lr == pytest.approx(lr, rel=1e-12)
        assert stepper.last_step.grad_norm == pytest.approx(norm, rel=1e-12)
        assert stepper.last_step.skipped == 0
        assert equal(weights_of(layerwise), weights_of(ordinary))
    assert equal(states_of(hooked), states_of(optimizer))


def peak_of_live_gradients(layerwise: bool) -> tuple[int, list[int]]:
    """(Most bytes of gradients alive at once in the backward pass, bytes of every gradient)."""
    model = network()
    live: list[tuple[StorageWeakRef, int]] = []
    sizes: list[int] = []
    peaks: list[int] = []

    def count(weight: torch.Tensor) -> None:
        # Of the storage, because anything may still hold it when the weight has let go.
        storage = weight.grad.untyped_storage()
        sizes.append(storage.nbytes())
        live.append((StorageWeakRef(storage), storage.nbytes()))
        peaks.append(sum(size for gradient, size in live if not gradient.expired()))

    for weight in model.parameters():
        weight.register_post_accumulate_grad_hook(count)
    optimizer = optimizer_of(model)
    if layerwise:
        LayerwiseStepper(optimizer)
    loss_of(model, frames(0)).backward()
    return max(peaks), sizes


def test_gradients_are_freed_as_they_are_consumed() -> None:
    everything, sizes = peak_of_live_gradients(layerwise=False)
    assert everything == sum(sizes)
    peak, sizes = peak_of_live_gradients(layerwise=True)
    assert peak == max(sizes) < sum(sizes)


def test_state_moves_between_the_modes() -> None:
    straight = network()
    optimizer = optimizer_of(straight)
    train(straight, optimizer, range(15))

    model = network()
    current = optimizer_of(model)
    train(model, current, range(5))
    for start, layerwise in ((5, True), (10, False)):
        saved = copy.deepcopy(current.state_dict())
        current = optimizer_of(model)
        current.load_state_dict(saved)
        stepper = LayerwiseStepper(current) if layerwise else None
        train(model, current, range(start, start + 5))
        if stepper is not None:
            stepper.remove()
    assert equal(weights_of(model), weights_of(straight))
    assert equal(states_of(current), states_of(optimizer))


def test_a_gradient_that_is_not_finite_is_skipped_alone() -> None:
    model = network()
    stepper = LayerwiseStepper(optimizer_of(model, nonfinite="skip"))
    model[3].weight.register_hook(lambda gradient: gradient * float("nan"))
    before = weights_of(model)
    loss_of(model, frames(0)).backward()
    stepper.optimizer.step()
    moved = {name for name, weight in weights_of(model).items() if not torch.equal(weight, before[name])}
    assert moved == before.keys() - {"3.weight"}
    reference = network()
    loss_of(reference, frames(0)).backward()
    used = [weight.grad for name, weight in reference.named_parameters() if name != "3.weight"]
    assert stepper.last_step.skipped == 1
    assert stepper.last_step.grad_norm == pytest.approx(torch.nn.utils.get_total_norm(used).item())


def test_a_forgotten_step_and_no_passes_at_all_are_errors() -> None:
    with pytest.raises(ValueError, match="accumulation_steps must be an integer of at least 1, got 0"):
        LayerwiseStepper(optimizer_of(network()), accumulation_steps=0)
    model = network()
    LayerwiseStepper(optimizer_of(model))
    loss_of(model, frames(0)).backward()
    with pytest.raises(RuntimeError, match=r"without optimizer\.step"):
        loss_of(model, frames(1)).backward()


def test_layerwise_mode_starts_anew_after_a_gradient_that_was_refused() -> None:
    [parameter] = weights((8, 6))
    stepper = LayerwiseStepper(SRFTGaLoreAdamW([parameter], rank=2))
    with pytest.raises(FloatingPointError):
        (parameter.sum() * float("nan")).backward()
    parameter.grad = None
    parameter.square().sum().backward()
    stepper.optimizer.step()
    assert stepper.last_step.grad_norm > 0
    assert torch.isfinite(parameter).all()
