"""A source's time stamps against the clock: when a frame is due, and how far a stream is behind."""

from __future__ import annotations

import time
from collections.abc import Callable

# What a recording may be late by before it plays on from where it is.
_LATEST_S = 0.5
# A step between two time stamps that is no step of a video: a seek, a restart of the sender.
_LONGEST_STEP_S = 10.0
# A reader that spends this share of its last second waiting has nothing piled up before it. Less may be
# waiting for other threads.
_WINDOW_S, _WAITING_SHARE = 1.0, 0.25


class PlayClock:
    """When frames of a recording are due, so that it plays at its own speed.

    A recording that cannot be decoded as fast as it was filmed plays slower: of lateness, only what is
    short is made up for.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` gives seconds that never go back."""
        self._clock = clock
        self._base_s: float | None = None
        self._last_s = 0.0

    def wait_s(self, time_s: float | None) -> float:
        """Seconds until a frame of this time stamp is due; 0 where it is due already."""
        if time_s is None:
            return 0.0
        now = self._clock()
        step = time_s - self._last_s
        self._last_s = time_s
        late_s = 0.0 if self._base_s is None else now - self._base_s - time_s
        if self._base_s is None or not 0 <= step <= _LONGEST_STEP_S or late_s > _LATEST_S:
            self._base_s = now - time_s
        return max(0.0, self._base_s + time_s - now)


class StreamLag:
    """How far what is decoded lies behind what is sent, as time stamps and waiting tell.

    A reader that is too slow never waits for data: what it has not read yet piles up before it, and its
    frames come later and later after their time stamps. A reader that waits is not behind, whatever the
    time stamps say: those of some cameras run slow.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` gives seconds that never go back."""
        self._clock = clock
        self._least_s: float | None = None
        self._last_s = 0.0
        self._since, self._waited_s = clock(), 0.0

    def waited(self, seconds: float) -> None:
        """The reader has waited so long for the next data."""
        self._waited_s += seconds

    def behind_s(self, time_s: float | None) -> float:
        """Seconds by which a frame of this time stamp comes later than frames did when there was waiting."""
        if time_s is None:
            return 0.0
        now = self._clock()
        offset = now - time_s
        step = time_s - self._last_s
        self._last_s = time_s
        if self._least_s is None or not 0 <= step <= _LONGEST_STEP_S or offset < self._least_s:
            self._least_s = offset
        if now - self._since >= _WINDOW_S:
            if self._waited_s >= _WAITING_SHARE * (now - self._since):
                self._least_s = offset
            self._since, self._waited_s = now, 0.0
        return offset - self._least_s
