"""Interleaved timing, and what figures are made of it."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence

import torch


def seconds_of(call: Callable[[], object], device: torch.device) -> float:
    """Wall time of a call, the work that it leaves on an accelerator included."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    call()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def interleave(measurements: Mapping[str, Callable[[int], float]], rounds: int) -> dict[str, list[float]]:
    """Results of each measurement by round: every round takes all, so that slow spells meet all of them."""
    results: dict[str, list[float]] = {name: [] for name in measurements}
    for turn in range(rounds):
        for name, measure in measurements.items():
            results[name].append(measure(turn))
    return results


def median_ratio(numerators: Sequence[float], denominators: Sequence[float]) -> float:
    """The median over rounds of each round's ratio: rounds differ more than what lies within one."""
    return statistics.median(a / b for a, b in zip(numerators, denominators, strict=True))
