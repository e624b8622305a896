"""What happens in a long run: gradients of any size, gaps and groups that change, states that do not fit."""

from __future__ import annotations

import tracemalloc
from typing import Any

import pytest
import torch
from torch import nn

from liver_landmark.optim import PROJ_TYPES, LayerwiseStepper, SRFTGaLoreAdamW, compute_basis
from liver_landmark.optim.projection import Stagger
from optim.gradients import run, set_gradients, weights

SHARPER: list[dict[str, Any]] = [{}, {"power_iterations": 2}, {"oversampling": 3}, {"singular": True}]


@pytest.mark.parametrize("size", [2.0**-130, 2.0**-100, 2.0**60, 2.0**120])
@pytest.mark.parametrize("settings", SHARPER, ids=str)
@pytest.mark.parametrize("proj_type", ["srft", "srft_energy", "gaussian"])
def test_a_basis_does_not_depend_on_the_size_of_the_gradient(size, settings, proj_type) -> None:
    gradient = torch.randn(30, 20, generator=torch.Generator().manual_seed(0)).clamp(-4, 4)
    # No entry so small that the smallest size would round it.
    gradient = torch.where(gradient.abs() < 0.1, 0.1, gradient)
    expected = compute_basis(gradient, 5, proj_type, **settings)
    basis = compute_basis(gradient * size, 5, proj_type, **settings)
    if size > 2.0**-110:
        assert torch.equal(basis, expected)
    else:
        # Denormal numbers have fewer digits.
        torch.testing.assert_close(basis @ basis.T, expected @ expected.T, atol=1e-3, rtol=0)


VARIANTS: dict[str, dict[str, Any]] = {proj_type: {"proj_type": proj_type} for proj_type in PROJ_TYPES} | {
    "rotate": {"moment_transfer": "rotate", "singular_basis": True},
    "warm": {"warm_start": True, "power_iterations": 1},
    "warm_mixed": {"warm_start": True, "oversampling": 2},
}


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("size", [1e-38, 1e-30, 1e18, 1e19, 1e38])
def test_no_gradient_leaves_numbers_that_are_none(variant: str, size: float) -> None:
    """Sizes from step to step; what cannot be squared is skipped."""
    parameters = weights((12, 8), (8, 12))
    optimizer = SRFTGaLoreAdamW(
        parameters, lr=0.01, rank=3, update_proj_gap=2, nonfinite="skip", **VARIANTS[variant]
    )
    for step in range(10):
        set_gradients(parameters, step)
        for parameter in parameters:
            parameter.grad.clamp_(-1.5, 1.5).mul_(size if step % 3 == 1 else 1.0)
        optimizer.step()
        for parameter in parameters:
            assert torch.isfinite(parameter).all()
            assert not any(torch.isnan(value).any() for value in optimizer.state.get(parameter, {}).values())


def counts(optimizer: SRFTGaLoreAdamW) -> list[int]:
    return [int(state["refresh_count"]) for state in optimizer.state.values()]


def test_every_basis_is_refreshed_once_a_gap_after_the_gap_has_changed() -> None:
    parameters = weights(*[(6, 4)] * 10)
    optimizer = SRFTGaLoreAdamW(parameters, rank=2, update_proj_gap=50)
    run(parameters, optimizer, 55)
    optimizer.param_groups[0]["update_proj_gap"] = 5
    before = counts(optimizer)
    run(parameters, optimizer, 20, first=55)
    assert [now - then for now, then in zip(counts(optimizer), before, strict=True)] == [4] * 10


def test_a_group_that_is_added_moves_no_refresh_of_the_others() -> None:
    """Each interval stays one gap, and bases stay those of the run without the newcomer."""
    alone, joined = weights(*[(12, 8)] * 4), weights(*[(12, 8)] * 4)
    newcomers = weights((30, 20), (30, 20), seed=5)
    optimizers = [SRFTGaLoreAdamW(p, rank=2, update_proj_gap=10) for p in (alone, joined)]
    for step in range(40):
        if step == 13:
            optimizers[1].add_param_group({"params": newcomers, "rank": 3})
        set_gradients(alone, step)
        set_gradients([*joined, *newcomers], step)
        for optimizer in optimizers:
            optimizer.step()
    for one, other in zip(alone, joined, strict=True):
        assert torch.equal(one, other)
        assert all(map(torch.equal, optimizers[0].state[one].values(), optimizers[1].state[other].values()))


def test_offsets_take_no_room_for_steps_that_nothing_happens_at() -> None:
    tracemalloc.start()
    assert Stagger(10**9).offsets([3.0, 1.0, 2.0]) == [0, 2, 1]
    assert tracemalloc.get_traced_memory()[1] < 10**6
    tracemalloc.stop()


@pytest.mark.parametrize("gap", [1, 3, 7])
def test_offsets_share_the_work_out(gap: int) -> None:
    costs = torch.rand(40, generator=torch.Generator().manual_seed(gap)).add(0.05).tolist()
    stagger = Stagger(gap)
    offsets = stagger.offsets(costs[:25]) + stagger.offsets(costs[25:])
    loads = [sum(c for c, o in zip(costs, offsets, strict=True) if o == step) for step in range(gap)]
    # Graham's bound for a list in any order: the mean, and one of the largest on top.
    assert max(loads) <= sum(costs) / gap + max(costs)
    assert min(loads) > 0


