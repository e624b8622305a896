"""The optimizer against the textbook, and with settings, weights and gradients of unusual kinds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import nn

from liver_landmark.optim import PROJ_TYPES, SRFTGaLoreAdamW, compute_basis
from liver_landmark.optim.basis import draw_seed, find_basis
from optim.gradients import quadratic, run, set_gradients, weights


def assert_all_close(left: Sequence[torch.Tensor], right: Sequence[torch.Tensor], **tolerance: float) -> None:
    for one, other in zip(left, right, strict=True):
        torch.testing.assert_close(one, other, **tolerance)


SHAPES = [(12, 7), (7, 12), (9, 9), (12, 7)]


@pytest.mark.parametrize("foreach", [False, True])
@pytest.mark.parametrize("maximize", [False, True])
def test_without_rank_it_is_adamw(foreach: bool, maximize: bool) -> None:
    settings: dict[str, Any] = dict(lr=0.03, betas=(0.8, 0.95), eps=1e-6, weight_decay=0.3, maximize=maximize)
    shapes = [*SHAPES, (5,), (3, 2, 2)]
    ours, theirs = weights(*shapes), weights(*shapes)
    assert_all_close(
        run(ours, SRFTGaLoreAdamW(ours, **settings, foreach=foreach), 12),
        run(theirs, torch.optim.AdamW(theirs, **settings), 12),
        atol=1e-6,
        rtol=1e-5,
    )


def textbook(
    weight: torch.Tensor, gradients: Sequence[torch.Tensor], ordinal: int, left: bool, **settings: Any
) -> torch.Tensor:
    """GaLore's algorithm 2 with decoupled weight decay, one matrix, in the order of the paper."""
    lr, (beta1, beta2), eps = settings["lr"], settings["betas"], settings["eps"]
    weight = weight.clone()
    for step, gradient in enumerate(gradients, start=1):
        matrix = gradient if left else gradient.T
        if (step - 1) % settings["update_proj_gap"] == 0:
            count = (step - 1) // settings["update_proj_gap"]
            basis = find_basis(matrix, settings["rank"], [draw_seed(0, ordinal, count)])
            if step == 1:
                average = square = torch.zeros_like(basis.T @ matrix)
        low = basis.T @ matrix
        average = beta1 * average + (1 - beta1) * low
        square = beta2 * square + (1 - beta2) * low**2
        direction = (average / (1 - beta1**step)) / ((square / (1 - beta2**step)).sqrt() + eps)
        update = basis @ direction if left else (basis @ direction).T
        weight = weight - lr * settings["weight_decay"] * weight - lr * settings["scale"] * update
    return weight


@pytest.mark.parametrize("side", ["longer", "shorter", "left", "right"])
def test_projected_weights_follow_the_textbook(side: str) -> None:
    settings: dict[str, Any] = dict(
        lr=0.02, betas=(0.8, 0.95), eps=1e-8, weight_decay=0.3, rank=4, update_proj_gap=5, scale=0.7
    )
    parameters = weights(*SHAPES)
    starts = [parameter.detach().clone() for parameter in parameters]
    optimizer = SRFTGaLoreAdamW(parameters, **settings, side=side, stagger=False)
    gradients: list[list[torch.Tensor]] = [[] for _ in parameters]
    for step in range(16):
        set_gradients(parameters, step)
        for seen, parameter in zip(gradients, parameters, strict=True):
            seen.append(parameter.grad.clone())
        optimizer.step()
    for ordinal, (parameter, start) in enumerate(zip(parameters, starts, strict=True)):
        rows, columns = start.shape
        left = {"longer": rows >= columns, "shorter": rows < columns, "left": True, "right": False}[side]
        expected = textbook(start, gradients[ordinal], ordinal, left, **settings)
        torch.testing.assert_close(parameter.detach(), expected, atol=1e-5, rtol=1e-5)


