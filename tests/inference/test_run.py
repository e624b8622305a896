"""Prediction over files, apart from the command line."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np

from liver_landmark.inference.run import _predict_each


def test_a_frame_that_fails_takes_no_other_of_its_batch_along() -> None:
    def predict(frames: list[np.ndarray], batch_size: int) -> list[str]:
        assert batch_size == len(frames)
        if any(frame.max() > 200 for frame in frames):
            raise ValueError("not finite")
        return [f"mean {frame.mean():.0f}" for frame in frames]

    frames = [np.full((4, 4, 3), value, np.uint8) for value in (10, 250, 30)]
    first, second, third = _predict_each(SimpleNamespace(predict=predict), frames)
    assert (first, third) == ("mean 10", "mean 30")
    assert isinstance(second, ValueError)
