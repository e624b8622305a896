"""A live session: one thread captures, one runs the model, and the newest result waits for whoever asks.

The latency of a frame runs from the moment its picture is in this program's hands, decoded, to the moment
at which this program hears from the page that the picture has been drawn on the screen. It includes waiting
for the model, the model, drawing, JPEG, the way to the page, decoding, the browser's next two refreshes, and
the way of the page's word back: an upper bound of what lies between. It leaves out what happens before the
picture is there (camera, capture card, encoder, network, decoding) and the screen's own delay.

Nowhere is there a queue: a frame that the model had no time for is replaced by the next, and so is a result
that no page asked for. What lies between capture and display is one frame's way, however slow the model is.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, islice, pairwise
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import torch

from ..inference.predictor import FramePrediction, LandmarkPredictor
from ..inference.smoothing import CausalSmoother
from .capture import CaptureOptions, Picture, SourceAddress, SourceError, pictures


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
            name: {
                "present": name in prediction.present,
                "probability": round(prediction.presence[name], 3),
                "color": "#" + bytes(color).hex(),
            }
            for name, color in prediction.landmarks.colors.items()
        },
        "calibrated": prediction.calibrated,
        "height": prediction.mask.shape[0],
        "width": prediction.mask.shape[1],
    }


T = TypeVar("T")


class Newest(Generic[T]):
    """Holds the newest item only: the reader is never behind by more than the item it works on."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._item: T | None = None
        self._closed = False

    def put(self, item: T) -> bool:
        """Offers an item; True where it replaced one that nobody had taken."""
        with self._changed:
            replaced = self._item is not None
            self._item = item
            self._changed.notify_all()
            return replaced

    def take(self) -> T | None:
        """Waits for an item and takes it; None once closed and empty."""
        with self._changed:
            self._changed.wait_for(lambda: self._item is not None or self._closed)
            item, self._item = self._item, None
            return item

    def close(self) -> None:
        """No more items will come: what is there can still be taken."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()


# How old a frame is when it is seen: from the capture to the page's word that it shows it.

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


# How long a source that broke is left alone before it is opened again: at first, and at most.
_FIRST_RETRY_S, _LONGEST_RETRY_S = 0.5, 8.0


class Model(Protocol):
    """What a session asks of a model; `LiveModel` is one."""

    def __call__(self, pixels: np.ndarray, time_s: float) -> FramePrediction:
        """Predicts one (H, W, 3) uint8 RGB frame, captured at this moment.

        Raises:
            ValueError: this frame cannot be predicted; others can.
            RuntimeError: the model cannot go on.
        """


@dataclass(frozen=True)
class LiveOptions:
    """How a session runs.

    Attributes:
        capture: How the source is read.
        reconnect_s: For how long a camera or a stream that broke is tried again; 0 for not at all.
    """

    capture: CaptureOptions = field(default_factory=CaptureOptions)
    reconnect_s: float = 60.0

    def __post_init__(self) -> None:
        if not 0 <= self.reconnect_s < float("inf"):
            raise ValueError(f"reconnect_s must be 0 or a number of seconds, got {self.reconnect_s}")


@dataclass(frozen=True)
class _Captured:
    number: int
    moment: float
    picture: Picture


class LiveSession:
    """Captures and predicts until the source ends, breaks for good, or `stop` is called."""

    def __init__(
        self,
        address: SourceAddress,
        model: Model,
        options: LiveOptions | None = None,
        *,
        open_source: Callable[..., Iterator[Picture]] = pictures,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Takes a parsed source and a model; `open_source` stands in for `pictures` in tests."""
        self.address, self.options = address, options or LiveOptions()
        self.times = FrameTimes(clock)
        self.finished = threading.Event()
        self.error: str | None = None
        self._model, self._open_source = model, open_source
        self._stop = threading.Event()
        self._frames: Newest[_Captured] = Newest()
        self._changed = threading.Condition()
        self._result: Result | None = None
        self._state = 0
        self._message = ""
        # Why the newest frame that the model took has no result, if it has none.
        self._left_out = ""
        self._paused = False
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Opens the source, up to its first picture, and starts.

        Raises:
            SourceError: it cannot be opened.
        """
        first, source = self._opened()
        for name, target, arguments in (
            ("live-capture", self._capture, (first, source)),
            ("live-model", self._predict, ()),
        ):
            # Daemons: a driver that hangs must not keep the program from ending.
            thread = threading.Thread(target=self._ending, args=(target, *arguments), name=name, daemon=True)
            self._threads.append(thread)
            thread.start()

    def stop(self, timeout_s: float = 2.0) -> None:
        """Ends the session; waits so long for what is under way."""
        self._finish(None, "The program was stopped.")
        for thread in self._threads:
            thread.join(timeout_s)

    def pause(self, paused: bool) -> None:
        """Stops and restarts the model; the newest result stays, capturing goes on and drops its frames."""
        with self._changed:
            if paused != self._paused:
                self._paused = paused
                self._state += 1
                self._changed.notify_all()

    def wait_newer(self, number: int, state: int, timeout_s: float) -> Result | None:
        """The newest result; None where no result is newer than `number` when the time is over.

        Returns at once when the session's state differs from `state`.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._number() > number or self._state != state, timeout_s)
            return self._result if self._number() > number else None

    def status(self) -> dict[str, Any]:
        """What a page shows besides the picture, ready for JSON; `state` changes with any of it but times."""
        with self._changed:
            status = {
                "state": self._state,
                "source": self.address.shown,
                "message": self._message or self._left_out,
                "paused": self._paused,
                "over": self.finished.is_set(),
            }
        return {**status, "times": self.times.recent()}

    def _number(self) -> int:
        return 0 if self._result is None else self._result.number

    def _open(self) -> Iterator[Picture]:
        return self._open_source(self.address, self.options.capture, self._stop)

    def _opened(self) -> tuple[Picture, Iterator[Picture]]:
        """The source with its first picture, opened in a thread: Ctrl-C does not end what waits in FFmpeg."""
        outcome: list[tuple[Picture | None, Iterator[Picture]] | SourceError] = []

        def work() -> None:
            try:
                source = self._open()
                outcome.append((next(source, None), source))
            except SourceError as error:
                outcome.append(error)

        thread = threading.Thread(target=work, name="live-open", daemon=True)
        thread.start()
        thread.join()
        if not outcome:  # the traceback was printed
            raise SourceError(f"{self.address.shown}: a defect of this program kept it from opening")
        if isinstance(outcome[0], SourceError):
            raise outcome[0]
        first, source = outcome[0]
        if first is None:
            raise SourceError(f"{self.address.shown}: holds no pictures")
        return first, source

    def _ending(self, work: Callable[..., None], *arguments: Any) -> None:
        """Runs a thread's work; however it ends, the session does not outlive it unnoticed."""
        # A traceback is for bugs: threading prints it where nothing below expects the error.
        reason: str | None = "a defect of this program ended the session"
        try:
            work(*arguments)
            reason = None
        except (SourceError, ValueError, RuntimeError) as error:
            reason = " ".join(str(error).split()) or type(error).__name__
        finally:
            if reason is not None:
                self._finish(reason)

    def _finish(self, error: str | None, message: str = "The source has ended.") -> None:
        with self._changed:
            if self.finished.is_set():
                return
            self.error = error
            self._message = message if error is None else f"{error}. The program has stopped."
            self.times.ended()
            self.finished.set()
            self._stop.set()
            self._state += 1
            self._changed.notify_all()
        self._frames.close()

    def _say(self, message: str) -> None:
        with self._changed:
            if message != self._message:
                self._message = message
                self._state += 1
                self._changed.notify_all()

    def _leave_out(self, why: str) -> None:
        with self._changed:
            if why != self._left_out:
                self._left_out = why
                self._state += 1
                self._changed.notify_all()

    def _capture(self, first: Picture, source: Iterator[Picture]) -> None:
        number = 0
        while True:
            try:
                for picture in chain([first], source):
                    if self._stop.is_set():
                        return
                    number += 1
                    if self._frames.put(_Captured(number, self.times.captured(), picture)):
                        self.times.dropped()
                    self._say("")
                self._frames.close()
                return
            except SourceError as error:
                reason = error
            reopened = self._reopen(reason)
            if reopened is None:
                return
            first, source = reopened

    def _reopen(self, reason: SourceError) -> tuple[Picture, Iterator[Picture]] | None:
        """The source opened again, with its first picture; None where the session was stopped meanwhile.

        Raises:
            SourceError: a recording, or the time for trying is over.
        """
        broke_at, pause_s = time.monotonic(), _FIRST_RETRY_S
        while True:
            left_s = broke_at + self.options.reconnect_s - time.monotonic()
            if self.address.kind == "file" or left_s <= 0:
                raise reason
            pause_s = min(pause_s, left_s)
            self._say(f"{reason}. Trying again …")
            if self._stop.wait(pause_s):
                return None
            pause_s = min(2 * pause_s, _LONGEST_RETRY_S)
            try:
                source = self._open()
                first = next(source, None)
            except SourceError as error:
                reason = error
                continue
            if first is not None:
                return first, source
            if self._stop.is_set():
                return None
            reason = SourceError(f"{self.address.shown}: holds no pictures any more")

    def _predict(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: not self._paused or self._stop.is_set())
            frame = self._frames.take()
            if frame is None:
                return self._finish(None)
            taken = self.times.clock()
            pixels = frame.picture.pixels()
            try:
                prediction = self._model(pixels, frame.moment)
            except ValueError as error:
                self._leave_out(f"A frame is left out: {' '.join(str(error).split())}.")
                continue
            self._leave_out("")
            ready_s = self.times.processed(frame.number, frame.moment, taken)
            with self._changed:
                self._result = Result(frame.number, pixels, prediction, ready_s)
                self._changed.notify_all()
