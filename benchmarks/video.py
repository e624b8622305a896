"""What predicting a 1080p video costs beside the model's own forward pass, in time and memory.

    python benchmarks/video.py --model outputs/quickstart/best --output outputs/video.json

A camera path of the synthetic benchmark, rendered at 480x270 and enlarged to 1920x1080, is written as H.264.
In one process: the forward pass alone over prepared frames, with nothing beside it; then whole predictions,
from the file to the files, with masks and curves, and with the overlay MP4 as well; both kinds in turn, so
that a slow spell of the machine affects all of them. What a whole prediction takes a frame less the forward's
median is what everything else costs. Then the MP4s' time stamps against the inputs', the memory of a run of
its own over the same frames many times over, and what temporal smoothing buys.
"""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import av
import cv2
import numpy as np
import torch

from liver_landmark.curves import get_protocol, rasterize_landmarks
from liver_landmark.evaluation.metrics import class_overlap, pooled_overlap
from liver_landmark.inference import (
    CausalSmoother,
    LandmarkPredictor,
    PredictionOptions,
    collect_inputs,
    draw_overlay,
    open_video,
    predict_files,
)
from liver_landmark.inference.result_files import write_mask
from liver_landmark.inference.video_writer import VideoWriter
from liver_landmark.model.landmarks_liver_landmark import DEFAULT_LANDMARKS
from liver_landmark.synthetic import build_patient, get_domain
from liver_landmark.synthetic.render import render_path
from liver_landmark.utils.atomic_files import atomic_path, write_json
from shared import (
    ENLARGED,
    HEIGHT,
    WIDTH,
    add_output,
    add_threads,
    enlarged,
    environment,
    new_parser,
    positive_int,
    process_mib,
)

UNEVEN_FRAMES = 60
PARTS = ("stages", "times", "stamps", "smoothing", "memory")
# What the rest may cost, ms a frame.
LIMITS_MS = {"masks_and_curves": 25.0, "with_overlay": 60.0}
KINDS = {
    "masks_and_curves": PredictionOptions(curves=("labelme",), overlay=False),
    "with_overlay": PredictionOptions(curves=("labelme",)),
}
RATE = Fraction(25)
# No patient of a model's training set: those have the quick start's seeds.
SEED = 4321
# Uneven time stamps: steps in units of 1/90000 s, over and over.
_UNEVEN_BASE, _UNEVEN_STEPS = Fraction(1, 90000), (3600, 3003, 1800, 12345, 3600, 7)
# Frames of the stages by themselves, of which the first few warm up.
STAGE_FRAMES, WARM_UP_FRAMES = 40, 5
# Frames of the forward pass alone.
FORWARD_FRAMES = 60
# Memory is sampled so often, and its highest values are compared over stretches of the video.
SAMPLE_S, STRETCH_FRAMES = 0.5, 100

_Result = TypeVar("_Result")


# The videos: a synthetic camera path, enlarged to 1080p.


def make_path_video(folder: Path, frames: int, domain: str) -> tuple[Path, list[list[dict]]]:
    """The video and the landmarks of each frame in px of it; what an earlier call made is taken again."""
    video, truth = folder / f"path_{domain}_{frames}.mp4", folder / f"path_{domain}_{frames}.json"
    if not (video.is_file() and truth.is_file()):
        folder.mkdir(parents=True, exist_ok=True)
        landmarks: list[list[dict]] = []
        with atomic_path(video) as temporary:
            write_h264(temporary, _rendered(domain, frames, landmarks), [1] * frames, 1 / RATE)
        write_json(truth, landmarks)
    return video, json.loads(truth.read_text(encoding="utf-8"))