@pytest.mark.parametrize("oversampling", [0, 2])
def test_a_warm_start_finds_a_gradient_that_has_left_its_reach(oversampling: int) -> None:
    """Other rows, other columns: the former basis captures nothing of it."""
    [parameter] = weights((12, 8))
    optimizer = SRFTGaLoreAdamW(
        [parameter], rank=3, update_proj_gap=5, warm_start=True, oversampling=oversampling, stagger=False
    )
    generator = torch.Generator().manual_seed(0)
    for step in range(11):
        parameter.grad = torch.zeros(12, 8)
        part = parameter.grad[:6, :4] if step < 3 else parameter.grad[6:, 4:]
        part.copy_(torch.randn(part.shape, generator=generator))
        optimizer.step()
    basis = optimizer.state[parameter]["basis"]
    captured = (basis.T @ parameter.grad).square().sum() / parameter.grad.square().sum()
    assert captured > 0.5


def test_a_warm_start_with_oversampling_is_the_best_of_old_and_new() -> None:
    """Close to the exact one where the gradient stays, no worse than a cold sketch where it has moved."""
    generator = torch.Generator().manual_seed(3)
    left = torch.linalg.qr(torch.randn(200, 80, generator=generator)).Q
    right = torch.linalg.qr(torch.randn(80, 80, generator=generator)).Q
    gradient = left * torch.arange(1, 81).float().pow(-0.5) @ right.T
    best = torch.linalg.svdvals(gradient)[:16].square().sum()

    def energy(**settings: Any) -> float:
        return ((compute_basis(gradient, 16, **settings).T @ gradient).square().sum() / best).item()

    exact = torch.linalg.svd(gradient).U[:, :16]
    foreign = torch.linalg.qr(torch.randn(200, 16, generator=generator)).Q
    assert energy(start=exact, oversampling=8) > 0.999
    assert energy(start=foreign, oversampling=8) > energy(start=foreign) + 0.005
    assert energy(start=foreign, oversampling=8) > energy(oversampling=8) + 0.05


def test_draws_and_counters_stay_on_the_cpu_whatever_the_default_device() -> None:
    [parameter] = weights((8, 6))
    optimizer = SRFTGaLoreAdamW([parameter], rank=2, proj_type="gaussian", update_proj_gap=2)
    set_gradients([parameter], 0)
    with torch.device("meta"):
        # The oblivious basis and the sketches place what they draw where the gradient lies.
        for proj_type in PROJ_TYPES:
            if proj_type in ("gaussian", "srft"):
                compute_basis(parameter.grad, 2, proj_type)
        optimizer.step()
    state = optimizer.state[parameter]
    assert {value.device.type for value in state.values()} == {"cpu"}


def test_a_state_whose_parameters_have_changed_places_is_refused() -> None:
    one, other = weights((8, 6), (8, 6))
    saved = SRFTGaLoreAdamW([("one", one), ("other", other)], rank=2)
    run([one, other], saved, 3)
    optimizer = SRFTGaLoreAdamW(
        [("other", nn.Parameter(other.data)), ("one", nn.Parameter(one.data))], rank=2
    )
    with pytest.raises(ValueError, match="in another order, from other on"):
        optimizer.load_state_dict(saved.state_dict())
    assert not optimizer.state


def test_a_state_with_something_else_than_tensors_is_refused_and_changes_nothing() -> None:
    [parameter] = weights((8, 6))
    optimizer = SRFTGaLoreAdamW([parameter], rank=2)
    run([parameter], optimizer, 3)
    saved = optimizer.state_dict()
    saved["state"][0] = saved["state"][0] | {"step": 3}
    before = {key: value.clone() for key, value in optimizer.state[parameter].items()}
    run([parameter], optimizer, 1, first=3)
    moved = {key: value.clone() for key, value in optimizer.state[parameter].items()}
    with pytest.raises(ValueError, match="step is no tensor"):
        optimizer.load_state_dict(saved)
    assert not torch.equal(moved["exp_avg"], before["exp_avg"])
    assert all(torch.equal(optimizer.state[parameter][key], value) for key, value in moved.items())


def test_hooks_after_loading_see_the_state_that_stays() -> None:
    [parameter] = weights((8, 6), dtype=torch.bfloat16)
    optimizer = SRFTGaLoreAdamW([parameter], rank=2)
    run([parameter], optimizer, 3)
    seen = {}

    def look(loaded: torch.optim.Optimizer) -> None:
        seen.update({key: value.dtype for key, value in loaded.state[parameter].items()})
        loaded.state[parameter]["exp_avg"].zero_()

    optimizer.register_load_state_dict_post_hook(look)
    optimizer.load_state_dict(optimizer.state_dict())
    assert seen["exp_avg"] == seen["basis"] == torch.float32
    assert seen["refresh_count"] == torch.int64
    assert not optimizer.state[parameter]["exp_avg"].any()


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
