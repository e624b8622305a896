"""The model behind the demo: loaded once, run in a thread of its own, on ZeroGPU where the Space has it."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from types import ModuleType
from typing import Any, TypeVar

import numpy as np

from liver_landmark.inference.predictor import FramePrediction, LandmarkPredictor, ModelOutput, PreparedFrame
from liver_landmark.inference.views import AveragedViews
from liver_landmark.model.landmarks_liver_landmark import LandmarkTable

_Function = TypeVar("_Function", bound=Callable[..., Any])


def gpu(function: _Function) -> _Function:
    """`spaces.GPU` on a Space with ZeroGPU; anywhere else the function as it is."""
    package = _zerogpu()
    return function if package is None else package.GPU(function)


def _zerogpu() -> ModuleType | None:
    # In this project's checkout `import spaces` finds the folder that this file lies in.
    if importlib.util.find_spec("spaces") is None:
        return None
    import spaces

    return spaces if hasattr(spaces, "GPU") else None


class Engine:
    """A predictor for everybody: plain, or averaged with the mirrored view.

    All of the model's work happens in one thread. Gradio hands its calls to whichever of its threads is idle,
    and in each that a model has once run in, torch keeps scratch memory and a pool of threads: the server
    would grow with the number of threads that have had a turn.
    """

    def __init__(self, predictor: LandmarkPredictor) -> None:
        """Takes the plain predictor; the careful one shares its weights."""
        self._plain = predictor
        self._careful = LandmarkPredictor(
            predictor.model, predictor.processor, predictor.dtype, views=AveragedViews(flip=True)
        )
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="model")
        self._forward = gpu(self._forward_of)
        # Asked now: on ZeroGPU the stand-in is there in this thread alone.
        self._batch_size = 1 if predictor.device.type == "cpu" else 8

    @classmethod
    def from_pretrained(cls, model: str) -> Engine:
        """The engine of a Hub id or a folder; a ModelLoadError in one line if there is none."""
        # Imported, it puts a stand-in in place of CUDA, which the model is moved to.
        _zerogpu()
        predictor = LandmarkPredictor.from_pretrained(model)
        if os.environ.get("SPACES_ZERO_GPU"):
            # Outside of `spaces.GPU` there is no device to find, but models are to be moved there.
            predictor.model.to("cuda")
        return cls(predictor)

    @property
    def landmarks(self) -> LandmarkTable:
        """What the model finds."""
        return self._plain.landmarks

    @property
    def batch_size(self) -> int:
        """Frames of a video in one forward pass."""
        return self._batch_size

    def predict(self, frame: np.ndarray, careful: bool) -> FramePrediction:
        """One frame's prediction; (H, W, 3) uint8 RGB."""
        [prediction] = self.predict_batch([frame], careful)
        return prediction

    def predict_batch(
        self,
        frames: Sequence[np.ndarray],
        careful: bool,
        change: Callable[[list[ModelOutput]], list[ModelOutput]] | None = None,
    ) -> list[FramePrediction]:
        """Predictions of some frames; those of a video and of other people's frames take turns.

        Args:
            frames: Each (H, W, 3) uint8 RGB.
            careful: Average each with its mirrored view.
            change: What is done to the model's outputs before masks are made of them.
        """
        # ZeroGPU finds the user whose time it is in the context.
        context = copy_context()
        return self._thread.submit(context.run, self._predict, frames, careful, change).result()

    def _predict(
        self,
        frames: Sequence[np.ndarray],
        careful: bool,
        change: Callable[[list[ModelOutput]], list[ModelOutput]] | None,
    ) -> list[FramePrediction]:
        predictor = self._predictor(careful)
        prepared = [predictor.prepare(frame) for frame in frames]
        outputs = self._forward(prepared, careful)
        if change is not None:
            outputs = change(outputs)
        return [predictor.finish(*pair) for pair in zip(prepared, outputs, strict=True)]

    def _forward_of(self, prepared: Sequence[PreparedFrame], careful: bool) -> list[ModelOutput]:
        return self._predictor(careful).forward(prepared)

    def _predictor(self, careful: bool) -> LandmarkPredictor:
        return self._careful if careful else self._plain
