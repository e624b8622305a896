"""Calibration of presence: evidence and truth, fits, reports, against simulated truth and slower code."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.optimize import minimize
from scipy.special import expit
from sklearn.metrics import brier_score_loss, confusion_matrix

from liver_landmark.evaluation.calibration import (
    PresenceFrames,
    apply_calibration,
    choose_threshold,
    collect_presence,
    cross_validate,
    expected_calibration_error,
    fit_calibration,
    fit_platt,
    plot_reliability,
    reliability_bins,
    summarize_reliability,
)
from liver_landmark.model.landmarks_liver_landmark import DEFAULT_LANDMARKS
from liver_landmark.model.presence_liver_landmark import absent_suppressed, presence_features
from tiny_datasets import SeesColors, make_dataset, polylines, schema_row, tiny_processor

NAMES = DEFAULT_LANDMARKS.names


def as_frames(shown: np.ndarray) -> PresenceFrames:
    features = np.zeros((*shown.shape, 1))
    return PresenceFrames(features, shown, shown, np.array(["p"] * len(shown)), "synthetic")


def simulated(count: int, slope: float, bias: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits of evidence, and truths of which they are as sure as slope and bias say."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0.5, 2, (count, 1))
    return logits, rng.random(count) < expit(slope * logits[:, 0] + bias)


def simulated_frames(patients: int = 12, per_patient: int = 30, seed: int = 0) -> PresenceFrames:
    """The ridge is hard, the silhouette always there, the ligament easy."""
    count = patients * per_patient
    ridge, ridge_shown = simulated(count, 0.8, 0.5, seed)
    ligament, ligament_shown = simulated(count, 2.5, -1, seed + 1)
    silhouette = np.random.default_rng(seed + 2).normal(3, 1, (count, 1))
    return PresenceFrames(
        features=np.stack([ridge, silhouette, ligament], axis=1),
        drawn=np.ones((count, 3), dtype=bool),
        shown=np.stack([ridge_shown, np.ones(count, dtype=bool), ligament_shown], axis=1),
        patients=np.repeat([f"patient{index}" for index in range(patients)], per_patient),
        protocol="synthetic",
    )


def test_features_and_truth_of_every_frame() -> None:
    missing = [(), ("ridge",), ("silhouette", "ligament"), ("ridge", "silhouette", "ligament"), ("ligament",)]
    rows = [
        schema_row(f"p/{index}", polylines(index, without=without)) for index, without in enumerate(missing)
    ]
    model, processor = SeesColors().eval(), tiny_processor()
    frames = collect_presence(model, processor, make_dataset(rows), batch_size=2)
    assert len(frames) == 5
    assert frames.protocol == "synthetic"
    assert frames.patients.tolist() == [f"patient{index}" for index in range(5)]
    expected = [[name not in without for name in NAMES] for without in missing]
    assert frames.shown.tolist() == expected
    assert frames.drawn.tolist() == expected  # the model knows a landmark by its color
    with torch.no_grad():
        logits = model(processor([row["image"] for row in rows], return_tensors="pt")["pixel_values"]).logits
    np.testing.assert_allclose(frames.features, presence_features(logits).numpy(), atol=1e-4)
    blind = collect_presence(SeesColors(blind_to=("ridge",)).eval(), processor, make_dataset(rows))
    assert not blind.drawn[:, 0].any()
    assert blind.shown.tolist() == expected
    some = frames.select(frames.shown[:, 0])
    assert some.patients.tolist() == ["patient0", "patient2", "patient4"]
    np.testing.assert_array_equal(some.features, frames.features[[0, 2, 4]])


def test_what_cannot_be_collected_is_named() -> None:
    rows, model = make_dataset([schema_row("p/0", polylines(0))]), SeesColors().eval()
    for network, dataset, options, reason in (
        (SeesColors().train(), rows, {}, r"call eval\(\)"),
        (model, rows.select([]), {}, "no frames"),
        (model, rows, {"batch_size": 0}, "batch_size"),
        (model, make_dataset([schema_row("p/0", None)]), {}, "frame p/0: neither"),
    ):
        with pytest.raises(ValueError, match=reason):
            collect_presence(network, tiny_processor(), dataset, **options)


@settings(max_examples=8, deadline=None)
@given(count=st.integers(1, 60), seed=st.integers(0, 1000), absent=st.integers(0, 5))
def test_it_is_the_best_of_the_stated_loss(count: int, seed: int, absent: int) -> None:
    features, _ = simulated(count, 1, 0, seed)
    shown = np.ones(count, dtype=bool)
    shown[:absent] = False

    def loss(parameters: np.ndarray) -> float:
        total = 5 * (parameters[0] - 1) ** 2  # the prior: precision 10
        n_shown, n_absent = int(shown.sum()), int(count - shown.sum())
        for (value,), is_shown in zip(features, shown, strict=True):
            probability = 1 / (1 + np.exp(-(parameters[0] * value + parameters[1])))
            target = (n_shown + 1) / (n_shown + 2) if is_shown else 1 / (n_absent + 2)
            total -= target * np.log(probability) + (1 - target) * np.log1p(-probability)
        return total

    weights, bias = fit_platt(features, shown)
    best = minimize(loss, [1.0, 0.0], method="Nelder-Mead", options={"xatol": 1e-8, "fatol": 1e-10})
    assert loss(np.array([weights[0], bias])) <= best.fun + 1e-6 or best.x[0] < 0


def test_evidence_that_misleads_gets_no_weight() -> None:
    features, shown = simulated(5000, -2.0, 0.0)
    weights, bias = fit_platt(features, shown)
    assert weights[0] == 0
    assert expit(bias) == pytest.approx(shown.mean(), abs=0.01)


def test_separable_and_one_sided_frames_stay_finite() -> None:
    features = np.linspace(-3, 3, 40)[:, None]
    for shown in (features[:, 0] > 0, np.ones(40, dtype=bool), np.zeros(40, dtype=bool)):
        weights, bias = fit_platt(features, shown)
        probability = expit(features @ weights + bias)
        assert np.isfinite([*weights, bias]).all()
        assert 0 < probability.min() <= probability.max() < 1
    # Platt's target of 30 frames that all show it.
    weights, bias = fit_platt(np.zeros((30, 1)), np.ones(30, dtype=bool))
    assert expit(bias) == pytest.approx(31 / 32, abs=1e-4)
    with pytest.raises(ValueError, match="no frames"):
        fit_platt(np.zeros((0, 1)), np.zeros(0, dtype=bool))


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 1000), levels=st.integers(2, 50))
def test_no_threshold_answers_right_more_often(seed: int, levels: int) -> None:
    rng = np.random.default_rng(seed)
    probability = rng.integers(0, levels, 120) / levels
    shown = rng.random(120) < probability
    shown[:20], shown[20:40] = True, False
    drawn = rng.random(120) < 0.9
    threshold, reason = choose_threshold(probability, shown, drawn)
    assert reason == "right in most frames"

    def right(value: float) -> int:
        return sum((((p >= value) and d) == s) for p, s, d in zip(probability, shown, drawn, strict=True))

    # Above the highest probability every frame would be without the landmark.
    grid = [value for value in np.linspace(0, 1, 2 * levels + 1) if value <= probability.max()]
    assert right(threshold) == max(map(right, grid))


def test_few_frames_of_a_kind_choose_no_threshold() -> None:
    probability, drawn = np.linspace(0.6, 1, 50), np.ones(50, dtype=bool)
    shown = np.ones(50, dtype=bool)
    assert choose_threshold(probability, shown, drawn) == (0.0, "absent from no frame: never left out")
    assert choose_threshold(probability, ~shown, drawn) == (0.0, "shown in no frame: never left out")
    shown[:19] = False
    assert choose_threshold(probability, shown, drawn) == (0.5, "absent from 19 frames only: 0.5")
    assert choose_threshold(probability, ~shown, drawn)[1] == "shown in 19 frames only: 0.5"
    shown[19] = False
    threshold, _ = choose_threshold(probability, shown, drawn)
    assert probability[19] < threshold < probability[20]


def test_a_calibration_says_of_logits_what_it_says_of_frames() -> None:
    calibration, reasons = fit_calibration(simulated_frames(), {"dataset": "a", "frames": 360})
    assert calibration["source"] == {"dataset": "a", "frames": 360}
    assert list(reasons) == list(NAMES)
    assert calibration["classes"]["silhouette"]["threshold"] == 0
    logits = torch.randn(40, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    logits += torch.linspace(-4, 4, 40)[:, None, None, None] * torch.tensor([0.0, 1, 1, 1])[:, None, None]
    frames = PresenceFrames(
        features=presence_features(logits).double().numpy(),
        drawn=absent_suppressed(logits, None, NAMES)[2].numpy(),
        shown=np.ones((40, 3), dtype=bool),
        patients=np.array(["p"] * 40),
        protocol="synthetic",
    )
    for content in (None, calibration):
        probability, answers = apply_calibration(frames, content)
        _, presence, present = absent_suppressed(logits, content, NAMES)
        np.testing.assert_allclose(probability, presence.numpy(), atol=1e-5)
        np.testing.assert_array_equal(answers, present.numpy())
    assert 0 < answers[:, 0].mean() < 1


def test_a_patient_is_scored_by_the_others() -> None:
    frames = simulated_frames(patients=4)
    probability, answers = cross_validate(frames)
    for patient in np.unique(frames.patients):
        own = frames.patients == patient
        calibration, _ = fit_calibration(frames.select(~own), {})
        expected, expected_answers = apply_calibration(frames.select(own), calibration)
        np.testing.assert_allclose(probability[own], expected)
        np.testing.assert_array_equal(answers[own], expected_answers)
    # A patient's own truth has no say in it.
    own = frames.patients == "patient2"
    flipped = replace(frames, shown=np.where(own[:, None], ~frames.shown, frames.shown))
    np.testing.assert_allclose(cross_validate(flipped)[0][own], probability[own])
    assert cross_validate(frames.select(own)) is None


def test_frames_of_other_shapes_are_refused() -> None:
    frames = simulated_frames()
    with pytest.raises(ValueError, match="features must be"):
        replace(frames, features=frames.features[:5])
    with pytest.raises(ValueError, match="shown must be"):
        replace(frames, shown=frames.shown * 1)


def slow_error(probability: list[float], shown: list[bool], bins: int) -> float:
    """Expected calibration error as its definition reads."""
    error = 0.0
    for index in range(bins):
        low, high = index / bins, (index + 1) / bins
        pairs = zip(probability, shown, strict=True)
        inside = [s - p for p, s in pairs if low <= p < high or (index == bins - 1 and p == 1)]
        error += abs(sum(inside)) / len(probability)
    return error


PROBABILITIES = st.one_of(st.floats(0, 1), st.integers(0, 20).map(lambda n: n / 20))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(PROBABILITIES, st.booleans()), min_size=1, max_size=60), st.integers(1, 15))
def test_the_error_is_as_defined(pairs: list[tuple[float, bool]], bins: int) -> None:
    probability, shown = (list(column) for column in zip(*pairs, strict=True))
    found = expected_calibration_error(np.array(probability), np.array(shown), bins)
    assert found == pytest.approx(slow_error(probability, shown, bins), abs=1e-12)
    assert reliability_bins(np.array(probability), np.array(shown), bins)[:, 0].sum() == len(pairs)


@pytest.mark.parametrize("probability", [[-0.1, 0.5], [0.5, 1.1], [0.5, np.nan], [0.5]])
def test_what_is_no_probability_is_refused(probability: list[float]) -> None:
    with pytest.raises(ValueError, match=r"within 0\.\.1"):
        expected_calibration_error(np.array(probability), np.array([True, False]))


def test_the_summary_is_that_of_other_libraries() -> None:
    rng = np.random.default_rng(1)
    probability, shown = rng.random((200, 3)), rng.random((200, 3)) < 0.7
    present = probability > 0.4
    summary = summarize_reliability(as_frames(shown), {"calibrated": (probability, present)})
    for column, name in enumerate(NAMES):
        found = summary["per_class"][name]["calibrated"]
        matrix = confusion_matrix(shown[:, column], present[:, column])
        assert (found["frames_invented"], found["frames_missed"]) == (matrix[0, 1], matrix[1, 0])
        assert found["accuracy"] == pytest.approx(np.trace(matrix) / 200)
        assert found["brier"] == pytest.approx(brier_score_loss(shown[:, column], probability[:, column]))
        error = slow_error(probability[:, column].tolist(), shown[:, column].tolist(), 10)
        assert found["ece"] == pytest.approx(error)
        assert summary["per_class"][name]["frames_absent"] == (~shown[:, column]).sum()
    pooled = summary["pooled"]["calibrated"]
    error = slow_error(probability.ravel().tolist(), shown.ravel().tolist(), 10)
    assert pooled["ece"] == pytest.approx(error)
    assert pooled["accuracy"] == pytest.approx((shown == present).mean())


def test_the_plot_is_the_same_each_time(tmp_path) -> None:
    rng = np.random.default_rng(2)
    probability, shown = rng.random((50, 3)), rng.random((50, 3)) < 0.7
    answers = {"uncalibrated": (probability, shown), "calibrated": (probability**2, shown)}
    for name in ("a.png", "b.png"):
        plot_reliability(tmp_path / name, as_frames(shown), answers, "a $\\title that is no formula")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    with Image.open(tmp_path / "a.png") as image:
        assert len(image.convert("RGB").getcolors(1 << 24)) > 20
