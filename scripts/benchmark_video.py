"""What predicting a 1080p video costs beside the model's own forward pass, in time and memory.

    python scripts/benchmark_video.py --model outputs/quickstart/best --output outputs/video.json

A camera path of the synthetic benchmark, rendered at 480x270 and enlarged to 1920x1080, is written as H.264.
In one process: the forward pass alone over prepared frames, with nothing beside it; then whole predictions,
from the file to the files, with masks and curves, and with the overlay MP4 as well; both kinds in turn, so
that a slow spell of the machine meets all of them. What a whole prediction takes a frame less the forward's
median is what everything else costs. Then the MP4s' time stamps against the inputs', the memory of a run of
its own over the same frames many times over, and what temporal smoothing buys.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import shutil
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import torch

from liver_landmark.inference import (
    CausalSmoother,
    LandmarkPredictor,
    PredictionOptions,
    collect_inputs,
    predict_files,
)
from liver_landmark.utils.atomic_files import write_json
from video_benchmark.memory import summary, watch_prediction
from video_benchmark.stages import stage_processor_ms
from video_benchmark.steadiness import agreement, steadiness, true_masks
from video_benchmark.videos import (
    HEIGHT,
    RATE,
    WIDTH,
    make_path_video,
    make_repeated_video,
    make_uneven_video,
    times_of,
)

UNEVEN_FRAMES = 60
PARTS = ("stages", "times", "stamps", "smoothing", "memory")
# What the rest may cost, ms a frame.
LIMITS_MS = {"masks_and_curves": 25.0, "with_overlay": 60.0}
KINDS = {
    "masks_and_curves": PredictionOptions(curves=("labelme",), overlay=False),
    "with_overlay": PredictionOptions(curves=("labelme",)),
}


def forward_alone(
    predictor: LandmarkPredictor, video: Path, batch_size: int, frames: int = 60
) -> tuple[list[float], float]:
    """The forward pass alone: wall ms a frame of each batch, processor ms a frame of all."""
    with av.open(str(video)) as container:
        pictures = (frame.to_ndarray(format="rgb24") for frame in container.decode(video=0))
        prepared = [predictor.prepare(picture) for picture, _ in zip(pictures, range(frames), strict=False)]
    batches = [prepared[start : start + batch_size] for start in range(0, len(prepared), batch_size)]
    predictor.forward(batches[0])
    times, before = [], _processor_s()
    for batch in batches:
        began = time.perf_counter()
        predictor.forward(batch)
        times.append((time.perf_counter() - began) * 1e3 / len(batch))
    return times, (_processor_s() - before) * 1e3 / len(prepared)


def _processor_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def predict(
    predictor: LandmarkPredictor, video: Path, output: Path, options: PredictionOptions
) -> dict[str, Any]:
    """One whole prediction: ms of wall and processor time a frame, and of each stage."""
    shutil.rmtree(output, ignore_errors=True)
    before, began = _processor_s(), time.perf_counter()
    report = predict_files(
        predictor, collect_inputs([str(video)]), output, options, model_name="benchmark", overwrite=True
    )
    seconds, processor_s = time.perf_counter() - began, _processor_s() - before
    if report.failed:
        raise RuntimeError(report.failed[0]["reason"])
    return {
        "frames": report.frames,
        "wall_ms": seconds * 1e3 / report.frames,
        "processor_ms": processor_s * 1e3 / report.frames,
    }


def measure_times(
    predictor: LandmarkPredictor, video: Path, work: Path, batch_size: int, rounds: int
) -> dict[str, Any]:
    """Forward alone and whole predictions in turn."""
    wall_ms, processor_ms = forward_alone(predictor, video, batch_size)
    forward, forward_processor = wall_ms, [processor_ms]
    runs: dict[str, list[dict[str, Any]]] = {kind: [] for kind in KINDS}
    for _ in range(rounds):
        for kind, options in KINDS.items():
            asked = PredictionOptions(**vars(options) | {"batch_size": batch_size})
            runs[kind].append(predict(predictor, video, work / kind, asked))
            wall_ms, processor_ms = forward_alone(predictor, video, batch_size)
            forward, forward_processor = forward + wall_ms, [*forward_processor, processor_ms]
    alone = statistics.median(forward)
    figures: dict[str, Any] = {
        "batch_size": batch_size,
        "forward_ms": {
            "median": alone,
            "p10": np.quantile(forward, 0.1),
            "p90": np.quantile(forward, 0.9),
            "processor": statistics.median(forward_processor),
        },
    }
    for kind, found in runs.items():
        best = min(found, key=lambda run: run["wall_ms"])
        figures[kind] = best | {
            "rounds_wall_ms": [run["wall_ms"] for run in found],
            "rest_ms": best["wall_ms"] - alone,
            "rest_processor_ms": best["processor_ms"] - statistics.median(forward_processor),
            "rest_ms_of_the_median_round": statistics.median(run["wall_ms"] for run in found) - alone,
            "wall_over_forward": best["wall_ms"] / alone,
            "limit_ms": LIMITS_MS[kind],
            "stages_ms": _stages(work / kind),
        }
    return figures


def _stages(output: Path) -> dict[str, float]:
    return json.loads((output / "run.json").read_text(encoding="utf-8"))["milliseconds_per_frame"]


def check_times(predictor: LandmarkPredictor, videos: Sequence[Path], work: Path) -> dict[str, bool]:
    """Whether each overlay has its input's frames at its input's very times."""
    same = {}
    for video in videos:
        predict(predictor, video, work / "times", PredictionOptions(batch_size=4))
        same[video.name] = times_of(work / "times" / f"{video.stem}_overlay.mp4") == times_of(video)
    return same


def measure_smoothing(
    predictor: LandmarkPredictor,
    video: Path,
    landmarks: list[list[dict]],
    work: Path,
    constants_s: Sequence[float],
) -> dict[str, dict[str, float]]:
    """Flicker and agreement with the path's exact landmarks, without and with smoothing."""
    truth = true_masks(landmarks, WIDTH, HEIGHT)
    figures = {"the truth itself": steadiness(truth) | {"dsc": 1.0}}
    for seconds in (None, *constants_s):
        output = work / "smoothing"
        options = PredictionOptions(overlay=False, smoothing_s=seconds, batch_size=4)
        predict(predictor, video, output, options)
        names = sorted((output / f"{video.stem}_mask").iterdir())
        masks = [cv2.imread(str(name), cv2.IMREAD_UNCHANGED) for name in names]
        delay_ms = 0.0 if seconds is None else CausalSmoother(seconds).delay_at(float(1 / RATE)) * 1e3
        name = "none" if seconds is None else f"{seconds:g} s"
        figures[name] = steadiness(masks) | agreement(truth, masks) | {"delay_ms": delay_ms}
    return figures


