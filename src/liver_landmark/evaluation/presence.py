"""Presence: does the model see a landmark where there is one, and none where there is none?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..model.landmarks_liver_landmark import LANDMARK_NAMES
from .masks import MaskPair
from .metric import MetricSummary, mean_or_none


class PresenceMetric:
    """Per-class detection accuracy over frames."""

    definitions: Mapping[str, str] = {
        "per_class.presence_accuracy": (
            "share of all frames in which truth and prediction agree on whether the landmark is there, "
            "at one pixel or more of the scored size"
        ),
        "per_class.frames_shown": "frames whose truth shows the landmark",
        "per_class.frames_missed": "frames whose truth shows the landmark and whose prediction does not",
        "per_class.frames_invented": "frames whose prediction shows the landmark and whose truth does not",
        "presence_accuracy": "mean of `per_class.presence_accuracy` over the three landmarks",
    }

    def score(self, pair: MaskPair) -> dict[str, Any]:
        """No columns of its own: presence follows from the pixel counts that every frame has."""
        return {}

    def summarize(self, frames: Sequence[Mapping[str, Any]]) -> MetricSummary:
        """Counts over frames from the columns `truth_px_<class>` and `predicted_px_<class>`."""
        per_class: dict[str, dict[str, float | int | None]] = {}
        for name in LANDMARK_NAMES:
            states = [(frame[f"truth_px_{name}"] > 0, frame[f"predicted_px_{name}"] > 0) for frame in frames]
            per_class[name] = {
                "presence_accuracy": mean_or_none(float(shown == found) for shown, found in states),
                "frames_shown": sum(shown for shown, _ in states),
                "frames_missed": states.count((True, False)),
                "frames_invented": states.count((False, True)),
            }
        accuracy = mean_or_none(scores["presence_accuracy"] for scores in per_class.values())
        return MetricSummary({"presence_accuracy": accuracy}, per_class)
