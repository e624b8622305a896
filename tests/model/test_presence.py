"""Presence of landmarks from logits, against slower ways to say the same; calibrations in configurations."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoConfig, AutoModel

from liver_landmark.model.landmarks_liver_landmark import DEFAULT_LANDMARKS
from liver_landmark.model.presence_liver_landmark import (
    absent_suppressed,
    check_presence_calibration,
    presence_features,
    presence_probability,
)
from tiny_models import tiny_config, tiny_model

NAMES = DEFAULT_LANDMARKS.names


def calibration(thresholds: tuple[float, ...] = (0.5, 0.5, 0.5), bias: float = 0.0) -> dict[str, Any]:
    classes = {
        name: {"weights": [1.0 + index], "bias": bias - index, "threshold": threshold}
        for index, (name, threshold) in enumerate(zip(NAMES, thresholds, strict=True))
    }
    return {"features": ["top"], "classes": classes, "source": {"dataset": "a", "frames": 84}}


def random_logits(
    seed: int, batch: int = 2, height: int = 12, width: int = 20, scale: float = 3.0
) -> torch.Tensor:
    return scale * torch.randn(batch, 4, height, width, generator=torch.Generator().manual_seed(seed))


def slow_evidence(logits: np.ndarray, class_id: int) -> float:
    """Mean probability of a class over the 1 % of one frame's cells where it is likeliest, cell by cell."""
    cells = logits.reshape(4, -1).T.astype(np.float64)
    probabilities = [np.exp(cell[class_id]) / np.exp(cell).sum() for cell in cells]
    return float(np.mean(sorted(probabilities)[-max(1, round(len(cells) / 100)) :]))


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 1000), height=st.integers(1, 40), width=st.integers(1, 40), scale=st.floats(0.1, 8)
)
def test_the_evidence_is_the_mean_of_the_likeliest_hundredth(seed, height, width, scale) -> None:
    logits = random_logits(seed, 2, height, width, scale)
    evidence = presence_probability(logits, None, NAMES)
    features = presence_features(logits)
    assert features.shape == (2, 3, 1)
    for frame in range(2):
        for column in range(3):
            slow = slow_evidence(logits[frame].numpy(), column + 1)
            assert evidence[frame, column].item() == pytest.approx(slow, abs=3e-6)
            if 1e-4 < slow < 1 - 1e-4:
                expected = np.log(slow / (1 - slow))
                assert features[frame, column, 0].item() == pytest.approx(expected, abs=2e-3)


def test_log_probabilities_and_other_precisions_give_the_same() -> None:
    logits = random_logits(3)
    expected = presence_probability(logits, calibration(), NAMES)
    torch.testing.assert_close(presence_probability(logits.log_softmax(1), calibration(), NAMES), expected)
    halves = presence_probability(logits.half(), calibration(), NAMES)
    assert halves.dtype == torch.float32
    torch.testing.assert_close(halves, expected, atol=5e-3, rtol=0)


def test_the_calibrated_probability_is_logistic_in_the_logit_of_the_evidence() -> None:
    logits = random_logits(4, scale=1.0)
    evidence = presence_probability(logits, None, NAMES).double().numpy()
    weights, bias = np.array([1.0, 2.0, 3.0]), np.array([0.3, -0.7, -1.7])
    expected = 1 / (1 + np.exp(-(np.log(evidence / (1 - evidence)) * weights + bias)))
    found = presence_probability(logits, calibration(bias=0.3), NAMES).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_certain_logits_stay_finite() -> None:
    logits = torch.zeros(1, 4, 8, 8)
    logits[:, 1] = 1e4
    assert torch.isfinite(presence_features(logits)).all()
    assert presence_probability(logits, None, NAMES)[0].tolist() == pytest.approx([1, 0, 0], abs=1e-5)
    suppressed, _, present = absent_suppressed(logits, calibration((1.0, 1.0, 1.0)), NAMES)
    assert torch.isfinite(suppressed).all()
    assert not present.any()
    assert (suppressed.argmax(1) == 0).all()


