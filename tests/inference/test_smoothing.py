"""Smoothing over time against the closed forms of an exponential average."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from liver_landmark.inference.smoothing import CausalSmoother

TIMES = st.lists(st.floats(0.001, 0.5), min_size=1, max_size=20)


def random_logits(random: np.random.Generator, scale: float = 3.0) -> np.ndarray:
    return (random.normal(size=(4, 5, 6)) * scale).astype(np.float32)


def softmax(logits: np.ndarray) -> np.ndarray:
    exponentials = np.exp(logits.astype(np.float64))
    return exponentials / exponentials.sum(axis=0)


def load(state: tuple[np.ndarray, np.ndarray]) -> None:
    CausalSmoother(0.2).load_state(dict(zip(("probabilities", "time_s"), state, strict=True)))


@settings(max_examples=50, deadline=None)
@given(TIMES, st.floats(0.12, 2), st.integers(0, 99))
def test_a_step_comes_through_as_one_minus_exp_of_the_time_since(intervals_s, time_constant_s, seed):
    random = np.random.default_rng(seed)
    before, after = random_logits(random), random_logits(random)
    smoother = CausalSmoother(time_constant_s)
    for time_s in (10.0, 10.1, 10.2):
        np.testing.assert_allclose(np.exp(smoother.update(before, time_s)), softmax(before), atol=1e-5)
    for elapsed_s in np.cumsum(intervals_s):
        found = np.exp(smoother.update(after, 10.2 + elapsed_s))
        left = math.exp(-elapsed_s / time_constant_s)
        expected = left * softmax(before) + (1 - left) * softmax(after)
        np.testing.assert_allclose(found, expected, atol=1e-5)


@settings(max_examples=50, deadline=None)
@given(TIMES, st.floats(0, 2), st.floats(0.1, 50), st.integers(0, 99))
def test_probabilities_stay_probabilities(intervals_s, time_constant_s, scale, seed):
    random = np.random.default_rng(seed)
    smoother = CausalSmoother(time_constant_s)
    for time_s in np.cumsum(intervals_s):
        found = smoother.update(random_logits(random, scale), time_s)
        assert found.dtype == np.float32
        assert np.isfinite(found).all()
        np.testing.assert_allclose(np.exp(found).sum(axis=0), 1, atol=1e-5)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(-1, 1), min_size=1, max_size=10), st.integers(0, 99))
def test_without_a_time_constant_every_frame_is_its_own(times_s, seed):
    random = np.random.default_rng(seed)
    smoother = CausalSmoother(0.0)
    assert smoother.delay_s == 0
    assert smoother.delay_at(0.04) == 0
    for time_s in times_s:
        logits = random_logits(random)
        np.testing.assert_allclose(np.exp(smoother.update(logits, time_s)), softmax(logits), atol=1e-6)


@pytest.mark.parametrize(
    ("interval_s", "time_constant_s"), [(0.04, 0.2), (1 / 60, 0.1), (0.5, 0.3), (1.0, 5.0)]
)
def test_the_delay_is_the_mean_age_of_what_is_averaged(interval_s, time_constant_s):
    """Measured: the response to one frame that differs, weighted by its age."""
    smoother = CausalSmoother(time_constant_s)
    still, flash = np.zeros((2, 1, 1)), np.array([2.0, 0.0]).reshape(2, 1, 1)
    smoother.update(still, 0.0)
    steps = math.ceil(15 * time_constant_s / interval_s)
    responses = []
    for step in range(1, steps + 1):
        logits = flash if step == 1 else still
        responses.append(np.exp(smoother.update(logits, step * interval_s))[0, 0, 0] - 0.5)
    ages_s = np.arange(steps) * interval_s
    mean_age_s = (ages_s * responses).sum() / np.sum(responses)
    assert smoother.delay_at(interval_s) == pytest.approx(mean_age_s, rel=1e-3)
    assert smoother.delay_at(interval_s) < smoother.delay_s == time_constant_s


def test_the_delay_of_dense_and_of_sparse_frames():
    smoother = CausalSmoother(0.2)
    assert smoother.delay_at(1e-4) == pytest.approx(0.2 - 0.5e-4, rel=1e-6)
    assert smoother.delay_at(100.0) == pytest.approx(100 * math.exp(-500), rel=1e-9)
    assert smoother.delay_at(150.0) == 0.0


def test_it_starts_anew_after_gaps_and_changes():
    random = np.random.default_rng(0)
    first, second = random_logits(random), random_logits(random)

    def second_after(time_s: float, logits: np.ndarray = second) -> np.ndarray:
        smoother = CausalSmoother(0.2)
        smoother.update(first, 1.0)
        return smoother.update(logits, time_s)

    plain = np.log(softmax(second))
    for time_s in (2.01, 1.0, 0.9):  # a gap of more than five time constants, no time at all, and backwards
        np.testing.assert_allclose(second_after(time_s), plain, atol=1e-5)
    assert np.abs(second_after(1.99) - plain).max() > 1e-4
    assert np.abs(second_after(1.04) - plain).max() > 0.1
    smaller = second[:, :4]
    np.testing.assert_allclose(second_after(1.04, smaller), np.log(softmax(smaller)), atol=1e-5)
    smoother = CausalSmoother(0.2)
    smoother.update(first, 1.0)
    smoother.reset()
    np.testing.assert_allclose(smoother.update(second, 1.04), plain, atol=1e-5)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 8), st.integers(0, 99))
def test_a_state_goes_on_bit_for_bit(split, seed):
    random = np.random.default_rng(seed)
    frames = [(random_logits(random), time_s) for time_s in np.cumsum(random.uniform(0.01, 0.3, 9))]
    smoother = CausalSmoother(0.15)
    whole = [smoother.update(*frame) for frame in frames]
    first, second = CausalSmoother(0.15), CausalSmoother(0.15)
    parts = [first.update(*frame) for frame in frames[:split]]
    state = first.state()
    second.update(*frames[-1])  # what a loaded state replaces
    second.load_state(state)
    parts += [second.update(*frame) for frame in frames[split:]]
    np.testing.assert_array_equal(parts, whole)
    untouched = second.state()
    for array in second.state().values():
        array[...] = 0
    np.testing.assert_array_equal(second.state()["probabilities"], untouched["probabilities"])


def test_a_frame_that_is_refused_is_forgotten():
    random = np.random.default_rng(0)
    frames = [random_logits(random) for _ in range(3)]
    smoother, other = CausalSmoother(0.2), CausalSmoother(0.2)
    for one in (smoother, other):
        one.update(frames[0], 0.0)
    broken = frames[1].copy()
    broken[0, 0, 0] = np.nan
    for logits, time_s in ((broken, 0.04), (frames[1], math.nan), (frames[1][0], 0.04)):
        with pytest.raises(ValueError, match="logits"):
            smoother.update(logits, time_s)
    np.testing.assert_array_equal(smoother.update(frames[2], 0.08), other.update(frames[2], 0.08))


@pytest.mark.parametrize(
    ("call", "argument", "message"),
    [
        (CausalSmoother, -0.1, "time_constant_s=-0.1"),
        (CausalSmoother, math.inf, "time_constant_s=inf"),
        (CausalSmoother(0.2).delay_at, 0.0, "frame_interval_s=0.0"),
        (CausalSmoother(0.2).load_state, {"mean": np.zeros(3)}, "got mean"),
        (load, (np.zeros(3), np.array(0.0)), r"must be \(C, h, w\) float32"),
        (load, (np.full((4, 2, 2), np.nan, np.float32), np.array(0.0)), "between 0 and 1"),
        (load, (np.ones((4, 2, 2), np.float32), np.array([0.0])), "time_s must be one finite"),
    ],
)
def test_what_is_refused(call, argument, message):
    with pytest.raises(ValueError, match=message):
        call(argument)
