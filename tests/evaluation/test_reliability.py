"""Calibration error and the rest of the report, against slower code and closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from sklearn.metrics import brier_score_loss, confusion_matrix

from liver_landmark.evaluation.calibration import (
    expected_calibration_error,
    plot_reliability,
    reliability_bins,
    summarize_reliability,
)


def slow_error(probability: list[float], shown: list[bool], bins: int) -> float:
    """Expected calibration error as its definition reads."""
    error = 0.0
    for index in range(bins):
        low, high = index / bins, (index + 1) / bins
        inside = [
            (p, s)
            for p, s in zip(probability, shown, strict=True)
            if low <= p < high or (index == bins - 1 and p == 1)
        ]
        if inside:
            share = sum(s for _, s in inside) / len(inside)
            mean = sum(p for p, _ in inside) / len(inside)
            error += len(inside) / len(probability) * abs(share - mean)
    return error


@settings(max_examples=100, deadline=None)
@given(
    pairs=st.lists(
        st.tuples(
            st.one_of(st.floats(0, 1), st.integers(0, 20).map(lambda n: n / 20)),
            st.booleans(),
        ),
        min_size=1,
        max_size=60,
    ),
    bins=st.integers(1, 15),
)
def test_the_error_is_as_defined(pairs: list[tuple[float, bool]], bins: int) -> None:
    probability, shown = (list(column) for column in zip(*pairs, strict=True))
    found = expected_calibration_error(np.array(probability), np.array(shown), bins)
    assert found == pytest.approx(slow_error(probability, shown, bins), abs=1e-12)
    assert reliability_bins(np.array(probability), np.array(shown), bins)[:, 0].sum() == len(pairs)


def test_errors_that_are_known() -> None:
    shown = np.array([True] * 9 + [False])
    assert expected_calibration_error(np.full(10, 0.9), shown) == pytest.approx(0)
    assert expected_calibration_error(np.full(10, 0.6), shown) == pytest.approx(0.3)
    assert expected_calibration_error(shown.astype(float), shown) == 0
    assert expected_calibration_error(1 - shown.astype(float), shown) == 1
    # Exact probabilities: what is left shrinks with the root of the frames.
    rng = np.random.default_rng(0)
    probability = rng.random(100_000)
    assert expected_calibration_error(probability, rng.random(100_000) < probability) < 0.005


@pytest.mark.parametrize("probability", [[-0.1, 0.5], [0.5, 1.1], [0.5, np.nan], [0.5]])
def test_what_is_no_probability_is_refused(probability: list[float]) -> None:
    with pytest.raises(ValueError, match=r"within 0\.\.1"):
        expected_calibration_error(np.array(probability), np.array([True, False]))


def test_the_summary_is_that_of_other_libraries() -> None:
    rng = np.random.default_rng(1)
    probability, shown = rng.random((200, 3)), rng.random((200, 3)) < 0.7
    present = probability > 0.4
    summary = summarize_reliability(shown, {"calibrated": (probability, present)})
    for column, name in enumerate(("ridge", "silhouette", "ligament")):
        found = summary["per_class"][name]["calibrated"]
        matrix = confusion_matrix(shown[:, column], present[:, column])
        assert (found["frames_invented"], found["frames_missed"]) == (matrix[0, 1], matrix[1, 0])
        assert found["accuracy"] == pytest.approx(np.trace(matrix) / 200)
        assert found["brier"] == pytest.approx(brier_score_loss(shown[:, column], probability[:, column]))
        assert found["ece"] == pytest.approx(
            slow_error(probability[:, column].tolist(), shown[:, column].tolist(), 10)
        )
        assert summary["per_class"][name]["frames_absent"] == (~shown[:, column]).sum()
    pooled = summary["pooled"]["calibrated"]
    assert pooled["ece"] == pytest.approx(
        slow_error(probability.ravel().tolist(), shown.ravel().tolist(), 10)
    )
    assert pooled["accuracy"] == pytest.approx((shown == present).mean())


def test_the_plot_is_the_same_each_time(tmp_path) -> None:
    rng = np.random.default_rng(2)
    probability, shown = rng.random((50, 3)), rng.random((50, 3)) < 0.7
    answers = {"uncalibrated": (probability, shown), "calibrated": (probability**2, shown)}
    for name in ("a.png", "b.png"):
        plot_reliability(tmp_path / name, shown, answers, "a $\\title that is no formula")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    with Image.open(tmp_path / "a.png") as image:
        assert len(image.convert("RGB").getcolors(1 << 24)) > 20
