"""What a metric is: columns of a frame, and a summary of the frames' columns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from .masks import MaskPair


@dataclass(frozen=True)
class MetricSummary:
    """One metric's part of metrics.json.

    Attributes:
        pooled: Values over all landmarks, at the top level of metrics.json.
        per_class: Landmark name -> its values.
    """

    pooled: dict[str, float | int | None]
    per_class: dict[str, dict[str, float | int | None]]


class FrameMetric(Protocol):
    """A metric that scores frame by frame.

    `definitions` says in words what each key of the summary is; it is written beside the numbers.
    `score` gives one frame's columns of frames.csv, None where a value is not defined. `summarize`
    sees these columns alone, with `MaskPair.pixel_counts` among them, so that frames scored by several
    processes, or read back from a file, are summarized alike.
    """

    definitions: Mapping[str, str]

    def score(self, pair: MaskPair) -> dict[str, Any]: ...

    def summarize(self, frames: Sequence[Mapping[str, Any]]) -> MetricSummary: ...


def mean_or_none(values: Iterable[float | None]) -> float | None:
    """Mean of the values that are not None; None where there is none."""
    defined = [value for value in values if value is not None]
    return float(np.mean(defined)) if defined else None
