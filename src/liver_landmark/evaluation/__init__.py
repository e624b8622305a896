"""Metrics by protocol, and the evaluation of a model over a dataset."""

from .evaluate import DEFAULT_RESOLUTION, Evaluation, evaluate_model, summarize_frames
from .masks import MaskPair
from .metric import FrameMetric, MetricSummary
from .overlap import class_overlap, pooled_overlap
from .registry import METRICS

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