def _rendered(domain: str, frames: int, landmarks: list[list[dict]]) -> Iterator[np.ndarray]:
    patient = build_patient(get_domain(domain), SEED, 0)
    for frame in render_path(patient, frames, WIDTH // ENLARGED, HEIGHT // ENLARGED):
        marks = enlarged(frame.landmarks)
        landmarks.append([mark | {"points": mark["points"].tolist()} for mark in marks])
        yield cv2.resize(frame.image, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)


def write_h264(path: Path, frames: Iterator[np.ndarray], steps: Sequence[int], time_base: Fraction) -> None:
    """Writes RGB frames of one size as H.264, `steps` units of `time_base` after each other."""
    with closing(av.open(str(path), "w", format="mp4")) as output:
        stream = output.add_stream("libx264", rate=RATE, options={"preset": "veryfast", "crf": "20"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.codec_context.time_base = stream.time_base = time_base
        pts = 0
        for pixels, step in zip(frames, steps, strict=False):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = pts, time_base
            output.mux(stream.encode(frame))
            pts += step
        output.mux(stream.encode(None))


def make_uneven_video(source: Path, frames: int) -> Path:
    """The first frames of a video with uneven time stamps."""
    path = source.with_name(f"{source.stem}_uneven_{frames}.mp4")
    if not path.is_file():
        steps = [_UNEVEN_STEPS[number % len(_UNEVEN_STEPS)] for number in range(frames)]
        with av.open(str(source)) as video, atomic_path(path) as temporary:
            pictures = (frame.to_ndarray(format="rgb24") for frame in video.decode(video=0))
            write_h264(temporary, pictures, steps, _UNEVEN_BASE)
    return path


def make_repeated_video(source: Path, times: int) -> Path:
    """A video that shows the source so many times over, without encoding it anew."""
    path = source.with_name(f"{source.stem}_times_{times}.mp4")
    if not path.is_file():
        with atomic_path(path) as temporary, closing(av.open(str(temporary), "w", format="mp4")) as output:
            stream, shift = None, 0
            for _ in range(times):
                shift += _copy_packets(source, output, stream, shift)
                stream = output.streams.video[0]
    return path


def _copy_packets(
    source: Path,
    output: av.container.OutputContainer,
    stream: av.video.stream.VideoStream | None,
    shift: int,
) -> int:
    """Appends a video's packets `shift` later; returns its length in units of its time base."""
    with av.open(str(source)) as video:
        original = video.streams.video[0]
        if stream is None:
            stream = output.add_stream_from_template(original)
            stream.time_base = original.time_base
        for packet in video.demux(original):
            if packet.size:
                packet.pts, packet.dts, packet.stream = packet.pts + shift, packet.dts + shift, stream
                packet.time_base = original.time_base
                output.mux(packet)
        return original.duration


def times_of(video: Path) -> list[Fraction]:
    """The time of every frame in seconds, as PyAV decodes them."""
    with av.open(str(video)) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        return [frame.pts * Fraction(frame.time_base) for frame in container.decode(stream)]


# Time.


def stage_processor_ms(predictor: LandmarkPredictor, video: Path, frames: int) -> dict[str, float]:
    """Median processor ms a frame of every stage, over the first frames of a video."""
    spent: dict[str, list[float]] = defaultdict(list)

    def timed(stage: str, call: Callable[[], _Result]) -> _Result:
        began = time.process_time()
        result = call()
        spent[stage].append((time.process_time() - began) * 1e3)
        return result

    with tempfile.TemporaryDirectory() as folder, open_video(video) as reader:
        mask, overlay = Path(folder) / "mask.png", Path(folder) / "overlay.mp4"
        size = (reader.width, reader.height)
        with VideoWriter(overlay, *size, reader.time_base, reader.frame_rate) as writer:
            pictures = iter(reader)
            for _ in range(frames):
                frame = timed("read", lambda: next(pictures))
                prepared = timed("prepare", lambda frame=frame: predictor.prepare(frame.pixels))
                seen = timed("forward", lambda prepared=prepared: predictor.forward([prepared])[0])
                prediction = timed("class map", lambda p=prepared, s=seen: predictor.finish(p, s))
                timed("curves", prediction.curves)
                timed("mask file", lambda p=prediction: write_mask(mask, p.mask))
                drawn = timed("draw", lambda f=frame, p=prediction: draw_overlay(f.pixels, p.mask))
                timed("encode", lambda d=drawn, f=frame: writer.write(d, f.pts))
    return {stage: statistics.median(times[WARM_UP_FRAMES:]) for stage, times in spent.items()}


def forward_alone(predictor: LandmarkPredictor, video: Path, batch_size: int) -> tuple[list[float], float]:
    """The forward pass alone: wall ms a frame of each batch, processor ms a frame of all."""
    with av.open(str(video)) as container:
        pictures = (frame.to_ndarray(format="rgb24") for frame in container.decode(video=0))
        prepared = [predictor.prepare(picture) for picture in islice(pictures, FORWARD_FRAMES)]
    batches = [prepared[start : start + batch_size] for start in range(0, len(prepared), batch_size)]
    predictor.forward(batches[0])
    times, before = [], time.process_time()
    for batch in batches:
        began = time.perf_counter()
        predictor.forward(batch)
        times.append((time.perf_counter() - began) * 1e3 / len(batch))
    return times, (time.process_time() - before) * 1e3 / len(prepared)


def predict(
    predictor: LandmarkPredictor, video: Path, output: Path, options: PredictionOptions
) -> dict[str, Any]:
    """One whole prediction: ms of wall and processor time a frame."""
    shutil.rmtree(output, ignore_errors=True)
    before, began = time.process_time(), time.perf_counter()
    report = predict_files(
        predictor, collect_inputs([str(video)]), output, options, model_name="benchmark", overwrite=True
    )
    seconds, processor_s = time.perf_counter() - began, time.process_time() - before
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


# Flicker, and how right the masks are.


def true_masks(landmarks: list[list[dict]]) -> list[np.ndarray]:
    """(H, W) uint8 class ids of each frame, as the synthetic benchmark draws them."""
    protocol = get_protocol("synthetic")
    return [
        rasterize_landmarks(
            [mark | {"points": np.asarray(mark["points"])} for mark in marks], WIDTH, HEIGHT, protocol
        )
        for marks in landmarks
    ]


def steadiness(masks: Iterable[np.ndarray]) -> dict[str, float]:
    """Mean over consecutive frames of each landmark's IoU with itself, and of how often it comes or goes.

    A landmark that neither of two frames shows has no IoU; one that one of them shows has 0.
    """
    overlaps: dict[str, list[float]] = {name: [] for name in DEFAULT_LANDMARKS.names}
    changes = pairs = 0
    before: np.ndarray | None = None
    for mask in masks:
        if before is not None:
            for landmark in DEFAULT_LANDMARKS.landmarks:
                old, new = before == landmark.id, mask == landmark.id
                union = np.count_nonzero(old | new)
                changes += old.any() != new.any()
                pairs += 1
                if union:
                    overlaps[landmark.name].append(np.count_nonzero(old & new) / union)
        before = mask
    means = {name: float(np.mean(values)) for name, values in overlaps.items() if values}
    figures = {"iou_with_the_frame_before": float(np.mean(list(means.values())))} if means else {}
    return figures | {
        **{f"iou_with_the_frame_before_{name}": value for name, value in means.items()},
        "comes_or_goes_per_100_frames": 100 * changes / max(pairs / len(DEFAULT_LANDMARKS.landmarks), 1),
    }


def agreement(truth: list[np.ndarray], masks: list[np.ndarray]) -> dict[str, float]:
    """DSC pooled over the landmarks, the frames' mean, and of each landmark over the frames that show it."""
    pooled = [pooled_overlap(*pair)[0] for pair in zip(truth, masks, strict=True)]
    by_class: dict[str, list[float]] = {name: [] for name in DEFAULT_LANDMARKS.names}
    for pair in zip(truth, masks, strict=True):
        for name, overlap in class_overlap(*pair).items():
            if overlap is not None:
                by_class[name].append(overlap[0])
    return {"dsc": float(np.mean(pooled))} | {
        f"dsc_{name}": float(np.mean(values)) for name, values in by_class.items() if values
    }


def measure_smoothing(
    predictor: LandmarkPredictor,
    video: Path,
    landmarks: list[list[dict]],
    work: Path,
    constants_s: Sequence[float],
) -> dict[str, dict[str, float]]:
    """Flicker and agreement with the path's exact landmarks, without and with smoothing."""
    truth = true_masks(landmarks)
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


# Memory.


def watch_prediction(arguments: list[str], masks: Path) -> list[tuple[int, float]]:
    """Runs `liver-landmark predict` in a process of its own.

    Args:
        arguments: Of the command, after `predict`.
        masks: Folder where the video's masks will lie, one a frame.

    Returns:
        (frames done, resident MiB) in order.

    Raises:
        RuntimeError: the command failed.
    """
    command = [sys.executable, "-m", "liver_landmark", "predict", *arguments]
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, encoding="utf-8"
    )
    samples: list[tuple[int, float]] = []
    while process.poll() is None:
        resident = process_mib(process.pid, "VmRSS")
        if resident is not None:
            samples.append((sum(1 for _ in masks.iterdir()) if masks.is_dir() else 0, resident))
        time.sleep(SAMPLE_S)
    errors = process.stderr.read()
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}: {errors[-500:]}")
    return samples


def summarize_memory(samples: list[tuple[int, float]], early_frame: int) -> dict[str, float]:
    """Resident MiB about `early_frame` and later.

    What lies between the stages comes and goes from one moment to the next; what grows would show in the
    highest values of stretches of 100 frames: `change` is the largest difference of one from the early one's.
    """
    highest: dict[int, float] = {}
    for done, mib in samples:
        stretch = done // STRETCH_FRAMES
        highest[stretch] = max(highest.get(stretch, 0.0), mib)
    first = early_frame // STRETCH_FRAMES
    last = max(highest)
    if first not in highest or first == last:
        raise RuntimeError(f"no sample about frame {early_frame}, or none after it: the run was too short")
    after = [mib for stretch, mib in highest.items() if stretch >= first]
    return {
        "early": round(highest[first], 1),
        "end": round(highest[last], 1),
        "highest": round(max(after), 1),
        "lowest_moment": round(min(mib for done, mib in samples if done >= early_frame), 1),
        "change": round(max(abs(mib - highest[first]) for mib in after), 1),
        "frames": max(done for done, _ in samples),
    }


def measure_memory(model: str, video: Path, work: Path, early_frame: int) -> dict[str, float]:
    """Resident MiB of a run of its own with masks, curves and overlay."""
    output = work / "memory"
    shutil.rmtree(output, ignore_errors=True)
    arguments = [str(video), "--model", model, "--output", str(output), "--curves", "labelme"]
    return summarize_memory(watch_prediction(arguments, output / f"{video.stem}_mask"), early_frame)


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_rounded(inner) for inner in value]
    return round(float(value), 3) if isinstance(value, (float, np.floating)) else value


