"""When frames are due and how far a stream is behind, by hand-made clocks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from liver_landmark.streaming.capture import PlayClock, StreamLag

from .stand_ins import Clock


def test_a_recording_plays_at_its_own_speed():
    clock = Clock()
    play = PlayClock(clock)
    assert play.wait_s(7.0) == 0
    clock.now += 0.01
    assert play.wait_s(7.04) == pytest.approx(0.03)
    # A little late: the frame at once, and the next when it was due all along.
    clock.now += 0.13
    assert play.wait_s(7.08) == 0
    assert play.wait_s(7.16) == pytest.approx(0.02)
    assert play.wait_s(None) == 0


def test_much_too_late_plays_on_from_there_and_so_does_a_start_over():
    clock = Clock()
    play = PlayClock(clock)
    play.wait_s(0.0)
    clock.now += 5
    assert play.wait_s(0.04) == 0
    assert play.wait_s(0.08) == pytest.approx(0.04)
    for jump in (0.0, 3600.0):
        assert play.wait_s(jump) == 0
        assert play.wait_s(jump + 0.04) == pytest.approx(0.04)


@given(st.lists(st.floats(0, 0.3), min_size=1, max_size=50))
def test_frames_never_come_early_nor_slower_than_their_decoding(decoding_s):
    clock = Clock(0.0)
    play = PlayClock(clock)
    play.wait_s(0.0)
    for index, seconds in enumerate(decoding_s, start=1):
        clock.now += seconds
        clock.now += play.wait_s(index * 0.04)
        assert clock.now >= index * 0.04 - 1e-9
        assert clock.now <= sum(decoding_s[:index]) + index * 0.04 + 1e-9


def read_stream(lag, clock, times, seconds, waited):
    """Frames of these time stamps, each after so many seconds, of which so many were waiting."""
    behind = []
    for time_s in times:
        clock.now += seconds
        lag.waited(waited)
        behind.append(lag.behind_s(time_s))
    return behind


def test_a_reader_that_is_too_slow_is_behind_and_catches_up():
    clock = Clock()
    lag = StreamLag(clock)
    in_time = read_stream(lag, clock, np.arange(1, 101) * 0.04, 0.04, 0.03)
    assert max(in_time) < 1e-9
    slow = read_stream(lag, clock, 4.0 + np.arange(1, 101) * 0.04, 0.06, 0.001)
    assert slow[-1] == pytest.approx(100 * 0.02, abs=0.02 * 26)
    assert (np.diff(slow[26:]) > 0).all()
    fast = read_stream(lag, clock, 8.0 + np.arange(1, 61) * 0.04, 0.001, 0.0)
    assert fast[-1] < 0.1
    assert lag.behind_s(None) == 0


def test_a_reader_that_waits_is_not_behind_whatever_the_stamps_say():
    clock = Clock()
    lag = StreamLag(clock)
    # A camera that says 25 frames a second and sends 20, and one whose clock goes wrong by 100 ppm for hours.
    assert max(read_stream(lag, clock, np.arange(1000) * 0.04, 0.05, 0.04)) < 0.3
    assert max(read_stream(lag, clock, 40 + np.arange(36000.0), 1 + 1e-4, 0.9)) < 0.01


def test_a_start_in_a_burst_sets_the_measure_by_its_newest_frame():
    clock = Clock()
    lag = StreamLag(clock)
    for index in range(25):  # a second of old frames at once
        assert lag.behind_s(index * 0.04) == 0
    clock.now += 0.5
    assert lag.behind_s(0.96 + 0.04) == pytest.approx(0.46, abs=0.01)


def test_a_sender_that_starts_over_is_not_behind():
    clock = Clock()
    lag = StreamLag(clock)
    lag.behind_s(1000.0)
    clock.now += 1
    assert lag.behind_s(0.0) == 0
    assert lag.behind_s(500.0) == 0