VARIANTS: dict[str, dict[str, Any]] = {
    "srft": {},
    "energy": dict(proj_type="srft_energy"),
    "oblivious": dict(proj_type="srft_oblivious", moment_transfer="rotate"),
    "gaussian": dict(proj_type="gaussian", oversampling=2),
    "svd": dict(proj_type="svd", side="shorter"),
    "rotate": dict(moment_transfer="rotate", singular_basis=True, side="right"),
    "warm": dict(warm_start=True, power_iterations=1),
    "at_once": dict(stagger=False),
}


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_batching_of_equal_shapes_changes_nothing(variant: str, dtype: torch.dtype) -> None:
    results = []
    for foreach in (False, True):
        parameters = weights(*SHAPES, (5, 3, 2, 2), (5, 3, 2, 2), dtype=dtype)
        groups = [{"params": parameters[:4]}, {"params": parameters[4:], "matrix_axes": ((0,), (1, 2, 3))}]
        optimizer = SRFTGaLoreAdamW(
            groups, lr=0.01, rank=3, update_proj_gap=4, foreach=foreach, **VARIANTS[variant]
        )
        results.append(run(parameters, optimizer, 14))
    # Half precision rounds the same step to neighboring numbers now and then.
    tolerance = 2e-2 if dtype == torch.bfloat16 else 2e-5
    assert_all_close(*results, atol=tolerance, rtol=tolerance)