def measure_memory(model: str, video: Path, work: Path, early_frame: int) -> dict[str, float]:
    """Resident MiB of a run of its own with masks, curves and overlay."""
    output = work / "memory"
    shutil.rmtree(output, ignore_errors=True)
    arguments = [str(video), "--model", model, "--output", str(output), "--curves", "labelme"]
    return summary(watch_prediction(arguments, output / f"{video.stem}_mask"), early_frame)


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_rounded(inner) for inner in value]
    return round(float(value), 3) if isinstance(value, (float, np.floating)) else value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True, help="folder of a trained model, or a Hub id")
    parser.add_argument("--frames", type=int, default=300, help="of the video (default: %(default)s)")
    parser.add_argument("--long-frames", type=int, default=3000, help="for memory (default: %(default)s)")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="default: all")
    parser.add_argument("--domain", default="b", help="of the synthetic benchmark (default: %(default)s)")
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=2, help="of each kind of prediction")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--smoothing", type=float, nargs="*", default=[0.1, 0.2, 0.4], metavar="SECONDS")
    parser.add_argument("--work", type=Path, default=Path("outputs/video_benchmark"), help="for the videos")
    parser.add_argument("--output", type=Path, help="write the figures to this JSON file")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)

    video, landmarks = make_path_video(options.work, options.frames, options.domain)
    predictor = LandmarkPredictor.from_pretrained(options.model, device="cpu")
    figures: dict[str, Any] = {
        "video": {"size": f"{WIDTH}x{HEIGHT}", "frames": options.frames, "codec": "h264"},
        "model": options.model,
        "machine": platform.processor() or platform.machine(),
        "threads": options.threads,
        "torch": torch.__version__,
    }
    if "stages" in options.parts:
        figures["stages_processor_ms"] = stage_processor_ms(predictor, video, min(40, options.frames))
    if "times" in options.parts:
        figures["times"] = measure_times(predictor, video, options.work, options.batch_size, options.rounds)
    if "stamps" in options.parts:
        uneven = make_uneven_video(video, min(UNEVEN_FRAMES, options.frames))
        figures["same_time_stamps"] = check_times(predictor, [video, uneven], options.work)
    if "smoothing" in options.parts:
        constants_s = options.smoothing
        figures["smoothing"] = measure_smoothing(predictor, video, landmarks, options.work, constants_s)
    if "memory" in options.parts:
        long = make_repeated_video(video, options.long_frames // options.frames)
        figures["memory_mib"] = measure_memory(options.model, long, options.work, options.frames)
    figures = _rounded(figures)
    if options.output:
        write_json(options.output, figures)
    for name, value in figures.items():
        print(f"{name}: {value}")


if __name__ == "__main__":
    main()
