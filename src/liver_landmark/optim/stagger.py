"""Which step of a gap refreshes which basis."""

from __future__ import annotations

import heapq
from collections.abc import Sequence


def staggered_offsets(costs: Sequence[float], gap: int) -> list[int]:
    """Spreads refreshes over the `gap` steps between two of the same parameter, so that all cost alike.

    The dearest first, each to the step with least so far (Graham's longest-processing-time rule, at most
    4/3 of the best maximum). A function of its arguments: the same on every rank and after every resume.

    Args:
        costs: Of each refresh, in any unit.
        gap: Steps to spread them over.

    Returns:
        For each, an offset from 0 to gap - 1.
    """
    loads = [(0.0, step) for step in range(gap)]
    offsets = [0] * len(costs)
    for index in sorted(range(len(costs)), key=lambda index: (-costs[index], index)):
        load, step = heapq.heappop(loads)
        offsets[index] = step
        heapq.heappush(loads, (load + costs[index], step))
    return offsets
