"""Frames in, masks at native size out: the model behind one call."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError
from transformers import AutoImageProcessor, AutoModel, PretrainedConfig

from ..model import LiverLandmarkConfig, LiverLandmarkForSemanticSegmentation, LiverLandmarkImageProcessor
from ..model.landmarks_liver_landmark import LANDMARKS

Frame = np.ndarray | Image.Image


class ModelLoadError(ValueError):
    """A model that cannot be loaded; the message is one line that names it and the reason."""


@dataclass(frozen=True)
class FramePrediction:
    """What the model sees in one frame.

    Attributes:
        mask: (H, W) uint8 class ids at the frame's own size.
        scores: Landmark name -> mean probability over the pixels that it was given, 0.0 where it was
            given none (`LiverLandmarkImageProcessor.post_process_semantic_segmentation`).
        milliseconds: Stage (preprocess, forward, postprocess) -> wall time, the batch's divided by its
            frames.
    """

    mask: np.ndarray
    scores: dict[str, float]
    milliseconds: dict[str, float] = field(default_factory=dict)

    @property
    def pixel_counts(self) -> dict[str, int]:
        """Landmark name -> its pixels."""
        counts = np.bincount(self.mask.ravel(), minlength=256)
        return {landmark.name: int(counts[landmark.id]) for landmark in LANDMARKS}

    @property
    def present(self) -> tuple[str, ...]:
        """Names of the landmarks that were found."""
        return tuple(name for name, pixels in self.pixel_counts.items() if pixels > 0)


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


class LandmarkPredictor:
    """Predicts landmarks from Python; `liver-landmark predict` is this with files around it.

    >>> predictor = LandmarkPredictor.from_pretrained("outputs/quickstart/best")  # doctest: +SKIP
    >>> predictor.predict([Image.open("frame.jpg")])[0].present  # doctest: +SKIP
    ('ridge', 'silhouette')
    """

    def __init__(
        self,
        model: LiverLandmarkForSemanticSegmentation,
        processor: LiverLandmarkImageProcessor,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """Takes a float32 model in evaluation mode, where it lies, and the processor it was trained with.

        `dtype` bfloat16 or float16 runs the forward pass under autocast: the weights stay float32.
        """
        if dtype not in (torch.float32, torch.bfloat16, torch.float16):
            raise ValueError(f"dtype must be float32, bfloat16 or float16, got {dtype}")
        self.model = model
        self.processor = processor
        self.dtype = dtype

    @classmethod
    def from_pretrained(
        cls,
        model_id: str | Path,
        *,
        device: str | torch.device | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> LandmarkPredictor:
        """The predictor of a saved model; arguments and errors are `load_model_and_processor`'s."""
        return cls(*load_model_and_processor(model_id, device=device), dtype)

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
            predictions += self._predict_batch(frames[start : start + batch_size])
        return predictions

    def _predict_batch(self, frames: Sequence[Frame]) -> list[FramePrediction]:
        milliseconds: dict[str, float] = {}
        with self._timed("preprocess", milliseconds):
            inputs = self.processor(images=list(frames), return_tensors="pt")
            pixel_values = inputs["pixel_values"].to(self.device)
        with torch.inference_mode():
            autocast = torch.autocast(self.device.type, dtype=self.dtype, enabled=self.dtype != torch.float32)
            with self._timed("forward", milliseconds), autocast:
                outputs = self.model(pixel_values=pixel_values)
            with self._timed("postprocess", milliseconds):
                results = self.processor.post_process_semantic_segmentation(
                    outputs, target_sizes=[_upright_size(frame) for frame in frames], return_scores=True
                )
                masks = [result["segmentation"].to(torch.uint8).cpu().numpy() for result in results]
        per_frame = {stage: total / len(frames) for stage, total in milliseconds.items()}
        return [
            FramePrediction(mask, _landmark_scores(result["scores"]), dict(per_frame))
            for mask, result in zip(masks, results, strict=True)
        ]

    @contextmanager
    def _timed(self, stage: str, milliseconds: dict[str, float]) -> Iterator[None]:
        start = time.perf_counter()
        yield
        # An accelerator returns before it is done.
        if self.device.type != "cpu":
            torch.accelerator.synchronize(self.device)
        milliseconds[stage] = (time.perf_counter() - start) * 1e3


def _landmark_scores(scores: dict[str, Any]) -> dict[str, float]:
    return {landmark.name: float(scores[landmark.name]) for landmark in LANDMARKS}


def _upright_size(frame: Frame) -> tuple[int, int]:
    """(height, width) after the EXIF orientation, which the processor applies to PIL images."""
    if isinstance(frame, np.ndarray):
        return frame.shape[0], frame.shape[1]
    # Orientations 5 to 8 lay the frame on its side.
    swapped = frame.getexif().get(0x0112, 1) in (5, 6, 7, 8)
    return (frame.width, frame.height) if swapped else (frame.height, frame.width)
