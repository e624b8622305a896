"""Which step of a gap refreshes which basis."""

from __future__ import annotations

import tracemalloc

import pytest
import torch

from liver_landmark.optim.projection import Stagger


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
