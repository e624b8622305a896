"""Frames in, masks at native size out: the model behind one call."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ..model import LiverLandmarkForSemanticSegmentation, LiverLandmarkImageProcessor
from ..model.class_map_liver_landmark import class_map, landmark_scores
from ..model.landmarks_liver_landmark import LANDMARK_NAMES, LANDMARKS
from ..model.presence_liver_landmark import absent_suppressed
from .loading import ModelLoadError, load_model_and_processor, model_revision
from .prediction import FramePrediction
from .views import AveragedViews, averaged_forward

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
    in a thread of its own (`flow.py`).
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
            compile: `torch.compile` the forward pass: minutes at the first batch, faster afterwards.
            revision: What tells the weights from others, for records.
        """
        if dtype not in (torch.float32, torch.bfloat16, torch.float16):
            raise ValueError(f"dtype must be float32, bfloat16 or float16, got {dtype}")
        self.model = model
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
            # Another batch size would be compiled anew, for minutes: the last, smaller one is filled up.
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
        calibration = self.model.config.presence_calibration
        logits, presence, judged = absent_suppressed(output.logits[None], calibration)
        segmentation = class_map(logits[0], frame.size)
        mask = segmentation.numpy()
        found = judged[0].tolist()
        if calibration is None:
            found = [bool((mask == landmark.id).any()) for landmark in LANDMARKS]
        scores = landmark_scores(logits[0], segmentation)
        postprocess = (time.perf_counter() - start) * 1e3
        return FramePrediction(
            mask=mask,
            scores={name: float(scores[name]) for name in LANDMARK_NAMES},
            presence=dict(zip(LANDMARK_NAMES, presence[0].tolist(), strict=True)),
            present=tuple(name for name, shown in zip(LANDMARK_NAMES, found, strict=True) if shown),
            calibrated=calibration is not None,
            logits=output.logits.numpy(),
            variance=None if output.variance is None else output.variance.numpy(),
            milliseconds={
                "preprocess": frame.milliseconds,
                "forward": output.milliseconds,
                "postprocess": postprocess,
            },
        )


def _upright_size(frame: Frame) -> tuple[int, int]:
    """(height, width) after the EXIF orientation, which the processor applies to PIL images."""
    if isinstance(frame, np.ndarray):
        return frame.shape[0], frame.shape[1]
    # Orientations 5 to 8 lay the frame on its side.
    swapped = frame.getexif().get(0x0112, 1) in (5, 6, 7, 8)
    return (frame.width, frame.height) if swapped else (frame.height, frame.width)
