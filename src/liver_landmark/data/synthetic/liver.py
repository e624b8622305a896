"""The liver's surface from a few anatomical measures, and the two curves that lie on it.

The liver is a row of wedge-shaped sections from the right lobe's tip to the left lobe's. Each section
starts at the anterior edge, rises over the diaphragmatic face to the blunt posterior border and comes
back underneath. The grid's rows are the sections, its columns go around them: column 0 is the edge.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .domains import Domain
from .noise import field
from .surfaces import grid_normals, sample_grid, unit

SECTIONS = 240
UPPER_COLUMNS = 112
LOWER_COLUMNS = 36
COLUMNS = UPPER_COLUMNS + LOWER_COLUMNS


@dataclass(frozen=True)
class LiverShape:
    """Measures of one liver, mm unless named otherwise; `lateral` runs from -1 (right tip) to 1 (left tip).

    Attributes:
        width, depth, height: Of the right lobe and the whole.
        boundary: Lateral place of the boundary between the lobes.
        left_depth, left_height: The left lobe's relative to the right lobe's.
        notch_depth, notch_half_width: Of the notch in the anterior edge at the boundary.
        edge_angle_rad: Angle between upper face and horizontal at the anterior edge.
        right_blunt, left_blunt: Exponents of how the sections shrink towards the tips.
        skew: How much further back the left tip lies than the right.
        droop: How much lower the sides lie than the middle.
        dome: Fullness of the upper face.
        groove: Depth of the furrow along the ligament.
        undulation: Amplitude of the surface's irregularity.
        edge_wave: Amplitude of the edge's irregularity.
        ligament_slant: Lateral shift of the ligament from edge to back, in lateral units.
        ligament_wander: Amplitude of its wandering, in lateral units.
        nodule: Height of cirrhotic nodules, 0 without.
    """

    width: float
    depth: float
    height: float
    boundary: float
    left_depth: float
    left_height: float
    notch_depth: float
    notch_half_width: float
    edge_angle_rad: float
    right_blunt: float
    left_blunt: float
    skew: float
    droop: float
    dome: float
    groove: float
    undulation: float
    edge_wave: float
    ligament_slant: float
    ligament_wander: float
    nodule: float


@dataclass(frozen=True)
class Liver:
    """A liver's grid and the landmarks on it.

    Attributes:
        shape: The measures that it was built from.
        points: (SECTIONS, COLUMNS + 1, 3) mm; first and last column are both the anterior edge.
        lateral: (SECTIONS,) lateral coordinate of every section.
        ridge_rows: First and last section whose edge counts as the anterior lower edge.
        ligament_rows: (UPPER_COLUMNS,) fractional row of the ligament at every upper column.
        ligament_columns: First and last column of the ligament.
    """

    shape: LiverShape
    points: np.ndarray
    lateral: np.ndarray
    ridge_rows: tuple[int, int]
    ligament_rows: np.ndarray
    ligament_columns: tuple[int, int]

    def ridge(self) -> np.ndarray:
        """(N, 3) the anterior lower edge, from right to left lobe."""
        return self.points[self.ridge_rows[0] : self.ridge_rows[1] + 1, 0]

    def ligament(self) -> np.ndarray:
        """(N, 3) the attachment of the falciform ligament, from the notch over the dome."""
        columns = np.arange(self.ligament_columns[0], self.ligament_columns[1] + 1)
        return sample_grid(self.points, self.ligament_rows[columns], columns.astype(float))

    def ligament_normals(self) -> np.ndarray:
        """(N, 3) unit normals of the liver along the ligament."""
        columns = np.arange(self.ligament_columns[0], self.ligament_columns[1] + 1)
        return unit(sample_grid(self.normals(), self.ligament_rows[columns], columns.astype(float)))

    def normals(self) -> np.ndarray:
        """(SECTIONS, COLUMNS + 1, 3) unit normals pointing out of the liver."""
        return _outward_normals(self.points)


def sample_liver_shape(rng: np.random.Generator, domain: Domain) -> LiverShape:
    """Draws one patient's measures."""
    left = rng.uniform(*domain.left_lobe)
    nodular = rng.random() < domain.nodular_share
    return LiverShape(
        width=rng.uniform(185, 235),
        depth=rng.uniform(115, 150),
        height=rng.uniform(52, 78),
        boundary=rng.uniform(-0.02, 0.3),
        left_depth=left,
        left_height=left * rng.uniform(0.85, 1.1),
        notch_depth=rng.uniform(*domain.notch_mm),
        notch_half_width=rng.uniform(9, 17),
        edge_angle_rad=np.deg2rad(rng.uniform(*domain.edge_angle_deg)),
        right_blunt=rng.uniform(2.4, 3.6),
        left_blunt=rng.uniform(1.8, 2.6),
        skew=rng.uniform(-12, 18),
        droop=rng.uniform(8, 24),
        dome=rng.uniform(1.0, 1.25),
        groove=rng.uniform(0.8, 4.5),
        undulation=rng.uniform(0.5, 1.6),
        edge_wave=rng.uniform(0.6, 2.4),
        ligament_slant=rng.uniform(-0.12, 0.16),
        ligament_wander=rng.uniform(0.005, 0.025),
        nodule=rng.uniform(0.5, 1.3) if nodular else 0.0,
    )


