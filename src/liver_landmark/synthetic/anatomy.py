"""One synthetic patient's abdomen: the liver, its tissue, and what lies around it.

The liver is a row of wedge-shaped sections from the right lobe's tip to the left lobe's. Each section
starts at the anterior edge, rises over the diaphragmatic face to the blunt posterior border and comes
back underneath. The grid's rows are the sections, its columns go around them: column 0 is the edge.

Every function works in mm along the surface, so that a texture's grain does not depend on the grid, and
returns albedo (h, w, 3) in 0..1 and relief (h, w) in mm. Other tissues' colors come close to the liver's.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from . import textures as marks
from .domains import Domain
from .geometry import (
    Region,
    Scene,
    Surface,
    bumped_normals,
    ellipsoid,
    grid_normals,
    sample_grid,
    tube,
    unit,
    upsample,
)
from .textures import field, mix, random_walk, sample_tile, smoothstep, vessels

SECTIONS = 240
UPPER_COLUMNS = 112
LOWER_COLUMNS = 36
COLUMNS = UPPER_COLUMNS + LOWER_COLUMNS

LIVER_ATLAS = (544, 544)
_PATIENT_STREAM, _FRAME_STREAM = 0, 1


# Liver: its surface from a few anatomical measures, and the two curves that lie on it.


@dataclass(frozen=True)
class LiverShape:
    """Measures of one liver, mm unless named otherwise; `lateral` runs from -1 (right tip) to 1 (left tip).

    Attributes:
        width, depth, height: Of the right lobe and the whole.
        boundary: Lateral place of the boundary between the lobes.
        left_depth, left_height: The left lobe's relative to the right lobe's.
        notch_depth, notch_half_width: Of the notch in the anterior edge at the boundary.
        edge_angle_rad: Angle between upper face and horizontal at the anterior edge.
        right_blunt, left_blunt: Exponents of how the sections shrink toward the tips.
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


# Tissue: color and fine relief, as pictures over a surface's grid.


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
    """(3,) a tissue's color: its own, moved toward the liver's and toward any tissue's."""
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


# Surroundings: abdominal wall, fat, gallbladder, stomach, and the ligaments' tissue.


def build_surroundings(
    rng: np.random.Generator, domain: Domain, liver: Liver, parenchyma: np.ndarray
) -> list[Surface]:
    """All surfaces of one patient's abdomen but the liver, whose color is `parenchyma` (3,)."""
    surfaces = [_wall(rng, domain, parenchyma), _fat(rng, domain, liver, parenchyma)]
    if rng.random() < 0.75:
        surfaces.append(_gallbladder(rng, liver, parenchyma))
    if rng.random() < 0.8:
        surfaces.append(_stomach(rng, liver, parenchyma))
    if rng.random() < 0.7:
        surfaces.append(_spleen(rng, liver, parenchyma))
    surfaces += [_bowel_loop(rng, liver, parenchyma) for _ in range(rng.integers(3, 8))]
    bulges = (_wall_bulge(rng, surfaces[0], liver, parenchyma) for _ in range(rng.integers(3, 8)))
    surfaces += [bulge for bulge in bulges if bulge is not None]
    if rng.random() < 0.7:
        surfaces.append(_round_ligament(rng, liver, parenchyma))
    if rng.random() < domain.sheet_share:
        surfaces.append(_falciform_sheet(rng, liver, parenchyma))
    return surfaces


def _edge_at(liver: Liver, x: np.ndarray | float) -> tuple[np.ndarray, np.ndarray]:
    """(up, z) mm of the anterior edge at a lateral position in mm."""
    edge = liver.points[:, 0]
    return -np.interp(x, edge[:, 0], edge[:, 1]), np.interp(x, edge[:, 0], edge[:, 2])


