"""Averages over views against stand-in models whose answer to a mirrored or scaled frame is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from liver_landmark import LiverLandmarkImageProcessor
from liver_landmark.inference.views import AveragedViews, averaged_forward
from tiny_models import tiny_model


def pixels(height: int = 64, width: int = 96, seed: int = 0) -> Tensor:
    return torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(seed))


def equivariant(pixel_values: Tensor) -> Tensor:
    """Logits of each place from its own pixels alone: mirroring the frame mirrors them."""
    red, green, blue = F.avg_pool2d(pixel_values, 4).unbind(dim=1)
    return torch.stack([red, 2 * green, blue - red, red * blue], dim=1)


def one_sided(pixel_values: Tensor) -> Tensor:
    """Says ridge on the left of whatever it is shown, with probability 3/4, and else background."""
    batch, _, height, width = pixel_values.shape
    probability = torch.full((batch, 4, height // 4, width // 4), 1e-30)
    probability[:, 1], probability[:, 0] = 0.75, 0.25
    right = slice(width // 8, None)
    probability[:, :2, :, right] = probability[:, :2, :, right].flip(1)
    return probability.log()


def test_one_view_is_the_plain_forward():
    model = tiny_model()
    frames = pixels(96, 128)
    with torch.no_grad():
        expected = model(frames).logits.log_softmax(dim=1)
    found, variance = averaged_forward(
        lambda values: model(pixel_values=values).logits, [frames], AveragedViews(flip=False)
    )
    torch.testing.assert_close(found, expected)
    assert variance.shape == (2, 24, 32)
    assert variance.eq(0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_mirrored_views_of_a_model_without_sides_agree(dtype):
    """Averaged in single precision, whatever the model's."""

    def forward(values: Tensor) -> Tensor:
        return equivariant(values).to(dtype)

    found, variance = averaged_forward(forward, [pixels()], AveragedViews())
    assert found.dtype == variance.dtype == torch.float32
    torch.testing.assert_close(found, forward(pixels()).float().log_softmax(dim=1))
    assert variance.max() < 1e-12


def test_certainty_stays_finite():
    certain = torch.full((1, 4, 8, 8), -1e4)
    certain[:, 2] = 1e4
    found, variance = averaged_forward(lambda _: certain, [pixels()], AveragedViews(flip=False))
    assert torch.isfinite(found).all()
    assert found.argmax(dim=1).eq(2).all()
    assert variance.eq(0).all()


def test_mean_and_variance_of_a_one_sided_model():
    found, variance = averaged_forward(one_sided, [pixels()], AveragedViews())
    torch.testing.assert_close(found[:, :2].exp(), torch.full((2, 2, 16, 24), 0.5))
    # Two classes at 3/4 and 1/4: each varies by (1/4)².
    torch.testing.assert_close(variance, torch.full((2, 16, 24), 2 / 16))


@settings(max_examples=30, deadline=None)
@given(
    st.integers(0, 10**6), st.booleans(), st.sampled_from([(1.0,), (1.0, 0.5), (0.5, 1.5), (1.5, 1.0, 0.5)])
)
def test_means_are_those_of_each_view_computed_by_itself(seed, flip, scales):
    random = np.random.default_rng(seed)
    sizes = [(int(64 * scale), int(96 * scale)) for scale in scales]
    frames = [torch.from_numpy(random.normal(size=(2, 3, *size))).float() for size in sizes]
    kernel = torch.from_numpy(random.normal(size=(4, 3, 4, 3))).float()  # of another right than left side

    def forward(values: Tensor) -> Tensor:
        return F.conv2d(values, kernel, stride=4)

    base = tuple(forward(frames[0]).shape[-2:])
    found, variance = averaged_forward(forward, frames, AveragedViews(flip, scales))
    views = []
    for frame in frames:
        for mirrored in (False, True) if flip else (False,):
            logits = forward(torch.flip(frame, [3])) if mirrored else forward(frame)
            probability = np.exp(logits.double().numpy())
            probability /= probability.sum(axis=1, keepdims=True)
            if mirrored:
                probability = probability[..., ::-1].copy()
            resized = F.interpolate(torch.from_numpy(probability), base, mode="bilinear", antialias=True)
            views.append(resized.numpy())
    assert len(views) == AveragedViews(flip, scales).count
    np.testing.assert_allclose(found.exp(), np.mean(views, axis=0), atol=1e-5)
    np.testing.assert_allclose(variance, np.var(views, axis=0).sum(axis=1), atol=1e-5)
    np.testing.assert_allclose(found.exp().sum(dim=1), 1, atol=1e-5)


def test_sizes_follow_the_processor():
    processor = LiverLandmarkImageProcessor(size={"height": 256, "width": 448})
    views = AveragedViews(scales=(1.0, 0.75, 1.25, 0.01))
    assert views.view_sizes(processor) == [(256, 448), (192, 352), (320, 576), (32, 32)]
    odd = LiverLandmarkImageProcessor(size={"height": 100, "width": 100})
    assert AveragedViews().view_sizes(odd) == [(100, 100)]  # the processor's own is the model's affair


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: AveragedViews(scales=()), "give at least one"),
        (lambda: AveragedViews(scales=(1.0, 0.0)), "scales: 0 is not above 0"),
        (lambda: AveragedViews(scales=(float("nan"),)), "scales: nan"),
        (lambda: AveragedViews(scales=(5,)), "scales: 5 is not"),
        (lambda: AveragedViews(flip="yes"), "flip='yes'"),
        (
            lambda: AveragedViews(scales=(1, 1.01)).view_sizes(LiverLandmarkImageProcessor()),
            "1 and 1.01 both come to 1024×1024 px",
        ),
        (
            lambda: AveragedViews().view_sizes(LiverLandmarkImageProcessor(do_resize=False)),
            "do_resize",
        ),
        (lambda: averaged_forward(equivariant, [], AveragedViews()), "0 sizes for 1 scales"),
    ],
)
def test_what_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