def build_liver(rng: np.random.Generator, shape: LiverShape) -> Liver:
    """The surface and the landmarks of one patient's liver."""
    lateral = np.sin(np.linspace(-0.985, 0.985, SECTIONS) * np.pi / 2)
    left = 1 / (1 + np.exp(-(lateral - shape.boundary) / 0.07))
    blunt = np.where(lateral < 0, shape.right_blunt, shape.left_blunt)
    size = np.sqrt(1 - np.abs(lateral) ** blunt)
    depth = shape.depth * size * (1 - (1 - shape.left_depth) * left)
    height = shape.height * size**0.8 * (1 - (1 - shape.left_height) * left)

    x = lateral * shape.width / 2
    from_boundary = x - shape.boundary * shape.width / 2
    notch = shape.notch_depth * np.exp(-(np.abs(from_boundary / shape.notch_half_width) ** 1.7))
    line = np.stack([x, np.zeros_like(x)], axis=1)
    edge_z = shape.depth / 2 + shape.skew * lateral - depth / 2 + notch
    edge_z = edge_z + shape.edge_wave * size * field(rng, line, 45.0)
    back_z = shape.depth / 2 + shape.skew * lateral + depth / 2
    edge_up = -shape.droop * lateral**2 + 0.25 * notch + shape.edge_wave * 0.6 * size * field(rng, line, 60.0)

    points = _sections(shape, x, edge_z, np.maximum(back_z, edge_z + 2), edge_up, height)
    ligament_rows = _ligament_rows(rng, shape, lateral)
    normals = _outward_normals(points)
    # The relief fades out at the edge, which stays a clean curve, and at the tips.
    column = np.arange(COLUMNS + 1)
    fade = np.clip(np.minimum(column, COLUMNS - column) / 7, 0, 1) * np.clip(size * 3, 0, 1)[:, None]
    relief = shape.undulation * field(rng, points, 38.0) + 0.4 * shape.undulation * field(rng, points, 15.0)
    upper = np.clip(column / UPPER_COLUMNS, 0, 1)
    rows = np.interp(column, np.arange(UPPER_COLUMNS), ligament_rows)
    ligament_x = np.interp(rows, np.arange(SECTIONS), x)
    furrow = shape.groove * np.exp(-(((x[:, None] - ligament_x) / 11.0) ** 2)) * (upper < 1)
    points = points + (normals * ((relief - furrow) * fade)[..., None])

    edge = points[:, 0]
    slope = np.abs(np.gradient(edge[:, 2]) / np.maximum(np.gradient(edge[:, 0]), 1e-3))
    flat = np.flatnonzero(slope < np.tan(np.deg2rad(55)))
    return Liver(
        shape=shape,
        points=points.astype(np.float32),
        lateral=lateral,
        ridge_rows=(int(flat[0]), int(flat[-1])),
        ligament_rows=ligament_rows,
        ligament_columns=(2, int(0.9 * UPPER_COLUMNS)),
    )


def _outward_normals(points: np.ndarray) -> np.ndarray:
    """Unit normals of the liver's grid, told from inward ones by the top of the dome, which points up."""
    normals = grid_normals(points)
    return normals if normals[SECTIONS // 2, UPPER_COLUMNS // 2, 1] < 0 else -normals


def _sections(
    shape: LiverShape,
    x: np.ndarray,
    edge_z: np.ndarray,
    back_z: np.ndarray,
    edge_up: np.ndarray,
    height: np.ndarray,
) -> np.ndarray:
    """(SECTIONS, COLUMNS + 1, 3): two cubic Bézier arcs a section, there above and back below."""
    depth = back_z - edge_z
    rise = np.minimum(np.tan(shape.edge_angle_rad) * 0.3 * depth, 1.25 * height)
    forward = rise / np.tan(shape.edge_angle_rad)
    zero = np.zeros_like(depth)
    upper = [(zero, zero), (forward, rise), (0.78 * depth, 1.25 * shape.dome * height), (depth, 0.3 * height)]
    lower = [
        (depth, 0.3 * height),
        (1.02 * depth, -0.2 * height),
        (0.45 * depth, 0.02 * height),
        (zero, zero),
    ]
    arcs = []
    for control, steps in ((upper, UPPER_COLUMNS), (lower, LOWER_COLUMNS)):
        t = np.linspace(0, 1, steps + 1)[None]
        weights = ((1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t**2 * (1 - t), t**3)
        z, up = (sum(w * c[axis][:, None] for w, c in zip(weights, control, strict=True)) for axis in (0, 1))
        arcs.append(np.stack([z, up], axis=-1))
    section = np.concatenate([arcs[0], arcs[1][:, 1:]], axis=1)
    return np.stack(
        [
            np.broadcast_to(x[:, None], section.shape[:2]),
            -(edge_up[:, None] + section[..., 1]),
            edge_z[:, None] + section[..., 0],
        ],
        axis=-1,
    )


def _ligament_rows(rng: np.random.Generator, shape: LiverShape, lateral: np.ndarray) -> np.ndarray:
    """(UPPER_COLUMNS,) fractional row of the ligament: from the notch, wandering over the dome."""
    s = np.linspace(0, 1, UPPER_COLUMNS)
    wander = field(rng, np.stack([s, 0 * s], axis=1), 0.5) * np.clip(s * 4, 0, 1)
    place = shape.boundary + shape.ligament_slant * s + shape.ligament_wander * wander
    return np.interp(place, lateral, np.arange(SECTIONS))
