"""Logits of a batch to masks and scores at the frames' sizes; test_class_map.py has their mathematics."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from transformers.models.segformer.image_processing_pil_segformer import SegformerImageProcessorPil

from liver_landmark.model.image_processing_liver_landmark import LiverLandmarkImageProcessor
from liver_landmark.model.landmarks_liver_landmark import DEFAULT_LANDMARKS
from liver_landmark.model.post_processing_liver_landmark import class_map, landmark_scores
from processor_inputs import make_processor

WITH_SCORES = {"return_scores": True, "id2label": DEFAULT_LANDMARKS.id2label}


def as_outputs(logits: torch.Tensor) -> SimpleNamespace:
    return SimpleNamespace(logits=logits)


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


def test_a_mask_survives_the_way_through_logits():
    mask = np.random.default_rng(3).integers(0, 4, (30, 40))
    logits = torch.nn.functional.one_hot(torch.from_numpy(mask), 4).permute(2, 0, 1)[None] * 10.0
    for outputs in (as_outputs(logits), as_outputs(logits.half()), as_outputs(logits.requires_grad_())):
        (result,) = make_processor().post_process_semantic_segmentation(outputs, **WITH_SCORES)
        np.testing.assert_array_equal(result["segmentation"], mask)
        assert result["segmentation"].dtype == torch.int64
        assert result["scores"]["ligament"] == pytest.approx(1 / (1 + 3 * np.exp(-10)), rel=1e-6)


@pytest.mark.parametrize("interpolation", ["bilinear", "nearest"])
def test_every_frame_is_classified_at_its_own_size(interpolation):
    logits = torch.randn(2, 4, 6, 8, generator=torch.Generator().manual_seed(0))
    sizes_px = [(13, 17), (24, 32)]
    for given in (sizes_px, torch.tensor(sizes_px)):
        results = make_processor().post_process_semantic_segmentation(
            as_outputs(logits), given, interpolation=interpolation, **WITH_SCORES
        )
        for result, plane, size in zip(results, logits, sizes_px, strict=True):
            expected = class_map(plane, size, interpolation)
            np.testing.assert_array_equal(result["segmentation"], expected)
            scores = landmark_scores(plane, expected, DEFAULT_LANDMARKS, interpolation=interpolation)
            assert {name: result["scores"][name] for name in scores} == pytest.approx(scores, abs=1e-6)


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
