"""Surfaces in mm, the endoscope's camera, and what each of its rays meets first.

World frame: x right, y down, z forward (cranial), as a level camera sees it, so "up" (toward the
abdominal wall) is -y. All lengths are mm.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

import cv2
import numpy as np
from embreex.mesh_construction import TriangleMesh
from embreex.rtcore_scene import EmbreeScene

_UNDISTORT_STEPS = 12


# Surfaces: grids of points in mm, with color and normal atlases over the same grid.


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
        points: (R, C, 3) float32, mm; quads between neighbors are split into two triangles each.
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


# Camera: a pinhole with radial distortion (OpenCV's k1, k2) and a pose.


@dataclass(frozen=True)
class Camera:
    """Intrinsics in px of the frame (integers name pixel centers) and the pose in the world.

    Attributes:
        width: Frame width in px.
        height: Frame height in px.
        fx: Focal length in px along x.
        fy: Focal length in px along y.
        cx: Principal point in px.
        cy: Principal point in px.
        k: Radial coefficients (k1, k2): r -> r (1 + k1 r² + k2 r⁴) on the normalized plane.
        rotation: (3, 3), world to camera (x right, y down, z forward).
        position: (3,) optical center in the world, mm.
    """

    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float
    k: tuple[float, float]
    rotation: np.ndarray
    position: np.ndarray

    def resized(self, width: int, height: int) -> Camera:
        """The same camera with a frame of another size: x maps to (x + ½) s - ½."""
        sx, sy = width / self.width, height / self.height
        return Camera(
            width,
            height,
            self.fx * sx,
            self.fy * sy,
            (self.cx + 0.5) * sx - 0.5,
            (self.cy + 0.5) * sy - 0.5,
            self.k,
            self.rotation,
            self.position,
        )

    def project(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """World points (N, 3) -> px (N, 2) and depth along the optical axis (N,) mm; behind it px is NaN."""
        local = (points - self.position) @ self.rotation.T
        depth = local[:, 2]
        plane = np.where(depth[:, None] > 1e-3, local[:, :2] / np.maximum(depth, 1e-3)[:, None], np.nan)
        r2 = (plane**2).sum(axis=1, keepdims=True)
        # Far outside of the frame the polynomial folds back; such points are not in view.
        plane = np.where(r2 < 4.0, plane * (1 + self.k[0] * r2 + self.k[1] * r2**2), np.nan)
        return plane * (self.fx, self.fy) + (self.cx, self.cy), depth

    def directions(self, px: np.ndarray) -> np.ndarray:
        """Camera-frame directions (…, 3) with z = 1 through pixels (…, 2)."""
        x, y = (px[..., 0] - self.cx) / self.fx, (px[..., 1] - self.cy) / self.fy
        # The distortion only scales the radius, so that one number a pixel is sought.
        distorted2 = x * x + y * y
        shrink = np.ones_like(x)
        for _ in range(_UNDISTORT_STEPS):
            r2 = distorted2 * shrink * shrink
            shrink = 1 / (1 + r2 * (self.k[0] + self.k[1] * r2))
        return np.stack([x * shrink, y * shrink, np.ones_like(x)], axis=-1)

    def unproject(self, px: np.ndarray, depth: np.ndarray) -> np.ndarray:
        """Pixels (…, 2) and depths (…,) mm along the optical axis -> world points (…, 3)."""
        return (self.directions(px) * depth[..., None]) @ self.rotation + self.position

    def pixel_grid(self) -> np.ndarray:
        """(H, W, 2) the pixel centers."""
        return np.stack(np.meshgrid(np.arange(self.width), np.arange(self.height)), axis=-1).astype(
            np.float64
        )


def look_at(position: np.ndarray, target: np.ndarray, roll_rad: float) -> np.ndarray:
    """(3, 3) world-to-camera rotation that looks from `position` to `target`, level but for the roll."""
    forward = (target - position) / np.linalg.norm(target - position)
    right = np.cross(np.array([0.0, 1.0, 0.0]), forward)
    right /= np.linalg.norm(right)
    down = np.cross(forward, right)
    cosine, sine = np.cos(roll_rad), np.sin(roll_rad)
    return np.stack([cosine * right + sine * down, -sine * right + cosine * down, forward])


# Rays: what each meets first, by Embree (Intel's ray tracing kernels, through embreex).


@dataclass(frozen=True)
class Hits:
    """First hits of N rays, arrays of shape (N,).

    Attributes:
        surface: Index into the scene's surfaces, -1 where nothing is met.
        row: Fractional grid row on that surface.
        column: Fractional grid column on that surface.
        distance: In units of the ray direction's length; inf where nothing is met.
    """

    surface: np.ndarray
    row: np.ndarray
    column: np.ndarray
    distance: np.ndarray


class Scene:
    """Surfaces in a ray tracing structure; immutable once built."""

    def __init__(self, surfaces: Sequence[Surface]):
        self.surfaces = tuple(surfaces)
        self._embree = EmbreeScene()
        self._columns = np.array([surface.points.shape[1] for surface in self.surfaces], dtype=np.int32)
        for surface in self.surfaces:
            rows, columns = surface.points.shape[:2]
            vertices = np.ascontiguousarray(surface.points.reshape(-1, 3), dtype=np.float32)
            TriangleMesh(self._embree, vertices, grid_triangles(rows, columns))

    def cast(self, origin: np.ndarray, directions: np.ndarray) -> Hits:
        """Casts N rays from one (3,) origin along (N, 3) directions of any length."""
        directions = np.ascontiguousarray(directions, dtype=np.float32)
        origins = np.ascontiguousarray(np.broadcast_to(origin, directions.shape), dtype=np.float32)
        hit = self._embree.run(origins, directions, output=1)
        surface = hit["geomID"]
        missed = surface < 0
        row, column = triangle_to_grid(hit["primID"], hit["u"], hit["v"], self._columns[surface])
        distance = np.where(missed, np.float32(np.inf), hit["tfar"])
        return Hits(np.where(missed, -1, surface), row, column, distance)

    def reaches(self, origin: np.ndarray, points: np.ndarray, tolerance_mm: float) -> np.ndarray:
        """(N,) bool: nothing lies between `origin` and points (N, 3), but for the last `tolerance_mm`."""
        rays = points - origin
        length = np.linalg.norm(rays, axis=1)
        return self.cast(origin, rays).distance > 1 - tolerance_mm / np.maximum(length, 1e-6)
