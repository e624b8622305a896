"""The quick check against a look at every entry."""

from __future__ import annotations

import math

import pytest
import torch

from liver_landmark.optim.update_rules import squares_are_finite

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


def test_nothing_is_finite() -> None:
    assert squares_are_finite([])
    assert squares_are_finite([torch.empty(0)])


def test_precisions_may_be_mixed() -> None:
    tensors = [torch.ones(2, dtype=dtype) for dtype in DTYPES]
    assert squares_are_finite(tensors)
    assert not squares_are_finite([*tensors, torch.full((2,), math.nan)])
