"""Prediction over files: masks, overlays and the JSONs beside them.

    <output>/<name>_mask.png       (H, W) class ids, mode L, the frame's size: nearly black to the eye
    <output>/<name>_overlay.png    the frame with its landmarks drawn over it, the frame's size
    <output>/predictions.jsonl     one line for each frame that was predicted
    <output>/run.json              versions, device, model, options, totals, and what failed and why

`<name>` is the file's stem, or more where stems collide (`output_names`). Each file is complete or
absent: it is written beside its place and renamed.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ..atomic_files import write_json, write_json_lines, write_png
from ..frame_files import FrameError, FrameLimits, read_frame
from .inputs import Inputs, output_names
from .overlay import draw_overlay
from .predictor import FramePrediction, LandmarkPredictor

_PACKAGES = ("liver-landmark", "torch", "transformers", "numpy", "pillow")


@dataclass(frozen=True)
class PredictionOptions:
    """Options of a run.

    Attributes:
        batch_size: Frames in one forward pass.
        legend: Name the landmarks in the overlays.
        limits: What is refused before it is decoded.
    """

    batch_size: int = 1
    legend: bool = True
    limits: FrameLimits = field(default_factory=FrameLimits)

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {self.batch_size}")


@dataclass(frozen=True)
class RunReport:
    """What became of the files.

    Attributes:
        predictions: The rows of predictions.jsonl.
        failed: {"file", "reason"} of each file without a prediction.
    """

    predictions: list[dict[str, Any]]
    failed: list[dict[str, str]]


def planned_files(inputs: Inputs, output: Path) -> list[Path]:
    """Every file that a run over these inputs writes, so that none is overwritten unasked."""
    pictures = [
        output / f"{name}_{kind}.png" for name in output_names(inputs.files) for kind in ("mask", "overlay")
    ]
    return [*pictures, output / "predictions.jsonl", output / "run.json"]


def predict_files(
    predictor: LandmarkPredictor,
    inputs: Inputs,
    output: Path,
    options: PredictionOptions,
    *,
    model_name: str,
    on_predicted: Callable[[dict[str, Any]], None] = lambda row: None,
    on_failed: Callable[[str], None] = lambda reason: None,
) -> RunReport:
    """Predicts every file that can be read, and writes the results as the module's docstring says.

    Args:
        predictor: The model.
        inputs: What `collect_inputs` found.
        output: Folder of the results, made where it is missing; files of a former run are replaced.
        options: See `PredictionOptions`.
        model_name: What run.json calls the model.
        on_predicted: Called with each row of predictions.jsonl as soon as its pictures are written.
        on_failed: Called with the one-line reason, which names the file, of each file that failed.

    Raises:
        OSError: the output folder, or a JSON in it, cannot be written.
    """
    started = time.perf_counter()
    output.mkdir(parents=True, exist_ok=True)
    # The processor has a limit of its own: the stricter one decides before anything is decoded.
    max_pixels = min(options.limits.max_pixels, predictor.processor.max_pixels)
    limits = replace(options.limits, max_pixels=max_pixels)
    report = RunReport([], [])

    def fail(file: Path, reason: str) -> None:
        report.failed.append({"file": str(file), "reason": reason})
        on_failed(reason)

    named = list(zip(inputs.files, output_names(inputs.files), strict=True))
    for start in range(0, len(named), options.batch_size):
        batch = []
        for file, name in named[start : start + options.batch_size]:
            read_start = time.perf_counter()
            try:
                frame = read_frame(file, limits)
            except FrameError as error:
                fail(file, str(error))
                continue
            batch.append((file, name, frame, (time.perf_counter() - read_start) * 1e3))
        if not batch:
            continue
        predictions = _predict_each(predictor, [frame for _, _, frame, _ in batch])
        for (file, name, frame, read_ms), prediction in zip(batch, predictions, strict=True):
            if isinstance(prediction, ValueError):
                fail(file, f"{file}: {prediction}")
                continue
            try:
                row = _write_frame(output, file, name, frame, read_ms, prediction, options)
            except OSError as error:
                fail(file, f"{file}: its result cannot be written: {error}")
                continue
            report.predictions.append(row)
            on_predicted(row)

    write_json_lines(output / "predictions.jsonl", report.predictions)
    seconds = time.perf_counter() - started
    write_json(
        output / "run.json", _run_json(predictor, inputs, options, limits, report, model_name, seconds)
    )
    return report


def _predict_each(
    predictor: LandmarkPredictor, frames: Sequence[np.ndarray]
) -> list[FramePrediction | ValueError]:
    """One forward pass for all frames; where that fails, one for each, so that only its own frame fails."""
    try:
        return list(predictor.predict(frames, batch_size=len(frames)))
    except ValueError as error:
        if len(frames) == 1:
            return [error]
        return [result for frame in frames for result in _predict_each(predictor, [frame])]


def _write_frame(
    output: Path,
    file: Path,
    name: str,
    frame: np.ndarray,
    read_ms: float,
    prediction: FramePrediction,
    options: PredictionOptions,
) -> dict[str, Any]:
    """Writes one frame's pictures; returns its row of predictions.jsonl."""
    draw_start = time.perf_counter()
    overlay = draw_overlay(frame, prediction.mask, legend=options.legend)
    write_start = time.perf_counter()
    # The mask last: where a mask is, its overlay is too.
    write_png(output / f"{name}_overlay.png", overlay)
    write_png(output / f"{name}_mask.png", prediction.mask)
    end = time.perf_counter()
    pixels = prediction.pixel_counts
    milliseconds = {
        "read": read_ms,
        **prediction.milliseconds,
        "draw": (write_start - draw_start) * 1e3,
        "write": (end - write_start) * 1e3,
    }
    return {
        "file": str(file),
        "mask": f"{name}_mask.png",
        "overlay": f"{name}_overlay.png",
        "width": frame.shape[1],
        "height": frame.shape[0],
        "present": list(prediction.present),
        "scores": {landmark: round(score, 6) for landmark, score in prediction.scores.items()},
        "pixels": pixels,
        "stroke_pixels": sum(pixels.values()),
        "milliseconds": {stage: round(value, 3) for stage, value in milliseconds.items()},
    }


def _run_json(
    predictor: LandmarkPredictor,
    inputs: Inputs,
    options: PredictionOptions,
    limits: FrameLimits,
    report: RunReport,
    model_name: str,
    seconds: float,
) -> dict[str, Any]:
    return {
        "command": "predict",
        "model": model_name,
        "device": str(predictor.device),
        "dtype": str(predictor.dtype).removeprefix("torch."),
        "options": asdict(replace(options, limits=limits)),
        "totals": {
            "inputs": len(inputs.files),
            "predicted": len(report.predictions),
            "failed": len(report.failed),
            "skipped_in_folders": inputs.skipped,
            "seconds": round(seconds, 3),
        },
        "milliseconds_per_frame": _mean_milliseconds(report.predictions),
        "failed": report.failed,
        # OpenCV comes under several distribution names.
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in _PACKAGES},
            "opencv": cv2.__version__,
        },
    }


def _mean_milliseconds(predictions: Sequence[dict[str, Any]]) -> dict[str, float]:
    if not predictions:
        return {}
    stages = predictions[0]["milliseconds"]
    return {
        stage: round(float(np.mean([row["milliseconds"][stage] for row in predictions])), 3)
        for stage in stages
    }
