"""The loss against slower, obvious versions and closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from liver_landmark.model.losses_liver_landmark import (
    blurred,
    distance_px,
    inverse_depth_loss,
    landmark_loss,
    occlusion_edge_loss,
    occlusion_edges,
    soft_skeleton,
)


def slow_loss(
    logits: torch.Tensor, labels: torch.Tensor, dice_weight: float, bce_weight: float, foreground: float
) -> float:
    """The same definition pixel by pixel, in Python floats."""
    total = 0.0
    batch, classes, height, width = logits.shape
    for image in range(batch):
        intersection, mass, truth = [0.0] * classes, [0.0] * classes, [0] * classes
        entropy, weights = 0.0, 0.0
        for y in range(height):
            for x in range(width):
                label = int(labels[image, y, x])
                if label == 255:
                    continue
                scores = [math.exp(float(logits[image, c, y, x])) for c in range(classes)]
                p = [score / sum(scores) for score in scores]
                weight = foreground if label > 0 else 1.0
                entropy += (
                    weight
                    * -sum(math.log(p[c] if c == label else 1 - p[c]) for c in range(classes))
                    / classes
                )
                weights += weight
                for c in range(classes):
                    mass[c] += p[c]
                    intersection[c] += p[c] * (c == label)
                    truth[c] += c == label
        dice = [
            1 - 2 * intersection[c] / max(mass[c] + truth[c], 1.0) for c in range(1, classes) if truth[c] > 0
        ]
        total += dice_weight * (sum(dice) / len(dice) if dice else 0.0)
        total += bce_weight * (entropy / max(weights, 1.0))
    return total / batch


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**20),
    ids=st.lists(st.sampled_from([0, 1, 2, 3, 255]), min_size=1, max_size=5, unique=True),
    dice=st.floats(0.1, 3),
    bce=st.floats(0, 3),
    foreground=st.floats(0.5, 5),
)
def test_equals_the_slow_version(seed, ids, dice, bce, foreground) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(2, 4, 5, 6, generator=generator)
    labels = torch.tensor(ids)[torch.randint(0, len(ids), (2, 5, 6), generator=generator)]
    expected = slow_loss(logits, labels, dice, bce, foreground)
    assert float(landmark_loss(logits, labels, dice, bce, foreground)) == pytest.approx(expected, rel=1e-4)


def test_ignored_pixels_have_no_gradient() -> None:
    logits = torch.randn(1, 4, 8, 8, requires_grad=True)
    labels = torch.randint(0, 4, (1, 8, 8))
    labels[:, :3] = 255
    landmark_loss(logits, labels).backward()
    assert torch.all(logits.grad[:, :, :3] == 0)
    assert torch.all(logits.grad[:, :, 3:].abs().sum(1) > 0)


@pytest.mark.parametrize(("scale", "value"), [(1, 0), (1, 255), (1e4, None)])
def test_frames_without_any_landmark_and_extreme_logits_stay_finite(scale: float, value: int | None) -> None:
    logits = (scale * torch.randn(2, 4, 8, 8)).requires_grad_()
    labels = torch.randint(0, 4, (2, 8, 8)) if value is None else torch.full((2, 8, 8), value)
    loss = landmark_loss(logits, labels)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(logits.grad).all()


def test_is_computed_in_fp32_for_half_precision_logits() -> None:
    logits = torch.randn(1, 4, 8, 8).bfloat16()
    labels = torch.randint(0, 4, (1, 8, 8))
    loss = landmark_loss(logits, labels)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, landmark_loss(logits.float(), labels))


def test_labels_at_full_size_see_bilinear_logits() -> None:
    logits = torch.randn(1, 4, 8, 8)
    labels = torch.randint(0, 4, (1, 32, 32))
    upsampled = torch.nn.functional.interpolate(logits, size=(32, 32), mode="bilinear", align_corners=False)
    torch.testing.assert_close(landmark_loss(logits, labels), landmark_loss(upsampled, labels))


def with_id(number: int) -> torch.Tensor:
    labels = torch.zeros(2, 8, 8, dtype=torch.long)
    labels[0, 3, 3] = number
    return labels


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (with_id(4), r"id 4\b"),
        (with_id(-1), r"id -1\b"),
        (with_id(254), r"id 254\b"),
        (with_id(0)[:1], "B = 2"),
        (torch.full((2, 8, 8), 0.7), r"integer class ids, got torch\.float32"),
    ],
)
def test_labels_that_cannot_be_are_refused(labels: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        landmark_loss(torch.zeros(2, 4, 8, 8), labels)


# The losses for thin curves.


def planes(*strokes: tuple[slice, slice], size: int = 24) -> torch.Tensor:
    """(1, strokes, size, size) of 0 and 1."""
    result = torch.zeros(1, len(strokes), size, size)
    for index, stroke in enumerate(strokes):
        result[0, index][stroke] = 1
    return result


def certain(labels: torch.Tensor, sure: float = 30.0) -> torch.Tensor:
    """Logits whose softmax is the labels."""
    return sure * torch.nn.functional.one_hot(labels, 4).permute(0, 3, 1, 2).float()


def strokes() -> torch.Tensor:
    labels = torch.zeros(1, 32, 32, dtype=torch.long)
    labels[:, 4:9, 3:28], labels[:, 20:25, 5:30] = 1, 2
    return labels


TERMS = ("focal_tversky_weight", "cldice_weight", "skeleton_recall_weight", "dice_weight")
ONE = {"dice_weight": 0.0, "bce_weight": 0.0}


@pytest.mark.parametrize("term", TERMS)
def test_overlap_terms_are_nothing_for_the_truth_and_one_for_its_absence(term: str) -> None:
    labels = strokes()
    right = float(landmark_loss(certain(labels), labels, **(ONE | {term: 1.0})))
    nothing = float(landmark_loss(certain(torch.zeros_like(labels)), labels, **(ONE | {term: 1.0})))
    assert right == pytest.approx(0, abs=1e-3)
    assert nothing == pytest.approx(1, abs=1e-3)


def test_focal_tversky_by_hand() -> None:
    labels, found = strokes(), strokes()
    found[:, 4:9, 3:8] = 0  # 25 of 125 px missed
    found[:, 30:32, 0:5] = 2  # 10 px invented, beside 125 found
    loss = float(landmark_loss(certain(found), labels, **(ONE | {"focal_tversky_weight": 1.0})))
    ridge, silhouette = 100 / (100 + 0.7 * 25), 125 / (125 + 0.3 * 10)
    assert loss == pytest.approx(((1 - ridge) ** 0.75 + (1 - silhouette) ** 0.75) / 2, abs=1e-4)


def test_skeleton_recall_sees_the_middle_of_strokes_only() -> None:
    labels, middle, rim = strokes(), torch.zeros(1, 32, 32, dtype=torch.long), strokes()
    middle[:, 5:8, 3:28], middle[:, 21:24, 5:30] = 1, 2
    rim[:, 5:8], rim[:, 21:24] = 0, 0
    settings = ONE | {"skeleton_recall_weight": 1.0}
    assert float(landmark_loss(certain(middle), labels, **settings)) == pytest.approx(0, abs=1e-3)
    assert float(landmark_loss(certain(rim), labels, **settings)) > 0.9


@pytest.mark.parametrize("term", ["cldice_weight", "skeleton_recall_weight"])
@pytest.mark.parametrize("size", [256, 1024])
def test_wide_strokes_of_large_labels_have_a_skeleton_too(term: str, size: int) -> None:
    labels = torch.zeros(1, size, size, dtype=torch.long)
    top, width = size // 3, 30 * size // 1024  # L3D's 30 px on 1024²
    labels[:, top : top + width, size // 8 : size - size // 8] = 1
    settings = ONE | {term: 1.0}
    assert float(landmark_loss(certain(labels), labels, **settings)) < 0.1
    # Some skeleton is found in noise: clDice, a product, has no slope without any.
    noise = torch.randn(1, 4, size, size, generator=torch.Generator().manual_seed(0)).requires_grad_()
    landmark_loss(noise, labels, **settings).backward()
    middle = noise.grad[0, 1, top + width // 2 - 1 : top + width // 2 + 1, size // 4 : size // 2]
    assert middle.mean() < 0


def test_softening_leaves_ignored_pixels_out() -> None:
    labels = strokes()
    labels[:, :, 16:] = 255
    logits = torch.randn(1, 4, 32, 32, generator=torch.Generator().manual_seed(0))
    settings = {"dice_weight": 0.0, "label_softening_px": 2.0}
    whole = float(landmark_loss(logits, strokes(), **settings))
    # The stroke goes on behind what is ignored, or ends there: what is left of it is softened alike.
    found = float(landmark_loss(logits, labels, **settings))
    left = float(landmark_loss(logits[..., :16], strokes()[..., :16], **settings))
    assert found == pytest.approx(left, rel=0.02)
    assert whole != pytest.approx(found, rel=1e-6)


def test_cldice_forgives_width_and_not_gaps() -> None:
    labels, thin, gap = strokes(), torch.zeros(1, 32, 32, dtype=torch.long), strokes()
    thin[:, 5:8, 3:28], thin[:, 21:24, 5:30] = 1, 2
    gap[:, :, 12:16] = 0
    cldice, dice = ONE | {"cldice_weight": 1.0}, ONE | {"dice_weight": 1.0}
    assert float(landmark_loss(certain(thin), labels, **cldice)) < 0.1
    assert float(landmark_loss(certain(thin), labels, **dice)) > 0.2
    assert float(landmark_loss(certain(gap), labels, **cldice)) > 0.05


def test_boundary_costs_by_distance() -> None:
    labels = torch.zeros(1, 32, 32, dtype=torch.long)
    labels[:, 14:18, 2:30] = 1
    costs = []
    for shift in (0, 4, 8, 12):
        found = torch.zeros_like(labels)
        found[:, 14 + shift : 18 + shift, 2:30] = 1
        costs.append(float(landmark_loss(certain(found), labels, **(ONE | {"boundary_weight": 1.0}))))
    assert costs == sorted(costs)
    assert costs[0] < 0 < costs[1]


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 9999))
def test_distances_are_within_a_tenth_of_the_exact_ones(seed: int) -> None:
    rng = np.random.default_rng(seed)
    stroke = np.zeros((40, 40), bool)
    for row, column in rng.integers(0, 40, (rng.integers(1, 5), 2)):
        stroke[row, column] = True
    found = distance_px(torch.from_numpy(stroke)[None, None].float())[0, 0].numpy()
    exact = np.minimum(ndimage.distance_transform_edt(~stroke), 24)
    assert np.abs(found - exact).max() <= 0.13 * exact.max() + 1


@pytest.mark.parametrize("width", [1, 3, 5, 7])
def test_the_soft_skeleton_of_a_bar_is_its_middle(width: int) -> None:
    top = 10 - width // 2
    bar = planes((slice(top, top + width), slice(2, 22)))
    skeleton = soft_skeleton(bar)[0, 0]
    inner = skeleton[:, 6:18]
    assert torch.equal(inner.nonzero()[:, 0].unique(), torch.tensor([10]))
    assert float(inner[10].min()) == 1


@pytest.mark.parametrize("sigma", [0.7, 1.0, 2.5])
def test_softened_labels_are_scipys_gaussian(sigma: float) -> None:
    values = torch.rand(1, 2, 20, 30, generator=torch.Generator().manual_seed(0)).double()
    expected = ndimage.gaussian_filter(
        values[0, 1].numpy(), sigma, mode="nearest", radius=math.ceil(3 * sigma)
    )
    np.testing.assert_allclose(blurred(values, sigma)[0, 1].numpy(), expected, atol=1e-12)


@pytest.mark.parametrize("term", [*TERMS, "boundary_weight"])
def test_terms_do_not_see_ignored_pixels_and_stay_finite(term: str) -> None:
    labels = strokes()
    labels[:, :, 20:] = 255
    logits = torch.randn(1, 4, 32, 32, requires_grad=True)
    loss = landmark_loss(logits, labels, **(ONE | {term: 1.0}))
    loss.backward()
    assert torch.isfinite(logits.grad).all()
    assert logits.grad[..., :20].abs().sum() > 0
    assert logits.grad[..., 24:].abs().sum() == 0 or term == "cldice_weight"
    other = logits.detach().clone()
    other[..., 20:] = 7
    torch.testing.assert_close(landmark_loss(other, labels, **(ONE | {term: 1.0})), loss.detach())


# Depth.


@settings(max_examples=25, deadline=None)
@given(st.floats(0.1, 10), st.floats(-5, 5), st.integers(0, 999))
def test_inverse_depth_has_no_scale_and_no_shift(scale: float, shift: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    truth = 0.2 + torch.rand(2, 12, 16, generator=generator)
    truth[:, :3] = 0  # unknown
    prediction = truth.clone()
    prediction[:, :3] = 100.0  # which nothing sees
    assert float(inverse_depth_loss(scale * prediction + shift, truth)) == pytest.approx(0, abs=1e-3)
    other = prediction + torch.randn(2, 12, 16, generator=generator)
    assert float(inverse_depth_loss(other, truth)) > 0.1


def test_unknown_depth_has_a_gradient_of_nothing() -> None:
    prediction = torch.randn(1, 8, 8, requires_grad=True)
    loss = inverse_depth_loss(prediction, torch.zeros(1, 16, 16))
    loss.backward()
    assert float(loss.detach()) == 0
    assert torch.equal(prediction.grad, torch.zeros(1, 8, 8))


def test_occlusion_edges_lie_where_depth_jumps() -> None:
    depth = torch.full((1, 10, 10), 100.0)
    depth[:, :, 5:] = 50.0  # another surface, at half the distance
    depth[:, 7:] += torch.arange(3)[:, None]  # and a slope that is no edge
    depth[:, 0] = math.inf
    inverse = 1 / depth
    edges = occlusion_edges(inverse)[0]
    assert edges[1:, 4:6].all()
    assert int(edges.sum()) == 2 * 9
    perfect = torch.where(edges, 30.0, -30.0)[None]
    assert float(occlusion_edge_loss(perfect, inverse)) == pytest.approx(0, abs=1e-3)
    assert float(occlusion_edge_loss(-perfect, inverse)) > 1