def _wall(rng: np.random.Generator, domain: Domain, parenchyma: np.ndarray) -> Surface:
    radii = np.array([rng.uniform(150, 180), rng.uniform(98, 122), rng.uniform(195, 225)])
    polar = np.linspace(0.03, np.pi - 0.03, 80)[:, None]
    angle = np.deg2rad(np.linspace(-155, 80, 110))[None]
    direction = np.stack(
        [np.cos(polar) + 0 * angle, np.sin(polar) * np.sin(angle), np.sin(polar) * np.cos(angle)], axis=-1
    )
    # Folds: sharp crests where a smooth field passes zero, as where the diaphragm's bundles meet.
    folds = 1 - np.minimum(np.abs(field(rng, direction * radii, rng.uniform(70, 130))) / 0.7, 1)
    inward = 8.0 * field(rng, direction * radii, 120.0) + 3.5 * field(rng, direction * radii, 45.0)
    inward = inward + rng.uniform(3, 11) * folds**1.5
    points = np.array([0.0, -12.0, 30.0]) + direction * (radii - np.maximum(inward, -8)[..., None])
    points = points.astype(np.float32)
    albedo, relief = wall_tissue(rng, domain, points, parenchyma, (416, 416))
    return Surface(Region.WALL, points, bumped_normals(points, relief, albedo.shape[:2]), albedo, 0.35)


