"""Colour and fine relief of the tissues, as pictures over a surface's grid.

Every function takes the surface's coordinates in mm, so that a texture's grain does not depend on the
grid, and returns albedo (h, w, 3) in 0..1 and relief (h, w) in mm.
"""

from __future__ import annotations

import cv2
import numpy as np

from .domains import Domain
from .liver import COLUMNS, SECTIONS, UPPER_COLUMNS, Liver
from .noise import random_walk, sample_tile, vessels
from .surfaces import upsample

RED_BROWN, DUSKY, TAN = np.array([[0.50, 0.28, 0.23], [0.42, 0.34, 0.35], [0.62, 0.45, 0.34]])
BEIGE_WALL, RED_WALL = np.array([[0.74, 0.55, 0.47], [0.58, 0.28, 0.24]])
YELLOW_FAT, PINK_FAT = np.array([[0.84, 0.66, 0.36], [0.80, 0.50, 0.38]])
BAND_PINK, BAND_FAT = np.array([[0.78, 0.56, 0.52], [0.82, 0.70, 0.50]])
VESSEL_RED = np.array([0.52, 0.12, 0.11])
GALL_GREEN, GALL_PALE = np.array([[0.50, 0.52, 0.38], [0.72, 0.58, 0.46]])
STOMACH_PINK = np.array([0.78, 0.52, 0.45])


