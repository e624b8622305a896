"""What a prediction says of its frame."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from liver_landmark.curves.formats import FrameAnnotation, format_p2ilf_json, parse_p2ilf_json
from liver_landmark.inference import FramePrediction
from liver_landmark.model.landmarks_liver_landmark import DEFAULT_LANDMARKS


def prediction_of(mask: np.ndarray, logits: np.ndarray | None = None, variance=None) -> FramePrediction:
    logits = np.zeros((4, 8, 8), np.float32) if logits is None else logits
    return FramePrediction(mask, {}, {}, (), False, logits, variance)


def test_probabilities_are_the_softmax_of_the_upsampled_logits():
    logits = np.random.default_rng(0).normal(size=(4, 6, 8)).astype(np.float32)
    prediction = prediction_of(np.zeros((30, 50), np.uint8), logits)
    upsampled = torch.nn.functional.interpolate(
        torch.from_numpy(logits)[None], size=(30, 50), mode="bilinear", align_corners=False
    )
    expected = upsampled.softmax(1)[0].numpy()
    assert prediction.probabilities() == pytest.approx(expected, abs=1e-6)
    for class_id, name in enumerate(DEFAULT_LANDMARKS.names, start=1):
        assert np.array_equal(prediction.probability(name), prediction.probabilities()[class_id])


def test_the_variance_map_has_the_frames_size():
    variance = np.full((8, 8), 0.25, np.float32)
    prediction = prediction_of(np.zeros((30, 50), np.uint8), variance=variance)
    assert prediction.variance_map() == pytest.approx(np.full((30, 50), 0.25))
    assert prediction_of(np.zeros((30, 50), np.uint8)).variance_map() is None


@settings(max_examples=60, deadline=None)
@given(
    arrays.arrays(
        np.uint8, arrays.array_shapes(min_dims=2, max_dims=2, max_side=24), elements=st.integers(0, 3)
    )
)
def test_curves_of_any_mask_can_be_written_in_whole_px(mask):
    curves = [
        {"category": curve.category, "points": curve.points.tolist()}
        for curve in prediction_of(mask).curves()
    ]
    FrameAnnotation("frame.png", mask.shape[1], mask.shape[0], curves)
    text = format_p2ilf_json(curves)
    assert len(parse_p2ilf_json(text.encode(), "frame.json").landmarks) == len(curves)
