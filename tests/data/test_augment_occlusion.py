"""Smoke and blood: how much of them, of what color, and how they lie over a frame."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from liver_landmark.data.augmentation import Veil, draw_blood, draw_clouds, draw_smoke, lay_over, veil_size

SIZE = (120, 68)


def generator(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_clouds_span_all_of_their_range_and_hang_together() -> None:
    (clouds,) = draw_clouds(SIZE, [generator(0)])
    assert clouds.shape == SIZE[::-1]
    assert clouds.min() == pytest.approx(0, abs=0.05)
    assert clouds.max() == pytest.approx(1, abs=0.05)
    # A fractal: neighbors differ by much less than pixels far apart do.
    assert np.abs(np.diff(clouds, axis=1)).mean() < 0.3 * np.abs(clouds[:, 40:] - clouds[:, :-40]).mean()


def test_each_generator_draws_its_own_clouds() -> None:
    both = draw_clouds(SIZE, [generator(1), generator(2)])
    assert np.array_equal(both[0], draw_clouds(SIZE, [generator(1)])[0])
    assert np.array_equal(both[1], draw_clouds(SIZE, [generator(2)])[0])
    assert not np.array_equal(both[0], both[1])


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10**6), st.floats(0.01, 0.99))
def test_smoke_is_light_gray_and_no_denser_than_asked_for(seed: int, density: float) -> None:
    rng = generator(seed)
    (clouds,) = draw_clouds(SIZE, [rng])
    veil = draw_smoke(clouds, density, rng)
    assert veil.color.min() > 0.5
    assert np.ptp(veil.color) <= 0.06
    assert 0.85 * density < veil.opacity.max() <= density * (1 + 1e-6)
    assert 0 <= veil.opacity.min() < 0.05 * density
    assert np.array_equal(np.argsort(veil.opacity.ravel())[-5:], np.argsort(clouds.ravel())[-5:])


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10**6), st.floats(0.002, 0.5))
def test_blood_is_dark_red_and_covers_the_area_asked_for(seed: int, area: float) -> None:
    rng = generator(seed)
    (clouds,) = draw_clouds(SIZE, [rng])
    veil = draw_blood(clouds, area, rng)
    red, green, blue = veil.color
    assert 0.2 < red <= 0.5
    assert max(green, blue) < 0.1
    assert (veil.opacity >= 0).all()
    assert veil.opacity.max() <= 0.95
    strongest = veil.opacity.max()
    if strongest < 0.7:  # so little of it that the soft edges meet in the middle
        assert area < 0.05
        return
    # The opacity of the middles is drawn; a pixel at the very level may fall to either side.
    for opacity in (0.7, 0.95):
        assert (veil.opacity > 0.5 * opacity).mean() == pytest.approx(area, abs=0.05)
    assert (veil.opacity == 0).any()


def test_half_the_opacity_is_passed_by_just_the_area() -> None:
    rng = generator(4)
    (clouds,) = draw_clouds((400, 225), [rng])
    veil = draw_blood(clouds, 0.1, rng)
    assert (veil.opacity > 0.5 * veil.opacity.max()).mean() == pytest.approx(0.1, abs=2 / veil.opacity.size)


def test_veils_lie_over_the_image_one_after_the_other() -> None:
    image = generator(0).integers(0, 256, (68, 120, 3), np.uint8)
    rng = generator(5)
    clouds = draw_clouds(SIZE, [generator(1), generator(2)])
    blood, smoke = draw_blood(clouds[0], 0.3, rng), draw_smoke(clouds[1], 0.8, rng)
    expected = image / 255
    for veil in (blood, smoke):
        opacity = veil.opacity[..., None]
        expected = expected * (1 - opacity) + veil.color * opacity
    # Two numbers of 8 bits are added, each off by at most a half, and the product is rounded.
    assert np.abs(lay_over(image, [blood, smoke]) - 255 * expected).max() < 1.6
    assert np.abs(lay_over(image, [smoke, blood]) - 255 * expected).max() > 20


def test_where_nothing_is_there_the_image_stays_bit_for_bit() -> None:
    image = generator(0).integers(0, 256, (200, 300, 3), np.uint8)
    opacity = np.zeros((68, 102), np.float32)
    opacity[:, :30] = 0.5
    seen = lay_over(image, [Veil(np.array([1, 0, 0], np.float32), opacity)])
    assert np.array_equal(seen[:, 100:], image[:, 100:])
    assert not np.array_equal(seen[:, :80], image[:, :80])


@pytest.mark.parametrize(
    ("frame", "veil"),
    [((456, 256), (240, 135)), ((1920, 1080), (240, 135)), ((64, 40), (64, 40)), ((1, 900), (1, 135))],
)
def test_veils_have_the_frames_proportions(frame: tuple[int, int], veil: tuple[int, int]) -> None:
    assert veil_size(*frame) == veil