def test_without_a_calibration_nothing_changes() -> None:
    logits = random_logits(5)
    logits[0, 2] = -20
    logits[1, 3] = logits[1, :3].amax(0)  # of equals the first one wins
    same, presence, present = absent_suppressed(logits, None, NAMES)
    assert same is logits
    torch.testing.assert_close(presence, presence_probability(logits, None, NAMES))
    winners = logits.argmax(1)
    expected = [[bool((winners[frame] == class_id).any()) for class_id in (1, 2, 3)] for frame in range(2)]
    assert present.tolist() == expected
    assert present.tolist() == [[True, False, True], [True, True, False]]


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 1000),
    thresholds=st.tuples(*[st.sampled_from([0.0, 0.3, 0.9, 1.0])] * 3),
    size=st.tuples(st.integers(2, 60), st.integers(2, 60)),
    half=st.booleans(),
)
def test_an_absent_landmarks_pixels_go_to_the_next_best_class(seed, thresholds, size, half) -> None:
    logits = random_logits(seed, 3, 10, 14)
    logits[1, 1 + seed % 3] -= 12  # likely enough for a threshold of 0, and drawn nowhere
    logits = logits.half() if half else logits
    suppressed, presence, present = absent_suppressed(logits, calibration(thresholds), NAMES)
    assert suppressed.dtype == logits.dtype
    for frame in range(3):
        kept = [0]
        for column in range(3):
            drawn = bool((logits[frame].argmax(0) == column + 1).any())
            assert present[frame, column] == (presence[frame, column] >= thresholds[column] and drawn)
            if present[frame, column]:
                kept.append(column + 1)
        # The planes that are kept stay as they were; the others win no pixel, at any size.
        assert torch.equal(suppressed[frame, kept], logits[frame, kept])
        upsampled = F.interpolate(suppressed[frame : frame + 1].float(), size=size, mode="bilinear")[0]
        without = F.interpolate(logits[frame : frame + 1, kept].float(), size=size, mode="bilinear")[0]
        assert torch.equal(upsampled.argmax(0), torch.tensor(kept)[without.argmax(0)])
        absent = [class_id for class_id in (1, 2, 3) if class_id not in kept]
        assert upsampled.softmax(0)[absent].sum() < 1e-15


@pytest.mark.parametrize(
    ("logits", "message"),
    [
        (torch.zeros(4, 8, 8), "expected"),
        (torch.zeros(1, 1, 8, 8), "expected"),
        (torch.zeros(1, 4, 0, 8), "expected"),
        (torch.full((1, 4, 8, 8), float("nan")), "finite"),
        (torch.full((1, 4, 8, 8), float("-inf")), "finite"),
        (torch.zeros(1, 3, 8, 8), "2 landmarks, but 3 names: ridge, silhouette, ligament"),
    ],
)
def test_logits_that_cannot_be_are_refused(logits: torch.Tensor, message: str) -> None:
    for call in (
        *([] if "names" in message else [presence_features]),
        lambda x: presence_probability(x, None, NAMES),
        lambda x: absent_suppressed(x, None, NAMES),
    ):
        with pytest.raises(ValueError, match=message):
            call(logits)


def changed(*path: str, value: Any = ...) -> dict[str, Any]:
    """A calibration with one field of another value, or without it."""
    content = copy.deepcopy(calibration())
    *parents, last = path
    part = content
    for name in parents:
        part = part[name]
    if value is ...:
        del part[last]
    else:
        part[last] = value
    return content


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ([], "presence_calibration"),
        ("yes", "presence_calibration"),
        (changed("source"), "presence_calibration must have"),
        (changed("extra", value=1), "presence_calibration must have"),
        (changed("features", value=["area"]), "features"),
        (changed("features", value=3), "features"),
        (changed("features", value=["top"] * 2), "features"),
        (changed("classes", value=[1]), "classes"),
        (changed("classes", "ridge"), "classes"),
        (changed("classes", "tumour", value={}), "classes"),
        (changed("classes", "ridge", value=None), "classes.ridge"),
        (changed("classes", "ridge", "bias"), "classes.ridge"),
        (changed("classes", "ridge", "bias", value=float("nan")), "classes.ridge.bias"),
        (changed("classes", "ridge", "bias", value=True), "classes.ridge.bias"),
        (changed("classes", "ligament", "weights", value=[1, 2]), "classes.ligament.weights"),
        (changed("classes", "ligament", "weights", value="1"), "classes.ligament.weights"),
        (changed("classes", "ligament", "weights", value=["1"]), "classes.ligament.weights"),
        (changed("classes", "ridge", "threshold", value=1.5), "classes.ridge.threshold"),
        (changed("classes", "ridge", "threshold", value="0.5"), "classes.ridge.threshold"),
        (changed("source", value=None), "source"),
        (changed("source", "frames", value=float("inf")), "source"),
        (changed("source", "frames", value=np.int64(3)), "source"),
    ],
)
def test_a_calibration_that_cannot_be_is_named(content: Any, named: str) -> None:
    calls = (
        lambda value: check_presence_calibration(value, NAMES),
        lambda value: tiny_config(presence_calibration=value),
        lambda value: absent_suppressed(random_logits(0), value, NAMES),
    )
    for call in calls:
        with pytest.raises(ValueError, match=named) as error:
            call(content)
        assert "\n" not in str(error.value)


def test_it_comes_back_with_the_model(tmp_path: Path) -> None:
    assert check_presence_calibration(None, NAMES) is None
    content = calibration((0.0, 0.25, 1))
    model = tiny_model(presence_calibration=content)
    model.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["presence_calibration"] == content
    again = AutoModel.from_pretrained(tmp_path)
    assert again.config.presence_calibration == content
    again.save_pretrained(tmp_path / "again")
    assert AutoConfig.from_pretrained(tmp_path / "again").presence_calibration == content
    # What the configuration holds is its own.
    content["classes"]["ridge"]["bias"] = 7.0
    assert model.config.presence_calibration["classes"]["ridge"]["bias"] == 0.0
