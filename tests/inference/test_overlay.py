"""The overlay pixel by pixel where it can be said in advance."""

from __future__ import annotations

import numpy as np
import pytest

from liver_landmark.curves import TracedPolyline
from liver_landmark.inference import draw_overlay
from liver_landmark.inference.overlay import draw_heat_map
from liver_landmark.model.landmarks_liver_landmark import DEFAULT_LANDMARKS

FRAME = np.random.default_rng(0).integers(0, 256, (120, 200, 3), dtype=np.uint8)


def block_mask(class_id):
    mask = np.zeros((120, 200), np.uint8)
    mask[60:100, 120:180] = class_id
    return mask


@pytest.mark.parametrize("landmark", DEFAULT_LANDMARKS.landmarks, ids=lambda landmark: landmark.name)
def test_blend_inside_color_on_the_edge_frame_outside(landmark):
    drawn = draw_overlay(FRAME, block_mask(landmark.id), alpha=0.4, legend=False)
    inside = (slice(61, 99), slice(121, 179))
    expected = np.rint(0.6 * FRAME[inside].astype(float) + 0.4 * np.array(landmark.color))
    np.testing.assert_array_equal(drawn[inside], expected)
    for edge in (drawn[60, 120:180], drawn[99, 120:180], drawn[60:100, 120], drawn[60:100, 179]):
        assert (edge == landmark.color).all()
    outside = block_mask(1) == 0
    np.testing.assert_array_equal(drawn[outside], FRAME[outside])


def test_background_and_ignored_pixels_are_untouched_and_a_hole_has_an_outline():
    frame = FRAME.copy()
    drawn = draw_overlay(frame, block_mask(255), legend=False)
    np.testing.assert_array_equal(drawn, FRAME)
    np.testing.assert_array_equal(frame, FRAME)
    assert drawn is not frame
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
    ridge, silhouette, ligament = (
        (corner == landmark.color).all(-1).sum() for landmark in DEFAULT_LANDMARKS.landmarks
    )
    # A full box against two mere outlines.
    assert ligament > 1.5 * ridge > 0
    assert ridge == silhouette


def test_views_and_read_only_arrays_are_drawn_as_their_copies_are():
    frame, mask = FRAME.copy(), block_mask(3)
    frame.flags.writeable = mask.flags.writeable = False
    turned = np.ascontiguousarray(frame[:, ::-1]), np.ascontiguousarray(mask[:, ::-1])
    np.testing.assert_array_equal(draw_overlay(frame[:, ::-1], mask[:, ::-1]), draw_overlay(*turned))
    np.testing.assert_array_equal(
        draw_overlay(frame.transpose(1, 0, 2), mask.T)[0],
        draw_overlay(FRAME.transpose(1, 0, 2).copy(), mask.T)[0],
    )
    probability = np.linspace(0, 1, 24000).reshape(120, 200)
    np.testing.assert_array_equal(
        draw_heat_map(frame[:, ::-1], probability[:, ::-1]), draw_heat_map(frame, probability)[:, ::-1]
    )


