"""Tissue surfaces: grids of points in mm, with colour and normal atlases over the same grid.

World frame: x right, y down, z forward (cranial), as a level camera sees it, so "up" (towards the
abdominal wall) is -y. All lengths are mm.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import cv2
import numpy as np


class Region(IntEnum):
    """Organ and tissue ids of the region map; 0 lies outside of the round view."""

    OUTSIDE = 0
    LIVER = 1
    WALL = 2
    FAT = 3
    GALLBLADDER = 4
    STOMACH = 5
    FALCIFORM = 6
    ROUND_LIGAMENT = 7
    INSTRUMENT = 8
    BOWEL = 9
    SPLEEN = 10


@dataclass(frozen=True)
class Surface:
    """A grid mesh and its look.

    Attributes:
        region: What tissue it is.
        points: (R, C, 3) float32, mm; quads between neighbours are split into two triangles each.
        normals: (h, w, 3) float32 unit normals, bumps included, over the grid (corners aligned).
        albedo: (h, w, 3) float32 RGB in 0..1, display-referred, over the grid (corners aligned).
        gloss: Strength of specular highlights, 0 (dull) to about 1 (wet).
    """

    region: Region
    points: np.ndarray
    normals: np.ndarray
    albedo: np.ndarray
    gloss: float


def grid_triangles(rows: int, columns: int) -> np.ndarray:
    """(2 (R-1) (C-1), 3) int32 vertex indices: triangle 2q and 2q + 1 belong to quad q (row-major)."""
    index = np.arange(rows * columns, dtype=np.int32).reshape(rows, columns)
    a, b, c, d = index[:-1, :-1], index[1:, :-1], index[1:, 1:], index[:-1, 1:]
    first, second = np.stack([a, b, c], axis=-1), np.stack([a, c, d], axis=-1)
    return np.ascontiguousarray(np.stack([first, second], axis=2).reshape(-1, 3))


def triangle_to_grid(
    triangle: np.ndarray, u: np.ndarray, v: np.ndarray, columns: int
) -> tuple[np.ndarray, np.ndarray]:
    """Fractional (row, column) on the grid of hits given by triangle and barycentric coordinates."""
    quad = triangle // 2
    second = (triangle & 1).astype(bool)
    row = quad // (columns - 1) + np.where(second, u, u + v)
    column = quad % (columns - 1) + np.where(second, u + v, v)
    return row.astype(np.float32), column.astype(np.float32)


def sample_grid(grid: np.ndarray, row: np.ndarray, column: np.ndarray) -> np.ndarray:
    """Linear interpolation of a (R, C, …) grid at fractional positions of shape (N,)."""
    rows, columns = grid.shape[:2]
    r0 = np.clip(np.floor(row).astype(int), 0, rows - 2)
    c0 = np.clip(np.floor(column).astype(int), 0, columns - 2)
    fr = (row - r0).reshape(-1, *[1] * (grid.ndim - 2))
    fc = (column - c0).reshape(-1, *[1] * (grid.ndim - 2))
    top = grid[r0, c0] * (1 - fc) + grid[r0, c0 + 1] * fc
    bottom = grid[r0 + 1, c0] * (1 - fc) + grid[r0 + 1, c0 + 1] * fc
    return top * (1 - fr) + bottom * fr


def grid_tangents(points: np.ndarray, wrap_columns: bool) -> tuple[np.ndarray, np.ndarray]:
    """Change of position (mm) per row and per column, each (R, C, 3); wrapped grids repeat column 0 last."""
    per_row = np.gradient(points, axis=0)
    if wrap_columns:
        ring = np.concatenate([points[:, -2:-1], points, points[:, 1:2]], axis=1)
        per_column = (ring[:, 2:] - ring[:, :-2]) / 2
    else:
        per_column = np.gradient(points, axis=1)
    return per_row, per_column


def dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Scalar products along the last axis (much faster than a sum over three numbers)."""
    return np.einsum("...i,...i->...", a, b)


def unit(vectors: np.ndarray) -> np.ndarray:
    """Vectors of length 1 along the last axis."""
    return vectors / np.maximum(np.sqrt(dot(vectors, vectors)), 1e-9)[..., None]


def grid_normals(points: np.ndarray, wrap_columns: bool = False) -> np.ndarray:
    """(R, C, 3) unit normals of a grid mesh."""
    per_row, per_column = grid_tangents(points, wrap_columns)
    return unit(np.cross(per_row, per_column))


def upsample(grid: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """(h, w, …) linear interpolation of a (R, C, …) grid, corners aligned (cv2.resize aligns borders)."""
    rows, columns = grid.shape[:2]
    column, row = np.meshgrid(
        np.linspace(0, columns - 1, shape[1], dtype=np.float32),
        np.linspace(0, rows - 1, shape[0], dtype=np.float32),
    )
    return cv2.remap(np.ascontiguousarray(grid, dtype=np.float32), column, row, cv2.INTER_LINEAR)


def bumped_normals(
    points: np.ndarray, height_mm: np.ndarray | None, shape: tuple[int, int], wrap_columns: bool = False
) -> np.ndarray:
    """(h, w, 3) normals of a grid mesh with a fine relief of `height_mm` (h, w) on it."""
    per_row, per_column = grid_tangents(points, wrap_columns)
    normals = upsample(unit(np.cross(per_row, per_column)), shape)
    if height_mm is not None:
        gain_row, gain_column = (shape[0] - 1) / (points.shape[0] - 1), (shape[1] - 1) / (points.shape[1] - 1)
        for tangent, axis, gain in ((per_row, 0, gain_row), (per_column, 1, gain_column)):
            # Slope along the tangent: rise per grid step over length per grid step, squared once more
            # to make the tangent a unit vector. Collapsed cells (poles, tips) get no relief.
            inverse = tangent / np.maximum(dot(tangent, tangent), 0.02)[..., None]
            rise = np.gradient(height_mm, axis=axis)[..., None] * gain
            normals = normals - rise.astype(np.float32) * upsample(inverse, shape)
    return unit(normals).astype(np.float32)


def tube(path: np.ndarray, radius_mm: np.ndarray, segments: int = 24) -> np.ndarray:
    """(N, segments + 1, 3) grid of a tube around a (N, 3) path; the last column repeats the first."""
    tangent = unit(np.gradient(path, axis=0))
    helper = np.array([0.0, 1.0, 0.0]) if np.abs(tangent[:, 1]).mean() < 0.8 else np.array([1.0, 0.0, 0.0])
    side = unit(np.cross(tangent, helper))
    other = np.cross(tangent, side)
    angle = np.linspace(0, 2 * np.pi, segments + 1)
    ring = side[:, None] * np.cos(angle)[:, None] + other[:, None] * np.sin(angle)[:, None]
    return path[:, None] + ring * np.asarray(radius_mm)[:, None, None]


def ellipsoid(center: np.ndarray, radii: np.ndarray, rows: int = 48, columns: int = 64) -> np.ndarray:
    """(rows, columns + 1, 3) grid of an ellipsoid with poles along x; the last column repeats the first."""
    polar = np.linspace(0.02, np.pi - 0.02, rows)[:, None]
    angle = np.linspace(0, 2 * np.pi, columns + 1)[None]
    direction = np.stack(
        [np.cos(polar) + 0 * angle, np.sin(polar) * np.sin(angle), np.sin(polar) * np.cos(angle)], axis=-1
    )
    return np.asarray(center) + direction * np.asarray(radii)
