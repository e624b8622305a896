"""Procedural noise, and marks on tissue that look like landmarks at close range.

All marks take surface coordinates u, v (h, w) in mm and change albedo (h, w, 3) and relief (h, w) in mm.
"""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
from scipy.spatial import cKDTree

TILE_PX = 512
# The tiles are the same for all patients and domains; offset, turn and scale make them differ.
_TILE_SEED = 20240917

RED_BROWN, DUSKY, TAN = np.array([[0.50, 0.28, 0.23], [0.42, 0.34, 0.35], [0.62, 0.45, 0.34]])
BEIGE_WALL, RED_WALL = np.array([[0.74, 0.55, 0.47], [0.58, 0.28, 0.24]])
YELLOW_FAT, PINK_FAT = np.array([[0.84, 0.66, 0.40], [0.80, 0.50, 0.38]])
BAND_PINK, BAND_FAT = np.array([[0.78, 0.56, 0.52], [0.80, 0.66, 0.50]])
VESSEL_RED = np.array([0.52, 0.12, 0.11])
GALL_GREEN, GALL_PALE = np.array([[0.50, 0.52, 0.38], [0.72, 0.58, 0.46]])
STOMACH_PINK = np.array([0.78, 0.52, 0.45])

_POOL = np.stack([RED_BROWN, DUSKY, TAN, BEIGE_WALL, RED_WALL, PINK_FAT, STOMACH_PINK])
# A tile's blob repeats every 32 of its 512 px, a cell every 16.
_BLOBS_A_TILE, _CELLS_A_TILE = 512 / 32, 512 / 16

Painted = tuple[np.ndarray, np.ndarray]


# Noise: tileable pictures sampled in mm, and smooth fields in space.


def _filtered(rng: np.random.Generator, response: np.ndarray) -> np.ndarray:
    """Periodic Gaussian noise with an amplitude spectrum, zero mean, unit variance, (TILE_PX, TILE_PX)."""
    noise = np.fft.irfft2(
        np.fft.rfft2(rng.standard_normal((TILE_PX, TILE_PX))) * response, s=(TILE_PX, TILE_PX)
    )
    return (noise / noise.std()).astype(np.float32)


