"""The optimizer's arithmetic and manners: against AdamW, a slow textbook version, and itself undisturbed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import nn

from liver_landmark.optim import SRFTGaLoreAdamW
from liver_landmark.optim.basis import draw_seed, find_basis
from liver_landmark.optim.update_rules import rotate_moments
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


def test_a_convolution_is_the_matrix_that_its_axes_form() -> None:
    [kernel], [matrix] = weights((6, 3, 2, 2)), weights((6, 12))
    with torch.no_grad():
        matrix.copy_(kernel.reshape(6, 12))
    flat = SRFTGaLoreAdamW([matrix], rank=3, update_proj_gap=3)
    conv = SRFTGaLoreAdamW([kernel], rank=3, update_proj_gap=3, matrix_axes=((0,), (1, 2, 3)))
    for step in range(8):
        set_gradients([matrix], step)
        kernel.grad = matrix.grad.reshape(kernel.shape).clone()
        flat.step()
        conv.step()
    torch.testing.assert_close(kernel.reshape(6, 12), matrix)


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


def test_weights_and_gradients_may_lie_in_memory_as_they_like() -> None:
    [plain], [strided] = weights((8, 6)), weights((8, 6))
    strided.data = strided.data.T.contiguous().T
    optimizers = [SRFTGaLoreAdamW([p], rank=3, update_proj_gap=2) for p in (plain, strided)]
    for step in range(6):
        set_gradients([plain], step)
        strided.grad = plain.grad.T.contiguous().T
        for optimizer in optimizers:
            optimizer.step()
    assert not strided.is_contiguous()
    torch.testing.assert_close(plain, strided)


def test_ranks_above_the_matrix_are_clipped() -> None:
    for side in ("longer", "shorter", "left", "right"):
        parameters = weights((4, 9), (9, 4))
        optimizer = SRFTGaLoreAdamW(parameters, rank=100, side=side, update_proj_gap=2)
        run(parameters, optimizer, 5)
        assert all(optimizer.state[parameter]["basis"].shape[1] == 4 for parameter in parameters)


def test_half_precision_weights_keep_single_precision_state_and_follow_the_single_precision_run() -> None:
    half, single = weights((16, 8), dtype=torch.bfloat16), weights((16, 8))
    with torch.no_grad():
        single[0].copy_(half[0].float())
    optimizers = [SRFTGaLoreAdamW(p, lr=0.05, rank=4, update_proj_gap=4) for p in (half, single)]
    for step in range(12):
        set_gradients(half, step)
        single[0].grad = half[0].grad.float()
        for optimizer in optimizers:
            optimizer.step()
    state = optimizers[0].state[half[0]]
    assert {state[key].dtype for key in ("basis", "exp_avg", "exp_avg_sq")} == {torch.float32}
    torch.testing.assert_close(half[0].float(), single[0], atol=0.05, rtol=0.02)


def test_staggered_refreshes_come_once_a_gap_and_are_spread() -> None:
    parameters = weights(*[(12, 8)] * 10)
    optimizer = SRFTGaLoreAdamW(parameters, rank=3, update_proj_gap=5)
    refreshed = []
    before = [0] * 10
    for step in range(16):
        run(parameters, optimizer, 1, first=step)
        counts = [int(optimizer.state[parameter]["refresh_count"]) for parameter in parameters]
        refreshed.append([now - then for now, then in zip(counts, before, strict=True)])
        before = counts
    assert refreshed[0] == [1] * 10
    assert all(sum(step) == 2 for step in refreshed[1:5] + refreshed[6:11])
    for start in (1, 6, 11):
        assert [sum(column) for column in zip(*refreshed[start : start + 5], strict=True)] == [1] * 10


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_solves_least_squares(variant: str) -> None:
    weight, loss_of = quadratic()
    optimizer = SRFTGaLoreAdamW(
        [weight], lr=0.1, rank=4, update_proj_gap=20, weight_decay=0.0, **VARIANTS[variant]
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 300)
    start = loss_of().item()
    for _ in range(300):
        optimizer.zero_grad()
        loss_of().backward()
        optimizer.step()
        schedule.step()
    # An oblivious basis finds a quarter of the directions at a time, the others most of what counts.
    assert loss_of().item() < (0.2 if variant == "oblivious" else 0.05) * start


def test_rotated_moments_follow_the_formula() -> None:
    generator = torch.Generator().manual_seed(0)
    average = torch.randn(3, 5, generator=generator)
    square = average.square() + torch.rand(3, 5, generator=generator)
    corrections = (1 - 0.9**7, 1 - 0.99**7)
    same = (average.clone(), square.clone())
    # Bias-corrected, the variance v̂ - m̂² may be negative; then it counts as none.
    rotate_moments(*same, torch.eye(3), 7, (0.9, 0.99))
    floor = (average / corrections[0]).square() * corrections[1]
    assert_all_close(same, (average, torch.maximum(square, floor)))

    rotation = torch.randn(3, 3, generator=generator)
    moved = (average.clone(), square.clone())
    rotate_moments(*moved, rotation, 7, (0.9, 0.99))
    for row, entries in enumerate(rotation.tolist()):
        for column in range(5):
            mean = [m / corrections[0] for m in average[:, column].tolist()]
            seconds = [s / corrections[1] for s in square[:, column].tolist()]
            variance = [max(s - m**2, 0) for s, m in zip(seconds, mean, strict=True)]
            new_mean = sum(c * m for c, m in zip(entries, mean, strict=True))
            new_second = sum(c**2 * v for c, v in zip(entries, variance, strict=True)) + new_mean**2
            assert moved[0][row, column].item() == pytest.approx(new_mean * corrections[0], rel=1e-4)
            assert moved[1][row, column].item() == pytest.approx(new_second * corrections[1], rel=1e-4)


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