def surface_mm(points: np.ndarray, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates (u, v), each (h, w) in mm: lengths along the grid's columns of rows and rows of columns."""
    fine = upsample(points, shape)
    along_rows = np.linalg.norm(np.diff(fine, axis=0), axis=-1)
    along_columns = np.linalg.norm(np.diff(fine, axis=1), axis=-1)
    u = np.concatenate(
        [np.zeros((1, shape[1])), np.cumsum(along_rows.max(axis=1, keepdims=True) + 0 * along_rows, axis=0)]
    )
    v = np.concatenate([np.zeros((shape[0], 1)), np.cumsum(along_columns, axis=1)], axis=1)
    return u.astype(np.float32), v.astype(np.float32)


def mix(color: np.ndarray, other: np.ndarray, amount: np.ndarray | float) -> np.ndarray:
    """Colours blended by `amount` 0..1, broadcast over a trailing colour axis."""
    color, other = np.asarray(color, dtype=np.float32), np.asarray(other, dtype=np.float32)
    return color + (other - color) * np.asarray(amount, dtype=np.float32)[..., None]


def smoothstep(value: np.ndarray, low: float, high: float) -> np.ndarray:
    """0 below `low`, 1 above `high`, smooth between."""
    t = np.clip((value - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def liver_tissue(
    rng: np.random.Generator, domain: Domain, liver: Liver, shape: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Parenchyma with mottling, lobules, spots and vessels; the ligament's attachment; scars and creases."""
    u, v = surface_mm(liver.points, shape)
    steatotic = rng.random() < domain.steatotic_share
    dusky = rng.uniform(0, 1) ** 1.3
    base = mix(
        mix(RED_BROWN, DUSKY, dusky), TAN, rng.uniform(0.4, 0.95) if steatotic else rng.uniform(0, 0.25)
    )
    base = base * rng.uniform(0.88, 1.1) * rng.uniform(0.95, 1.05, 3)
    cloud = sample_tile("cloud", rng, u, v, 190.0)
    cells = sample_tile("cells", rng, u, v, 512 / 16 * rng.uniform(1.6, 2.6))
    albedo = base * (1 + 0.08 * cloud + rng.uniform(0.02, 0.05) * cells)[..., None]
    albedo = mix(albedo, DUSKY, 0.25 * smoothstep(sample_tile("cloud", rng, u, v, 120.0), 0.0, 2.0))
    relief = 0.05 * cells

    if rng.random() < 0.55:
        # Patches of fat or fibrosis, as pale spots with soft rims.
        patches = sample_tile("blobs", rng, u, v, 512 / 32 * rng.uniform(5, 10))
        patches = patches + 0.7 * sample_tile("cloud", rng, u, v, 150.0)
        density = rng.uniform(0.9, 2.0)
        pale = mix(base * 1.25, TAN * 1.1, 0.5)
        albedo = mix(albedo, pale, rng.uniform(0.3, 0.75) * smoothstep(patches, density, density + 0.7))
    if liver.shape.nodule:
        nodules = sample_tile("cells", rng, u, v, 512 / 16 * rng.uniform(4, 7))
        relief = relief + liver.shape.nodule * 0.28 * nodules
        albedo = albedo * (1 + 0.06 * nodules)[..., None]

    dark = vessels(rng, shape, trees=int(rng.integers(1, 4)), width_px=3.0)
    albedo = mix(albedo, base * 0.55, rng.uniform(0.1, 0.35) * dark)

    to_ligament = _distance_to_ligament_mm(liver, shape)
    away = smoothstep(to_ligament, 9.0, 16.0)
    for _ in range(rng.integers(1, 4)):
        distance, along = _random_line_mm(rng, shape, length_mm=rng.uniform(18, 55))
        albedo, relief = _band(rng, domain, albedo, relief, u, v, distance, along * away)
    for _ in range(rng.integers(1, 4)):
        distance, along = _random_line_mm(rng, shape, length_mm=rng.uniform(30, 110))
        crease = np.exp(-((distance / rng.uniform(0.8, 2.2)) ** 2)) * along * away
        relief = relief - rng.uniform(0.6, 2.0) * crease
        albedo = albedo * (1 - 0.25 * crease)[..., None]

    column = np.linspace(0, COLUMNS, shape[1])[None]
    first, last = liver.ligament_columns
    inside = smoothstep(column, first - 2, first + 4) * (1 - smoothstep(column, last - 6, last + 6))
    albedo, relief = _band(rng, domain, albedo, relief, u, v, to_ligament, inside + 0 * to_ligament)
    return np.clip(albedo, 0.02, 1).astype(np.float32), relief.astype(np.float32)


def _distance_to_ligament_mm(liver: Liver, shape: tuple[int, int]) -> np.ndarray:
    """(h, w) distance to the ligament's line on the upper face, mm; far away underneath."""
    column = np.linspace(0, COLUMNS, shape[1])
    line_row = np.interp(column, np.arange(UPPER_COLUMNS), liver.ligament_rows)
    x = liver.points[..., 0]
    row_x = np.interp(np.linspace(0, SECTIONS - 1, shape[0]), np.arange(SECTIONS), x.mean(axis=1))
    line_x = np.interp(line_row, np.arange(SECTIONS), x.mean(axis=1))
    distance = np.abs(row_x[:, None] - line_x[None])
    return np.where(column[None] < UPPER_COLUMNS, distance, 99.0)


def _random_line_mm(
    rng: np.random.Generator, shape: tuple[int, int], length_mm: float, mm_per_px: float = 0.33
) -> tuple[np.ndarray, np.ndarray]:
    """Distance (h, w) in mm to a wandering line on the upper face, and a weight that fades at its ends."""
    # Drawn at half the size: it has no detail that would need more.
    height, width = shape[0] // 2, shape[1] // 2
    mm_per_px = 2 * mm_per_px
    upper = width * UPPER_COLUMNS / COLUMNS
    start = rng.uniform((0.04 * upper, 0.12 * height), (0.7 * upper, 0.88 * height))
    line = random_walk(rng, start, rng.uniform(0, 2 * np.pi), length_mm / mm_per_px, step=2.5, bend=0.07)
    blank = np.full((height, width), 255, dtype=np.uint8)
    cv2.polylines(blank, [np.round(line).astype(np.int32)], False, 0, 1)
    distance = cv2.distanceTransform(blank, cv2.DIST_L2, 3) * np.float32(mm_per_px)
    middle = line[len(line) // 2]
    x, y = np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)[:, None]
    from_middle = np.hypot(x - np.float32(middle[0]), y - np.float32(middle[1])) * np.float32(mm_per_px)
    weight = 1 - smoothstep(from_middle, 0.38 * length_mm, 0.5 * length_mm)
    return tuple(
        cv2.resize(picture, shape[::-1], interpolation=cv2.INTER_LINEAR) for picture in (distance, weight)
    )


def _band(
    rng: np.random.Generator,
    domain: Domain,
    albedo: np.ndarray,
    relief: np.ndarray,
    u: np.ndarray,
    v: np.ndarray,
    distance_mm: np.ndarray,
    weight: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """A peritoneal band: pink to pale, streaked with fat and small vessels, of uneven width and strength.

    The ligament's attachment and the scars that are not it are painted by this same function: what tells
    them apart is where they lie and where they lead.
    """
    near = (distance_mm < 10.0) & (weight > 0)
    rows, columns = np.flatnonzero(near.any(axis=1)), np.flatnonzero(near.any(axis=0))
    if len(rows) == 0:
        return albedo, relief
    box = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
    u, v, distance_mm, weight = u[box], v[box], distance_mm[box], weight[box]
    uneven = sample_tile("cloud", rng, u, v, 90.0)
    half_width = rng.uniform(2.0, 4.2) * (1 + 0.25 * np.clip(uneven, -2, 2))
    profile = (1 - smoothstep(distance_mm / np.maximum(half_width, 0.6), 0.55, 1.15)) * weight
    streaks = sample_tile("blobs", rng, u, v, 512 / 32 * rng.uniform(3.0, 6.0))
    color = mix(BAND_PINK, BAND_FAT, smoothstep(streaks, -0.6, 1.2)) * np.float32(rng.uniform(0.85, 1.08))
    veins = 1 - smoothstep(np.abs(sample_tile("blobs", rng, u, v, 512 / 32 * 9.0)), 0.05, 0.2)
    color = mix(color, VESSEL_RED, rng.uniform(0.0, 0.35) * veins)
    contrast = rng.uniform(*domain.band_contrast)
    strength = contrast * np.clip(0.85 + 0.25 * sample_tile("cloud", rng, u, v, 70.0), 0.35, 1)
    height = rng.uniform(0.4, 1.6) * np.sqrt(np.clip(profile, 0, 1)) * (1 + 0.15 * streaks)
    albedo, relief = albedo.copy(), relief.copy()
    albedo[box] = mix(albedo[box], color, profile * strength)
    relief[box] += height
    return albedo, relief


def wall_tissue(
    rng: np.random.Generator, domain: Domain, points: np.ndarray, shape: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Peritoneum over muscle: beige to red, fibres, branching vessels."""
    u, v = surface_mm(points, shape)
    base = mix(BEIGE_WALL, RED_WALL, rng.uniform(*domain.wall_redness)) * rng.uniform(0.94, 1.06, 3)
    fibres = sample_tile("cloud", rng, u * 0.25, v * 1.6, 150.0)
    cloud = sample_tile("cloud", rng, u, v, 220.0)
    albedo = base * (1 + 0.10 * cloud + 0.05 * fibres)[..., None]
    albedo = mix(albedo, RED_WALL, 0.5 * smoothstep(sample_tile("cloud", rng, u, v, 160.0), 0.4, 2.0))
    trees = vessels(rng, shape, trees=int(rng.integers(5, 13)), width_px=rng.uniform(2.0, 4.0))
    albedo = mix(albedo, VESSEL_RED, rng.uniform(0.3, 0.7) * trees)
    return np.clip(albedo, 0.02, 1), (0.3 * fibres + 0.5 * cloud).astype(np.float32)


def fat_tissue(
    rng: np.random.Generator, points: np.ndarray, shape: tuple[int, int], liver_like: float
) -> tuple[np.ndarray, np.ndarray]:
    """Lobulated fat, yellow to pink; `liver_like` 0..1 moves it to the liver's brown."""
    u, v = surface_mm(points, shape)
    base = mix(mix(YELLOW_FAT, PINK_FAT, rng.uniform(0, 1)), np.array([0.56, 0.34, 0.24]), liver_like)
    lobules = sample_tile("cells", rng, u, v, 512 / 16 * rng.uniform(5, 9))
    fine = sample_tile("cells", rng, u, v, 512 / 16 * 2.2)
    cloud = sample_tile("cloud", rng, u, v, 200.0)
    albedo = base * (1 + 0.10 * cloud + 0.06 * lobules + 0.02 * fine)[..., None]
    albedo = mix(albedo, np.array([0.62, 0.30, 0.20]), 0.35 * smoothstep(cloud, 0.3, 2.2))
    trees = vessels(rng, shape, trees=int(rng.integers(3, 9)), width_px=rng.uniform(1.5, 3.0))
    albedo = mix(albedo, VESSEL_RED, 0.6 * trees)
    return np.clip(albedo, 0.02, 1), (0.4 * lobules + 0.06 * fine).astype(np.float32)


def smooth_organ_tissue(
    rng: np.random.Generator, points: np.ndarray, shape: tuple[int, int], base: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Serosa of stomach or gallbladder: smooth, faintly mottled, with vessels."""
    u, v = surface_mm(points, shape)
    cloud = sample_tile("cloud", rng, u, v, 110.0)
    albedo = base * rng.uniform(0.9, 1.1, 3) * (1 + 0.08 * cloud)[..., None]
    trees = vessels(rng, shape, trees=int(rng.integers(3, 8)), width_px=2.0)
    albedo = mix(albedo, VESSEL_RED, 0.5 * trees)
    return np.clip(albedo, 0.02, 1), (0.2 * cloud).astype(np.float32)
