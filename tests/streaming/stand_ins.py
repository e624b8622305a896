"""A clock, a camera and a model that stand in for the real ones."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import numpy as np

from liver_landmark.inference.predictor import FramePrediction
from liver_landmark.model.landmarks_liver_landmark import DEFAULT_LANDMARKS
from liver_landmark.streaming import SourceAddress
from liver_landmark.streaming.capture import Picture

CAMERA = SourceAddress("camera", "0", "camera 0")


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self, now: float = 100.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class Source:
    """A camera that gives gray pictures at a steady pace: the gray is the picture's number."""

    def __init__(
        self, per_s: float = 100.0, count: int | None = None, size: tuple[int, int] = (12, 16)
    ) -> None:
        self.per_s, self.count, self.size = per_s, count, size
        self.opened = 0

    def __call__(self, address, options, stop: threading.Event) -> Iterator[Picture]:
        self.opened += 1
        start = time.monotonic()
        number = 0
        while self.count is None or number < self.count:
            if stop.wait(max(0.0, start + number / self.per_s - time.monotonic())):
                return
            number += 1
            yield Picture(None, lambda gray=number % 256: np.full((*self.size, 3), gray, np.uint8))


class StandInModel:
    """Marks the left half of each frame as ridge, after so many seconds; remembers what it saw."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds
        self.seen: list[int] = []
        self.ages: list[float] = []

    def __call__(self, pixels: np.ndarray, time_s: float) -> FramePrediction:
        self.ages.append(time.monotonic() - time_s)
        self.seen.append(int(pixels[0, 0, 0]))
        time.sleep(self.seconds)
        mask = np.zeros(pixels.shape[:2], np.uint8)
        mask[:, : mask.shape[1] // 2] = 1
        return FramePrediction(
            mask=mask,
            scores=dict.fromkeys(DEFAULT_LANDMARKS.names, 0.0),
            presence={"ridge": 0.9, "silhouette": 0.25, "ligament": 0.0},
            present=("ridge",),
            calibrated=True,
            logits=np.zeros((4, 2, 2), np.float32),
        )


def wait_for(condition, seconds: float = 10.0) -> None:
    """Until a condition holds; fails where it does not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.005)
