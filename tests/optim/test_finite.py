"""The quick check against a look at every entry."""

from __future__ import annotations

import math

import pytest
import torch

from liver_landmark.optim.finite import all_finite

LARGEST = {
    dtype: torch.finfo(dtype).max for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64)
}


@pytest.mark.parametrize("dtype", LARGEST)
@pytest.mark.parametrize("bad", [None, math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("filling", ["zeros", "largest", "opposite", "random"])
def test_agrees_with_a_look_at_every_entry(dtype: torch.dtype, bad: float | None, filling: str) -> None:
    """Sums that overflow are not mistaken, and infinities that cancel are found."""
    largest = LARGEST[dtype]
    first, second = {
        "zeros": (torch.zeros(7, 5), torch.zeros(3)),
        "largest": (torch.full((7, 5), largest, dtype=dtype), torch.full((3,), largest, dtype=dtype)),
        "opposite": (torch.full((7, 5), largest, dtype=dtype), torch.full((3,), -largest, dtype=dtype)),
        "random": (torch.randn(7, 5), torch.randn(3)),
    }[filling]
    tensors = [first.to(dtype), torch.empty(0, 4, dtype=dtype), second.to(dtype)]
    if bad is not None:
        tensors[0][2, 3], tensors[2][1] = bad, -bad
    assert all_finite(tensors) is all(bool(torch.isfinite(tensor).all()) for tensor in tensors)
    assert all_finite(tensors) is (bad is None)


def test_nothing_is_finite() -> None:
    assert all_finite([])
    assert all_finite([torch.empty(0)])
