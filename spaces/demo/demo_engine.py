"""The model behind the demo: loaded once, one forward pass at a time, on ZeroGPU where the Space has it."""

from __future__ import annotations

import importlib.util
import os
import threading
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any, TypeVar

import numpy as np

from liver_landmark.inference.prediction import FramePrediction
from liver_landmark.inference.predictor import LandmarkPredictor, ModelOutput, PreparedFrame
from liver_landmark.inference.views import AveragedViews

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
    """A predictor for everybody: plain, or averaged with the mirrored view."""

    def __init__(self, predictor: LandmarkPredictor) -> None:
        """Takes the plain predictor; the careful one shares its weights."""
        self._plain = predictor
        self._careful = LandmarkPredictor(
            predictor.model, predictor.processor, predictor.dtype, views=AveragedViews(flip=True)
        )
        self._lock = threading.Lock()
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
    def batch_size(self) -> int:
        """Frames of a video in one forward pass."""
        return self._batch_size

    def predictor(self, careful: bool) -> LandmarkPredictor:
        """What prepares frames and finishes outputs."""
        return self._careful if careful else self._plain

    def forward(self, prepared: Sequence[PreparedFrame], careful: bool) -> list[ModelOutput]:
        """The forward pass; a video's and a frame's take turns."""
        with self._lock:
            return self._forward(prepared, careful)

    def predict(self, frame: np.ndarray, careful: bool) -> FramePrediction:
        """One frame's prediction."""
        predictor = self.predictor(careful)
        prepared = predictor.prepare(frame)
        [output] = self.forward([prepared], careful)
        return predictor.finish(prepared, output)

    def _forward_of(self, prepared: Sequence[PreparedFrame], careful: bool) -> list[ModelOutput]:
        return self.predictor(careful).forward(prepared)
