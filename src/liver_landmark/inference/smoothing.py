"""Causal smoothing over time: calmer masks in video, at the price of a delay that is stated."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

# After so many time constants less than 1 % of the past is left: smoothing starts over.
_GAP_TIME_CONSTANTS = 5.0


class CausalSmoother:
    """Exponential average of class probabilities in time, of one video.

    Of the frame at time t and those before it, the average m is, for time constant τ,

        m(t) = m(t') + (1 - exp(-(t - t') / τ)) · (p(t) - m(t')),    t' the time of the frame before,

    so a change of the picture has come through to the share 1 - exp(-T / τ) after the time T, whatever the
    frame rate and however irregular the frames. The average starts with the first frame. It starts over
    where the size or the number of classes changes, where time does not go forward, and after a gap of more
    than 5 τ.

    No frame waits for a later one: the delay is that of the content. In frames of a constant interval d the
    k-th last frame has the weight a·(1 - a)^k with a = 1 - exp(-d / τ), hence the mean age

        Σ k·d · a·(1 - a)^k = d · (1 - a) / a = d / (exp(d / τ) - 1),

    which is also the group delay for slow changes. It is below τ at any frame rate, and τ - d/2 nearly where
    d is small.
    """

    def __init__(self, time_constant_s: float) -> None:
        """`time_constant_s` is τ in seconds; 0 leaves every frame as it is."""
        if not (math.isfinite(time_constant_s) and time_constant_s >= 0):
            raise ValueError(f"time_constant_s={time_constant_s!r}: expected seconds, 0 or more")
        self.time_constant_s = float(time_constant_s)
        self._mean: np.ndarray | None = None
        self._time_s = 0.0

    @property
    def delay_s(self) -> float:
        """What the delay is below at any frame rate: τ, in seconds."""
        return self.time_constant_s

    def delay_at(self, frame_interval_s: float) -> float:
        """The delay in seconds for frames of this interval in seconds; see the class."""
        if not (math.isfinite(frame_interval_s) and frame_interval_s > 0):
            raise ValueError(f"frame_interval_s={frame_interval_s!r}: expected seconds, more than 0")
        if frame_interval_s >= 700 * self.time_constant_s:
            return 0.0  # below 1e-300 of the interval, where exp overflows
        return frame_interval_s / math.expm1(frame_interval_s / self.time_constant_s)

    def update(self, logits: np.ndarray, time_s: float) -> np.ndarray:
        """Takes the next frame in, and gives what is smoothed up to it.

        Args:
            logits: (C, h, w) logits or log-probabilities of the frame.
            time_s: Its time in seconds, from any beginning.

        Returns:
            (C, h, w) float32, the logarithm of the averaged probabilities.

        Raises:
            ValueError: logits or a time that are not finite; the frames before stay remembered.
        """
        logits = np.asarray(logits, np.float32)
        if logits.ndim != 3:
            raise ValueError(f"logits: expected (C, h, w), got {logits.shape}")
        if not (np.isfinite(logits).all() and math.isfinite(time_s)):
            raise ValueError("logits and time_s: not all values are finite")
        probabilities = _softmax(logits)
        past, elapsed_s = self._mean, time_s - self._time_s
        if (
            past is not None
            and past.shape == probabilities.shape
            and 0 < elapsed_s <= _GAP_TIME_CONSTANTS * self.time_constant_s
        ):
            share = np.float32(-math.expm1(-elapsed_s / self.time_constant_s))
            probabilities = past + share * (probabilities - past)
        self._mean, self._time_s = probabilities, float(time_s)
        # A probability that is too small for a float32 stays finite as a logarithm.
        return np.log(np.maximum(probabilities, np.finfo(np.float32).tiny))

    def reset(self) -> None:
        """Forgets all frames: the next one starts over."""
        self._mean, self._time_s = None, 0.0

    def state(self) -> dict[str, np.ndarray]:
        """What the next frame needs of those before, empty without any: for `load_state`, bit for bit."""
        if self._mean is None:
            return {}
        return {"probabilities": self._mean.copy(), "time_s": np.array(self._time_s)}

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Goes on where the smoother stood that gave `state`.

        Raises:
            ValueError: arrays that no smoother gives; this one stays as it was.
        """
        if not state:
            self.reset()
            return
        if set(state) != {"probabilities", "time_s"}:
            raise ValueError(
                f"smoother state: expected probabilities and time_s, got {', '.join(sorted(state))}"
            )
        mean, time_s = np.asarray(state["probabilities"]), np.asarray(state["time_s"])
        if mean.ndim != 3 or mean.dtype != np.float32 or not np.all((mean >= 0) & (mean <= 1 + 1e-3)):
            raise ValueError("smoother state: probabilities must be (C, h, w) float32 between 0 and 1")
        if time_s.shape != () or time_s.dtype != np.float64 or not np.isfinite(time_s):
            raise ValueError("smoother state: time_s must be one finite float64")
        self._mean, self._time_s = mean.copy(), float(time_s)


def _softmax(logits: np.ndarray) -> np.ndarray:
    """Over the first axis."""
    exponentials = np.exp(logits - logits.max(axis=0))
    exponentials /= exponentials.sum(axis=0)
    return exponentials


__all__ = ["CausalSmoother"]
