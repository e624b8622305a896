"""How old a frame is when it is seen: from the capture to the page's word that it shows it.

The latency of a frame runs from the moment its picture is in this program's hands, decoded, to the moment
at which this program hears from the page that the picture has been drawn on the screen. It includes waiting
for the model, the model, drawing, JPEG, the way to the page, decoding, the browser's next two refreshes, and
the way of the page's word back: an upper bound of what lies between. It leaves out what happens before the
picture is there (camera, capture card, encoder, network, decoding) and the screen's own delay.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise
from typing import Any

import numpy as np

# What the page sees is the last seconds, what the summary sees the last hour or more.
_RECENT_FRAMES, _RECENT_S, _KEPT_FRAMES = 100, 3.0, 10**5
# Frames that wait for a page's word.
_WAITING_FRAMES = 256
_STAGES = ("wait", "model", "send", "show")


class Rate:
    """Events a second, over the last seconds."""

    def __init__(self) -> None:
        self.count = 0
        self._times: deque[float] = deque(maxlen=_RECENT_FRAMES)

    def add(self, now: float) -> None:
        """Counts one event."""
        self.count += 1
        self._times.append(now)

    def per_second(self, now: float) -> float:
        """0 where fewer than two fell into the last seconds."""
        recent = [moment for moment in self._times if now - moment <= _RECENT_S]
        return (
            (len(recent) - 1) / (recent[-1] - recent[0])
            if len(recent) > 1 and recent[-1] > recent[0]
            else 0.0
        )


@dataclass
class _Moments:
    captured: float
    taken: float
    ready: float
    sent: float | None = None


class FrameTimes:
    """Counts frames and measures their latency; every method may be called from any thread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` gives seconds that never go back."""
        self.clock = clock
        self._lock = threading.Lock()
        self._first_s: float | None = None
        self._ended_s: float | None = None
        self._captured, self._processed, self._shown = Rate(), Rate(), Rate()
        self._dropped = 0
        self._waiting: OrderedDict[int, _Moments] = OrderedDict()
        self._latencies: deque[float] = deque(maxlen=_KEPT_FRAMES)
        self._stages: deque[tuple[float, ...]] = deque(maxlen=_KEPT_FRAMES)

    def captured(self) -> float:
        """A frame was captured: the moment, for `processed`."""
        now = self.clock()
        with self._lock:
            self._captured.add(now)
            if self._first_s is None:
                self._first_s = now
        return now

    def dropped(self) -> None:
        """A frame was replaced by a newer one before the model was free."""
        with self._lock:
            self._dropped += 1

    def processed(self, number: int, captured: float, taken: float) -> float:
        """The model is done with frame `number`, captured and taken by it at these moments: when it was."""
        now = self.clock()
        with self._lock:
            self._processed.add(now)
            self._waiting[number] = _Moments(captured, taken, now)
            if len(self._waiting) > _WAITING_FRAMES:
                self._waiting.popitem(last=False)
        return now

    def sent(self, number: int) -> None:
        """The frame's picture goes out to a page; the first time counts."""
        now = self.clock()
        with self._lock:
            moments = self._waiting.get(number)
            if moments is not None and moments.sent is None:
                moments.sent = now

    def shown(self, number: int) -> bool:
        """A page says that it shows the frame; False where it was not sent, or said before."""
        now = self.clock()
        with self._lock:
            moments = self._waiting.get(number)
            if moments is None or moments.sent is None:
                return False
            del self._waiting[number]
            self._shown.add(now)
            self._latencies.append(now - moments.captured)
            steps = (moments.captured, moments.taken, moments.ready, moments.sent, now)
            self._stages.append(tuple(after - before for before, after in pairwise(steps)))
            return True

    def ended(self) -> None:
        """The session is over: its length, for the summary."""
        with self._lock:
            self._ended_s = self.clock()

    def recent(self) -> dict[str, Any]:
        """What the page shows: counts, rates over the last 3 s, latency (ms) of the last 100 shown frames."""
        now = self.clock()
        with self._lock:
            rates = {"captured": self._captured, "processed": self._processed, "shown": self._shown}
            latencies = list(islice(reversed(self._latencies), _RECENT_FRAMES))
            return {
                **{f"{name}_per_s": round(rate.per_second(now), 1) for name, rate in rates.items()},
                "dropped": self._dropped,
                "latency_ms": _distribution(latencies),
            }

    def summary(self) -> dict[str, Any]:
        """From the first frame to the end, or to now: counts, rates, latency, medians of its stages (ms)."""
        now = self.clock()
        with self._lock:
            end = now if self._ended_s is None else self._ended_s
            seconds = 0.0 if self._first_s is None else end - self._first_s
            counts = {
                "captured": self._captured.count,
                "processed": self._processed.count,
                "shown": self._shown.count,
            }
            stages = np.median(np.array(self._stages), axis=0) * 1e3 if self._stages else None
            return {
                "seconds": round(seconds, 3),
                **counts,
                "dropped": self._dropped,
                **{
                    f"{name}_per_s": round(count / seconds, 2) if seconds else 0.0
                    for name, count in counts.items()
                },
                "latency_ms": _distribution(list(self._latencies)),
                "stages_ms": None
                if stages is None
                else {name: round(float(value), 1) for name, value in zip(_STAGES, stages, strict=True)},
            }


def _distribution(seconds: Sequence[float]) -> dict[str, float] | None:
    """Median, 95th percentile and largest in ms; None of nothing."""
    if not seconds:
        return None
    milliseconds = np.array(seconds) * 1e3
    median, p95 = np.percentile(milliseconds, [50, 95])
    return {
        "median": round(float(median), 1),
        "p95": round(float(p95), 1),
        "max": round(float(milliseconds.max()), 1),
    }
