"""Augmentation: image and mask together, against a slower obvious version."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from liver_landmark.data.augment import Augmentation, AugmentationConfig, relight, rotate_frame
from liver_landmark.model.landmarks_liver_landmark import PALETTE

HEIGHT, WIDTH = 40, 64


def blobs(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A frame that shows each class of its mask in that class's colour."""
    mask = np.kron(np.random.default_rng(seed).integers(0, 4, (5, 8)), np.ones((8, 8))).astype(np.uint8)
    return PALETTE[mask], mask


def slowly_rotated(picture: np.ndarray, degrees: float, outside: float, nearest: bool) -> np.ndarray:
    """Each pixel looks up, by itself, where it came from; the origin is the frame's centre, y is down."""
    height, width = picture.shape[:2]
    center_x, center_y = (width - 1) / 2, (height - 1) / 2
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))

    def at(y: int, x: int) -> np.ndarray:
        inside = 0 <= y < height and 0 <= x < width
        return picture[y, x].astype(float) if inside else np.full(picture.shape[2:], outside)

    result = np.zeros(picture.shape)
    for y in range(height):
        for x in range(width):
            dx, dy = x - center_x, y - center_y
            # Counter-clockwise as seen, in coordinates whose y points down.
            source_x, source_y = center_x + cos * dx - sin * dy, center_y + sin * dx + cos * dy
            if nearest:
                result[y, x] = at(math.floor(source_y + 0.5), math.floor(source_x + 0.5))
                continue
            left, top = math.floor(source_x), math.floor(source_y)
            right_part, lower_part = source_x - left, source_y - top
            result[y, x] = (
                at(top, left) * (1 - right_part) * (1 - lower_part)
                + at(top, left + 1) * right_part * (1 - lower_part)
                + at(top + 1, left) * (1 - right_part) * lower_part
                + at(top + 1, left + 1) * right_part * lower_part
            )
    return result


@pytest.mark.parametrize("degrees", [-170.0, -33.0, 7.5, 90.0, 121.0])
def test_rotation_is_the_slow_one(degrees: float) -> None:
    rng = np.random.default_rng(0)
    image = np.kron(rng.integers(0, 256, (10, 16, 3)), np.ones((4, 4, 1))).astype(np.uint8)
    _, mask = blobs(1)
    rotated_image, rotated_mask = rotate_frame(image, mask, degrees, outside_id=255)
    # OpenCV computes with 1/32 px, so a pixel beside an edge may differ by that part of the edge.
    difference = np.abs(rotated_image - slowly_rotated(image, degrees, outside=0, nearest=False))
    assert difference.mean() < 1.5
    assert np.percentile(difference, 99) < 20
    wrong = rotated_mask != slowly_rotated(mask, degrees, outside=255, nearest=True)
    assert wrong.mean() < 0.01
    assert set(np.unique(rotated_mask)) <= {0, 1, 2, 3, 255}


def test_a_quarter_turn_of_a_square_is_exact() -> None:
    rng = np.random.default_rng(0)
    image, mask = rng.integers(0, 256, (31, 31, 3), np.uint8), rng.integers(0, 4, (31, 31), np.uint8)
    rotated_image, rotated_mask = rotate_frame(image, mask, 90, outside_id=255)
    assert np.array_equal(rotated_image, np.rot90(image))
    assert np.array_equal(rotated_mask, np.rot90(mask))


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 1000), st.integers(0, 5), st.integers(0, 50))
def test_image_and_mask_stay_together(seed: int, epoch: int, index: int) -> None:
    config = AugmentationConfig(horizontal_flip=0.5, vertical_flip=0.5, rotation=0.8, rotation_degrees=180)
    image, mask = Augmentation(config, seed)(*blobs(seed), epoch, index)
    assert image.shape == (HEIGHT, WIDTH, 3)
    assert image.dtype == mask.dtype == np.uint8
    # The frame shows its mask: only pixels that a rotation has blended across an edge may differ.
    pure = (image == 0).sum(axis=2) + (image == 255).sum(axis=2) == 3
    assert (image[pure] == PALETTE[mask[pure]]).all(axis=1).mean() > 0.97
    assert pure.mean() > 0.3


