"""The settings' borders."""

from __future__ import annotations

import math

import pytest

from liver_landmark.data.augmentation import AugmentationConfig


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("horizontal_flip", 1.1),
        ("scale", -0.1),
        ("crop", 2.0),
        ("smoke", math.nan),
        ("blood", 1.5),
        ("rotation_degrees", 181.0),
        ("outside", "black"),
        ("brightness", 1.0),
        ("noise", 1.0),
        ("smoke_density", 1.0),
        ("blood_area", -0.1),
        ("gamma", 2.5),
        ("scale_range", (1.2, 0.8)),
        ("scale_range", (0.0, 1.0)),
        ("scale_range", (1.0, math.inf)),
        ("scale_range", (math.nan, 1.0)),
        ("crop_min_side", 0.05),
        ("crop_min_side", 1.01),
        ("blur_px", -1.0),
        ("blur_px", 51.0),
    ],
)
def test_a_wrong_value_is_refused_by_its_name_in_one_line(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=rf"augmentation\.{field}\b") as error:
        AugmentationConfig(**{field: value})
    assert "\n" not in str(error.value)
    shown = value if isinstance(value, str) else f"{value}"
    assert shown in str(error.value)


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
