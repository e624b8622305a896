"""Metrics by protocol, and the evaluation of a model over a dataset."""

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
