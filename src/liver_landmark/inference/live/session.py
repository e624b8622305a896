"""A live session: one thread captures, one runs the model, and the newest result waits for whoever asks.

Nowhere is there a queue: a frame that the model had no time for is replaced by the next, and so is a result
that no page asked for. What lies between capture and display is one frame's way, however slow the model is.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, Protocol

import numpy as np

from ..prediction import FramePrediction
from .address import SourceAddress, SourceError
from .capture import CaptureOptions, Picture, pictures
from .newest import Newest
from .result import Result
from .timing import FrameTimes

_FIRST_RETRY_S, _LONGEST_RETRY_S = 0.5, 8.0


class Model(Protocol):
    """What a session asks of a model; `LiveModel` is one."""

    def __call__(self, pixels: np.ndarray, time_s: float) -> FramePrediction:
        """Predicts one (H, W, 3) uint8 RGB frame, captured at this moment."""


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

        Returns earlier, with what there is, where the session's state is another than `state`.
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
                "message": self._message,
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
            prediction = self._model(pixels, frame.moment)
            ready_s = self.times.processed(frame.number, frame.moment, taken)
            with self._changed:
                self._result = Result(frame.number, pixels, prediction, ready_s)
                self._changed.notify_all()
