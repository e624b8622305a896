"""Metrics by protocol, and the evaluation of a model over a dataset."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..utils import lazy_exports

if TYPE_CHECKING:
    from .evaluate import DEFAULT_RESOLUTION, METRICS, Evaluation, evaluate_model, summarize_frames
    from .metrics import FrameMetric, MaskPair, MetricSummary, class_overlap, pooled_overlap

__all__ = [
    "DEFAULT_RESOLUTION",
    "METRICS",
    "Evaluation",
    "FrameMetric",
    "MaskPair",
    "MetricSummary",
    "class_overlap",
    "evaluate_model",
    "pooled_overlap",
    "summarize_frames",
]
__getattr__, __dir__ = lazy_exports(
    globals(),
    {
        "evaluate": ["DEFAULT_RESOLUTION", "METRICS", "Evaluation", "evaluate_model", "summarize_frames"],
        "metrics": ["FrameMetric", "MaskPair", "MetricSummary", "class_overlap", "pooled_overlap"],
    },
)
