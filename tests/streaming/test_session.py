"""Newest wins, whatever the model's speed; latencies; sources that end, break and come back."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from liver_landmark.streaming import CaptureOptions, LiveOptions, SourceAddress, SourceError
from liver_landmark.streaming.capture import Picture
from liver_landmark.streaming.session import FrameTimes, Newest

from .stand_ins import CAMERA, Clock, Source, StandInModel, wait_for


@given(st.lists(st.sampled_from(["put", "take"]), max_size=30))
def test_what_is_taken_is_the_last_that_was_put(steps):
    newest, waiting, number = Newest(), [], 0
    for step in steps:
        if step == "put":
            number += 1
            assert newest.put(number) == bool(waiting)
            waiting.append(number)
        elif waiting:
            assert newest.take() == waiting[-1]
            waiting.clear()
    newest.close()
    assert newest.take() == (waiting[-1] if waiting else None)
    assert newest.take() is None


def one_frame(times: FrameTimes, clock: Clock, number: int, steps: tuple[float, float, float, float]) -> None:
    captured = times.captured()
    clock.now += steps[0]
    taken = clock.now
    clock.now += steps[1]
    times.processed(number, captured, taken)
    clock.now += steps[2]
    times.sent(number)
    clock.now += steps[3]
    assert times.shown(number)


def test_latency_is_from_capture_to_the_pages_word():
    clock = Clock()
    times = FrameTimes(clock)
    rng = np.random.default_rng(0)
    steps = rng.uniform(0.001, 0.1, (250, 4))
    for number, row in enumerate(steps, start=1):
        one_frame(times, clock, number, tuple(row))
    totals = steps.sum(axis=1) * 1e3
    recent = times.recent()["latency_ms"]
    assert recent["median"] == pytest.approx(np.median(totals[-100:]), abs=0.06)
    assert recent["p95"] == pytest.approx(np.quantile(totals[-100:], 0.95), abs=0.06)
    summary = times.summary()
    assert summary["latency_ms"]["median"] == pytest.approx(np.median(totals), abs=0.06)
    assert summary["latency_ms"]["max"] == pytest.approx(totals.max(), abs=0.06)
    for name, column in zip(("wait", "model", "send", "show"), steps.T, strict=True):
        assert summary["stages_ms"][name] == pytest.approx(np.median(column) * 1e3, abs=0.06)
    assert summary["seconds"] == pytest.approx(steps.sum(), abs=0.001)
    assert (summary["captured"], summary["processed"], summary["shown"]) == (250, 250, 250)


def test_only_the_first_word_for_a_frame_that_was_sent_counts():
    clock = Clock()
    times = FrameTimes(clock)
    times.processed(1, times.captured(), clock.now)
    assert not times.shown(1)  # never sent
    assert not times.shown(2)  # never there
    times.sent(1)
    clock.now += 0.05
    times.sent(1)  # by a second page, which does not make it look sent later
    assert times.shown(1)
    clock.now += 5
    assert not times.shown(1)
    summary = times.summary()
    assert summary["latency_ms"] == {"median": 50.0, "p95": 50.0, "max": 50.0}
    assert (summary["stages_ms"]["show"], summary["shown"]) == (50.0, 1)
    # Frames that no page shows are forgotten.
    for number in range(2, 1000):
        times.processed(number, times.captured(), clock.now)
        times.sent(number)
    assert not times.shown(2)
    assert times.shown(999)


def test_rates_are_of_the_last_seconds_and_fall_to_nothing():
    clock = Clock()
    times = FrameTimes(clock)
    for _ in range(200):
        times.captured()
        clock.now += 0.04
    assert times.recent()["captured_per_s"] == 25.0
    for _ in range(100):
        times.captured()
        clock.now += 0.1
    assert times.recent()["captured_per_s"] == 10.0
    clock.now += 10
    assert times.recent()["captured_per_s"] == 0.0


def test_nothing_measured_is_none_and_the_end_is_the_end():
    clock = Clock()
    times = FrameTimes(clock)
    clock.now += 60  # a model that loads
    times.captured()
    times.dropped()
    clock.now += 2
    times.ended()
    clock.now += 60
    summary = times.summary()
    assert summary["latency_ms"] is None
    assert summary["stages_ms"] is None
    assert (summary["seconds"], summary["captured_per_s"], summary["dropped"]) == (2.0, 0.5, 1)
    assert FrameTimes(clock).summary()["captured_per_s"] == 0.0


FILE = SourceAddress("file", "op.mp4", "op.mp4")


def test_a_slow_model_gets_the_newest_frame_and_is_never_behind(start_session):
    model = StandInModel(seconds=0.05)
    session = start_session(Source(per_s=100, count=150), model, address=FILE)
    assert session.finished.wait(10)
    summary = session.times.summary()
    assert summary["captured"] == 150
    assert summary["processed"] == len(model.seen)
    assert summary["dropped"] == 150 - len(model.seen)
    assert 10 <= len(model.seen) <= 32  # 1.5 s at 20 a second
    assert model.seen == sorted(set(model.seen))
    assert model.seen[-1] == 150
    # A frame waits for the next one at most, on a machine that may do other things; it does not wait longer
    # in the end than in the beginning, as in a queue.
    assert np.median(model.ages) < 0.02
    assert np.median(model.ages[-8:]) < 0.02


def test_results_are_those_of_their_frame(start_session):
    session = start_session(Source(per_s=200))
    number = 0
    for _ in range(20):
        result = session.wait_newer(number, 0, 5)
        assert result.number > number
        assert (result.pixels == result.number % 256).all()
        number = result.number


def test_without_news_the_answer_is_none_in_time(start_session):
    session = start_session(Source(per_s=0.1))
    assert session.wait_newer(0, 0, 5).number == 1
    start = time.monotonic()
    assert session.wait_newer(1, 0, 0.1) is None
    assert 0.1 <= time.monotonic() - start < 2
    # Another state than the caller knows is news without a picture.
    assert session.wait_newer(1, 7, 60) is None
    assert time.monotonic() - start < 10


def test_pause_holds_the_result_and_goes_on_with_the_newest(start_session):
    model = StandInModel()
    session = start_session(Source(per_s=200), model)
    session.wait_newer(0, 0, 5)
    session.pause(True)
    assert session.status()["paused"]
    state = session.status()["state"]
    session.pause(True)
    assert session.status()["state"] == state
    time.sleep(0.1)
    held = session.wait_newer(0, state, 5).number
    seen = len(model.seen)
    time.sleep(0.2)
    assert len(model.seen) == seen
    captured = session.times.summary()["captured"]
    assert captured > held + 10
    session.pause(False)
    assert session.wait_newer(held, state + 1, 5).number >= captured


def test_a_source_that_cannot_be_opened_or_holds_nothing(make_session):
    def broken(address, options, stop):
        raise SourceError("camera 0: no such camera")
        yield

    with pytest.raises(SourceError, match="no such camera"):
        make_session(broken).start()
    with pytest.raises(SourceError, match="camera 0: holds no pictures"):
        make_session(Source(count=0)).start()


class Flaky(Source):
    """Breaks after each three pictures, and cannot be opened again for a while."""

    def __init__(self, refusals: int) -> None:
        super().__init__(per_s=100)
        self.refusals = refusals
        self.left = 0

    def __call__(self, address, options, stop):
        self.opened += 1
        if self.left > 0:
            self.left -= 1
            raise SourceError("camera 0: unplugged")
        self.left = self.refusals
        for number in range(3):
            yield Picture(None, lambda gray=number: np.full((4, 4, 3), gray, np.uint8))
        raise SourceError("camera 0: gives no more pictures")


def test_a_source_is_opened_beside_the_thread_that_hears_ctrl_c(make_session):
    threads = []

    def source(*arguments):
        threads.append(threading.current_thread())
        return Source()(*arguments)

    make_session(source).start()
    assert threads
    assert threads[0] is not threading.main_thread()


def test_a_stream_that_breaks_is_opened_again_and_the_page_hears_of_it(start_session, monkeypatch):
    monkeypatch.setattr("liver_landmark.streaming.session._FIRST_RETRY_S", 0.02)
    source = Flaky(refusals=2)
    session = start_session(source, reconnect_s=5)
    messages = set()

    def reopened():
        messages.add(session.status()["message"])
        return source.opened >= 7

    wait_for(reopened)
    assert not session.finished.is_set()
    assert "camera 0: gives no more pictures. Trying again …" in messages
    assert "camera 0: unplugged. Trying again …" in messages


@pytest.mark.parametrize(
    ("reconnect_s", "address", "opened", "error"),
    [
        (0.0, CAMERA, 1, "camera 0: gives no more pictures"),
        (0.3, CAMERA, 2, "camera 0: unplugged"),
        # A file that breaks is not tried again.
        (0.3, FILE, 1, "camera 0: gives no more pictures"),
    ],
)
def test_a_stream_that_stays_away_ends_the_session(start_session, reconnect_s, address, opened, error):
    source = Flaky(refusals=1000)
    start = time.monotonic()
    session = start_session(source, address=address, reconnect_s=reconnect_s)
    assert session.finished.wait(5)
    assert address is FILE or time.monotonic() - start >= reconnect_s
    assert (source.opened, session.error) == (opened, error)
    assert session.status()["over"]


def test_a_stream_that_comes_back_empty_ends_the_session(start_session, monkeypatch):
    monkeypatch.setattr("liver_landmark.streaming.session._FIRST_RETRY_S", 0.02)
    opened = []

    def source(address, options, stop):
        opened.append(1)
        if len(opened) == 1:
            yield Picture(None, lambda: np.zeros((4, 4, 3), np.uint8))
            raise SourceError("camera 0: gives no more pictures")

    session = start_session(source, reconnect_s=0.2)
    assert session.finished.wait(5)
    assert session.error == "camera 0: holds no pictures any more"


@pytest.mark.parametrize("defect", [False, True])
def test_a_model_that_fails_ends_the_session_with_its_reason(start_session, monkeypatch, defect):
    hooked = []
    monkeypatch.setattr(threading, "excepthook", hooked.append)

    def model(pixels, time_s):
        raise KeyError("bug") if defect else RuntimeError("out of\nmemory")

    session = start_session(Source(), model)
    assert session.finished.wait(5)
    if defect:
        assert "defect" in session.error
        wait_for(lambda: hooked)
        assert hooked[0].exc_type is KeyError
    else:
        assert session.error == "out of memory"
        assert session.status()["message"] == "out of memory. The program has stopped."


def test_a_frame_that_the_model_refuses_is_left_out_and_said(start_session):
    class Refuses(StandInModel):
        def __call__(self, pixels, time_s):
            if 20 <= pixels[0, 0, 0] < 60:
                raise ValueError("logits: not all\nvalues are finite")
            return super().__call__(pixels, time_s)

    session = start_session(Source(per_s=100), Refuses())
    said = "A frame is left out: logits: not all values are finite."
    wait_for(lambda: session.status()["message"] == said)
    wait_for(lambda: session.status()["message"] == "")
    assert session.wait_newer(59, 0, 5).number >= 60
    assert session.error is None


def test_stop_ends_both_threads_even_when_paused(start_session):
    session = start_session(Source())
    session.pause(True)
    session.stop()
    assert not any(thread.is_alive() for thread in session._threads)
    assert session.error is None
    assert session.status()["message"] == "The program was stopped."


def test_options_are_checked():
    for seconds in (-1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="reconnect_s"):
            LiveOptions(CaptureOptions(), seconds)
