"""The model of a live session: a predictor, and smoothing over time where it is asked for."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from ..prediction import FramePrediction
from ..predictor import LandmarkPredictor
from ..smoothing import CausalSmoother


class LiveModel:
    """Predicts the frames of one source in the order of their capture."""

    def __init__(self, predictor: LandmarkPredictor, smoother: CausalSmoother | None = None) -> None:
        """Takes a predictor, and a smoother that is nobody else's; None smooths nothing."""
        self._predictor, self._smoother = predictor, smoother

    def __call__(self, pixels: np.ndarray, time_s: float) -> FramePrediction:
        """Predicts one (H, W, 3) uint8 RGB frame, captured at this moment.

        Raises:
            ValueError: a frame that the processor refuses, or logits that are not finite.
        """
        prepared = self._predictor.prepare(pixels)
        (output,) = self._predictor.forward([prepared])
        if self._smoother is not None:
            smoothed = self._smoother.update(output.logits.numpy(), time_s)
            output = replace(output, logits=torch.from_numpy(smoothed))
        return self._predictor.finish(prepared, output)
