"""The loss against slower, obvious versions and closed forms."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from liver_landmark.model.losses_liver_landmark import landmark_loss


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
