"""Surface distances against brute force, scipy's distance transform and rules by hand."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from liver_landmark.evaluation.distances import (
    DistanceMetric,
    assd_px,
    hd95_px,
    surface_distances,
    surface_points,
)
from liver_landmark.evaluation.metrics import MaskPair

MASKS = hnp.arrays(np.bool_, (11, 14), elements=st.booleans())


def with_class(shape, row, class_id):
    mask = np.zeros(shape, np.uint8)
    if row is not None:
        mask[row] = class_id
    return mask


def scipy_surface(mask):
    return mask & ~ndimage.binary_erosion(mask, ndimage.generate_binary_structure(2, 1), border_value=0)


def all_pairs(truth, prediction):
    """Every surface pixel against every other, O(n²)."""
    a, b = np.argwhere(scipy_surface(truth)), np.argwhere(scipy_surface(prediction))
    lengths = np.sqrt(((a[:, None] - b[None]) ** 2).sum(-1))
    return lengths.min(1), lengths.min(0)


@given(MASKS, MASKS)
@settings(max_examples=80, deadline=None)
def test_equal_to_brute_force(truth, prediction):
    assume(truth.any() and prediction.any())
    distances = surface_distances(truth, prediction)
    expected = all_pairs(truth, prediction)
    for got, want in zip(distances, expected, strict=True):
        np.testing.assert_allclose(np.sort(got), np.sort(want), atol=1e-12)
    assert assd_px(distances) == pytest.approx(np.concatenate(expected).mean(), abs=1e-12)
    assert hd95_px(distances) == pytest.approx(max(np.percentile(d, 95) for d in expected), abs=1e-12)
    back = surface_distances(prediction, truth)
    assert (assd_px(back), hd95_px(back)) == pytest.approx(
        (assd_px(distances), hd95_px(distances)), abs=1e-12
    )


@given(MASKS)
@settings(max_examples=40, deadline=None)
def test_surface_is_the_mask_without_its_erosion(mask):
    points = surface_points(mask)
    drawn = np.zeros(mask.shape, bool)
    drawn[points[:, 1], points[:, 0]] = True
    np.testing.assert_array_equal(drawn, scipy_surface(mask))
    assert len(points) == drawn.sum()


def test_equal_to_distance_transforms_at_full_size():
    rng = np.random.default_rng(3)
    blobs = ndimage.gaussian_filter(rng.normal(size=(2, 300, 400)), (0, 9, 9))
    truth, prediction = blobs > np.quantile(blobs, 0.8)
    surfaces = scipy_surface(truth), scipy_surface(prediction)
    for found, own, other in zip(surface_distances(truth, prediction), surfaces, surfaces[::-1], strict=True):
        transform = ndimage.distance_transform_edt(~other)[own]
        np.testing.assert_allclose(np.sort(found), np.sort(transform), atol=1e-9)


def test_a_swap_of_two_far_classes_costs_their_distance():
    truth = with_class((1024, 1024), 300, 1) + with_class((1024, 1024), 628, 2)
    columns = DistanceMetric().score(MaskPair(truth, np.choose(truth, [0, 2, 1, 3]).astype(np.uint8)))
    assert {
        columns[f"{kind}_px_{name}"] for kind in ("assd", "hd95") for name in ("ridge", "silhouette")
    } == {328}


def test_rule_for_empty_masks():
    metric = DistanceMetric()
    frames = []
    for rows in ((3, 5), (3, None), (None, 5), (None, None)):
        pair = MaskPair(*(with_class((30, 40), row, 3) for row in rows))
        frames.append(pair.pixel_counts() | metric.score(pair))
    for kind in ("assd", "hd95"):
        assert [frame[f"{kind}_px_ligament"] for frame in frames] == [2, 50, 50, None]
    summary = metric.summarize(frames)
    assert summary.per_class["ligament"] == {
        "assd_px": 34,
        "hd95_px": 34,
        "assd_px_both": 2,
        "hd95_px_both": 2,
        "frames_one_empty": 2,
        "frames_both_empty": 1,
    }
    assert summary.per_class["ridge"]["assd_px"] is None
    assert summary.per_class["ridge"]["frames_both_empty"] == 4
    assert summary.pooled["assd_px"] == 34


def test_pooled_mean_runs_over_pairs_of_frame_and_landmark():
    metric = DistanceMetric()
    truth, prediction = np.zeros((2, 30, 40), np.uint8)
    truth[2], prediction[4] = 1, 1
    truth[20], prediction[28] = 2, 2
    frames = [MaskPair(truth, prediction), MaskPair(with_class((30, 40), 7, 1), with_class((30, 40), 8, 1))]
    summary = metric.summarize([pair.pixel_counts() | metric.score(pair) for pair in frames])
    assert summary.pooled["assd_px"] == pytest.approx((2 + 8 + 1) / 3)


def test_ignored_pixels_belong_to_no_mask():
    truth, prediction = np.zeros((2, 30, 40), np.uint8)
    truth[5], prediction[5] = 1, 1
    prediction[25] = 1
    truth[20:] = 255
    assert DistanceMetric().score(MaskPair(truth, prediction))["assd_px_ridge"] == 0


def test_no_distance_to_an_empty_mask():
    line = np.zeros((5, 5), bool)
    line[2] = True
    with pytest.raises(ValueError, match="not empty"):
        surface_distances(line, np.zeros((5, 5), bool))
