"""Frames in, masks at native size out: the model behind one call, and its stages in threads side by side.

`LandmarkPredictor` predicts frames that are at hand, `predict_jobs` many as they come:

    read and prepare ─► forward ─► finish (class map, curves, drawing, files) ─► who takes the results
    worker threads      one thread   worker threads                              the caller's thread

Results come in the order of the jobs. What is between the stages is bounded by pixels, whatever the length of
a video.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors import SafetensorError
from transformers import AutoImageProcessor, AutoModel, PretrainedConfig

from ..curves import TracedPolyline, trace_polylines
from ..model import LiverLandmarkConfig, LiverLandmarkForSemanticSegmentation, LiverLandmarkImageProcessor
from ..model.landmarks_liver_landmark import DEFAULT_LANDMARKS, LandmarkTable
from ..model.post_processing_liver_landmark import class_map, landmark_scores, upsampled_probabilities
from ..model.presence_liver_landmark import absent_suppressed
from ..utils.background import in_background, ordered_map
from ..utils.frame_files import FrameError
from .smoothing import CausalSmoother
from .views import AveragedViews, averaged_forward

# A model and its processor, from a folder or the Hub.


class ModelLoadError(ValueError):
    """A model that cannot be loaded; the message is one line that names it and the reason."""


def load_model_and_processor(
    model_id: str | Path, *, device: str | torch.device | None = None
) -> tuple[LiverLandmarkForSemanticSegmentation, LiverLandmarkImageProcessor]:
    """A trained model, float32 and in evaluation mode, and its image processor.

    Args:
        model_id: A folder that `save_pretrained` wrote, or a Hub id.
        device: Where the model goes; None takes an accelerator where there is one.

    Raises:
        ModelLoadError: not found, of another type, with weights missing or of other shapes, or a device
            that is not there.
    """
    name, target = str(model_id), _usable_device(device)
    try:
        config, _ = PretrainedConfig.get_config_dict(name)
        model_type = config.get("model_type", "not given") if isinstance(config, dict) else "not given"
        if model_type != LiverLandmarkConfig.model_type:
            raise ModelLoadError(
                f"model {name}: its type is {model_type}, expected {LiverLandmarkConfig.model_type}"
            )
        model, info = AutoModel.from_pretrained(name, dtype=torch.float32, output_loading_info=True)
        for problem in ("missing_keys", "mismatched_keys"):
            if info[problem]:
                raise ModelLoadError(
                    f"model {name}: {len(info[problem])} {problem.replace('_', ' ')}, "
                    f"{sorted(map(str, info[problem]))[0]} first: not a complete checkpoint of this version"
                )
        processor = AutoImageProcessor.from_pretrained(name)
        return model.eval().to(target), processor
    except ModelLoadError:
        raise
    # TypeError: a field of a configuration that is unknown or of the wrong type.
    except (OSError, ValueError, RuntimeError, TypeError, SafetensorError) as error:
        raise ModelLoadError(f"model {name}: {_first_line(error)}") from error


def model_revision(model_id: str | Path, model: LiverLandmarkForSemanticSegmentation) -> str:
    """What tells these weights and this configuration from others: the Hub's commit, or a folder's digest."""
    commit = getattr(model.config, "_commit_hash", None)
    if commit:
        return str(commit)
    digest = hashlib.sha256()
    folder = Path(model_id)
    for file in sorted([*folder.glob("*.json"), *folder.glob("*.safetensors")]):
        digest.update(file.name.encode())
        with file.open("rb") as opened:
            digest.update(hashlib.file_digest(opened, "sha256").digest())
    return f"sha256:{digest.hexdigest()}"


def _usable_device(device: str | torch.device | None) -> torch.device:
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    if device is None:
        return accelerator if accelerator is not None else torch.device("cpu")
    try:
        usable = torch.device(device)
    except RuntimeError as error:
        raise ModelLoadError(f"device {device!r}: {_first_line(error)}") from error
    if usable.type != "cpu" and (accelerator is None or usable.type != accelerator.type):
        found = "cpu" if accelerator is None else f"cpu, {accelerator.type}"
        raise ModelLoadError(f"device {device!r} is not available here (there is: {found})")
    return usable


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


@dataclass(frozen=True)
class FramePrediction:
    """What the model sees in one frame.

    Attributes:
        mask: (H, W) uint8 class ids at the frame's own size. A landmark that is judged not to be in the
            frame has no pixels.
        scores: Landmark name -> confidence: mean probability over the pixels that it was given, 0.0 where it
            was given none (`LiverLandmarkImageProcessor.post_process_semantic_segmentation`).
        presence: Landmark name -> probability that it is in the frame at all.
        present: Names of the landmarks that are: with a calibrated model those whose probability reaches
            their threshold, otherwise those that were given pixels.
        calibrated: Whether `presence` was calibrated (`liver-landmark calibrate`), so that it can be read as
            a share of frames.
        milliseconds: Stage (preprocess, forward, postprocess) -> wall time; forward is the batch's divided by
            its frames.
        logits: (classes, h, w) float32 at the model's own resolution, of all landmarks, judged present or
            not; after view averaging and smoothing they are log-probabilities.
        variance: (h, w) float32, how much the averaged views differ: the sum over the classes of the variance
            of their probabilities, 0 to 1 - 1/classes; None without view averaging.
        landmarks: The model's: what ids, names and channels mean, and their colors.
    """

    mask: np.ndarray
    scores: dict[str, float]
    presence: dict[str, float]
    present: tuple[str, ...]
    calibrated: bool
    logits: np.ndarray
    variance: np.ndarray | None = None
    milliseconds: dict[str, float] = field(default_factory=dict)
    landmarks: LandmarkTable = DEFAULT_LANDMARKS

    @property
    def pixel_counts(self) -> dict[str, int]:
        """Landmark name -> its pixels."""
        return {
            landmark.name: int(np.count_nonzero(self.mask == landmark.id))
            for landmark in self.landmarks.landmarks
        }

    def probabilities(self) -> np.ndarray:
        """(classes, H, W) float32 probabilities at the frame's own size, computed at each call."""
        return upsampled_probabilities(torch.from_numpy(self.logits), self.mask.shape).numpy()

    def probability(self, name: str) -> np.ndarray:
        """(H, W) float32 probability of one landmark, by its name."""
        return self.probabilities()[self.landmarks.label2id[name]]

    def variance_map(self) -> np.ndarray | None:
        """(H, W) float32 `variance` at the frame's own size; None without view averaging."""
        if self.variance is None:
            return None
        plane = torch.from_numpy(self.variance)[None, None]
        size = self.mask.shape
        return F.interpolate(plane, size=size, mode="bilinear", align_corners=False)[0, 0].numpy()

    def curves(self, tolerance_px: float = 0.5, *, with_scores: bool = False) -> list[TracedPolyline]:
        """The curves that the mask's strokes follow (`trace_polylines`), in px of the frame.

        Without those that are one point in whole px, as some exchange formats count.

        Args:
            tolerance_px: A point is left out where the polyline stays this near to it.
            with_scores: Give each point the probability across its stroke.

        Raises:
            NoisyMaskError: a mask of so many pieces that they are no strokes.
        """
        if not self.mask.any():
            return []
        scores = self.probabilities() if with_scores else None
        curves = trace_polylines(
            self.mask, names=self.landmarks.names, scores=scores, tolerance_px=tolerance_px
        )
        return [curve for curve in curves if np.ptp(np.rint(curve.points), axis=0).any()]


