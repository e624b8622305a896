"""What the benchmarks share: rounds, ratios, and bytes that a state keeps alive."""

from __future__ import annotations

import os
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import torch

from peak_memory import needs_proc
from shared import (
    ENLARGED,
    HEIGHT,
    WIDTH,
    call_ms,
    enlarged,
    interleave,
    median_ratio,
    process_mib,
    state_bytes,
)


def test_rounds_take_every_measurement_in_turn_and_calls_are_timed():
    calls = []

    def measurement(name: str):
        return lambda turn: calls.append((turn, name)) or 10.0 * turn + len(name)

    results = interleave({"a": measurement("a"), "bb": measurement("bb")}, 3, warm_ups=1)
    assert calls == [(turn, name) for turn in (-1, 0, 1, 2) for name in ("a", "bb")]
    assert results == {"a": [1, 11, 21], "bb": [2, 12, 22]}
    # Of the rounds' ratios 2, 3 and 1; the medians' ratio would be 1.2.
    assert median_ratio([2, 30, 12], [1, 10, 12]) == 2
    # Two readings of the clock each: 5 s to warm up, which is not timed, then 1 s and 2 s.
    readings = iter([0.0, 5.0, 5.0, 6.0, 6.0, 8.0])
    assert call_ms({"call": lambda: None}, 2, lambda: next(readings)) == {"call": [1000, 2000]}


def test_state_is_charged_with_what_its_views_keep_alive():
    parameter = torch.nn.Parameter(torch.ones(10, 4))
    parameter.grad = torch.ones(10, 4)
    adamw = torch.optim.AdamW([parameter])
    adamw.step()
    assert state_bytes(adamw) == 2 * 10 * 4 * 4 + 4
    factor = torch.zeros(100, 100)
    # As GaLore keeps it: an object that holds a view of a whole factor, and itself.
    projector = SimpleNamespace(ortho_matrix=factor[:3], rank=3)
    projector.itself = projector
    state = {"projector": projector, "again": [factor[5:], {"deep": torch.zeros(7)}], "step": 1}
    assert state_bytes(SimpleNamespace(state={parameter: state})) == 100 * 100 * 4 + 7 * 4


@needs_proc
def test_memory_of_a_process_that_runs_and_of_one_that_has_ended():
    assert 10 < process_mib(os.getpid(), "VmRSS") <= process_mib(os.getpid(), "VmHWM")
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    assert process_mib(process.pid, "VmRSS") is None


def test_enlarged_landmarks_keep_to_the_centers_of_pixels():
    small = np.array([(-0.5, -0.5), (WIDTH / ENLARGED - 0.5, HEIGHT / ENLARGED - 0.5)])  # the outer corners
    [mark] = enlarged([{"category": "ridge", "points": small, "score": 1.0}])
    assert mark["category"] == "ridge"
    np.testing.assert_allclose(mark["points"], [(-0.5, -0.5), (WIDTH - 0.5, HEIGHT - 0.5)])
