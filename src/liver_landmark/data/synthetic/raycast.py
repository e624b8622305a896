"""What every ray meets first, by Embree (the ray tracing kernels of Intel, through embreex)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from embreex.mesh_construction import TriangleMesh
from embreex.rtcore_scene import EmbreeScene

from .surfaces import Surface, grid_triangles, triangle_to_grid


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
