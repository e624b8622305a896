"""The overlay pixel by pixel where it can be said in advance."""

from __future__ import annotations

import numpy as np
import pytest

from liver_landmark.inference import draw_overlay
from liver_landmark.model.landmarks_liver_landmark import LANDMARKS

FRAME = np.random.default_rng(0).integers(0, 256, (120, 200, 3), dtype=np.uint8)


def block_mask(class_id):
    mask = np.zeros((120, 200), np.uint8)
    mask[60:100, 120:180] = class_id
    return mask


@pytest.mark.parametrize("landmark", LANDMARKS, ids=lambda landmark: landmark.name)
def test_blend_inside_colour_on_the_edge_frame_outside(landmark):
    drawn = draw_overlay(FRAME, block_mask(landmark.id), alpha=0.4, legend=False)
    inside = (slice(61, 99), slice(121, 179))
    expected = np.rint(0.6 * FRAME[inside].astype(float) + 0.4 * np.array(landmark.color))
    np.testing.assert_array_equal(drawn[inside], expected)
    for edge in (drawn[60, 120:180], drawn[99, 120:180], drawn[60:100, 120], drawn[60:100, 179]):
        assert (edge == landmark.color).all()
    outside = block_mask(1) == 0
    np.testing.assert_array_equal(drawn[outside], FRAME[outside])


def test_background_and_ignored_pixels_are_untouched():
    frame = FRAME.copy()
    drawn = draw_overlay(frame, block_mask(255), legend=False)
    np.testing.assert_array_equal(drawn, FRAME)
    np.testing.assert_array_equal(frame, FRAME)
    assert drawn is not frame


def test_a_hole_has_an_outline_too():
    mask = block_mask(2)
    mask[75:85, 140:160] = 0
    drawn = draw_overlay(FRAME, mask, legend=False)
    assert (drawn[74, 140:160] == (0, 255, 0)).all()


@pytest.mark.parametrize("size", [(54, 96), (256, 456), (1080, 1920)])
def test_legend_fills_the_boxes_of_what_is_found_and_stays_in_its_corner(size):
    frame = np.full((*size, 3), 90, np.uint8)
    mask = np.zeros(size, np.uint8)
    mask[-2:, -2:] = 3
    drawn = draw_overlay(frame, mask)
    plain = draw_overlay(frame, mask, legend=False)
    changed = np.argwhere((drawn != plain).any(-1))
    assert changed.min() == 0
    height, width = changed.max(0) + 1
    assert height <= max(50, size[0] // 4)
    assert width <= max(80, size[1] // 4)
    corner = drawn[:height, :width].reshape(-1, 3)
    shares = {landmark.name: (corner == landmark.color).all(-1).sum() for landmark in LANDMARKS}
    # A full box against two mere outlines.
    assert shares["ligament"] > 1.5 * shares["ridge"] > 0
    assert shares["ridge"] == shares["silhouette"]


def test_a_frame_smaller_than_the_legend_is_drawn():
    assert draw_overlay(np.zeros((1, 1, 3), np.uint8), np.ones((1, 1), np.uint8)).shape == (1, 1, 3)


@pytest.mark.parametrize(
    ("frame", "mask", "options", "message"),
    [
        (FRAME[..., 0], block_mask(1), {}, "frame must be"),
        (FRAME / 255, block_mask(1), {}, "frame must be"),
        (FRAME, block_mask(1)[1:], {}, "mask must be"),
        (FRAME, block_mask(1).astype(int), {}, "mask must be"),
        (FRAME, block_mask(1), {"alpha": 1.5}, "alpha must lie"),
    ],
)
def test_wrong_arguments_are_refused(frame, mask, options, message):
    with pytest.raises(ValueError, match=message):
        draw_overlay(frame, mask, **options)
