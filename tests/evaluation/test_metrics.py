"""Overlap and presence against numbers worked out by hand and against scikit-learn."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics import confusion_matrix, f1_score

from liver_landmark.evaluation import class_overlap, pooled_overlap
from liver_landmark.evaluation.metrics import MaskPair, OverlapMetric, PresenceMetric
from liver_landmark.model.landmarks_liver_landmark import LandmarkTable

NAMES = ("ridge", "silhouette", "ligament")
MASKS = hnp.arrays(np.uint8, (2, 9, 7), elements=st.sampled_from([0, 1, 2, 3, 255]))


def papers_pooled_dice(truth, prediction):
    """The papers' formula on stacked one-hot planes, as their evaluation scripts lay them out."""
    keep = truth != 255
    a, b = (np.stack([(mask == c) & keep for c in (1, 2, 3)]).astype(float) for mask in (truth, prediction))
    return (2 * (a * b).sum() + 1e-5) / (a.sum() + b.sum() + 1e-5)


@given(MASKS)
@settings(max_examples=120, deadline=None)
def test_overlap_is_the_papers_formula_and_scikit_learns(masks):
    truth, prediction = masks[0], np.where(masks[1] == 255, 0, masks[1])
    dsc, iou = pooled_overlap(truth, prediction)
    expected = papers_pooled_dice(truth, prediction)
    assert dsc == pytest.approx(expected, abs=1e-12)
    assert iou == pytest.approx(expected / (2 - expected), abs=1e-12)
    keep = truth != 255
    counts = np.zeros((4, 4), int)
    if keep.any():
        counts = confusion_matrix(truth[keep], prediction[keep], labels=[0, 1, 2, 3])
    np.testing.assert_array_equal(MaskPair(truth, prediction).confusion, counts)
    overlaps = class_overlap(truth, prediction)
    for class_id, name in enumerate(NAMES, start=1):
        if (truth == class_id).any():
            score = f1_score(truth[keep] == class_id, prediction[keep] == class_id, zero_division=0.0)
            assert overlaps[name][0] == pytest.approx(score, abs=1e-4)
        else:
            assert overlaps[name] is None


@given(st.integers(2, 254), st.integers(0, 10**6))
@settings(max_examples=30, deadline=None)
def test_any_number_of_landmarks_is_counted(count, seed):
    table = LandmarkTable.from_names([f"n{index}" for index in range(count)])
    rng = np.random.default_rng(seed)
    truth, prediction = rng.integers(0, count + 1, (2, 40, 40)).astype(np.uint8)
    truth[:4] = 255
    counts = confusion_matrix(truth[4:].ravel(), prediction[4:].ravel(), labels=range(count + 1))
    np.testing.assert_array_equal(MaskPair(truth, prediction, table).confusion, counts)


def test_two_empty_masks_score_one_and_two_swapped_classes_nothing():
    empty = np.zeros((8, 8), np.uint8)
    assert pooled_overlap(empty, empty) == (1.0, 1.0)
    assert class_overlap(empty, empty) == dict.fromkeys(NAMES)
    truth = empty.copy()
    truth[2], truth[5] = 1, 2
    assert pooled_overlap(truth, np.choose(truth, [0, 2, 1, 3]).astype(np.uint8))[0] < 1e-5


def test_summary_averages_a_class_over_the_frames_that_show_it():
    ridge, half, empty = np.zeros((3, 4, 4), np.uint8)
    ridge[0], half[0, :2] = 1, 1
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


def frame(shown, found):
    truth = {f"truth_px_{name}": 40 * (name in shown) for name in NAMES}
    return truth | {f"predicted_px_{name}": int(name in found) for name in NAMES}


def test_presence_of_each_landmark_is_counted_by_frames():
    both, one = {"ridge", "ligament"}, {"ridge"}
    summary = PresenceMetric().summarize(
        [frame(*pair) for pair in ((both, both), (both, one), (one, both), (one, one))]
    )
    assert summary.per_class["ligament"] == {
        "presence_accuracy": 0.5,
        "frames_shown": 2,
        "frames_missed": 1,
        "frames_invented": 1,
    }
    assert summary.per_class["ridge"]["presence_accuracy"] == 1.0
    # Absent on both sides everywhere: the model is right to say nothing.
    assert summary.per_class["silhouette"]["presence_accuracy"] == 1.0
    assert summary.pooled["presence_accuracy"] == pytest.approx(2.5 / 3)