Frame = np.ndarray | Image.Image


@dataclass(frozen=True)
class PreparedFrame:
    """A frame as the model takes it.

    Attributes:
        size: (height, width) of the upright frame, px.
        pixel_values: (3, h, w) float32, one for each scale that is averaged, the plain one alone without.
        milliseconds: Wall time of the preparation.
    """

    size: tuple[int, int]
    pixel_values: tuple[torch.Tensor, ...]
    milliseconds: float


@dataclass(frozen=True)
class ModelOutput:
    """What the model said about one frame.

    Attributes:
        logits: (classes, h, w) float32 on the CPU; log-probabilities where views were averaged.
        variance: (h, w) float32 on the CPU, `AveragedViews`'s, or None.
        milliseconds: Wall time of the batch's forward passes by its frames.
    """

    logits: torch.Tensor
    variance: torch.Tensor | None
    milliseconds: float


class LandmarkPredictor:
    """Predicts landmarks from Python; `liver-landmark predict` is this with files around it.

    >>> predictor = LandmarkPredictor.from_pretrained("outputs/quickstart/best")  # doctest: +SKIP
    >>> predictor.predict([Image.open("frame.jpg")])[0].present  # doctest: +SKIP
    ('ridge', 'silhouette')

    `predict` is `prepare`, `forward` and `finish` in a row; what works on many frames calls them itself, each
    in a thread of its own (`predict_jobs`).
    """

    def __init__(
        self,
        model: LiverLandmarkForSemanticSegmentation,
        processor: LiverLandmarkImageProcessor,
        dtype: torch.dtype = torch.float32,
        *,
        views: AveragedViews | None = None,
        compile: bool = False,
        revision: str | None = None,
    ) -> None:
        """Takes a float32 model in evaluation mode, where it lies, and the processor it was trained with.

        Args:
            model: The model.
            processor: Its image processor.
            dtype: bfloat16 or float16 run the forward pass under autocast: the weights stay float32.
            views: Average over flipped and scaled views of each frame.
            compile: `torch.compile` the forward pass: minutes at the first batch, faster afterward.
            revision: What tells the weights from others, for records.
        """
        if dtype not in (torch.float32, torch.bfloat16, torch.float16):
            raise ValueError(f"dtype must be float32, bfloat16 or float16, got {dtype}")
        self.model = model
        # The one table of names, ids and colors of all that follows from this model's predictions.
        self.landmarks: LandmarkTable = model.config.landmark_table
        self.processor = processor
        self.dtype = dtype
        self.views = views
        # Scales that come to no size, or two to one, are known now and not at every frame.
        self._view_sizes = None if views is None else views.view_sizes(processor)
        self.revision = revision
        self._forward = torch.compile(model, dynamic=False) if compile else model
        self._compiled_batch_size: int | None = 0 if compile else None

    @classmethod
    def from_pretrained(
        cls,
        model_id: str | Path,
        *,
        device: str | torch.device | None = None,
        dtype: torch.dtype = torch.float32,
        views: AveragedViews | None = None,
        compile: bool = False,
    ) -> LandmarkPredictor:
        """The predictor of a saved model; arguments and errors are `load_model_and_processor`'s."""
        model, processor = load_model_and_processor(model_id, device=device)
        revision = model_revision(model_id, model)
        return cls(model, processor, dtype, views=views, compile=compile, revision=revision)

    @property
    def device(self) -> torch.device:
        """Where the model lies."""
        return self.model.device

    def predict(self, frames: Sequence[Frame] | Frame, batch_size: int = 1) -> list[FramePrediction]:
        """Predicts each frame at its own size.

        Args:
            frames: A frame or several, of any sizes: (H, W, 3) uint8 RGB or PIL images (upright after
                EXIF orientation). Files of strangers: `read_frame` first.
            batch_size: Frames in one forward pass.

        Returns:
            One prediction for each frame, in order.

        Raises:
            ValueError: an image that the processor refuses, or a batch size below 1.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        if isinstance(frames, (np.ndarray, Image.Image)):
            frames = [frames]
        predictions: list[FramePrediction] = []
        for start in range(0, len(frames), batch_size):
            prepared = [self.prepare(frame) for frame in frames[start : start + batch_size]]
            outputs = self.forward(prepared)
            predictions += [self.finish(*pair) for pair in zip(prepared, outputs, strict=True)]
        return predictions

    def prepare(self, frame: Frame) -> PreparedFrame:
        """A frame as the model takes it; a ValueError if the processor refuses it."""
        start = time.perf_counter()
        sizes = [None] if self._view_sizes is None else self._view_sizes
        pixel_values = []
        for size in sizes:
            resized = {} if size is None else {"size": {"height": size[0], "width": size[1]}}
            inputs = self.processor(images=[frame], return_tensors="pt", **resized)
            pixel_values.append(inputs["pixel_values"][0])
        milliseconds = (time.perf_counter() - start) * 1e3
        return PreparedFrame(_upright_size(frame), tuple(pixel_values), milliseconds)

    @torch.inference_mode()
    def forward(self, frames: Sequence[PreparedFrame]) -> list[ModelOutput]:
        """The forward pass, or one for each view, over a batch; the results are on the CPU."""
        start = time.perf_counter()
        batch = [
            torch.stack(scale).to(self.device)
            for scale in zip(*(frame.pixel_values for frame in frames), strict=True)
        ]
        variance = None
        with torch.autocast(self.device.type, dtype=self.dtype, enabled=self.dtype != torch.float32):
            if self.views is None:
                logits = self._logits(batch[0])
            else:
                logits, variance = averaged_forward(self._logits, batch, self.views)
        # One transfer for the batch; it also waits until an accelerator is done.
        logits = logits.float().cpu()
        variance = None if variance is None else variance.float().cpu()
        milliseconds = (time.perf_counter() - start) * 1e3 / len(frames)
        return [
            ModelOutput(logits[index], None if variance is None else variance[index], milliseconds)
            for index in range(len(frames))
        ]

    def _logits(self, pixel_values: torch.Tensor) -> torch.Tensor:
        count = len(pixel_values)
        if self._compiled_batch_size is not None:
            # Another batch size would be recompiled, for minutes: the last, smaller one is filled up.
            self._compiled_batch_size = max(self._compiled_batch_size, count)
            filling = pixel_values[:1].expand(self._compiled_batch_size - count, -1, -1, -1)
            pixel_values = torch.cat([pixel_values, filling])
        return self._forward(pixel_values=pixel_values).logits[:count]

    def compile_now(self, batch_size: int) -> None:
        """Compiles the forward pass for batches of that size, and not only at the first frame.

        Raises:
            ModelLoadError: it cannot be compiled here, for want of a C++ compiler for instance.
        """
        # Takes a second, and is imported by torch.compile only.
        from torch._dynamo.exc import TorchDynamoException

        frame = self.prepare(np.zeros((64, 64, 3), np.uint8))
        try:
            self.forward([frame] * batch_size)
        except TorchDynamoException as error:
            # What the back end said, in a report of many lines.
            reason = getattr(error, "inner_exception", error)
            first = str(reason).strip().partition("\n")[0]
            raise ModelLoadError(
                f"the model cannot be compiled here, do without: {type(reason).__name__}: {first}"
            ) from error

    @torch.inference_mode()
    def finish(self, frame: PreparedFrame, output: ModelOutput) -> FramePrediction:
        """What the model said about a frame, at the frame's own size.

        Raises:
            ValueError: logits that are not finite.
        """
        start = time.perf_counter()
        calibration, names = self.model.config.presence_calibration, self.landmarks.names
        logits, presence, judged = absent_suppressed(output.logits[None], calibration, names)
        segmentation = class_map(logits[0], frame.size)
        mask = segmentation.numpy()
        found = judged[0].tolist()
        if calibration is None:
            found = [bool((mask == landmark.id).any()) for landmark in self.landmarks.landmarks]
        scores = landmark_scores(logits[0], segmentation, self.landmarks)
        postprocess = (time.perf_counter() - start) * 1e3
        return FramePrediction(
            mask=mask,
            scores={name: float(scores[name]) for name in names},
            presence=dict(zip(names, presence[0].tolist(), strict=True)),
            present=tuple(name for name, shown in zip(names, found, strict=True) if shown),
            calibrated=calibration is not None,
            logits=output.logits.numpy(),
            variance=None if output.variance is None else output.variance.numpy(),
            milliseconds={
                "preprocess": frame.milliseconds,
                "forward": output.milliseconds,
                "postprocess": postprocess,
            },
            landmarks=self.landmarks,
        )


def _upright_size(frame: Frame) -> tuple[int, int]:
    """(height, width) after the EXIF orientation, which the processor applies to PIL images."""
    if isinstance(frame, np.ndarray):
        return frame.shape[0], frame.shape[1]
    # Orientations 5 to 8 lay the frame on its side.
    swapped = frame.getexif().get(0x0112, 1) in (5, 6, 7, 8)
    return (frame.width, frame.height) if swapped else (frame.height, frame.width)


# The stages in threads of their own, so that none waits for another.

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
    """A frame without a prediction, and why, in one line; the smoother's state as `SeenFrame` has it."""

    job: FrameJob
    reason: str
    smoother_state: dict[str, np.ndarray] | None = None

    @property
    def key(self) -> Any:
        """Which frame: the job's key."""
        return self.job.key

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
    state: dict[str, np.ndarray] | None = None


