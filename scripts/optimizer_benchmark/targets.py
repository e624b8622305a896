"""What is asked of the optimizer, and whether the run shows it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .timing import median_ratio

# Targets are those of this list of matrices (SAM 2.1 Large's attention) and this rank.
TARGET_LIST = (96, 68_553_216)
TARGET_RANK = 128


@dataclass(frozen=True)
class Target:
    """A bound on a figure of the run.

    Attributes:
        text: What is bounded.
        bound: By what.
        at_least: Whether the bound is a lower one.
        value: The figure, or None where the run did not measure it.
    """

    text: str
    bound: float
    at_least: bool
    value: float | None

    @property
    def met(self) -> bool | None:
        """None where there is nothing to judge."""
        if self.value is None:
            return None
        return self.value >= self.bound if self.at_least else self.value <= self.bound

    def as_row(self) -> dict[str, Any]:
        """For JSON files and tables."""
        sign = "≥" if self.at_least else "≤"
        return {"target": self.text, "bound": f"{sign} {self.bound:g}", "value": self.value, "met": self.met}


def is_target_setting(figures: dict[str, Any]) -> bool:
    """Whether the run measured what the targets speak of."""
    return (figures["matrices"], figures["parameters"]) == TARGET_LIST and figures["rank"] == TARGET_RANK


def judge(figures: dict[str, Any]) -> list[Target]:
    """Every target with the run's figure for it; see benchmark_optimizer.py for the layout of `figures`."""
    methods = figures["methods"]

    def ratio(key: str, numerator: str, denominator: str) -> float | None:
        rounds = [methods.get(name, {}).get(key) for name in (numerator, denominator)]
        return median_ratio(*rounds) if all(rounds) else None

    def energy(name: str, spectrum: str) -> float | None:
        return methods.get(name, {}).get("energy", {}).get(spectrum, {}).get("mean")

    def state(name: str) -> float | None:
        return methods.get(name, {}).get("state_mib")

    power = "srft_power_1"
    targets = [
        Target("srft: refresh faster than svd, times", 17, True, ratio("refresh_s", "svd", "srft")),
        Target("srft: faster than the published way, times", 2, True, ratio("refresh_s", "paper", "srft")),
        Target("srft: energy on i^-1/2, relative to SVD", 0.82, True, energy("srft", "i^-1/2")),
        Target("srft: energy on 1/i", 0.99, True, energy("srft", "1/i")),
        Target("1 power iteration: faster than svd, times", 8, True, ratio("refresh_s", "svd", power)),
        Target("1 power iteration: energy on i^-1/2", 0.96, True, energy(power, "i^-1/2")),
        _beyond(figures, ratio, energy),
        Target("srft: state, MiB", 106, False, state("srft")),
        Target("srft_oblivious: state, MiB", 53, False, state("srft_oblivious")),
        Target("srft: step / galore-torch's step", 1, False, ratio("step_ms", "srft", "galore-torch")),
    ]
    if figures["device"] == "cuda":
        text = "srft: step faster than galore-torch's on a GPU, times"
        targets.append(Target(text, 2, True, ratio("step_ms", "galore-torch", "srft")))
    for name, staggered in figures["staggered"].items():
        text = f"{methods[name]['label']}, staggered: longest step / median step"
        targets.append(Target(text, 1.3, False, staggered["max_over_median"]))
    return targets


def _beyond(
    figures: dict[str, Any],
    ratio: Callable[[str, str, str], float | None],
    energy: Callable[[str, str], float | None],
) -> Target:
    """The most energy that one of this package's ways captures at a tenth of the SVD's time or less."""
    captured = {}
    for name, method in figures["methods"].items():
        speed, share = ratio("refresh_s", "svd", name), energy(name, "i^-1/2")
        if method["own"] and name != "svd" and speed is not None and share is not None:
            captured[name] = share if speed >= 10 else 0.0
    text = "most energy on i^-1/2 at least 10 times faster than svd"
    if not captured:
        return Target(text, 0.99, True, None)
    best = max(captured, key=captured.__getitem__)
    return Target(f"{text}: {figures['methods'][best]['label']}", 0.99, True, captured[best])