def strided(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.T.contiguous().T


def kernel_of(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.reshape(12, 3, 2, 2).clone()


@pytest.mark.parametrize(
    ("form", "settings", "tolerance"),
    [
        (kernel_of, {"matrix_axes": ((0,), (1, 2, 3))}, {}),
        (strided, {}, {}),
        (torch.Tensor.bfloat16, {}, {"atol": 0.05, "rtol": 0.02}),
    ],
)
def test_a_matrix_may_be_a_convolution_lie_in_memory_as_it_likes_or_be_of_half_precision(
    form, settings, tolerance
):
    [plain] = weights((12, 12), dtype=torch.bfloat16)
    plain.data = plain.data.float()
    other = nn.Parameter(form(plain.detach()))
    optimizers = [
        SRFTGaLoreAdamW([plain], lr=0.05, rank=3, update_proj_gap=3),
        SRFTGaLoreAdamW([other], lr=0.05, rank=3, update_proj_gap=3, **settings),
    ]
    for step in range(12):
        set_gradients([plain], step)
        plain.grad = plain.grad.bfloat16().float()
        other.grad = form(plain.grad)
        for optimizer in optimizers:
            optimizer.step()
    assert other.stride() == form(plain).stride()
    state = optimizers[1].state[other]
    assert {state[key].dtype for key in ("basis", "exp_avg", "exp_avg_sq")} == {torch.float32}
    torch.testing.assert_close(other.reshape(12, 12).float(), plain, **tolerance)


def test_unnamed_axes_are_a_batch_of_matrices() -> None:
    """Each kernel position by itself, all with the draws of their one parameter."""
    [kernel] = weights((6, 5, 3))
    singles = [nn.Parameter(kernel.detach()[:, :, position].clone()) for position in range(3)]
    together = SRFTGaLoreAdamW([kernel], rank=2, update_proj_gap=3, matrix_axes=((0,), (1,)))
    apart = [SRFTGaLoreAdamW([single], rank=2, update_proj_gap=3) for single in singles]
    for step in range(8):
        set_gradients([kernel], step)
        together.step()
        for position, (single, optimizer) in enumerate(zip(singles, apart, strict=True)):
            single.grad = kernel.grad[:, :, position].clone()
            optimizer.step()
    assert_all_close(kernel.detach().unbind(-1), [single.detach() for single in singles])


def counts(optimizer: SRFTGaLoreAdamW) -> list[int]:
    return [int(state["refresh_count"]) for state in optimizer.state.values()]


def test_refreshes_come_once_a_gap_and_are_spread_after_the_gap_has_changed_too() -> None:
    parameters = weights(*[(12, 8)] * 10)
    optimizer = SRFTGaLoreAdamW(parameters, rank=3, update_proj_gap=50)
    refreshed, before = [], [0] * 10
    for step in range(76):
        if step == 55:
            optimizer.param_groups[0]["update_proj_gap"] = 5
        run(parameters, optimizer, 1, first=step)
        refreshed.append([now - then for now, then in zip(counts(optimizer), before, strict=True)])
        before = counts(optimizer)
    assert refreshed[0] == [1] * 10
    assert all(sum(step) <= 1 for step in refreshed[1:51])
    assert all(sum(step) == 2 for step in refreshed[56:])
    for start, gap in ((1, 50), (56, 5), (61, 5), (66, 5), (71, 5)):
        assert [sum(column) for column in zip(*refreshed[start : start + gap], strict=True)] == [1] * 10


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_solves_least_squares(variant: str) -> None:
    weight, loss_of = quadratic()
    optimizer = SRFTGaLoreAdamW(
        [weight], lr=0.1, rank=4, update_proj_gap=20, weight_decay=0.0, **VARIANTS[variant]
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 300)
    start = loss_of().item()

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = loss_of()
        loss.backward()
        return loss

    for _ in range(300):
        with torch.no_grad():
            expected = loss_of().item()
            # Runs with gradients, and its loss is returned.
            assert optimizer.step(closure).item() == expected
        schedule.step()
    # An oblivious basis finds a quarter of the directions at a time, the others most of what counts.
    assert loss_of().item() < (0.2 if variant == "oblivious" else 0.05) * start


@pytest.mark.parametrize("side", ["left", "right"])
def test_rotated_first_moments_keep_their_place_in_the_whole_space(side: str) -> None:
    """P_new m_new is the part of P_old m_old that the new basis can hold: with full rank, all of it."""
    [parameter] = weights((6, 6))
    optimizer = SRFTGaLoreAdamW(
        [parameter], rank=6, update_proj_gap=3, side=side, moment_transfer="rotate", stagger=False
    )
    betas = optimizer.param_groups[0]["betas"]
    expected = torch.zeros(6, 6)
    for step in range(8):
        set_gradients([parameter], step)
        expected = betas[0] * expected + (1 - betas[0]) * parameter.grad
        optimizer.step()
        state = optimizer.state[parameter]
        lifted = state["basis"] @ state["exp_avg"] if side == "left" else state["exp_avg"] @ state["basis"].T
        torch.testing.assert_close(lifted, expected, atol=1e-5, rtol=0)


def snapshot(parameters: Sequence[nn.Parameter], optimizer: torch.optim.Optimizer) -> list[torch.Tensor]:
    held = [parameter.detach().clone() for parameter in parameters]
    for parameter in parameters:
        held += [value.clone() for value in optimizer.state.get(parameter, {}).values()]
    return held


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("foreach", [False, True])
@pytest.mark.parametrize("steps", [0, 2, 4], ids=["first", "between", "refresh"])
def test_a_gradient_that_is_not_finite_touches_nothing(bad: float, foreach: bool, steps: int) -> None:
    def build(**settings: Any) -> tuple[list[nn.Parameter], SRFTGaLoreAdamW]:
        parameters = weights((8, 6), (8, 6), (5,))
        groups = [{"params": parameters[:2], "rank": 3}, {"params": parameters[2:]}]
        return parameters, SRFTGaLoreAdamW(
            groups, update_proj_gap=4, stagger=False, foreach=foreach, **settings
        )

    outcomes = []
    for nonfinite in ("raise", "skip"):
        parameters, optimizer = build(nonfinite=nonfinite)
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
    expected = run(*build(), steps + 6)
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
        *((dict(lr=lr), "lr must be at least 0") for lr in (-1.0, math.nan)),
        (dict(eps=-1e-8), "eps must be at least 0"),
        (dict(eps=0), "eps must be more than 0"),
        (dict(warm_start="no"), "warm_start must be True or False"),
        (dict(stagger=None), "stagger must be True or False"),
        (dict(foreach="yes"), "foreach must be one of"),
        (dict(maximize=1), "maximize must be one of"),
        (dict(proj_type=["srft"]), "proj_type: .* is unknown"),
        *(
            (dict(matrix_axes=axes), "must name axes")
            for axes in (((0,), (None,)), ((0.0,), (1,)), ((0,), (2,)))
        ),
        (dict(weight_decay=-0.1), "weight_decay must be at least 0"),
        *((dict(betas=betas), "betas must be two numbers") for betas in ((0.9, 1.0), (0.9,))),
        *((dict(rank=rank), "rank must be an integer of at least 1") for rank in (0, True)),
        (dict(update_proj_gap=0), "update_proj_gap must be an integer of at least 1"),
        (dict(scale=0), "scale must be positive"),
        (dict(proj_type="fft"), "proj_type: 'fft' is unknown: choose one of srft"),
        (dict(proj_type="full"), "proj_type: 'full' projects both sides"),
        (dict(side="up"), "side: 'up' is unknown"),
        (dict(moment_transfer="copy"), "moment_transfer: 'copy' is unknown"),
        (dict(proj_type="svd", warm_start=True), "warm_start means nothing for proj_type svd"),
        (dict(proj_type="srft_oblivious", power_iterations=1), "power_iterations means nothing"),
        (dict(matrix_axes=((0,), (0,))), "must name different axes"),
        (dict(nonfinite="ignore"), "nonfinite: 'ignore' is unknown"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SRFTGaLoreAdamW(weights((6, 4)), **({"rank": 2} | settings))


def test_a_refused_group_leaves_the_optimizer_as_it_was() -> None:
    parameters = weights((6, 4), (6, 4))
    optimizer = SRFTGaLoreAdamW(parameters[:1], rank=2)
    run(parameters[:1], optimizer, 2)
    for shape, settings, message in (
        ((3,), {}, r"parameter 0 of group 1.* has 1 dimension\(s\) and no matrix to project"),
        ((6, 3, 3, 3), {}, r"parameter 0 of group 1.* has 4 dimensions: say which form the matrix by matr"),
        ((3, 3), {"matrix_axes": ((0,), (None,))}, r"must name axes of parameter 0 of group 1"),
    ):
        with pytest.raises(ValueError, match=message) as error:
            optimizer.add_param_group({"params": [nn.Parameter(torch.ones(shape))], "rank": 2, **settings})
        assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match=r"norm\.weight has 1 dimension"):
        SRFTGaLoreAdamW([{"params": [("norm.weight", nn.Parameter(torch.ones(3)))], "rank": 2}])
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


LONG_RUNS: dict[str, dict[str, Any]] = {proj_type: {"proj_type": proj_type} for proj_type in PROJ_TYPES} | {
    "rotate": {"moment_transfer": "rotate", "singular_basis": True},
    "warm": {"warm_start": True, "power_iterations": 1},
    "warm_mixed": {"warm_start": True, "oversampling": 2},
}


@pytest.mark.parametrize("variant", LONG_RUNS)
@pytest.mark.parametrize("size", [1e-38, 1e-30, 1e18, 1e19, 1e38])
def test_no_gradient_leaves_numbers_that_are_none(variant: str, size: float) -> None:
    """Sizes from step to step; what cannot be squared is skipped."""
    parameters = weights((12, 8), (8, 12))
    optimizer = SRFTGaLoreAdamW(
        parameters, lr=0.01, rank=3, update_proj_gap=2, nonfinite="skip", **LONG_RUNS[variant]
    )
    for step in range(10):
        set_gradients(parameters, step)
        for parameter in parameters:
            parameter.grad.clamp_(-1.5, 1.5).mul_(size if step % 3 == 1 else 1.0)
        optimizer.step()
        for parameter in parameters:
            assert torch.isfinite(parameter).all()
            assert not any(torch.isnan(value).any() for value in optimizer.state.get(parameter, {}).values())


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