@lru_cache(maxsize=1)
def noise_tiles() -> dict[str, np.ndarray]:
    """Tileable (512, 512) float32 pictures of zero mean and unit variance.

    `cloud` is scale-free; `blobs` has one size (16 px a blob); `cells` are rounded lumps with thin
    furrows between them (16 px a lump); `grain` is fine.
    """
    rng = np.random.default_rng(_TILE_SEED)
    frequency = np.hypot(np.fft.fftfreq(TILE_PX)[:, None], np.fft.rfftfreq(TILE_PX)[None])
    frequency[0, 0] = 1.0
    cloud = frequency**-1.7
    cloud[0, 0] = 0.0

    def band(period_px: float, width: float) -> np.ndarray:
        return np.exp(-0.5 * (np.log(frequency * period_px) / width) ** 2)

    # Lumps: the distance to the nearest of scattered seeds against the second nearest (Worley noise).
    seeds = rng.uniform(0, TILE_PX, (TILE_PX**2 // 16**2, 2))
    pixels = np.stack(np.meshgrid(np.arange(TILE_PX), np.arange(TILE_PX)), axis=-1).reshape(-1, 2)
    near = cKDTree(seeds, boxsize=TILE_PX).query(pixels, k=2)[0]
    cells = np.sqrt(np.minimum((near[:, 1] - near[:, 0]) / 8, 1.0)).reshape(TILE_PX, TILE_PX)
    cells = cv2.GaussianBlur(np.pad(cells, 8, mode="wrap"), (0, 0), 1.2)[8:-8, 8:-8]
    return {
        "cloud": _filtered(rng, cloud),
        "blobs": _filtered(rng, band(32, 0.35)),
        "cells": ((cells - cells.mean()) / cells.std()).astype(np.float32),
        "grain": _filtered(rng, band(5, 0.5)),
    }


def sample_tile(
    name: str, rng: np.random.Generator, u_mm: np.ndarray, v_mm: np.ndarray, tile_mm: float
) -> np.ndarray:
    """A tile laid over surface coordinates (mm) at a random place and turn, `tile_mm` a repeat."""
    if min(u_mm.shape) > 128 and (name == "cloud" or (name == "blobs" and tile_mm > 300)):
        # Next to nothing of these lies above half the sampling rate.
        half = sample_tile(name, rng, u_mm[::2, ::2], v_mm[::2, ::2], tile_mm)
        return cv2.resize(half, u_mm.shape[::-1], interpolation=cv2.INTER_LINEAR)
    angle, shift_u, shift_v = rng.uniform(0, 2 * np.pi), *rng.uniform(0, TILE_PX, 2)
    scale = TILE_PX / tile_mm
    cosine, sine = np.cos(angle) * scale, np.sin(angle) * scale
    x = (u_mm * cosine - v_mm * sine + shift_u).astype(np.float32)
    y = (u_mm * sine + v_mm * cosine + shift_v).astype(np.float32)
    return cv2.remap(noise_tiles()[name], x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)


def field(rng: np.random.Generator, points: np.ndarray, wavelength_mm: float, waves: int = 20) -> np.ndarray:
    """A smooth random field in space, about unit variance: sines of random direction and phase."""
    direction = rng.standard_normal((waves, points.shape[-1]))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    number = 2 * np.pi / (wavelength_mm * rng.uniform(0.7, 1.4, waves))
    phase = rng.uniform(0, 2 * np.pi, waves)
    argument = points.astype(np.float32) @ (direction * number[:, None]).T.astype(np.float32) + phase.astype(
        np.float32
    )
    return np.sin(argument).sum(axis=-1) * np.float32(np.sqrt(2 / waves))


def random_walk(
    rng: np.random.Generator, start: np.ndarray, heading: float, length: float, step: float, bend: float
) -> np.ndarray:
    """(N, 2) points of a smooth wandering line; `bend` is the spread of the turn per step in radians."""
    count = max(2, round(length / step))
    turns = np.convolve(rng.normal(0, bend, count), np.ones(5) / 5**0.5, mode="same")
    angle = heading + np.cumsum(turns)
    steps = step * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return start + np.cumsum(steps, axis=0)


def vessels(rng: np.random.Generator, shape: tuple[int, int], trees: int, width_px: float) -> np.ndarray:
    """(h, w) float32 in 0..1: branching vessels, thinner with every branching."""
    canvas = np.zeros(shape, dtype=np.float32)
    height, width = shape

    def grow(start: np.ndarray, heading: float, caliber: float, depth: int) -> None:
        length = rng.uniform(0.12, 0.3) * width
        line = random_walk(rng, start, heading, length, step=6.0, bend=0.12)
        points = np.round(line * 8).astype(np.int32)
        strength = 0.35 + 0.65 * min(1.0, caliber / width_px)
        cv2.polylines(canvas, [points], False, strength, max(1, round(caliber)), cv2.LINE_AA, shift=3)
        if depth:
            for _ in range(rng.integers(1, 4)):
                where = line[rng.integers(len(line) // 4, len(line))]
                grow(where, heading + rng.choice([-1, 1]) * rng.uniform(0.3, 0.9), caliber * 0.65, depth - 1)

    for _ in range(trees):
        grow(rng.uniform(0, 1, 2) * (width, height), rng.uniform(0, 2 * np.pi), width_px, 2)
    return cv2.GaussianBlur(canvas, (0, 0), max(0.6, width_px * 0.35))


# Marks: what looks like a landmark at close range and is none, and the band that is the ligament.


def mix(color: np.ndarray, other: np.ndarray, amount: np.ndarray | float) -> np.ndarray:
    """Colors blended by `amount` 0..1, broadcast over a trailing color axis."""
    color, other = np.asarray(color, dtype=np.float32), np.asarray(other, dtype=np.float32)
    return color + (other - color) * np.asarray(amount, dtype=np.float32)[..., None]


def smoothstep(value: np.ndarray, low: float, high: float) -> np.ndarray:
    """0 below `low`, 1 above `high`, smooth between."""
    t = np.clip((value - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def any_tissue_color(rng: np.random.Generator) -> np.ndarray:
    """(3,) a color between two tissues' colors: no organ has colors to itself."""
    first, second = _POOL[rng.choice(len(_POOL), 2, replace=False)]
    return mix(first, second, rng.uniform(0, 1)) * np.float32(rng.uniform(0.85, 1.1))


def blobs(rng: np.random.Generator, u: np.ndarray, v: np.ndarray, size_mm: float) -> np.ndarray:
    """Smooth noise of one size."""
    return sample_tile("blobs", rng, u, v, _BLOBS_A_TILE * size_mm)


def cells(rng: np.random.Generator, u: np.ndarray, v: np.ndarray, size_mm: float) -> np.ndarray:
    """Rounded lumps with furrows between them."""
    return sample_tile("cells", rng, u, v, _CELLS_A_TILE * size_mm)


def add_marks(
    rng: np.random.Generator,
    u: np.ndarray,
    v: np.ndarray,
    albedo: np.ndarray,
    relief: np.ndarray,
    spotted: float,
    nets: int,
) -> Painted:
    """Edges that are no landmarks: spots, nets of vessels, folds and demarcated areas.

    Args:
        rng: Draws them.
        u: Coordinate in mm.
        v: Coordinate in mm.
        albedo: The tissue.
        relief: Its relief in mm.
        spotted: Probability of spots.
        nets: How many nets at most.
    """
    albedo = albedo.astype(np.float32)
    if rng.random() < spotted:
        albedo = _spots(rng, u, v, albedo)
    for _ in range(rng.integers(0, nets + 1)):
        albedo = _net(rng, u, v, albedo)
    for _ in range(rng.integers(2, 5)):
        albedo, relief = _area(rng, u, v, albedo, relief)
    for _ in range(rng.integers(2, 5)):
        albedo, relief = _fold(rng, u, v, albedo, relief)
    return albedo, relief


def _spots(rng: np.random.Generator, u: np.ndarray, v: np.ndarray, albedo: np.ndarray) -> np.ndarray:
    """Pale or dark spots, dense in some places and missing in others."""
    noise = blobs(rng, u, v, rng.uniform(4, 11)) + 0.7 * sample_tile("cloud", rng, u, v, 150.0)
    level = rng.uniform(0.5, 1.6)
    tint = mix(albedo * np.float32(rng.choice([0.65, 1.35])), any_tissue_color(rng), rng.uniform(0, 0.6))
    return mix(albedo, tint, rng.uniform(0.3, 0.8) * smoothstep(noise, level, level + 0.45))


def _net(rng: np.random.Generator, u: np.ndarray, v: np.ndarray, albedo: np.ndarray) -> np.ndarray:
    """A net of fine vessels or fibres: the lines where a noise passes zero."""
    noise = blobs(rng, u, v, rng.uniform(9, 24)) + 0.3 * sample_tile("cloud", rng, u, v, 60.0)
    lines = np.exp(-((noise / rng.uniform(0.05, 0.14)) ** 2))
    lines = lines * smoothstep(sample_tile("cloud", rng, u, v, 200.0), -0.8, 0.6)
    tint = VESSEL_RED if rng.random() < 0.5 else albedo * np.float32(rng.choice([0.6, 1.4]))
    return mix(albedo, tint, rng.uniform(0.15, 0.65) * lines)


def _area(
    rng: np.random.Generator, u: np.ndarray, v: np.ndarray, albedo: np.ndarray, relief: np.ndarray
) -> Painted:
    """An area of another tint with a clear border, as between regions of unequal perfusion."""
    noise = blobs(rng, u, v, rng.uniform(28, 70))
    noise = noise + rng.uniform(0.05, 0.35) * sample_tile("cloud", rng, u, v, 80.0)
    level = rng.uniform(0.2, 1.3)
    area = smoothstep(noise, level, level + rng.uniform(0.08, 0.4))
    tint = mix(albedo * np.float32(rng.uniform(0.6, 1.4)), any_tissue_color(rng), rng.uniform(0.1, 0.6))
    return mix(albedo, tint, rng.uniform(0.35, 0.85) * area), relief + rng.uniform(-1.5, 1.5) * area


def _fold(
    rng: np.random.Generator, u: np.ndarray, v: np.ndarray, albedo: np.ndarray, relief: np.ndarray
) -> Painted:
    """Furrows or ridges along long curves, only in some places."""
    noise = blobs(rng, u, v, rng.uniform(25, 55))
    width = rng.uniform(0.05, 0.14) * (1 + 0.4 * np.clip(sample_tile("cloud", rng, u, v, 90.0), -1.5, 1.5))
    fold = np.exp(-((noise / width) ** 2)) * smoothstep(blobs(rng, u, v, 60.0), -0.4, 0.8)
    tint = albedo * np.float32(rng.choice([rng.uniform(0.4, 0.75), rng.uniform(1.2, 1.5)]))
    return mix(albedo, tint, 0.7 * fold), relief + rng.uniform(-2.0, 1.5) * fold


def random_line_mm(
    rng: np.random.Generator,
    shape: tuple[int, int],
    box: tuple[float, float, float, float],
    length_mm: float,
    mm_per_px: float,
) -> tuple[np.ndarray, np.ndarray]:
    """A wandering line that starts in `box` (x0, y0, x1, y1 in 0..1 of the picture).

    Returns:
        Distance to it (h, w) in mm, and a weight (h, w) that fades at its ends.
    """
    # Drawn at half the size: it has no detail that would need more.
    height, width = shape[0] // 2, shape[1] // 2
    mm_per_px = 2 * mm_per_px
    start = rng.uniform((box[0] * width, box[1] * height), (box[2] * width, box[3] * height))
    line = random_walk(rng, start, rng.uniform(0, 2 * np.pi), length_mm / mm_per_px, step=2.5, bend=0.07)
    blank = np.full((height, width), 255, dtype=np.uint8)
    cv2.polylines(blank, [np.round(line).astype(np.int32)], False, 0, 1)
    distance = cv2.distanceTransform(blank, cv2.DIST_L2, 3) * np.float32(mm_per_px)
    middle = line[len(line) // 2].astype(np.float32)
    x, y = np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)[:, None]
    from_middle = np.hypot(x - middle[0], y - middle[1]) * np.float32(mm_per_px)
    weight = 1 - smoothstep(from_middle, 0.38 * length_mm, 0.5 * length_mm)
    return tuple(cv2.resize(part, shape[::-1], interpolation=cv2.INTER_LINEAR) for part in (distance, weight))


def add_band(
    rng: np.random.Generator,
    contrast: tuple[float, float],
    u: np.ndarray,
    v: np.ndarray,
    albedo: np.ndarray,
    relief: np.ndarray,
    distance_mm: np.ndarray,
    weight: np.ndarray,
) -> Painted:
    """A peritoneal band: pink to pale, streaked with fat and small vessels, of uneven width and strength.

    The ligament's attachment and the adhesions that are not it are painted by this same function: what
    tells them apart is where they lie and where they lead.
    """
    near = (distance_mm < 10.0) & (weight > 0)
    rows, columns = np.flatnonzero(near.any(axis=1)), np.flatnonzero(near.any(axis=0))
    if len(rows) == 0:
        return albedo, relief
    box = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
    u, v, distance_mm, weight = u[box], v[box], distance_mm[box], weight[box]
    uneven = sample_tile("cloud", rng, u, v, 90.0)
    half_width = rng.uniform(1.6, 3.8) * (1 + 0.25 * np.clip(uneven, -2, 2))
    profile = (1 - smoothstep(distance_mm / np.maximum(half_width, 0.6), 0.55, 1.15)) * weight
    streaks = blobs(rng, u, v, rng.uniform(3.0, 6.0))
    color = mix(BAND_PINK, BAND_FAT, smoothstep(streaks, -0.6, 1.2)) * np.float32(rng.uniform(0.85, 1.08))
    color = mix(color, any_tissue_color(rng), rng.uniform(0, 0.4))
    veins = 1 - smoothstep(np.abs(blobs(rng, u, v, 9.0)), 0.05, 0.2)
    color = mix(color, VESSEL_RED, rng.uniform(0.0, 0.35) * veins)
    strength = rng.uniform(*contrast) * np.clip(0.85 + 0.25 * sample_tile("cloud", rng, u, v, 70.0), 0.35, 1)
    height = rng.uniform(0.4, 1.6) * np.sqrt(np.clip(profile, 0, 1)) * (1 + 0.15 * streaks)
    albedo, relief = albedo.copy(), relief.copy()
    albedo[box] = mix(albedo[box], color, profile * strength)
    relief[box] += height
    return albedo, relief
