"""run.json: what a run was asked, with what it ran, and what came of it."""

from __future__ import annotations

import platform
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from typing import Any

import av
import cv2

from ..predictor import LandmarkPredictor
from ..smoothing import CausalSmoother
from .options import PredictionOptions
from .summary import Totals

_PACKAGES = ("liver-landmark", "torch", "transformers", "numpy", "pillow")
# How a run is carried out, but not what comes out of it.
_NOT_IN_RESULTS = ("batch_size", "limits", "video_limits")


@dataclass
class RunReport:
    """What became of the inputs.

    Attributes:
        inputs: How many this run was to predict.
        predicted: Of them, how many have a prediction, this run's or an earlier one's that it went on with.
        frames: Lines in predictions.jsonl.
        failed: {"file", "reason"} of each input without a prediction, or with one of its beginning only:
            {"frames": how many} then.
    """

    inputs: int = 0
    predicted: int = 0
    frames: int = 0
    failed: list[dict[str, Any]] = field(default_factory=list)


def result_settings(
    predictor: LandmarkPredictor, options: PredictionOptions, model_name: str
) -> dict[str, Any]:
    """What the results depend on; a run goes on with the same settings only."""
    asked = {name: value for name, value in asdict(options).items() if name not in _NOT_IN_RESULTS}
    return {
        "model": model_name,
        "model_revision": predictor.revision,
        "dtype": str(predictor.dtype).removeprefix("torch."),
        "views": None if predictor.views is None else asdict(predictor.views),
        **asked,
        "version": version("liver-landmark"),
    }


def run_record(
    predictor: LandmarkPredictor,
    settings: dict[str, Any],
    options: PredictionOptions,
    report: RunReport,
    totals: Totals,
    seconds: float,
    *,
    skipped: int,
    before: int,
) -> dict[str, Any]:
    """The content of run.json.

    Args:
        predictor: The model.
        settings: `result_settings`.
        options: The run's.
        report: What became of the inputs.
        totals: Of predictions.jsonl.
        seconds: Wall time of this run.
        skipped: Files of the folders that are neither pictures nor videos.
        before: Inputs that an earlier run had predicted, which this one went on with.
    """
    return {
        "command": "predict",
        "model": settings["model"],
        "model_revision": settings["model_revision"],
        "device": str(predictor.device),
        "dtype": settings["dtype"],
        "presence_calibrated": predictor.model.config.presence_calibration is not None,
        "options": asdict(options),
        "settings": settings,
        "smoothing_delay_ms": _smoothing_delay_ms(options, totals),
        "totals": {
            "inputs": report.inputs,
            "predicted": report.predicted,
            "predicted_before": before,
            "failed": len(report.failed),
            "frames": totals.frames,
            "frames_with": totals.frames_with,
            "skipped_in_folders": skipped,
            "seconds": round(seconds, 3),
        },
        "milliseconds_per_frame": totals.milliseconds,
        "failed": report.failed,
        # OpenCV comes under several distribution names.
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in _PACKAGES},
            "opencv": cv2.__version__,
            "av": av.__version__,
        },
    }


def _smoothing_delay_ms(options: PredictionOptions, totals: Totals) -> float | None:
    """By how much smoothed curves are late, at the videos' mean frame interval."""
    if options.smoothing_s is None or totals.frame_interval_s is None:
        return None
    return round(CausalSmoother(options.smoothing_s).delay_at(totals.frame_interval_s) * 1e3, 1)
