"""The stages of a prediction, each in threads of its own, so that none waits for another.

    read and prepare ─► forward ─► finish (class map, curves, drawing, files) ─► who takes the results
    worker threads      one thread   worker threads                              the caller's thread

Results come in the order of the jobs. What is between the stages is bounded by pixels, whatever the length of
a video.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import torch

from ...background import in_background, ordered_map
from ...frame_files import FrameError
from ..prediction import FramePrediction
from ..predictor import LandmarkPredictor, ModelOutput, PreparedFrame
from ..smoothing import CausalSmoother

# Four 4K frames between two stages: 100 MB as RGB, several times that while they are decoded and drawn.
_PIXELS_AHEAD = 2**25
_WORKERS = min(4, os.cpu_count() or 1)

_Result = TypeVar("_Result")


@dataclass(frozen=True)
class FrameJob:
    """One frame to predict.

    Attributes:
        key: Whatever tells the caller which frame this is.
        name: What errors call it.
        load: Gives the frame, (H, W, 3) uint8 RGB, or raises a FrameError. Called once, in a worker thread.
        pixels: Its size in px if it is known, for the bound on memory.
        time_s: When it was taken; frames of a video.
        smoother: Of its video; None for a frame by itself.
        read_ms: Wall time that reading it took before `load`: a video's decoding.
        keep_state: Keep the smoother's state as it is after this frame (`SeenFrame.smoother_state`).
    """

    key: Any
    name: str
    load: Callable[[], np.ndarray]
    pixels: int = 0
    time_s: float = 0.0
    smoother: CausalSmoother | None = None
    read_ms: float = 0.0
    keep_state: bool = False


@dataclass(frozen=True)
class SeenFrame:
    """A frame and what the model sees in it; `milliseconds` of the prediction has `read` too."""

    job: FrameJob
    frame: np.ndarray
    prediction: FramePrediction
    smoother_state: dict[str, np.ndarray] | None = None


@dataclass(frozen=True)
class FailedFrame:
    """A frame without a prediction, and why, in one line."""

    job: FrameJob
    reason: str

    @property
    def named_reason(self) -> str:
        """The reason with the job's name, which the processor and the model do not know."""
        return self.reason if self.job.name in self.reason else f"{self.job.name}: {self.reason}"


@dataclass
class _InFlight:
    job: FrameJob
    frame: np.ndarray
    read_ms: float
    prepared: PreparedFrame
    output: ModelOutput | None = None
    state: dict[str, np.ndarray] | None = field(default=None)


def predict_jobs(
    predictor: LandmarkPredictor,
    jobs: Iterable[Any],
    finish: Callable[[SeenFrame], _Result],
    *,
    batch_size: int = 1,
    workers: int = _WORKERS,
) -> Iterator[_Result | FailedFrame | Any]:
    """Predicts jobs as they come, the stages side by side.

    Args:
        predictor: The model.
        jobs: `FrameJob`s; anything else among them is passed on in its place.
        finish: What is made of each frame, in a worker thread. What it raises ends the whole.
        batch_size: Frames in one forward pass.
        workers: Threads each for reading and for finishing.

    Yields:
        What `finish` returned, a `FailedFrame`, or what was no job, in the jobs' order.
    """

    def prepare(job: Any) -> Any:
        if not isinstance(job, FrameJob):
            return job
        start = time.perf_counter()
        try:
            frame = job.load()
            read_ms = job.read_ms + (time.perf_counter() - start) * 1e3
            return _InFlight(job, frame, read_ms, predictor.prepare(frame))
        except FrameError as error:
            return FailedFrame(job, str(error))
        except ValueError as error:
            return FailedFrame(job, f"the frame is refused: {error}")

    def make(item: Any) -> Any:
        if not isinstance(item, _InFlight):
            return item
        try:
            prediction = predictor.finish(item.prepared, item.output)
        except ValueError as error:
            return FailedFrame(item.job, str(error))
        prediction.milliseconds["read"] = item.read_ms
        return finish(SeenFrame(item.job, item.frame, prediction, item.state))

    # Closed from the end to the beginning: each stops its threads and waits for them.
    with (
        closing(ordered_map(prepare, jobs, workers, _job_pixels, _PIXELS_AHEAD)) as prepared,
        closing(in_background(prepared, batch_size)) as waiting,
        closing(_forward(predictor, waiting, batch_size)) as seen,
        closing(in_background(seen, batch_size)) as outputs,
        closing(ordered_map(make, outputs, workers, _item_pixels, _PIXELS_AHEAD)) as made,
    ):
        yield from made


def _job_pixels(job: Any) -> int:
    return job.pixels if isinstance(job, FrameJob) else 0


def _item_pixels(item: Any) -> int:
    return item.frame.shape[0] * item.frame.shape[1] if isinstance(item, _InFlight) else 0


def _forward(predictor: LandmarkPredictor, items: Iterator[Any], batch_size: int) -> Iterator[Any]:
    """Fills in the outputs, a batch at a time; what is no frame keeps its place between them."""
    waiting: list[Any] = []
    frames = 0
    for item in items:
        waiting.append(item)
        frames += isinstance(item, _InFlight)
        # Without a frame to wait for there is nothing to hold the rest back for.
        if frames == batch_size or frames == 0:
            yield from _with_outputs(predictor, waiting)
            waiting, frames = [], 0
    yield from _with_outputs(predictor, waiting)


def _with_outputs(predictor: LandmarkPredictor, items: Sequence[Any]) -> Sequence[Any]:
    batch = [item for item in items if isinstance(item, _InFlight)]
    if batch:
        outputs = predictor.forward([item.prepared for item in batch])
        for item, output in zip(batch, outputs, strict=True):
            item.output = output if item.job.smoother is None else _smoothed(item, output)
    return items


def _smoothed(item: _InFlight, output: ModelOutput) -> ModelOutput:
    smoother = item.job.smoother
    # Values that are not finite would stay in the average for ever; `finish` refuses the frame.
    if not torch.isfinite(output.logits).all():
        return output
    logits = smoother.update(output.logits.numpy(), item.job.time_s)
    if item.job.keep_state:
        item.state = smoother.state()
    return ModelOutput(torch.from_numpy(logits), output.variance, output.milliseconds)
