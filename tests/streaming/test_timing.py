"""Counts, rates and latencies by a clock that the test moves."""

from __future__ import annotations

import numpy as np
import pytest

from liver_landmark.streaming.session import FrameTimes

from .stand_ins import Clock


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
    assert times.shown(1)
    clock.now += 5
    assert not times.shown(1)
    assert times.summary()["latency_ms"] == {"median": 50.0, "p95": 50.0, "max": 50.0}
    assert times.summary()["shown"] == 1


def test_a_second_page_does_not_make_a_frame_look_sent_later():
    clock = Clock()
    times = FrameTimes(clock)
    times.processed(1, times.captured(), clock.now)
    times.sent(1)
    clock.now += 0.2
    times.sent(1)
    times.shown(1)
    assert times.summary()["stages_ms"]["show"] == 200.0


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


def test_frames_that_no_page_shows_are_forgotten():
    clock = Clock()
    times = FrameTimes(clock)
    for number in range(1000):
        times.processed(number, times.captured(), clock.now)
        times.sent(number)
    assert not times.shown(0)
    assert times.shown(999)
