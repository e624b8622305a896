"""Work that is done ahead: in order, within bounds, and over when nobody wants it any more."""

from __future__ import annotations

import threading
import time
from contextlib import closing

import numpy as np
import pytest

from liver_landmark.utils.background import in_background, ordered_map


def test_what_is_ahead_stays_within_the_budget():
    costs = [*np.random.default_rng(0).integers(1, 90, 60).tolist(), 500, 10]
    started, lock, seen = [], threading.Lock(), []

    def work(cost):
        with lock:
            started.append(cost)
        return cost

    results = []
    with closing(ordered_map(work, costs, workers=6, cost=lambda cost: cost, budget=100)) as outcomes:
        for result in outcomes:
            # A slow taker: all that may be ahead gets there. What it holds itself is not ahead.
            time.sleep(0.002)
            results.append(result)
            with lock:
                seen.append(started[len(results) :])
    assert results == costs
    assert 90 < max(map(sum, seen[:-2])) <= 100
    # What costs more than the budget is alone: nothing beside it before it is taken.
    assert seen[59] == seen[60] == []


@pytest.mark.parametrize("workers", [0, 1, 4, 100])
def test_results_come_in_order_and_not_far_ahead(workers):
    taken = []

    def items():
        for number in range(50):
            taken.append(number)
            yield number

    def work(number):
        time.sleep(0.002 * (number % 3))
        return number * number

    ahead = 0
    with closing(ordered_map(work, items(), workers)) as results:
        for number, result in enumerate(results):
            assert result == number * number
            ahead = max(ahead, len(taken) - number)
    assert taken == list(range(50))
    assert ahead <= min(max(workers, 1), 8) + 2


def test_an_error_ends_the_work():
    done = []

    def work(number):
        done.append(number)
        if number == 3:
            raise KeyError("three")
        return number

    results = ordered_map(work, range(1000), 2)
    with pytest.raises(KeyError, match="three"):
        list(results)
    assert len(done) < 12


def test_items_are_made_in_another_thread_in_order_and_not_far_ahead():
    made = []

    def items():
        for number in range(60):
            made.append((number, threading.current_thread()))
            yield number

    ahead = 0
    with closing(in_background(items(), ahead=3)) as taken:
        for expected, number in enumerate(taken):
            assert number == expected
            time.sleep(0.001)
            ahead = max(ahead, len(made) - number)
    assert [number for number, _ in made] == list(range(60))
    assert {thread for _, thread in made} != {threading.current_thread()}
    # Three in the queue, one waiting to get in, and the one that was taken.
    assert ahead <= 5


def test_what_goes_wrong_behind_is_raised_in_its_place():
    def items():
        yield 1
        raise KeyError("two")

    with closing(in_background(items(), 4)) as taken:
        assert next(taken) == 1
        with pytest.raises(KeyError, match="two"):
            next(taken)


def test_closing_early_stops_the_thread_and_closes_the_source():
    state = []

    def items():
        try:
            yield from range(10**9)
        finally:
            state.append(threading.current_thread())

    before = threading.active_count()
    with closing(in_background(items(), 2)) as taken:
        assert next(taken) == 0
    assert len(state) == 1
    assert state[0] is not threading.current_thread()
    assert threading.active_count() == before