# What one frame may cause and the next need not: of torch's errors, all but those of a device that is lost
# (AcceleratorError). Anything else is a bug, and ends the whole.
_FRAME_ERRORS = (ValueError, RuntimeError, OSError, MemoryError)


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
        finish: What is made of each frame, in a worker thread. What it raises ends the whole; for a frame
            that it cannot be made of, it may return a `FailedFrame`.
        batch_size: Frames in one forward pass.
        workers: Threads each for reading and for finishing.

    Yields:
        What `finish` returned, a `FailedFrame`, or what was no job, in the jobs' order. A frame that cannot
        be read, prepared, predicted or finished fails alone, whatever batch it is in.
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
        except _FRAME_ERRORS as error:
            return FailedFrame(job, f"the frame is refused: {_one_line(error)}")

    def make(item: Any) -> Any:
        if not isinstance(item, _InFlight):
            return item
        try:
            prediction = predictor.finish(item.prepared, item.output)
        except _FRAME_ERRORS as error:
            return FailedFrame(item.job, _one_line(error), item.state)
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


def _with_outputs(predictor: LandmarkPredictor, items: Sequence[Any]) -> Iterator[Any]:
    batch = [item.prepared for item in items if isinstance(item, _InFlight)]
    outputs = iter(_outputs(predictor, batch) if batch else ())
    for item in items:
        if isinstance(item, _InFlight):
            output = next(outputs)
            item = FailedFrame(item.job, output) if isinstance(output, str) else _smoothed(item, output)
        # A frame that failed leaves the smoother as it was, and the frames after it need that state too.
        if isinstance(item, FailedFrame) and item.job.smoother is not None and item.job.keep_state:
            item = replace(item, smoother_state=item.job.smoother.state())
        yield item


def _outputs(predictor: LandmarkPredictor, batch: Sequence[PreparedFrame]) -> list[ModelOutput | str]:
    """What the model says about each frame, or why it cannot; a batch that fails is halved to find out."""
    try:
        return list(predictor.forward(batch))
    except torch.AcceleratorError:
        raise
    except torch.OutOfMemoryError:
        reason = "the device's memory is too small for this frame: predict it with --device cpu"
    except _FRAME_ERRORS as error:
        reason = f"the model fails on it: {_one_line(error)}"
    if len(batch) == 1:
        return [reason]
    # Here and not above, where the error still holds the memory of the batch.
    middle = len(batch) // 2
    return _outputs(predictor, batch[:middle]) + _outputs(predictor, batch[middle:])


def _smoothed(item: _InFlight, output: ModelOutput) -> _InFlight:
    item.output, smoother = output, item.job.smoother
    if smoother is None:
        return item
    # Values that are not finite would stay in the average for ever; `finish` refuses the frame.
    if torch.isfinite(output.logits).all():
        logits = smoother.update(output.logits.numpy(), item.job.time_s)
        item.output = replace(output, logits=torch.from_numpy(logits))
    if item.job.keep_state:
        item.state = smoother.state()
    return item


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
