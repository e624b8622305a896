"""The report's choice of frames, its masks and its pictures."""

from __future__ import annotations

import numpy as np
import pytest

from liver_landmark.evaluation import MaskPair, evaluate_model
from liver_landmark.evaluation.report import MaskStore, comparison_picture, format_table, select_examples
from tiny_datasets import SeesColors, make_dataset, polylines, schema_row, tiny_processor


def frames(*scores):
    return [{"dsc": score} for score in scores]


def test_examples_are_the_best_the_median_and_the_worst():
    scores = [0.5, 0.9, 0.1, 0.4, 0.6, 0.8, 0.2, 0.3, 0.7]
    examples = select_examples(frames(*scores), count=2)
    chosen = {kind: [scores[index] for index in indices] for kind, indices in examples.items()}
    assert chosen == {"best": [0.9, 0.8], "median": [0.4, 0.5], "worst": [0.1, 0.2]}


@pytest.mark.parametrize("count", range(1, 12))
def test_few_frames_are_shown_once_each(count):
    examples = select_examples(frames(*np.linspace(0, 1, count)), count=3)
    chosen = [index for indices in examples.values() for index in indices]
    assert len(set(chosen)) == len(chosen) == min(count, 9)


def test_stored_masks_come_back_bit_for_bit():
    rng = np.random.default_rng(0)
    masks = (
        rng.choice([0, 1, 2, 3, 255], (3, 40, 60)).astype(np.uint8),
        rng.integers(0, 4, (3, 40, 60), np.uint8),
    )
    pairs = [MaskPair(*pair) for pair in zip(*masks, strict=True)]
    store = MaskStore()
    for index, pair in enumerate(pairs):
        store(index, {}, pair)
    for index in (2, 0, 1):
        np.testing.assert_array_equal(store[index].truth, pairs[index].truth)
        np.testing.assert_array_equal(store[index].prediction, pairs[index].prediction)


@pytest.mark.parametrize("size", [(54, 96), (1080, 1920), (200, 200)])
def test_picture_has_prediction_left_and_truth_right(size):
    image = np.full((*size, 3), 90, np.uint8)
    prediction, truth = np.zeros((2, 256, 256), np.uint8)
    prediction[120:140] = 1
    truth[200:220] = 3
    frame = {"frame_id": "f", "dsc": 0.0, "dsc_ridge": None, "dsc_silhouette": None, "dsc_ligament": 0.0}
    picture = comparison_picture(image, MaskPair(truth, prediction), frame)
    height = round(960 * size[0] / size[1])
    assert picture.shape == (36 + height, 1920, 3)
    left, right = picture[36:, :960], picture[36:, 960:]
    assert left[round(130 / 256 * height), 480].argmax() == 0
    assert right[round(210 / 256 * height), 480].argmax() == 2
    assert len(set(right[round(130 / 256 * height), 480])) == 1


def test_table_shows_every_number_and_dashes_for_none():
    rows = [schema_row("f0", polylines(0, without=("ligament",)))]
    metrics = evaluate_model(SeesColors(), tiny_processor(), make_dataset(rows), resolution=128).metrics
    lines = format_table(metrics).splitlines()
    assert lines[1].split()[:3] == ["pooled", f"{metrics['dsc']:.3f}", f"{metrics['iou']:.3f}"]
    assert lines[4].split() == ["ligament", "-", "-", "-", "-", "1.000"]
    assert lines[5] == "1 frames of 1 patients, protocol synthetic, 128x128 px"
