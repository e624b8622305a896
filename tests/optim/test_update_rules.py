"""Moments, batches, and the quick check of gradients against a look at every entry."""

from __future__ import annotations

import math

import pytest
import torch

from liver_landmark.optim import SRFTGaLoreAdamW
from liver_landmark.optim.projection import plan_projections
from liver_landmark.optim.update_rules import Update, batches, rotate_moments, squares_are_finite

DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bad", [None, math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("filling", ["zeros", "large", "largest", "random"])
def test_agrees_with_a_look_at_every_square(dtype: torch.dtype, bad: float | None, filling: str) -> None:
    """A sum of squares that overflows is not mistaken for one of them that does."""
    arithmetic = torch.promote_types(dtype, torch.float32)
    largest = torch.finfo(dtype).max
    # Its square is finite, the sum of 38 of them is not (float16 has no such number).
    large = min(largest, math.sqrt(torch.finfo(arithmetic).max) * 0.99)
    first = {
        "zeros": torch.zeros(7, 5),
        "large": torch.full((7, 5), large, dtype=torch.float64),
        "largest": torch.full((7, 5), largest, dtype=torch.float64),
        "random": torch.randn(7, 5),
    }[filling].to(dtype)
    tensors = [first, torch.empty(0, 4, dtype=dtype), -first[:1]]
    if bad is not None:
        tensors[0] = first.clone()
        tensors[0][2, 3] = bad
    squares = [tensor.to(arithmetic).square() for tensor in tensors]
    expected = all(bool(torch.isfinite(square).all()) for square in squares)
    assert squares_are_finite(tensors) is expected
    if filling == "large":
        assert expected is (bad is None)


def test_nothing_is_finite_and_precisions_may_be_mixed() -> None:
    assert squares_are_finite([])
    assert squares_are_finite([torch.empty(0)])
    tensors = [torch.ones(2, dtype=dtype) for dtype in DTYPES]
    assert squares_are_finite(tensors)
    assert not squares_are_finite([*tensors, torch.full((2,), math.nan)])


def test_rotated_moments_follow_the_formula() -> None:
    generator = torch.Generator().manual_seed(0)
    average = torch.randn(3, 5, generator=generator)
    # Some of them below the squared mean: the floor is at a quarter of it.
    square = 0.5 * average.square() * torch.rand(3, 5, generator=generator)
    corrections = (1 - 0.9**7, 1 - 0.99**7)
    same = (average.clone(), square.clone())
    # Bias-corrected, the variance v̂ - m̂² may be negative; then it counts as none.
    rotate_moments(*same, torch.eye(3), 7, (0.9, 0.99))
    floor = (average / corrections[0]).square() * corrections[1]
    assert 0 < (square < floor).sum() < square.numel()
    for ours, expected in zip(same, (average, torch.maximum(square, floor)), strict=True):
        torch.testing.assert_close(ours, expected)

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


def test_processes_batch_alike_whatever_rows_they_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else one would find two bases in one batched decomposition, the other in two: not bit for bit alike."""
    # Room for one matrix of 13 × 12, for one part of 7 rows, for two of 6.
    monkeypatch.setattr("liver_landmark.optim.update_rules._BATCH_ENTRIES", 160)
    weights = [torch.nn.Parameter(torch.zeros(13, 12)) for _ in range(3)]
    optimizer = SRFTGaLoreAdamW(weights, rank=2, foreach=True)
    projections = plan_projections(optimizer.param_groups)

    def sizes(rows: int) -> list[int]:
        group = optimizer.param_groups[0]
        updates = [Update(each, each[:rows], "", group, {}, projections[each]) for each in weights]
        return [len(batch) for batch in batches(updates)]

    assert sizes(7) == sizes(6) == [1, 1, 1]
    monkeypatch.setattr("liver_landmark.optim.update_rules._BATCH_ENTRIES", 320)
    assert sizes(7) == sizes(6) == [2, 1]
