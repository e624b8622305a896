"""Which step of a gap refreshes which basis."""

from __future__ import annotations

import heapq
from collections.abc import Sequence


class Stagger:
    """Spreads refreshes over the `gap` steps between two of the same parameter, so that all cost alike.

    Group by group, later ones on top of what earlier ones have taken, so that a group that is added moves
    no offset. A function of what it is given: the same on every rank and after every resume.

    Args:
        gap: Steps to spread refreshes over.
    """

    def __init__(self, gap: int) -> None:
        self._gap = gap
        self._loads: list[tuple[float, int]] = []  # a heap of (load, step) of the steps that have any

    def offsets(self, costs: Sequence[float]) -> list[int]:
        """For each refresh of a group, of positive cost in any unit, an offset from 0 to gap - 1.

        The dearest first, each to the step with least so far: Graham's longest-processing-time rule, at
        most 4/3 of the best maximum.
        """
        offsets = [0] * len(costs)
        for index in sorted(range(len(costs)), key=lambda index: (-costs[index], index)):
            if len(self._loads) < self._gap:
                load, step = 0.0, len(self._loads)
            else:
                load, step = heapq.heappop(self._loads)
            offsets[index] = step
            heapq.heappush(self._loads, (load + costs[index], step))
        return offsets