@pytest.mark.parametrize("alpha", [0.0, 0.1, 0.37, 0.5, 1.0])
def test_the_blend_is_within_a_level_of_floating_point(alpha):
    rng = np.random.default_rng(1)
    mask = np.zeros((120, 200), np.uint8)
    for class_id, top in ((1, 10), (2, 45), (3, 80), (255, 100)):
        mask[top : top + 30, 20 + top : 150 + top // 2] = class_id
    # Outlines aside, one px wide here and at most two px from an edge.
    edges = np.zeros_like(mask, dtype=bool)
    for axis in (0, 1):
        for shift in (-2, -1, 1, 2):
            edges |= np.roll(mask, shift, axis) != mask
    colored = ((mask > 0) & (mask < 4))[..., None]
    frame = rng.integers(0, 256, (120, 200, 3), dtype=np.uint8)
    expected = np.where(colored, (1 - alpha) * frame + alpha * DEFAULT_LANDMARKS.palette[mask], frame)
    drawn = draw_overlay(frame, mask, alpha=alpha, legend=False)
    assert np.abs(drawn - expected)[~edges].max() <= 1.0
    assert (~edges & colored[..., 0]).sum() > 5000


def line(name: str) -> TracedPolyline:
    return TracedPolyline(name, np.array([(200, 300.0), (1700, 300), (1700, 800)], np.float32), 30.0)


def test_curves_are_drawn_in_their_color_with_a_dark_edge_and_without_a_mask():
    frame = np.full((1080, 1920, 3), 150, np.uint8)
    drawn = draw_overlay(frame, None, legend=False, curves=[line("silhouette")])
    column = drawn[:, 1000].astype(int)
    assert (column[300] == (0, 255, 0)).all()
    changed = np.flatnonzero((column != 150).any(-1))
    # A line of 4 px, an edge of 2 on either side, and half of a soft one.
    assert 7 <= len(changed) <= 11
    assert abs(changed.mean() - 300) <= 0.5
    assert column[changed].sum(-1).min() < 100
    assert np.array_equal(drawn[:, :180], frame[:, :180])
    assert np.array_equal(draw_overlay(frame, None, legend=False), frame)


def test_only_the_landmarks_that_are_asked_for_are_drawn():
    mask = block_mask(1)
    mask[10:30, 120:180] = 3
    both = draw_overlay(FRAME, mask, legend=False)
    one = draw_overlay(FRAME, mask, legend=False, landmarks=("ligament",))
    np.testing.assert_array_equal(one[:50], both[:50])
    np.testing.assert_array_equal(one[50:], FRAME[50:])
    frame = np.full((1080, 1920, 3), 150, np.uint8)
    curves = [line("ridge")]
    assert np.array_equal(draw_overlay(frame, None, legend=False, landmarks=(), curves=curves), frame)
    # The legend has a row for each.
    pictures = [draw_overlay(frame, None, landmarks=DEFAULT_LANDMARKS.names[:count]) for count in (1, 2, 3)]
    rows = [np.flatnonzero((picture != 150).any((1, 2))).max() for picture in pictures]
    assert rows[0] < rows[1] < rows[2]


def test_the_legend_counts_a_curve_as_found_and_frames_may_be_smaller():
    frame = np.zeros((540, 960, 3), np.uint8)
    corners = [draw_overlay(frame, None, curves=curves)[:100, :100] for curves in ([], [line("ridge")])]
    red = [(corner == (255, 0, 0)).all(-1).sum() for corner in corners]
    assert red[1] > 1.5 * red[0] > 0
    assert draw_overlay(np.zeros((1, 1, 3), np.uint8), np.ones((1, 1), np.uint8)).shape == (1, 1, 3)


def test_a_heat_map_shows_tissue_where_nothing_is_and_yellow_where_all_is():
    probability = np.zeros((120, 200))
    probability[:, 100:] = 1.0
    probability[:, 90:100] = 0.5
    drawn = draw_heat_map(FRAME, probability, alpha=0.8)
    np.testing.assert_array_equal(drawn[:, :90], FRAME[:, :90])
    # Viridis ends in (253, 231, 37).
    expected = 0.2 * FRAME[:, 100:] + 0.8 * np.array([253, 231, 37])
    assert np.abs(drawn[:, 100:] - expected).max() <= 2
    # Its middle is (33, 145, 140).
    expected = 0.6 * FRAME[:, 90:100] + 0.4 * np.array([33, 145, 140])
    assert np.abs(drawn[:, 90:100] - expected).max() <= 3
    narrow = draw_heat_map(FRAME, probability.astype(np.float16), alpha=0.8)
    assert np.abs(narrow.astype(int) - drawn).max() <= 1


@pytest.mark.parametrize(
    ("draw", "arguments", "options", "message"),
    [
        (draw_heat_map, (FRAME, np.zeros((119, 200))), {}, "probability must be"),
        (draw_heat_map, (FRAME, np.zeros((120, 200), np.uint8)), {}, "probability must be"),
        (draw_heat_map, (FRAME, np.full((120, 200), 1.2)), {}, "between 0 and 1"),
        (draw_heat_map, (FRAME, np.full((120, 200), np.nan)), {}, "between 0 and 1"),
        (draw_heat_map, (FRAME, np.zeros((120, 200))), {"alpha": -1}, "alpha must lie"),
        (draw_overlay, (FRAME[..., 0], block_mask(1)), {}, "frame must be"),
        (draw_overlay, (FRAME / 255, block_mask(1)), {}, "frame must be"),
        (draw_overlay, (FRAME, block_mask(1)[1:]), {}, "mask must be"),
        (draw_overlay, (FRAME, block_mask(1).astype(int)), {}, "mask must be"),
        (draw_overlay, (FRAME, block_mask(1)), {"alpha": 1.5}, "alpha must lie"),
        (draw_overlay, (FRAME, block_mask(1)), {"landmarks": ("liver",)}, "'liver' is none of ridge"),
    ],
)
def test_wrong_arguments_are_refused(draw, arguments, options, message):
    with pytest.raises(ValueError, match=message):
        draw(*arguments, **options)
