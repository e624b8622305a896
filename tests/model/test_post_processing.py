"""Logits to masks and scores, against OpenCV and a plain softmax."""

from __future__ import annotations

from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from transformers.models.segformer.image_processing_pil_segformer import SegformerImageProcessorPil

from liver_landmark.model.image_processing_liver_landmark import LiverLandmarkImageProcessor
from liver_landmark.model.landmarks_liver_landmark import DEFAULT_LANDMARKS
from processor_inputs import make_processor

WITH_SCORES = {"return_scores": True, "id2label": DEFAULT_LANDMARKS.id2label}


def as_outputs(logits: torch.Tensor) -> SimpleNamespace:
    return SimpleNamespace(logits=logits)


def upsampled_by_opencv(logits: np.ndarray, height: int, width: int) -> np.ndarray:
    """(C, h, w) -> (C, height, width) float64, half-pixel centers."""
    return np.stack([cv2.resize(plane, (width, height), interpolation=cv2.INTER_LINEAR) for plane in logits])


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 12), st.integers(2, 12), st.integers(12, 60), st.integers(12, 60), st.integers(0, 99))
def test_masks_and_scores_agree_with_opencv_and_a_plain_softmax(h, w, height, width, seed):
    logits = np.random.default_rng(seed).normal(size=(4, h, w)) * 3
    (result,) = make_processor().post_process_semantic_segmentation(
        as_outputs(torch.from_numpy(logits)[None].float()), [(height, width)], **WITH_SCORES
    )
    upsampled = upsampled_by_opencv(logits, height, width)
    expected = upsampled.argmax(axis=0)
    segmentation = result["segmentation"].numpy()
    ordered = np.sort(upsampled, axis=0)
    clear = ordered[-1] - ordered[-2] > 1e-4  # two classes within rounding may fall either way
    np.testing.assert_array_equal(segmentation[clear], expected[clear])
    probability = np.exp(upsampled) / np.exp(upsampled).sum(axis=0)
    for class_id, name in DEFAULT_LANDMARKS.id2label.items():
        given_pixels = segmentation == class_id
        score = probability[class_id][given_pixels].mean() if given_pixels.any() else 0.0
        assert result["scores"][name] == pytest.approx(score, abs=1e-5)


@pytest.mark.parametrize("target_sizes", [None, [(13, 17), (6, 8)]])
def test_maps_of_scores_are_those_of_segformers(target_sizes):
    outputs = as_outputs(torch.randn(2, 4, 6, 8, generator=torch.Generator().manual_seed(0)))
    ours, theirs = (
        processor.post_process_semantic_segmentation(outputs, target_sizes, True)
        for processor in (make_processor(), SegformerImageProcessorPil())
    )
    for result, expected in zip(ours, theirs, strict=True):
        assert type(result) is type(expected)
        torch.testing.assert_close(result.segmentation, expected.segmentation)
        torch.testing.assert_close(result.segmentation_scores, expected.segmentation_scores)
    (both, _) = make_processor().post_process_semantic_segmentation(
        outputs,
        target_sizes,
        return_segmentation_scores=True,
        return_scores=True,
        id2label=DEFAULT_LANDMARKS.id2label,
    )
    assert set(both) == {"segmentation", "segmentation_scores", "scores"}


def test_nearest_repeats_pixels():
    logits = torch.randn(2, 4, 6, 8, generator=torch.Generator().manual_seed(0))
    maps = make_processor().post_process_semantic_segmentation(
        as_outputs(logits), [(24, 32), (6, 8)], interpolation="nearest"
    )
    coarse = logits.argmax(dim=1).numpy()
    np.testing.assert_array_equal(maps[0], coarse[0].repeat(4, 0).repeat(4, 1))
    np.testing.assert_array_equal(maps[1], coarse[1])


def test_a_mask_survives_the_way_through_logits():
    mask = np.random.default_rng(3).integers(0, 4, (30, 40))
    logits = torch.nn.functional.one_hot(torch.from_numpy(mask), 4).permute(2, 0, 1)[None] * 10.0
    for outputs in (as_outputs(logits), as_outputs(logits.half()), as_outputs(logits.requires_grad_())):
        (result,) = make_processor().post_process_semantic_segmentation(outputs, **WITH_SCORES)
        np.testing.assert_array_equal(result["segmentation"], mask)
        assert result["segmentation"].dtype == torch.int64
        assert result["scores"]["ligament"] == pytest.approx(1 / (1 + 3 * np.exp(-10)), rel=1e-6)


def test_a_class_without_pixels_scores_zero():
    logits = torch.zeros(1, 4, 5, 5)
    logits[:, 2] = 1
    (result,) = make_processor().post_process_semantic_segmentation(as_outputs(logits), **WITH_SCORES)
    certainty = np.e / (np.e + 3)
    assert result["scores"] == pytest.approx(
        {"background": 0.0, "ridge": 0.0, "silhouette": certainty, "ligament": 0.0}
    )


def test_target_sizes_as_a_tensor():
    logits = torch.randn(2, 4, 6, 8, generator=torch.Generator().manual_seed(0))
    process = make_processor().post_process_semantic_segmentation
    sizes_px = [(13, 17), (20, 9)]
    for first, second in zip(
        process(as_outputs(logits), torch.tensor(sizes_px)),
        process(as_outputs(logits), sizes_px),
        strict=True,
    ):
        torch.testing.assert_close(first, second)
    assert [tuple(mask.shape) for mask in process(as_outputs(logits), sizes_px)] == sizes_px


@pytest.mark.parametrize(
    ("logits", "arguments", "message"),
    [
        (torch.zeros(4, 5, 5), {}, r"expected \(B, C, h, w\)"),
        (torch.zeros(2, 4, 5, 5), {"target_sizes": [(5, 5)]}, "1 sizes for 2 frames"),
        (torch.zeros(1, 4, 5, 5), {"target_sizes": [(5, 0)]}, r"target_sizes\[0\]"),
        (torch.zeros(1, 4, 5, 5), {"target_sizes": [(5, 5, 3)]}, r"target_sizes\[0\]"),
        (torch.full((1, 4, 5, 5), float("nan")), {}, r"logits\[0\]: not all values are finite"),
        (torch.zeros(1, 4, 5, 5), {"interpolation": "cubic"}, "interpolation='cubic'"),
        (torch.zeros(1, 7, 5, 5), WITH_SCORES, "7 channels"),
        (torch.zeros(1, 4, 5, 5), {"return_scores": True}, "id2label=model.config.id2label"),
    ],
)
def test_outputs_that_do_not_fit(logits, arguments, message):
    with pytest.raises(ValueError, match=message):
        make_processor().post_process_semantic_segmentation(as_outputs(logits), **arguments)


def test_the_real_frame_comes_back_at_its_size(p2ilf_sample):
    image = Image.open(p2ilf_sample / "images" / "patient1_12.jpg")
    pixel_values = LiverLandmarkImageProcessor()(image).pixel_values
    assert pixel_values.shape == (1, 3, 1024, 1024)
    (mask,) = LiverLandmarkImageProcessor().post_process_semantic_segmentation(
        as_outputs(torch.zeros(1, 4, 256, 256)), [(image.height, image.width)]
    )
    assert mask.shape == (1080, 1920)
