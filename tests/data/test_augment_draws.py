"""What is drawn: each thing by itself, evenly, and by seed, epoch and index alone."""

from __future__ import annotations

import math
import random
from dataclasses import asdict, replace

import numpy as np
import pytest
import scipy.stats
import torch

from labeled_frames import EVERYTHING, labeled, same, varied
from liver_landmark.data.augmentation import AugmentationConfig, draw_variation

CHANGED_FIELDS = [
    field for field, value in asdict(EVERYTHING).items() if value != asdict(AugmentationConfig())[field]
]


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


@pytest.mark.parametrize(
    "field",
    [field for field, value in asdict(EVERYTHING).items() if value != asdict(AugmentationConfig())[field]],
)
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
