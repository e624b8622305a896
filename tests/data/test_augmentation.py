"""One variation of a frame: image, mask and polylines stay together, by settings and draws that hold."""

from __future__ import annotations

import math
import random
from dataclasses import asdict, replace
from itertools import pairwise

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from labeled_frames import EVERYTHING, GEOMETRY, HEIGHT, WIDTH, labeled, same, varied
from liver_landmark.curves import get_protocol, rasterize_landmarks
from liver_landmark.data.augmentation import (
    Augmentation,
    AugmentationConfig,
    LabeledFrame,
    comes_from_frame,
    draw_variation,
    warp_mask,
)
from liver_landmark.model.landmarks_liver_landmark import DEFAULT_LANDMARKS


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 1000), st.sampled_from(["background", "ignore"]))
def test_image_mask_and_polylines_stay_together(seed: int, outside: str) -> None:
    config = replace(GEOMETRY, outside=outside)
    result = varied(config, labeled(seed, protocol=None), seed)
    assert (result.image.shape, result.mask.shape) == ((HEIGHT, WIDTH, 3), (HEIGHT, WIDTH))
    assert result.image.dtype == result.mask.dtype == np.uint8
    assert set(np.unique(result.mask)) <= {0, 1, 2, 3} | ({255} if outside == "ignore" else set())
    # The frame shows its mask: only pixels that were blended across an edge may differ.
    pure = (result.image == 0).sum(axis=2) + (result.image == 255).sum(axis=2) == 3
    known = pure & (result.mask != 255)
    assert (result.image[known] == DEFAULT_LANDMARKS.palette[result.mask[known]]).all(axis=1).mean() > 0.95
    # The ligament is drawn last: its color lies under its polyline, but for the border of the old frame.
    matrix = draw_variation(config, np.random.default_rng([seed, 0, 0])).geometry.matrix(WIDTH, HEIGHT)
    for landmark in result.landmarks:
        for start, end in pairwise(landmark["points"]):
            x, y = (start + end) / 2
            source_x, source_y, _ = np.linalg.solve(matrix, (x, y, 1))
            if (
                landmark["category"] == "ligament"
                and min(source_x, source_y, WIDTH - 1 - source_x, HEIGHT - 1 - source_y) > 2
            ):
                column, row = min(max(round(x), 0), WIDTH - 1), min(max(round(y), 0), HEIGHT - 1)
                assert result.mask[row, column] == 3
                assert (result.image[row, column] == DEFAULT_LANDMARKS.palette[3]).all()


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 1000), st.sampled_from(["background", "ignore"]))
def test_a_protocols_mask_is_drawn_anew_from_the_moved_polylines(seed: int, outside: str) -> None:
    config = replace(GEOMETRY, outside=outside)
    frame = labeled(seed)
    stored = frame.mask.copy()
    stored[:9, :14] = 255
    result = varied(config, replace(frame, mask=stored), seed)
    geometry = draw_variation(config, np.random.default_rng([seed, 0, 0])).geometry
    if geometry.is_identity:
        assert result.mask is stored
        return
    matrix = geometry.matrix(WIDTH, HEIGHT)
    expected = rasterize_landmarks(result.landmarks, WIDTH, HEIGHT, get_protocol("slippa"))
    expected[~comes_from_frame(matrix, WIDTH, HEIGHT)] = 255 if outside == "ignore" else 0
    # The ignored corner goes where the matrix takes its pixels: looked up one by one.
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    source = np.linalg.inv(matrix)[:2] @ np.stack([x.ravel(), y.ravel(), np.ones(x.size)])
    source_x, source_y = source.reshape(2, HEIGHT, WIDTH)
    ignored = (source_x > -0.5) & (source_x < 13.5) & (source_y > -0.5) & (source_y < 8.5)
    expected[ignored] = 255
    differ = expected != result.mask
    borders = np.array([-0.5, 8.5, 13.5, WIDTH - 0.5, HEIGHT - 0.5])
    unclear = (np.abs(source_x[..., None] - borders) < 1e-3).any(axis=-1)
    unclear |= (np.abs(source_y[..., None] - borders) < 1e-3).any(axis=-1)
    assert not (differ & ~unclear).any()


@pytest.mark.parametrize("geometry", [{"horizontal_flip": 1.0}, {"rotation": 1.0, "rotation_degrees": 50.0}])
def test_a_mask_that_another_hand_drew_is_warped(geometry: dict[str, float]) -> None:
    config = AugmentationConfig(outside="ignore", **geometry)
    frame = labeled(3, protocol=None)
    result = varied(config, frame)
    matrix = draw_variation(config, np.random.default_rng([0, 0, 0])).geometry.matrix(WIDTH, HEIGHT)
    expected = frame.mask[:, ::-1] if "horizontal_flip" in geometry else warp_mask(frame.mask, matrix, 255)
    assert np.array_equal(result.mask, expected)
    # The polylines come along all the same; a row that has none is warped like it.
    drawn = varied(config, replace(frame, protocol="slippa"))
    assert len(drawn.landmarks) == len(result.landmarks) > 0
    without = varied(config, replace(frame, protocol="slippa", landmarks=()))
    assert np.array_equal(without.mask, expected)
    assert not np.array_equal(drawn.mask, expected)