def main() -> None:
    parser = new_parser(__doc__)
    add = parser.add_argument
    add("--model", required=True, help="folder of a trained model, or a Hub id")
    add("--frames", type=positive_int, default=300, help="of the video (default: %(default)s)")
    add("--long-frames", type=positive_int, default=3000, help="for memory (default: %(default)s)")
    add("--parts", nargs="+", choices=PARTS, default=PARTS, help="default: all")
    add("--domain", default="b", help="of the synthetic benchmark (default: %(default)s)")
    add("--batch-size", type=positive_int, default=1)
    add("--rounds", type=positive_int, default=2, help="of each kind of prediction")
    add_threads(parser)
    add("--smoothing", type=float, nargs="*", default=[0.1, 0.2, 0.4], metavar="SECONDS")
    add("--work", type=Path, default=Path("outputs/video_benchmark"), help="for the videos")
    add_output(parser)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)

    video, landmarks = make_path_video(options.work, options.frames, options.domain)
    predictor = LandmarkPredictor.from_pretrained(options.model, device="cpu")
    figures: dict[str, Any] = {
        "video": {"size": f"{WIDTH}x{HEIGHT}", "frames": options.frames, "codec": "h264"},
        "model": options.model,
        **environment(),
    }
    if "stages" in options.parts:
        frames = min(STAGE_FRAMES, options.frames)
        figures["stages_processor_ms"] = stage_processor_ms(predictor, video, frames)
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
