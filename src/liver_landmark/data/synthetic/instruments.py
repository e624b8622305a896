"""Instruments: thin shafts that reach from beside the camera to somewhere in the view."""

from __future__ import annotations

import numpy as np

from .curves import Buffers, View
from .raycast import Scene
from .surfaces import Region, Surface, bumped_normals, tube, unit

_SHAFT_COLORS = np.array([[0.10, 0.10, 0.11], [0.55, 0.56, 0.58], [0.30, 0.31, 0.33]])
_STEEL = np.array([0.66, 0.67, 0.70])


def sample_instruments(rng: np.random.Generator, view: View, buffers: Buffers, count: int) -> Scene | None:
    """A scene of `count` instruments whose tips stand over random visible places; None for 0."""
    if count == 0:
        return None
    seen = np.argwhere((buffers.region != Region.OUTSIDE) & np.isfinite(buffers.depth))
    surfaces = []
    for _ in range(count):
        # Mostly towards the frame's border, where they hide less.
        row, column = max(
            (seen[rng.integers(len(seen))] for _ in range(2)),
            key=lambda pixel: abs(pixel[1] / view.camera.width - 0.5),
        )
        place = view.camera.unproject(
            np.array([[column, row]], dtype=float), buffers.depth[row, column][None]
        )[0]
        surfaces.append(_instrument(rng, view, place))
    return Scene(surfaces)


def _instrument(rng: np.random.Generator, view: View, place: np.ndarray) -> Surface:
    camera = view.camera
    towards = unit(camera.position - place)
    tip = place + towards * rng.uniform(1.5, 12)
    right, down = camera.rotation[0], camera.rotation[1]
    local = (tip - camera.position) @ right
    side = (1 if local > 0 else -1) * rng.uniform(60, 120)
    port = (
        camera.position
        + right * side
        + down * rng.uniform(-50, 40)
        + camera.rotation[2] * rng.uniform(-10, 25)
    )
    radius = rng.uniform(2.2, 3.6)
    length = np.linalg.norm(port - tip)
    along = np.concatenate([np.linspace(0, 16, 12), np.linspace(17, length, 10)])
    taper = np.interp(along, [0, 1, 15, 16], [0.25, 0.45, 0.75, 1.0])
    points = tube(tip + unit(port - tip) * along[:, None], radius * taper).astype(np.float32)
    shape = (64, 32)
    shaft = _SHAFT_COLORS[rng.integers(len(_SHAFT_COLORS))]
    metal = np.linspace(0, len(along) - 1, shape[0]) < 11
    albedo = np.where(metal[:, None, None], _STEEL, shaft) * np.ones((*shape, 3))
    normals = bumped_normals(points, None, shape, wrap_columns=True)
    return Surface(Region.INSTRUMENT, points, normals, albedo.astype(np.float32), 0.6)