def _wall_bulge(
    rng: np.random.Generator, wall: Surface, liver: Liver, parenchyma: np.ndarray
) -> Surface | None:
    """A rounded fold of the wall or of the diaphragm with its own contour; None if it would cut the liver."""
    rows, columns = wall.points.shape[:2]
    spot = wall.points[rng.integers(rows // 6, 5 * rows // 6), rng.integers(columns // 3, 7 * columns // 8)]
    inward = unit(np.array([0.0, -12.0, 60.0]) - spot)
    center = spot + inward * rng.uniform(-8, 10)
    radii = np.array([rng.uniform(18, 55), rng.uniform(14, 36), rng.uniform(14, 36)])
    if (((liver.points[::8, ::8] - center) / radii) ** 2).sum(axis=-1).min() < 1.2:
        return None
    own = wall.albedo[rng.integers(wall.albedo.shape[0]), rng.integers(wall.albedo.shape[1])]
    base = other_color(rng, own, parenchyma)
    return _organ(rng, Region.WALL, center, radii, base)


def _fat(rng: np.random.Generator, domain: Domain, liver: Liver, parenchyma: np.ndarray) -> Surface:
    """The floor: omentum in front of the liver, hollow beneath it, heaped up in places."""
    x, z = np.meshgrid(np.linspace(-190, 190, 160), np.linspace(-150, 215, 150), indexing="ij")
    plane = np.stack([x, z], axis=-1)
    edge_up, edge_z = _edge_at(liver, x)
    up = -rng.uniform(13, 24) + 5.0 * field(rng, plane, 70.0)
    for _ in range(rng.poisson(domain.fat_banks)):
        bank_x = rng.uniform(-85, 85)
        bank_up, bank_z = _edge_at(liver, bank_x)
        bank_z = bank_z - rng.uniform(12, 45)
        top = bank_up + rng.uniform(-6, 14)
        reach = np.exp(
            -(((x - bank_x) / rng.uniform(16, 38)) ** 2) - ((z - bank_z) / rng.uniform(12, 24)) ** 2
        )
        up = up + (top - up) * reach
    lumps = 2.2 * np.abs(field(rng, plane, 26.0)) + 0.7 * np.abs(field(rng, plane, 13.0))
    half = liver.shape.width / 2
    beneath = marks.smoothstep(z - edge_z, -6, 10) * marks.smoothstep(half - np.abs(x), -4, 12)
    up = (up + lumps) * (1 - beneath) + beneath * (np.minimum(edge_up, 0) - rng.uniform(12, 30))
    points = np.stack([x, -up, z], axis=-1).astype(np.float32)
    albedo, relief = fat_tissue(rng, points, parenchyma, (448, 416))
    return Surface(Region.FAT, points, bumped_normals(points, relief, albedo.shape[:2]), albedo, 0.45)


def _organ(
    rng: np.random.Generator, region: Region, center: np.ndarray, radii: np.ndarray, base: np.ndarray
) -> Surface:
    points = ellipsoid(center, radii)
    swell = 0.06 * field(rng, (points - center) / radii, 1.6)
    swell[:, -1] = swell[:, 0]
    points = (points + (points - center) * swell[..., None]).astype(np.float32)
    albedo, relief = serosa_tissue(rng, points, base, (160, 192))
    normals = bumped_normals(points, relief, albedo.shape[:2], wrap_columns=True)
    return Surface(region, points, normals, albedo, 0.8)


def _gallbladder(rng: np.random.Generator, liver: Liver, parenchyma: np.ndarray) -> Surface:
    x = (liver.shape.boundary - rng.uniform(0.3, 0.6)) * liver.shape.width / 2
    up, z = _edge_at(liver, x)
    center = np.array([x, -(up - rng.uniform(9, 14)), z + rng.uniform(-6, 12)])
    radii = np.array([rng.uniform(11, 17), rng.uniform(9, 13), rng.uniform(20, 30)])
    base = other_color(rng, marks.mix(marks.GALL_GREEN, marks.GALL_PALE, rng.uniform(0, 1)), parenchyma)
    return _organ(rng, Region.GALLBLADDER, center, radii, base)


def _stomach(rng: np.random.Generator, liver: Liver, parenchyma: np.ndarray) -> Surface:
    x = (liver.shape.boundary + rng.uniform(0.35, 0.8)) * liver.shape.width / 2
    up, z = _edge_at(liver, x)
    radii = np.array([rng.uniform(32, 52), rng.uniform(15, 24), rng.uniform(24, 36)])
    center = np.array([x, -(up - radii[1] - rng.uniform(2, 8)), z - rng.uniform(0, 26)])
    base = other_color(rng, marks.STOMACH_PINK, parenchyma)
    return _organ(rng, Region.STOMACH, center, radii, base)


def _spleen(rng: np.random.Generator, liver: Liver, parenchyma: np.ndarray) -> Surface:
    """Beside and behind the left lobe; of the liver's colors."""
    radii = np.array([rng.uniform(22, 34), rng.uniform(24, 40), rng.uniform(30, 45)])
    center = np.array([rng.uniform(95, 135), -rng.uniform(-12, 18), rng.uniform(60, 120)])
    return _organ(rng, Region.SPLEEN, center, radii, other_color(rng, marks.DUSKY, parenchyma))


def _bowel_loop(rng: np.random.Generator, liver: Liver, parenchyma: np.ndarray) -> Surface:
    """A loop that lies on the fat in front of the liver, or beside it."""
    x = rng.uniform(-100, 100)
    up, z = _edge_at(liver, x)
    start = np.array([x, z - rng.uniform(16, 60)])
    line = random_walk(
        rng, start, rng.uniform(-0.7, 0.7) + np.pi * rng.integers(2), rng.uniform(50, 120), 2.0, 0.05
    )
    radius = rng.uniform(7, 13)
    height = up - radius - rng.uniform(-3, 9) + 2.0 * field(rng, line, 40.0)
    path = np.stack(
        [line[:, 0], -height, np.minimum(line[:, 1], _edge_at(liver, line[:, 0])[1] - radius)], axis=1
    )
    end = np.linspace(-1, 1, len(path))
    swell = 1 + 0.12 * field(rng, end[:, None], 0.25)
    points = tube(path, radius * swell * np.sqrt(np.maximum(1 - end**8, 0.01)), 32).astype(np.float32)
    albedo, relief = serosa_tissue(rng, points, other_color(rng, marks.STOMACH_PINK, parenchyma), (192, 96))
    normals = bumped_normals(points, relief, albedo.shape[:2], wrap_columns=True)
    return Surface(Region.BOWEL, points, normals, albedo, 0.8)


def _round_ligament(rng: np.random.Generator, liver: Liver, parenchyma: np.ndarray) -> Surface:
    """The fatty cord that leaves the notch, cut and fallen onto the fat."""
    start = liver.ligament()[0]
    s = np.linspace(0, 1, 60)[:, None]
    end = start + np.array([rng.uniform(-28, 28), rng.uniform(10, 26), -rng.uniform(32, 65)])
    bend = start + np.array([rng.uniform(-6, 6), rng.uniform(2, 7), -rng.uniform(8, 20)])
    inner = start + np.array([0.0, 6.0, 10.0])
    path = (
        (1 - s) ** 3 * inner
        + 3 * s * (1 - s) ** 2 * (start + np.array([0.0, 3.0, 0.0]))
        + 3 * s**2 * (1 - s) * bend
        + s**3 * end
    )
    thick = rng.uniform(3.5, 7.5) * (1 + 0.25 * field(rng, s, 0.35)) * (1 - 0.7 * s[:, 0] ** 6)
    points = tube(path, np.maximum(thick, 1.0))
    lumps = 0.7 * field(rng, points, 9.0)
    lumps[:, -1] = lumps[:, 0]
    outward = unit(points - path[:, None])
    points = (points + outward * lumps[..., None]).astype(np.float32)
    albedo, relief = fat_tissue(rng, points, parenchyma, (192, 96))
    albedo = marks.mix(albedo, marks.BAND_PINK, rng.uniform(0.2, 0.8))
    normals = bumped_normals(points, 0.4 * relief, albedo.shape[:2], wrap_columns=True)
    return Surface(Region.ROUND_LIGAMENT, points, normals, albedo, 0.9)


def _falciform_sheet(rng: np.random.Generator, liver: Liver, parenchyma: np.ndarray) -> Surface:
    """What is left standing of the cut falciform ligament: a low, wavy fringe on its attachment."""
    first, last = liver.ligament_columns
    base = liver.ligament()[int(0.1 * (last - first)) : int(rng.uniform(0.6, 0.95) * (last - first))]
    s = np.linspace(0, 1, len(base))[:, None]
    tall = rng.uniform(3, 9) * np.sin(np.pi * s[:, 0]) ** 0.5 * (1 + 0.22 * field(rng, s, 0.22))
    lean = rng.uniform(-0.7, 0.7) + 0.25 * field(rng, s, 0.35)
    rise = np.linspace(-0.15, 1, 10)
    forward = unit(np.gradient(base, axis=0))
    side = unit(np.cross(forward, np.array([0.0, -1.0, 0.0])))
    up = unit(np.cross(side, forward))
    up = np.where(up[:, 1:2] > 0, -up, up)
    offset = (
        up[:, None] * rise[None, :, None]
        + side[:, None] * (lean[:, None] * np.clip(rise, 0, 1) ** 1.5)[..., None]
    )
    points = (base[:, None] + offset * np.maximum(tall, 0.5)[:, None, None]).astype(np.float32)
    albedo, relief = fat_tissue(rng, points, parenchyma, (192, 32))
    albedo = marks.mix(albedo, marks.BAND_PINK, rng.uniform(0.4, 0.9))
    return Surface(
        Region.FALCIFORM, points, bumped_normals(points, 0.2 * relief, albedo.shape[:2]), albedo, 0.8
    )


# Patient: an abdomen that all of its frames show.


@dataclass(frozen=True)
class Patient:
    """An abdomen. `scene.surfaces[0]` is the liver."""

    patient_id: str
    domain: Domain
    seed: int
    number: int
    liver: Liver
    scene: Scene

    def frame_rng(self, frame: int) -> np.random.Generator:
        """The generator of one frame, the same whichever other frames are made."""
        return _generator(self.seed, self.domain, self.number, _FRAME_STREAM, frame)


def _generator(seed: int, domain: Domain, number: int, *stream: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(domain.index, number, *stream)))


def build_patient(domain: Domain, seed: int, number: int) -> Patient:
    """The patient of that number, the same whichever others are made."""
    rng = _generator(seed, domain, number, _PATIENT_STREAM)
    liver = build_liver(rng, sample_liver_shape(rng, domain))
    parenchyma = liver_color(rng, domain)
    albedo, relief = liver_tissue(rng, domain, liver, parenchyma, LIVER_ATLAS)
    normals = bumped_normals(liver.points, relief, LIVER_ATLAS)
    surface = Surface(Region.LIVER, liver.points, normals, albedo, float(rng.uniform(0.5, 1.0)))
    scene = Scene([surface, *build_surroundings(rng, domain, liver, parenchyma)])
    return Patient(f"synthetic-{domain.name}-{number:03d}", domain, seed, number, liver, scene)
