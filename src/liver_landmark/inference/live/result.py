"""What the model saw in one frame of a live source, for pages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ...model.landmarks_liver_landmark import LANDMARK_NAMES
from ..prediction import FramePrediction


@dataclass(frozen=True)
class Result:
    """A frame with what the model saw in it.

    Attributes:
        number: Of the frame, counted from 1 in the order of capture; dropped frames have numbers too.
        pixels: (H, W, 3) uint8 RGB.
        prediction: Of this frame.
        ready_s: The moment of the prediction, by the clock of the session's `times`.
    """

    number: int
    pixels: np.ndarray
    prediction: FramePrediction
    ready_s: float


def landmarks_of(prediction: FramePrediction) -> dict[str, Any]:
    """What a page says of a prediction, ready for JSON."""
    return {
        "landmarks": {
            name: {"present": name in prediction.present, "probability": round(prediction.presence[name], 3)}
            for name in LANDMARK_NAMES
        },
        "calibrated": prediction.calibrated,
        "height": prediction.mask.shape[0],
        "width": prediction.mask.shape[1],
    }