@pytest.mark.parametrize("factor", [0.5, 0.8, 1.5, 3.0])
def test_strokes_keep_their_width_at_any_scale(factor: float) -> None:
    landmarks = ({"category": "silhouette", "points": [(0.0, 54.0), (WIDTH - 1.0, 54.0)]},)
    mask = rasterize_landmarks(landmarks, WIDTH, HEIGHT, get_protocol("slippa"))
    frame = LabeledFrame(np.repeat(mask[..., None] * 100, 3, axis=2), mask, landmarks, "slippa")
    config = AugmentationConfig(scale=1.0, scale_range=(factor, factor))
    width_px = (mask[:, WIDTH // 2] == 2).sum()
    assert (varied(config, frame).mask[:, WIDTH // 2] == 2).sum() == width_px
    by_hand = varied(config, replace(frame, protocol=None))
    assert (by_hand.mask[:, WIDTH // 2] == 2).sum() == pytest.approx(width_px * factor, abs=1)


@pytest.mark.parametrize(
    "config",
    [replace(GEOMETRY, outside="background"), AugmentationConfig(horizontal_flip=0.7, vertical_flip=0.5)],
    ids=["any", "flips"],
)
def test_depth_moves_with_the_mask(config: AugmentationConfig) -> None:
    frame = labeled(2, protocol=None)
    depth = frame.mask.astype(np.float32) / 7
    depth.setflags(write=False)
    frame = replace(frame, inverse_depth=depth)
    for epoch in range(6):
        moved = varied(config, frame, epoch=epoch)
        np.testing.assert_allclose(moved.inverse_depth, moved.mask / 7, rtol=1e-6)
    assert varied(config, replace(frame, inverse_depth=None)).inverse_depth is None


def test_without_geometry_mask_and_polylines_are_untouched() -> None:
    frame = labeled(0)
    # Not what the protocol would draw: it must not be looked at.
    frame = replace(frame, mask=np.random.default_rng(0).integers(0, 4, (HEIGHT, WIDTH), np.uint8))
    config = AugmentationConfig(
        brightness=0.5, contrast=0.5, color=0.3, gamma=0.5, blur_px=20, noise=0.1, smoke=1, blood=1
    )
    results = [varied(config, frame, index=index) for index in range(5)]
    for result in results:
        assert result.mask is frame.mask
        assert result.landmarks is frame.landmarks
        assert not np.array_equal(result.image, frame.image)
    assert len({result.image.tobytes() for result in results}) == 5


@pytest.mark.parametrize(
    "field", ["brightness", "contrast", "color", "gamma", "blur_px", "noise", "smoke", "blood"]
)
def test_each_kind_of_light_and_occlusion_shows_by_itself(field: str) -> None:
    frame = replace(labeled(0), image=np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8))
    config = AugmentationConfig(**{field: getattr(EVERYTHING, field) if field == "blur_px" else 0.99})
    shown = [not np.array_equal(varied(config, frame, index=index).image, frame.image) for index in range(8)]
    assert sum(shown) >= 5


def test_what_is_in_the_way_moves_with_the_scene() -> None:
    frame = labeled(0)
    in_the_way = AugmentationConfig(smoke=1, blood=1)
    turned = varied(replace(in_the_way, horizontal_flip=1), frame)
    assert np.array_equal(turned.image, varied(in_the_way, frame).image[:, ::-1])


def test_the_input_is_left_as_it_was() -> None:
    frame = labeled(0)
    for array in (frame.image, frame.mask, *(landmark["points"] for landmark in frame.landmarks)):
        array.setflags(write=False)
    for index in range(6):
        varied(EVERYTHING, frame, index=index)
    assert same(frame, labeled(0))


@pytest.mark.parametrize(("outside", "expected"), [("background", 0), ("ignore", 255)])
@pytest.mark.parametrize("protocol", [None, "d2gpland"])
def test_what_comes_in_from_outside(outside: str, expected: int, protocol: str | None) -> None:
    image, mask = np.full((400, 600, 3), 200, np.uint8), np.full((400, 600), 2, np.uint8)
    # Strokes of 30 px along the frame's border would reach far out of it.
    edge = {"category": "silhouette", "points": [(0, 0), (599, 0), (599, 399), (0, 399), (0, 0)]}
    config = AugmentationConfig(rotation=1.0, rotation_degrees=60, outside=outside, smoke=1.0)
    result = varied(config, LabeledFrame(image, mask, (edge,), protocol), seed=4)
    came_in = (result.image == 0).all(axis=2)
    assert came_in.any()
    assert (result.mask[came_in] == expected).all()
    assert set(np.unique(result.mask[~came_in])) <= {0, 2, expected}


def test_an_unknown_protocol_and_sizes_that_differ_are_refused() -> None:
    with pytest.raises(ValueError, match="'l3d' is unknown"):
        varied(AugmentationConfig(horizontal_flip=1.0), labeled(0, protocol="l3d"))
    frame = LabeledFrame(np.zeros((4, 4, 3), np.uint8), np.zeros((4, 5), np.uint8))
    with pytest.raises(ValueError, match="differ in size"):
        varied(AugmentationConfig(), frame)


WRONG_VALUES = {
    "horizontal_flip": [1.1],
    "scale": [-0.1],
    "crop": [2.0],
    "smoke": [math.nan],
    "blood": [1.5],
    "rotation_degrees": [181.0],
    "outside": ["black"],
    "brightness": [1.0],
    "noise": [1.0],
    "smoke_density": [1.0],
    "blood_area": [-0.1],
    "gamma": [2.5],
    "scale_range": [(1.2, 0.8), (0.0, 1.0), (1.0, math.inf), (math.nan, 1.0)],
    "crop_min_side": [0.05, 1.01],
    "blur_px": [-1.0, 51.0],
}


@pytest.mark.parametrize(
    ("field", "value"), [(field, value) for field, values in WRONG_VALUES.items() for value in values]
)
def test_a_wrong_value_is_refused_by_its_name_in_one_line(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=rf"augmentation\.{field}\b") as error:
        AugmentationConfig(**{field: value})
    assert "\n" not in str(error.value)
    assert str(value) in str(error.value)


@pytest.mark.parametrize(
    "fields",
    [
        {"scale_range": (0.1, 10.0), "scale": 1.0},
        {"scale_range": (1.0, 1.0)},
        {"crop_min_side": 1.0, "crop": 1.0},
        {"smoke_density": 0.0, "blood_area": 0.0, "smoke": 1.0, "blood": 1.0},
        {"blur_px": 50.0, "gamma": 2.0, "rotation_degrees": 180.0},
    ],
)
def test_the_border_itself_is_allowed(fields: dict[str, object]) -> None:
    AugmentationConfig(**fields)


CHANGED_FIELDS = [
    field for field, value in asdict(EVERYTHING).items() if value != asdict(AugmentationConfig())[field]
]


def test_scaled_settings_are_rarer_and_weaker_alike() -> None:
    assert EVERYTHING.scaled(1).scale_range == pytest.approx(EVERYTHING.scale_range)
    assert replace(EVERYTHING.scaled(1), scale_range=EVERYTHING.scale_range) == EVERYTHING
    frame = labeled(0)
    for index in range(6):
        assert same(varied(EVERYTHING.scaled(0), frame, index=index), frame)
    half = EVERYTHING.scaled(0.5)
    assert (half.rotation, half.rotation_degrees, half.noise) == (0.4, 30, 0.025)
    # A factor of 2 is as far from 1 as one of 1/2.
    assert half.scale_range == pytest.approx((0.5**0.5, 2**0.5))
    assert half.crop_min_side == 0.75
    assert (half.smoke, half.smoke_density, half.outside) == (0.35, EVERYTHING.smoke_density, "ignore")


def test_from_an_epoch_on_frames_are_varied_as_asked_for() -> None:
    frame, calm = labeled(1), EVERYTHING.scaled(0.3)
    augmentation = Augmentation(EVERYTHING, 0, calm, calm_from_epoch=2)
    for epoch, config in enumerate((EVERYTHING, EVERYTHING, calm, calm)):
        assert same(augmentation(frame, epoch, 3), varied(config, frame, epoch=epoch, index=3))


def test_the_defaults_change_nothing() -> None:
    frame = labeled(0)
    assert same(varied(AugmentationConfig(), frame, epoch=3, index=4), frame)


def test_same_seed_epoch_and_index_give_the_same_frame_and_others_do_not() -> None:
    frame = labeled(0)
    first = varied(EVERYTHING, frame, 1, 2, 3)
    assert same(first, varied(EVERYTHING, frame, 1, 2, 3))
    for seed, epoch, index in ((2, 2, 3), (1, 3, 3), (1, 2, 4)):
        assert not np.array_equal(first.image, varied(EVERYTHING, frame, seed, epoch, index).image)


def test_global_generators_are_neither_used_nor_moved() -> None:
    frame = labeled(0)
    results = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        np.random.seed(seed)  # noqa: NPY002 - the global generator is what must not matter
        random.seed(seed)
        before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()  # noqa: NPY002
        results.append([varied(EVERYTHING, frame, index=index) for index in range(4)])
        after = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()  # noqa: NPY002
        assert torch.equal(before[0], after[0])
        assert before[1:] == after[1:]
    assert all(same(one, other) for one, other in zip(*results, strict=True))


@pytest.mark.parametrize("field", CHANGED_FIELDS)
def test_a_setting_changes_no_draw_but_its_own(field: str) -> None:
    """Frames differ between two recipes only by what the recipes differ in."""
    own = {
        "horizontal_flip": {"flip_x"},
        "vertical_flip": {"flip_y"},
        "rotation": {"angle_degrees"},
        "rotation_degrees": {"angle_degrees"},
        "scale": {"scale"},
        "scale_range": {"scale"},
        "crop": {"crop_side"},
        "crop_min_side": {"crop_side"},
        "outside": set(),
        "brightness": {"gain"},
        "color": {"gain"},
        "smoke": {"smoke_density"},
        "blood": {"blood_area"},
    }.get(field, {field})
    other = replace(EVERYTHING, **{field: getattr(AugmentationConfig(), field)})
    changed = set()
    for index in range(20):
        one, two = (draw_variation(config, np.random.default_rng(index)) for config in (EVERYTHING, other))
        for name in vars(one):
            if name == "geometry":
                changed |= {
                    key for key, value in vars(one.geometry).items() if value != vars(two.geometry)[key]
                }
            elif name.endswith("_rng"):
                assert getattr(one, name).random() == getattr(two, name).random()
            elif not np.array_equal(getattr(one, name), getattr(two, name)):
                changed.add(name)
    assert changed == own


def test_what_one_part_draws_moves_no_other() -> None:
    image = labeled(0).image
    config = replace(EVERYTHING, smoke=1, blood=1)
    both, smoke_alone, none = (
        draw_variation(variant, np.random.default_rng(5))
        for variant in (config, replace(config, blood=0), replace(config, smoke=0, blood=0))
    )
    for variation in (both, smoke_alone, none):
        variation.occlude(image)
    assert both.smoke_rng.random() == smoke_alone.smoke_rng.random()
    assert both.noise_rng.random() == smoke_alone.noise_rng.random() == none.noise_rng.random()


def draws(config: AugmentationConfig, count: int) -> list:
    return [draw_variation(config, np.random.default_rng([7, 0, index])) for index in range(count)]


def test_strengths_are_spread_evenly_over_their_ranges() -> None:
    config = replace(EVERYTHING, scale=1, crop=1, smoke=1, blood=1, rotation=1)
    variations = draws(config, 400)
    geometries = [variation.geometry for variation in variations]
    uniform = {
        "scale": [(math.log2(geometry.scale) + 1) / 2 for geometry in geometries],
        "crop": [2 * geometry.crop_side - 1 for geometry in geometries],
        "crop_x": [geometry.crop_x for geometry in geometries],
        "crop_y": [geometry.crop_y for geometry in geometries],
        "angle": [(geometry.angle_degrees / 60 + 1) / 2 for geometry in geometries],
        "blur": [variation.blur_px / 10 for variation in variations],
        "noise": [variation.noise / 0.05 for variation in variations],
        "smoke": [variation.smoke_density / config.smoke_density for variation in variations],
        "blood": [variation.blood_area / config.blood_area for variation in variations],
        "contrast": [((variation.contrast - 1) / 0.3 + 1) / 2 for variation in variations],
        "gamma": [(math.log(variation.gamma) / 0.3 + 1) / 2 for variation in variations],
    }
    for name, values in uniform.items():
        assert scipy.stats.kstest(values, "uniform").pvalue > 1e-3, name


def test_probabilities_hold() -> None:
    config = replace(EVERYTHING, horizontal_flip=0.1, vertical_flip=0.2, rotation=0.3, scale=0.4, crop=0.6)
    variations = draws(replace(config, smoke=0.7, blood=0.9), 1500)
    geometries = [variation.geometry for variation in variations]
    shares = {
        0.1: [geometry.flip_x for geometry in geometries],
        0.2: [geometry.flip_y for geometry in geometries],
        0.3: [geometry.angle_degrees != 0 for geometry in geometries],
        0.4: [geometry.scale != 1 for geometry in geometries],
        0.6: [geometry.crop_side != 1 for geometry in geometries],
        0.7: [variation.smoke_density > 0 for variation in variations],
        0.9: [variation.blood_area > 0 for variation in variations],
    }
    for probability, happened in shares.items():
        assert np.mean(happened) == pytest.approx(probability, abs=0.05)
