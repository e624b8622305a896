"""The two domains: what the distributions of anatomy, look and camera are.

`a` plays the part of the set that a model is trained on and `b` of another hospital's: other scopes,
light and white balance, other mixture of anatomies, more smoke, blood and fat.
"""

from __future__ import annotations

from dataclasses import dataclass

Range = tuple[float, float]


@dataclass(frozen=True)
class Domain:
    """Ranges are uniform; `*_share` are probabilities.

    Attributes:
        name: One letter, part of patient ids.
        index: Its number in seeds.
        left_lobe: Left lobe's depth and height relative to the right lobe's.
        notch_mm: How far the edge recedes at the notch between the lobes.
        edge_angle_deg: Angle between the upper face and the horizontal at the anterior edge.
        nodular_share: Patients with a cirrhotic, nodular surface.
        steatotic_share: Patients with a fatty, tan liver.
        fat_banks: Number of lumps of fat that lie in front of the liver, mean.
        wall_redness: Shift of the abdominal wall's color from beige (0) to red (1).
        sheet_share: Patients with a standing remnant of the falciform ligament.
        band_contrast: How much the ligament's attachment differs in color from the liver.
        horizontal_fov_deg: Horizontal field of view.
        distance_mm: Distance of the camera from the point that it looks at.
        elevation_deg: Angle of the view downwards.
        azimuth_deg: Half the spread of the view sideways.
        roll_deg: Half the spread of the camera's roll.
        k1: Radial distortion.
        round_border: Radius of the round view relative to half the frame's width.
        color_gain: Mean gain of (R, G, B).
        color_jitter: Spread of those gains.
        exposure: Brightness that the 90th percentile is brought to, 0..1.
        noise: Sensor noise, standard deviation in 0..1.
        blur: Blur, standard deviation relative to the frame's width.
        smoke_share: Frames with smoke.
        blood_share: Frames with blood.
        instruments: Probabilities of 0, 1 and 2 instruments.
    """

    name: str
    index: int
    left_lobe: Range
    notch_mm: Range
    edge_angle_deg: Range
    nodular_share: float
    steatotic_share: float
    fat_banks: float
    wall_redness: Range
    sheet_share: float
    band_contrast: Range
    horizontal_fov_deg: Range
    distance_mm: Range
    elevation_deg: Range
    azimuth_deg: float
    roll_deg: float
    k1: Range
    round_border: Range
    color_gain: tuple[float, float, float]
    color_jitter: float
    exposure: Range
    noise: Range
    blur: Range
    smoke_share: float
    blood_share: float
    instruments: tuple[float, float, float]


DOMAINS: dict[str, Domain] = {
    "a": Domain(
        name="a",
        index=0,
        left_lobe=(0.55, 0.8),
        notch_mm=(14.0, 38.0),
        edge_angle_deg=(48.0, 72.0),
        nodular_share=0.2,
        steatotic_share=0.25,
        fat_banks=2.0,
        wall_redness=(0.0, 0.8),
        sheet_share=0.35,
        band_contrast=(0.45, 1.0),
        horizontal_fov_deg=(60.0, 74.0),
        distance_mm=(80.0, 118.0),
        elevation_deg=(20.0, 38.0),
        azimuth_deg=14.0,
        roll_deg=8.0,
        k1=(-0.16, -0.04),
        round_border=(1.02, 1.18),
        color_gain=(1.0, 1.0, 1.0),
        color_jitter=0.07,
        exposure=(0.52, 0.72),
        noise=(0.003, 0.010),
        blur=(0.0010, 0.0022),
        smoke_share=0.12,
        blood_share=0.2,
        instruments=(0.5, 0.4, 0.1),
    ),
    "b": Domain(
        name="b",
        index=1,
        left_lobe=(0.42, 0.68),
        notch_mm=(8.0, 28.0),
        edge_angle_deg=(42.0, 64.0),
        nodular_share=0.45,
        steatotic_share=0.15,
        fat_banks=3.2,
        wall_redness=(0.3, 1.0),
        sheet_share=0.5,
        band_contrast=(0.3, 0.85),
        horizontal_fov_deg=(70.0, 86.0),
        distance_mm=(55.0, 115.0),
        elevation_deg=(6.0, 52.0),
        azimuth_deg=38.0,
        roll_deg=32.0,
        k1=(-0.22, -0.1),
        round_border=(0.92, 1.08),
        color_gain=(1.12, 0.96, 0.84),
        color_jitter=0.1,
        exposure=(0.42, 0.78),
        noise=(0.006, 0.018),
        blur=(0.0014, 0.0034),
        smoke_share=0.4,
        blood_share=0.45,
        instruments=(0.35, 0.45, 0.2),
    ),
}


def get_domain(name: str) -> Domain:
    """The domain of that name; a ValueError names the ones there are."""
    try:
        return DOMAINS[name]
    except KeyError:
        raise ValueError(f"domain {name!r} is unknown: choose one of {', '.join(DOMAINS)}") from None
