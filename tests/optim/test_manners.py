"""What the optimizer does with settings, weights and gradients that are not the usual ones."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import nn

from liver_landmark.optim import SRFTGaLoreAdamW
from liver_landmark.optim.basis import draw_seed, find_basis
from optim.gradients import quadratic, run, set_gradients, weights

SHAPES = [(12, 7), (7, 12), (9, 9), (12, 7)]


def snapshot(parameters: Sequence[nn.Parameter], optimizer: torch.optim.Optimizer) -> list[torch.Tensor]:
    held = [parameter.detach().clone() for parameter in parameters]
    for parameter in parameters:
        held += [value.clone() for value in optimizer.state.get(parameter, {}).values()]
    return held


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("foreach", [False, True])
@pytest.mark.parametrize("steps", [0, 2, 4], ids=["first", "between", "refresh"])
def test_a_gradient_that_is_not_finite_touches_nothing(bad: float, foreach: bool, steps: int) -> None:
    outcomes = []
    for nonfinite in ("raise", "skip"):
        parameters = weights((8, 6), (8, 6), (5,))
        groups = [{"params": parameters[:2], "rank": 3}, {"params": parameters[2:]}]
        optimizer = SRFTGaLoreAdamW(
            groups, update_proj_gap=4, stagger=False, nonfinite=nonfinite, foreach=foreach
        )
        run(parameters, optimizer, steps)
        before, known = snapshot(parameters, optimizer), len(optimizer.state)
        set_gradients(parameters, 99)
        parameters[1].grad[2, 3] = bad
        if nonfinite == "raise":
            with pytest.raises(FloatingPointError, match="gradient of parameter 1 of group 0"):
                optimizer.step()
        else:
            optimizer.step()
            assert optimizer.last_step_skipped
        assert len(optimizer.state) == known
        assert all(map(torch.equal, before, snapshot(parameters, optimizer)))
        outcomes.append(run(parameters, optimizer, 6, first=steps))
        assert not optimizer.last_step_skipped
    undisturbed = weights((8, 6), (8, 6), (5,))
    groups = [{"params": undisturbed[:2], "rank": 3}, {"params": undisturbed[2:]}]
    reference = SRFTGaLoreAdamW(groups, update_proj_gap=4, stagger=False, foreach=foreach)
    expected = run(undisturbed, reference, steps + 6)
    for outcome in outcomes:
        assert all(map(torch.equal, outcome, expected))


@pytest.mark.parametrize("proj_type", ["srft", "srft_energy", "srft_oblivious", "gaussian", "svd"])
def test_zero_gradients_are_fine_and_decide_no_basis(proj_type: str) -> None:
    [parameter] = weights((8, 6))
    optimizer = SRFTGaLoreAdamW([parameter], lr=0.1, weight_decay=0.0, rank=3, proj_type=proj_type)
    start = parameter.detach().clone()
    parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    assert torch.equal(parameter, start)
    set_gradients([parameter], 0)
    optimizer.step()
    state = optimizer.state[parameter]
    assert all(torch.isfinite(value).all() for value in state.values())
    if proj_type != "srft_oblivious":
        # The first gradient that says something is asked at once, not a gap later.
        expected = find_basis(parameter.grad, 3, [draw_seed(0, 0, 0)], proj_type=proj_type)
        torch.testing.assert_close(state["basis"], expected)
        # A zero at a refresh leaves the basis alone.
        basis = state["basis"].clone()
        state["step"] += 48
        parameter.grad = torch.zeros_like(parameter)
        optimizer.step()
        assert int(state["step"]) == 51
        assert torch.equal(state["basis"], basis)


def test_closure_runs_with_gradients_and_its_loss_is_returned() -> None:
    weight, loss_of = quadratic()
    optimizer = SRFTGaLoreAdamW([weight], rank=4)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = loss_of()
        loss.backward()
        return loss

    expected = loss_of().item()
    assert optimizer.step(closure).item() == expected
    assert loss_of().item() < expected


def test_parameters_without_gradient_are_left_alone() -> None:
    parameters = weights((6, 4), (6, 4))
    optimizer = SRFTGaLoreAdamW(parameters, rank=2)
    optimizer.step()
    parameters[1].grad = torch.ones(6, 4)
    before = parameters[0].detach().clone()
    optimizer.step()
    assert torch.equal(parameters[0], before)
    assert parameters[0] not in optimizer.state


def test_sparse_and_complex_gradients_are_refused_by_name() -> None:
    table = nn.Embedding(6, 4, sparse=True)
    optimizer = SRFTGaLoreAdamW([("table", table.weight)])
    table(torch.tensor([1])).sum().backward()
    with pytest.raises(TypeError, match="table has a sparse gradient"):
        optimizer.step()
    wave = nn.Parameter(torch.ones(3, 3, dtype=torch.complex64))
    wave.grad = torch.ones_like(wave)
    with pytest.raises(TypeError, match=r"parameter 0 of group 0.* has a complex gradient"):
        SRFTGaLoreAdamW([wave]).step()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(lr=-1.0), "lr must be at least 0"),
        (dict(lr=math.nan), "lr must be at least 0"),
        (dict(eps=-1e-8), "eps must be at least 0"),
        (dict(eps=0), "eps must be more than 0"),
        (dict(warm_start="no"), "warm_start must be True or False"),
        (dict(stagger=None), "stagger must be True or False"),
        (dict(foreach="yes"), "foreach must be one of"),
        (dict(maximize=1), "maximize must be one of"),
        (dict(proj_type=["srft"]), "proj_type: .* is unknown"),
        (dict(matrix_axes=((0,), (None,))), "must name axes"),
        (dict(matrix_axes=((0.0,), (1,))), "must name axes"),
        (dict(weight_decay=-0.1), "weight_decay must be at least 0"),
        (dict(betas=(0.9, 1.0)), "betas must be two numbers"),
        (dict(betas=(0.9,)), "betas must be two numbers"),
        (dict(rank=0), "rank must be an integer of at least 1"),
        (dict(rank=True), "rank must be an integer of at least 1"),
        (dict(update_proj_gap=0), "update_proj_gap must be an integer of at least 1"),
        (dict(scale=0), "scale must be positive"),
        (dict(proj_type="fft"), "proj_type: 'fft' is unknown: choose one of srft"),
        (dict(proj_type="full"), "proj_type: 'full' projects both sides"),
        (dict(side="up"), "side: 'up' is unknown"),
        (dict(moment_transfer="copy"), "moment_transfer: 'copy' is unknown"),
        (dict(proj_type="svd", warm_start=True), "warm_start means nothing for proj_type svd"),
        (dict(proj_type="srft_oblivious", power_iterations=1), "power_iterations means nothing"),
        (dict(matrix_axes=((0,), (0,))), "must name different axes"),
        (dict(matrix_axes=((0,), (2,))), "must name axes"),
        (dict(nonfinite="ignore"), "nonfinite: 'ignore' is unknown"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SRFTGaLoreAdamW(weights((6, 4)), **({"rank": 2} | settings))


def test_weights_without_a_matrix_are_refused_at_construction_by_name() -> None:
    layer = nn.Conv1d(3, 4, 2)
    names = list(layer.named_parameters())
    with pytest.raises(ValueError, match=r"bias has 1 dimension.*move it to a group without rank"):
        SRFTGaLoreAdamW([{"params": names[1:], "rank": 2}])
    with pytest.raises(ValueError, match=r"weight has 3 dimensions: say which form the matrix"):
        SRFTGaLoreAdamW([{"params": names[:1], "rank": 2}])


def test_a_refused_group_leaves_the_optimizer_as_it_was() -> None:
    parameters = weights((6, 4), (6, 4))
    optimizer = SRFTGaLoreAdamW(parameters[:1], rank=2)
    run(parameters[:1], optimizer, 2)
    for shape, settings in (((3,), {}), ((3, 3), {"matrix_axes": ((0,), (None,))})):
        with pytest.raises(ValueError, match="parameter 0 of group 1"):
            optimizer.add_param_group({"params": [nn.Parameter(torch.ones(shape))], "rank": 2, **settings})
    assert len(optimizer.param_groups) == 1
    optimizer.add_param_group({"params": parameters[1:], "lr": 0.5})
    run(parameters, optimizer, 2)
    assert optimizer.state[parameters[1]]["step"] == 2


@pytest.mark.parametrize(
    ("proj_type", "side"),
    [("std", "shorter"), ("reverse_std", "longer"), ("left", "left"), ("right", "right")],
)
def test_galores_projection_types_choose_a_side_only(proj_type: str, side: str) -> None:
    for arguments in (
        {"params": [{"params": weights((6, 4)), "rank": 2, "proj_type": proj_type}]},
        {"params": weights((6, 4)), "rank": 2, "proj_type": proj_type},
    ):
        group = SRFTGaLoreAdamW(**arguments).param_groups[0]
        assert (group["proj_type"], group["side"]) == ("srft", side)
    groups = [{"params": weights((6, 4)), "rank": 2, "proj_type": proj_type}]
    group = SRFTGaLoreAdamW(groups, proj_type="svd").param_groups[0]
    assert (group["proj_type"], group["side"]) == ("svd", side)


def test_global_random_numbers_are_neither_used_nor_moved() -> None:
    results = []
    for seed in (1, 2):
        parameters = weights(*SHAPES)
        optimizer = SRFTGaLoreAdamW(parameters, rank=3, update_proj_gap=2)
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        results.append(run(parameters, optimizer, 6))
        assert torch.equal(torch.get_rng_state(), before)
    assert all(map(torch.equal, *results))


def test_weights_of_one_shape_get_bases_of_their_own() -> None:
    parameters = weights((20, 12), (20, 12))
    optimizer = SRFTGaLoreAdamW(parameters, rank=3, update_proj_gap=1)
    bases = []
    for _ in range(2):
        for parameter in parameters:
            parameter.grad = torch.randn(20, 12, generator=torch.Generator().manual_seed(0))
        optimizer.step()
        bases += [optimizer.state[parameter]["basis"] for parameter in parameters]
    spans = [basis @ basis.T for basis in bases]
    for index, span in enumerate(spans):
        assert all((span - other).norm() > 0.5 for other in spans[:index])


def test_state_holds_what_the_side_says_and_nothing_more() -> None:
    for side, numbers in (("longer", 128 * (1728 + 2 * 576)), ("shorter", 128 * (576 + 2 * 1728))):
        [parameter] = weights((1728, 576))
        optimizer = SRFTGaLoreAdamW([parameter], rank=128, side=side)
        run([parameter], optimizer, 1)
        tensors = [value for value in optimizer.state[parameter].values() if value.dim()]
        assert sum(tensor.untyped_storage().nbytes() for tensor in tensors) == 4 * numbers
    [parameter] = weights((1728, 576))
    optimizer = SRFTGaLoreAdamW([parameter], rank=128, proj_type="srft_oblivious")
    run([parameter], optimizer, 1)
    assert sum(v.numel() for v in optimizer.state[parameter].values()) == 2 * 128 * 576 + 2
