"""Colour and fine relief of the tissues, as pictures over a surface's grid.

Every function works in mm along the surface, so that a texture's grain does not depend on the grid, and
returns albedo (h, w, 3) in 0..1 and relief (h, w) in mm. Other tissues' colours come close to the liver's.
"""

from __future__ import annotations

import numpy as np

from . import marks
from .domains import Domain
from .liver import COLUMNS, SECTIONS, UPPER_COLUMNS, Liver
from .marks import mix, smoothstep
from .noise import sample_tile, vessels
from .surfaces import upsample


def surface_mm(points: np.ndarray, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates (u, v), each (h, w) in mm: lengths along the grid's columns of rows and rows of columns."""
    fine = upsample(points, shape)
    along_rows = np.linalg.norm(np.diff(fine, axis=0), axis=-1).max(axis=1, keepdims=True)
    along_columns = np.linalg.norm(np.diff(fine, axis=1), axis=-1)
    u = np.concatenate([np.zeros((1, 1)), np.cumsum(along_rows, axis=0)]) + np.zeros(shape)
    v = np.concatenate([np.zeros((shape[0], 1)), np.cumsum(along_columns, axis=1)], axis=1)
    return u.astype(np.float32), v.astype(np.float32)


def plane_mm(points: np.ndarray, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates (u, v), each (h, w) in mm, of closed surfaces, whose grids shrink to poles: from ahead."""
    fine = upsample(points, shape)
    return np.ascontiguousarray(fine[..., 0]), fine[..., 1] + 0.35 * fine[..., 2]


def liver_color(rng: np.random.Generator, domain: Domain) -> np.ndarray:
    """(3,) one patient's parenchyma: red-brown, dusky or, if steatotic, tan."""
    steatotic = rng.random() < domain.steatotic_share
    base = mix(marks.RED_BROWN, marks.DUSKY, rng.uniform(0, 1) ** 1.3)
    base = mix(base, marks.TAN, rng.uniform(0.4, 0.95) if steatotic else rng.uniform(0, 0.25))
    return base * np.float32(rng.uniform(0.88, 1.1)) * rng.uniform(0.95, 1.05, 3).astype(np.float32)


def other_color(rng: np.random.Generator, own: np.ndarray, parenchyma: np.ndarray) -> np.ndarray:
    """(3,) a tissue's colour: its own, moved towards the liver's and towards any tissue's."""
    color = mix(own, marks.any_tissue_color(rng), rng.uniform(0, 0.7))
    return mix(color, parenchyma, rng.uniform(0, 0.75)) * np.float32(rng.uniform(0.85, 1.2))


def liver_tissue(
    rng: np.random.Generator, domain: Domain, liver: Liver, base: np.ndarray, shape: tuple[int, int]
) -> marks.Painted:
    """Parenchyma with mottling, marks and scars, and the ligament's attachment."""
    u, v = surface_mm(liver.points, shape)
    cloud = sample_tile("cloud", rng, u, v, 190.0)
    albedo = base * (1 + 0.08 * cloud)[..., None]
    albedo = mix(albedo, marks.DUSKY, 0.25 * smoothstep(sample_tile("cloud", rng, u, v, 120.0), 0.0, 2.0))
    lobules = marks.cells(rng, u, v, rng.uniform(1.8, 3.6))
    albedo = albedo * (1 + rng.uniform(0.02, 0.06) * lobules)[..., None]
    albedo, relief = marks.add_marks(rng, u, v, albedo, 0.05 * lobules, spotted=0.45, nets=1)
    if liver.shape.nodule:
        nodules = marks.cells(rng, u, v, rng.uniform(4, 7))
        relief = relief + liver.shape.nodule * 0.28 * nodules
        albedo = albedo * (1 + 0.06 * nodules)[..., None]

    to_ligament = _distance_to_ligament_mm(liver, shape)
    away = smoothstep(to_ligament, 9.0, 16.0)
    upper = UPPER_COLUMNS / COLUMNS
    for _ in range(rng.integers(2, 6)):
        box = (0.04 * upper, 0.12, 0.7 * upper, 0.88)
        distance, along = marks.random_line_mm(rng, shape, box, rng.uniform(18, 60), mm_per_px=0.42)
        albedo, relief = marks.add_band(
            rng, domain.band_contrast, u, v, albedo, relief, distance, along * away
        )
    column = np.linspace(0, COLUMNS, shape[1])[None]
    first, last = liver.ligament_columns
    inside = smoothstep(column, first - 2, first + 3) * (1 - smoothstep(column, last - 5, last + 5))
    albedo, relief = marks.add_band(
        rng, domain.band_contrast, u, v, albedo, relief, to_ligament, np.broadcast_to(inside, shape)
    )
    return np.clip(albedo, 0.02, 1), relief.astype(np.float32)


def _distance_to_ligament_mm(liver: Liver, shape: tuple[int, int]) -> np.ndarray:
    """(h, w) distance to the ligament's line on the upper face, mm; far away underneath."""
    column = np.linspace(0, COLUMNS, shape[1])
    line_row = np.interp(column, np.arange(UPPER_COLUMNS), liver.ligament_rows)
    section_x = liver.points[..., 0].mean(axis=1)
    row_x = np.interp(np.linspace(0, SECTIONS - 1, shape[0]), np.arange(SECTIONS), section_x)
    line_x = np.interp(line_row, np.arange(SECTIONS), section_x)
    distance = np.abs(row_x[:, None] - line_x[None])
    return np.where(column[None] < UPPER_COLUMNS, distance, 99.0)


def wall_tissue(
    rng: np.random.Generator,
    domain: Domain,
    points: np.ndarray,
    parenchyma: np.ndarray,
    shape: tuple[int, int],
) -> marks.Painted:
    """Peritoneum over muscle: fibres, vessels, pads of fat and adhesions."""
    u, v = surface_mm(points, shape)
    base = mix(marks.BEIGE_WALL, marks.RED_WALL, rng.uniform(*domain.wall_redness))
    base = other_color(rng, base, parenchyma) * np.float32(rng.uniform(0.95, 1.35))
    fibres = sample_tile("cloud", rng, u * 0.25, v * 1.6, 150.0)
    cloud = sample_tile("cloud", rng, u, v, 220.0)
    albedo = base * (1 + 0.10 * cloud + rng.uniform(0.05, 0.12) * fibres)[..., None]
    albedo = mix(albedo, marks.RED_WALL, 0.4 * smoothstep(sample_tile("cloud", rng, u, v, 160.0), 0.4, 2.0))
    trees = vessels(rng, shape, trees=int(rng.integers(5, 13)), width_px=rng.uniform(1.5, 3.0))
    albedo = mix(albedo, marks.VESSEL_RED, rng.uniform(0.3, 0.7) * trees)
    pads = smoothstep(marks.blobs(rng, u, v, rng.uniform(50, 90)) + 0.3 * cloud, 0.5, 1.2)
    fat = mix(marks.YELLOW_FAT, marks.PINK_FAT, rng.uniform(0, 1))
    fat = fat * (1 + 0.06 * marks.cells(rng, u, v, rng.uniform(5, 9)))[..., None]
    pads = pads * rng.uniform(0, 0.8) * (rng.random() < 0.6)
    albedo, relief = mix(albedo, fat, pads), 0.3 * fibres + 0.5 * cloud + 2.0 * pads
    for _ in range(rng.integers(1, 5)):
        distance, along = marks.random_line_mm(rng, shape, (0.2, 0.2, 0.8, 0.8), rng.uniform(40, 120), 0.9)
        albedo, relief = marks.add_band(rng, domain.band_contrast, u, v, albedo, relief, distance, along)
    albedo, relief = marks.add_marks(rng, u, v, albedo, relief, spotted=0.2, nets=2)
    return np.clip(albedo, 0.02, 1), relief.astype(np.float32)


def fat_tissue(
    rng: np.random.Generator, points: np.ndarray, parenchyma: np.ndarray, shape: tuple[int, int]
) -> marks.Painted:
    """Lobulated fat, yellow to pink, in some patients near the liver's brown."""
    u, v = surface_mm(points, shape)
    base = mix(marks.YELLOW_FAT, marks.PINK_FAT, rng.uniform(0, 1))
    base = other_color(rng, base, parenchyma) if rng.random() < 0.65 else base
    lobules = marks.cells(rng, u, v, rng.uniform(5, 9))
    cloud = sample_tile("cloud", rng, u, v, 200.0)
    albedo = base * (1 + 0.10 * cloud + rng.uniform(0.05, 0.11) * lobules)[..., None]
    albedo = mix(albedo, marks.RED_WALL, 0.35 * smoothstep(cloud, 0.3, 2.2))
    trees = vessels(rng, shape, trees=int(rng.integers(3, 9)), width_px=rng.uniform(1.5, 3.0))
    albedo = mix(albedo, marks.VESSEL_RED, 0.6 * trees)
    albedo, relief = marks.add_marks(rng, u, v, albedo, 0.4 * lobules, spotted=0.2, nets=1)
    return np.clip(albedo, 0.02, 1), relief.astype(np.float32)


def serosa_tissue(
    rng: np.random.Generator, points: np.ndarray, base: np.ndarray, shape: tuple[int, int]
) -> marks.Painted:
    """The cover of stomach, bowel, gallbladder and spleen: smooth, faintly mottled, with vessels."""
    u, v = plane_mm(points, shape)
    cloud = sample_tile("cloud", rng, u, v, 110.0)
    albedo = base * (1 + 0.08 * cloud)[..., None]
    trees = vessels(rng, shape, trees=int(rng.integers(2, 6)), width_px=1.5)
    albedo = mix(albedo, marks.VESSEL_RED, 0.5 * trees)
    albedo, relief = marks.add_marks(rng, u, v, albedo, 0.2 * cloud, spotted=0.3, nets=2)
    return np.clip(albedo, 0.02, 1), relief.astype(np.float32)
