"""Light, blur and noise, against formulas and SciPy."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.ndimage

from liver_landmark.data.augmentation import add_noise, blur, relight


def test_relighting_is_the_formula_channel_by_channel() -> None:
    image = np.random.default_rng(0).integers(0, 256, (9, 11, 3), np.uint8)
    gain = np.array([1.2, 0.9, 0.5])
    expected = np.clip(0.5 + (image / 255 * gain - 0.5) * 1.3, 0, 1) ** 0.7 * 255
    assert np.abs(relight(image, gain, contrast=1.3, gamma=0.7) - expected).max() <= 0.5 + 1e-9


@pytest.mark.parametrize(("height", "sigma_px", "own_px"), [(108, 20.0, 2.0), (270, 6.0, 1.5)])
def test_blur_is_a_gaussian_of_the_frames_own_px(height: int, sigma_px: float, own_px: float) -> None:
    image = np.random.default_rng(0).integers(0, 256, (height, 60, 3), np.uint8)
    expected = scipy.ndimage.gaussian_filter(image.astype(float), (own_px, own_px, 0), mode="mirror")
    # OpenCV's 8-bit kernel ends at three standard deviations and rounds its weights.
    assert np.abs(blur(image, sigma_px) - expected).max() < 2.5
    assert np.abs(image - expected).mean() > 30


def test_hardly_any_blur_is_none() -> None:
    image = np.random.default_rng(0).integers(0, 256, (108, 60, 3), np.uint8)
    assert np.array_equal(blur(image, 1.0), image)


@pytest.mark.parametrize(("height", "grain_px"), [(200, 1), (541, 1), (1080, 2), (1081, 2)])
def test_noise_is_gray_with_the_strength_asked_for(height: int, grain_px: int) -> None:
    image = np.full((height, 301, 3), 128, np.uint8)
    noise = add_noise(image, 0.05, np.random.default_rng(3)).astype(float) - 128
    assert noise.shape == image.shape
    assert (noise == noise[..., :1]).all()
    assert noise.std() == pytest.approx(0.05 * 255, rel=0.03)
    assert abs(noise.mean()) < 0.3
    plane = noise[..., 0]
    assert (plane[:grain_px, :grain_px] == plane[0, 0]).all()
    # Neighbors in one grain are equal, those of two grains have nothing to do with each other.
    shifted = plane[:, grain_px:] * plane[:, :-grain_px]
    assert abs(shifted.mean()) < 0.05 * plane.var()


def test_noise_stops_at_black_and_white() -> None:
    image = np.zeros((50, 50, 3), np.uint8)
    image[25:] = 255
    noisy = add_noise(image, 0.1, np.random.default_rng(0))
    assert (noisy[:25] < 128).all()
    assert (noisy[25:] > 128).all()


def test_what_is_given_stays_as_it_was() -> None:
    image = np.random.default_rng(0).integers(0, 256, (108, 60, 3), np.uint8)
    before = image.copy()
    image.setflags(write=False)
    relight(image, np.ones(3), 1.2, 1.0)
    blur(image, 20.0)
    add_noise(image, 0.1, np.random.default_rng(0))
    assert np.array_equal(image, before)
