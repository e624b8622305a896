"""Overlap against numbers worked out by hand and against scikit-learn."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics import confusion_matrix, f1_score

from liver_landmark.evaluation import class_overlap, pooled_overlap
from liver_landmark.evaluation.metrics import MaskPair, OverlapMetric

TRUTHS = hnp.arrays(np.uint8, (9, 7), elements=st.sampled_from([0, 1, 2, 3, 255]))
PREDICTIONS = hnp.arrays(np.uint8, (9, 7), elements=st.sampled_from([0, 1, 2, 3]))


def papers_pooled_dice(truth, prediction):
    """The papers' formula on stacked one-hot planes, as their evaluation scripts lay them out."""
    keep = truth != 255
    planes_truth = np.stack([(truth == c) & keep for c in (1, 2, 3)]).astype(np.float64).ravel()
    planes_prediction = np.stack([(prediction == c) & keep for c in (1, 2, 3)]).astype(np.float64).ravel()
    intersection = (planes_truth * planes_prediction).sum()
    return (2 * intersection + 1e-5) / (planes_truth.sum() + planes_prediction.sum() + 1e-5)


@given(TRUTHS, PREDICTIONS)
@settings(max_examples=80, deadline=None)
def test_pooled_overlap_is_the_papers_formula(truth, prediction):
    dsc, iou = pooled_overlap(truth, prediction)
    expected = papers_pooled_dice(truth, prediction)
    assert dsc == pytest.approx(expected, abs=1e-12)
    assert iou == pytest.approx(expected / (2 - expected), abs=1e-12)


@given(TRUTHS, PREDICTIONS)
@settings(max_examples=80, deadline=None)
def test_class_overlap_is_the_f1_score_where_the_class_is_shown(truth, prediction):
    overlaps = class_overlap(truth, prediction)
    keep = truth != 255
    for class_id, name in enumerate(("ridge", "silhouette", "ligament"), start=1):
        if not (truth == class_id).any():
            assert overlaps[name] is None
            continue
        expected = f1_score(truth[keep] == class_id, prediction[keep] == class_id, zero_division=0.0)
        assert overlaps[name][0] == pytest.approx(expected, abs=1e-4)


@given(TRUTHS, PREDICTIONS)
@settings(max_examples=80, deadline=None)
def test_confusion_is_scikit_learns(truth, prediction):
    keep = truth != 255
    expected = np.zeros((4, 4), int)
    if keep.any():
        expected = confusion_matrix(truth[keep], prediction[keep], labels=[0, 1, 2, 3])
    np.testing.assert_array_equal(MaskPair(truth, prediction).confusion, expected)


def test_pooling_is_not_a_mean_over_classes():
    truth = np.zeros((10, 10), np.uint8)
    truth[0, :] = 1  # 10 px of ridge, all found
    truth[5, :2] = 3  # 2 px of ligament, none found
    prediction = np.where(truth == 1, 1, 0).astype(np.uint8)
    dsc, iou = pooled_overlap(truth, prediction)
    assert dsc == pytest.approx(20 / 22, abs=1e-6)
    assert iou == pytest.approx(10 / 12, abs=1e-6)
    assert class_overlap(truth, prediction)["ligament"][0] == pytest.approx(0, abs=1e-5)


def test_a_swap_of_two_classes_scores_nothing():
    truth = np.zeros((8, 8), np.uint8)
    truth[2], truth[5] = 1, 2
    swapped = np.choose(truth, [0, 2, 1, 3]).astype(np.uint8)
    assert pooled_overlap(truth, swapped)[0] < 1e-5


def test_two_empty_masks_score_one():
    empty = np.zeros((4, 4), np.uint8)
    assert pooled_overlap(empty, empty) == (1.0, 1.0)
    assert class_overlap(empty, empty) == {"ridge": None, "silhouette": None, "ligament": None}


def test_summary_averages_a_class_over_the_frames_that_show_it():
    ridge = np.zeros((4, 4), np.uint8)
    ridge[0] = 1
    half = np.zeros((4, 4), np.uint8)
    half[0, :2] = 1
    empty = np.zeros((4, 4), np.uint8)
    metric = OverlapMetric()
    frames = [metric.score(MaskPair(*pair)) for pair in ((ridge, ridge), (ridge, half), (empty, half))]
    summary = metric.summarize(frames)
    assert summary.per_class["ridge"]["dsc"] == pytest.approx((1 + 4 / 6) / 2, abs=1e-5)
    assert summary.per_class["ridge"]["iou"] == pytest.approx((1 + 2 / 4) / 2, abs=1e-5)
    assert summary.per_class["ligament"] == {"dsc": None, "iou": None}
    assert summary.pooled["dsc"] == pytest.approx((1 + 4 / 6 + 0) / 3, abs=1e-5)
    assert summary.pooled["macro_dsc"] == summary.per_class["ridge"]["dsc"]


@pytest.mark.parametrize(
    ("truth", "prediction", "message"),
    [
        (np.zeros((4, 4), np.uint8), np.zeros((4, 5), np.uint8), "differ in size"),
        (np.zeros((4, 4), np.int64), np.zeros((4, 4), np.uint8), r"truth must be \(H, W\) uint8"),
        (np.zeros((4, 4), np.uint8), np.full((4, 4), 4, np.uint8), "prediction holds 4"),
        (np.full((4, 4), 64, np.uint8), np.zeros((4, 4), np.uint8), "truth holds 64"),
    ],
)
def test_wrong_masks_are_refused(truth, prediction, message):
    with pytest.raises(ValueError, match=message):
        pooled_overlap(truth, prediction)