@pytest.mark.parametrize(
    ("field", "turned"),
    [("horizontal_flip", lambda x: x[:, ::-1]), ("vertical_flip", lambda x: x[::-1])],
)
def test_a_flip_is_a_flip(field: str, turned) -> None:
    image, mask = blobs(0)
    flipped = Augmentation(AugmentationConfig(**{field: 1.0}), seed=0)(image, mask, 0, 0)
    assert np.array_equal(flipped[0], turned(image))
    assert np.array_equal(flipped[1], turned(mask))


def test_the_defaults_change_nothing() -> None:
    image, mask = blobs(0)
    varied = Augmentation(AugmentationConfig(), seed=0)(image, mask, 3, 4)
    assert np.array_equal(varied[0], image)
    assert np.array_equal(varied[1], mask)


def test_the_input_is_left_as_it_was() -> None:
    image, mask = blobs(0)
    image.setflags(write=False)
    mask.setflags(write=False)
    config = AugmentationConfig(1.0, 1.0, 1.0, 30, brightness=0.5, color=0.5, gamma=0.5, contrast=0.5)
    Augmentation(config, seed=0)(image, mask, 0, 0)


def test_same_seed_epoch_and_index_give_the_same_frame_and_others_do_not() -> None:
    config = AugmentationConfig(rotation=1.0, rotation_degrees=90, brightness=0.5)
    frame = blobs(0)
    first = Augmentation(config, 1)(*frame, 2, 3)[0]
    assert np.array_equal(first, Augmentation(config, 1)(*frame, 2, 3)[0])
    for seed, epoch, index in ((2, 2, 3), (1, 3, 3), (1, 2, 4)):
        assert not np.array_equal(first, Augmentation(config, seed)(*frame, epoch, index)[0])


def test_probabilities_and_the_limit_of_the_angle_hold() -> None:
    config = AugmentationConfig(horizontal_flip=0.3, rotation=0.6, rotation_degrees=10)
    image = np.zeros((41, 41, 3), np.uint8)
    mask = np.zeros((41, 41), np.uint8)
    # A mark to the right of the centre: a flip takes it to the left, a rotation up or down.
    mask[20, 36] = 1
    mask[19:22, 35:38] = 1
    flipped = rotated = 0
    for index in range(600):
        ys, xs = np.nonzero(Augmentation(config, 0)(image, mask, 0, index)[1])
        x, y = xs.mean() - 20, ys.mean() - 20
        flipped += x < 0
        rotated += abs(y) > 0.01
        assert abs(math.degrees(math.atan2(y, abs(x)))) < 12
    assert 0.24 < flipped / 600 < 0.36
    assert 0.5 < rotated / 600 < 0.66


@pytest.mark.parametrize(("outside", "expected"), [("background", 0), ("ignore", 255)])
def test_what_comes_in_from_outside(outside: str, expected: int) -> None:
    image, mask = np.full((40, 60, 3), 200, np.uint8), np.full((40, 60), 2, np.uint8)
    config = AugmentationConfig(rotation=1.0, rotation_degrees=60, outside=outside)
    image, mask = Augmentation(config, seed=4)(image, mask, 0, 0)
    came_in = (image == 0).all(axis=2)
    assert came_in.any()
    assert (mask[came_in] == expected).all()
    assert set(np.unique(mask)) == {2, expected}


def test_relighting_is_the_formula_channel_by_channel() -> None:
    image = np.random.default_rng(0).integers(0, 256, (9, 11, 3), np.uint8)
    gain = np.array([1.2, 0.9, 0.5])
    expected = np.clip(0.5 + (image / 255 * gain - 0.5) * 1.3, 0, 1) ** 0.7 * 255
    assert np.abs(relight(image, gain, contrast=1.3, gamma=0.7) - expected).max() <= 0.5 + 1e-9


def test_light_leaves_the_mask_alone() -> None:
    image, mask = np.full((8, 8, 3), 100, np.uint8), np.full((8, 8), 3, np.uint8)
    config = AugmentationConfig(brightness=0.5, contrast=0.5, color=0.3, gamma=0.5)
    varied = [Augmentation(config, 0)(image, mask, 0, index) for index in range(20)]
    assert len({tuple(image[0, 0]) for image, _ in varied}) > 10
    assert all(np.array_equal(other, mask) for _, other in varied)


def test_sizes_that_differ_are_refused() -> None:
    with pytest.raises(ValueError, match="differ in size"):
        Augmentation(AugmentationConfig(), 0)(np.zeros((4, 4, 3), np.uint8), np.zeros((4, 5), np.uint8), 0, 0)
