"""The metrics that an evaluation can compute, by name: a new one is one entry here."""

from __future__ import annotations

from collections.abc import Callable

from .distances import DistanceMetric
from .metric import FrameMetric
from .overlap import OverlapMetric
from .presence import PresenceMetric

METRICS: dict[str, Callable[[], FrameMetric]] = {
    "overlap": OverlapMetric,
    "presence": PresenceMetric,
    "distances": DistanceMetric,
}


def build_metrics(names: tuple[str, ...]) -> dict[str, FrameMetric]:
    """The metrics of those names; a ValueError names the ones there are."""
    for name in names:
        if name not in METRICS:
            raise ValueError(f"metric {name!r} is unknown: choose from {', '.join(METRICS)}")
    return {name: METRICS[name]() for name in names}
