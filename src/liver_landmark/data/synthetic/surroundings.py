"""What lies around the liver: abdominal wall, fat, gallbladder, stomach, and the ligaments' tissue."""

from __future__ import annotations

import numpy as np

from . import marks, tissue
from .domains import Domain
from .liver import Liver
from .noise import field, random_walk
from .surfaces import Region, Surface, bumped_normals, ellipsoid, tube, unit


def build_surroundings(
    rng: np.random.Generator, domain: Domain, liver: Liver, parenchyma: np.ndarray
) -> list[Surface]:
    """All surfaces of one patient's abdomen but the liver, whose colour is `parenchyma` (3,)."""
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
    albedo, relief = tissue.wall_tissue(rng, domain, points, parenchyma, (416, 416))
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
    base = tissue.other_color(rng, own, parenchyma)
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
    albedo, relief = tissue.fat_tissue(rng, points, parenchyma, (448, 416))
    return Surface(Region.FAT, points, bumped_normals(points, relief, albedo.shape[:2]), albedo, 0.45)


def _organ(
    rng: np.random.Generator, region: Region, center: np.ndarray, radii: np.ndarray, base: np.ndarray
) -> Surface:
    points = ellipsoid(center, radii)
    swell = 0.06 * field(rng, (points - center) / radii, 1.6)
    swell[:, -1] = swell[:, 0]
    points = (points + (points - center) * swell[..., None]).astype(np.float32)
    albedo, relief = tissue.serosa_tissue(rng, points, base, (160, 192))
    normals = bumped_normals(points, relief, albedo.shape[:2], wrap_columns=True)
    return Surface(region, points, normals, albedo, 0.8)


def _gallbladder(rng: np.random.Generator, liver: Liver, parenchyma: np.ndarray) -> Surface:
    x = (liver.shape.boundary - rng.uniform(0.3, 0.6)) * liver.shape.width / 2
    up, z = _edge_at(liver, x)
    center = np.array([x, -(up - rng.uniform(9, 14)), z + rng.uniform(-6, 12)])
    radii = np.array([rng.uniform(11, 17), rng.uniform(9, 13), rng.uniform(20, 30)])
    base = tissue.other_color(
        rng, marks.mix(marks.GALL_GREEN, marks.GALL_PALE, rng.uniform(0, 1)), parenchyma
    )
    return _organ(rng, Region.GALLBLADDER, center, radii, base)


def _stomach(rng: np.random.Generator, liver: Liver, parenchyma: np.ndarray) -> Surface:
    x = (liver.shape.boundary + rng.uniform(0.35, 0.8)) * liver.shape.width / 2
    up, z = _edge_at(liver, x)
    radii = np.array([rng.uniform(32, 52), rng.uniform(15, 24), rng.uniform(24, 36)])
    center = np.array([x, -(up - radii[1] - rng.uniform(2, 8)), z - rng.uniform(0, 26)])
    base = tissue.other_color(rng, marks.STOMACH_PINK, parenchyma)
    return _organ(rng, Region.STOMACH, center, radii, base)


def _spleen(rng: np.random.Generator, liver: Liver, parenchyma: np.ndarray) -> Surface:
    """Beside and behind the left lobe; of the liver's colours."""
    radii = np.array([rng.uniform(22, 34), rng.uniform(24, 40), rng.uniform(30, 45)])
    center = np.array([rng.uniform(95, 135), -rng.uniform(-12, 18), rng.uniform(60, 120)])
    return _organ(rng, Region.SPLEEN, center, radii, tissue.other_color(rng, marks.DUSKY, parenchyma))


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
    albedo, relief = tissue.serosa_tissue(
        rng, points, tissue.other_color(rng, marks.STOMACH_PINK, parenchyma), (192, 96)
    )
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
    albedo, relief = tissue.fat_tissue(rng, points, parenchyma, (192, 96))
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
    albedo, relief = tissue.fat_tissue(rng, points, parenchyma, (192, 32))
    albedo = marks.mix(albedo, marks.BAND_PINK, rng.uniform(0.4, 0.9))
    return Surface(
        Region.FALCIFORM, points, bumped_normals(points, 0.2 * relief, albedo.shape[:2]), albedo, 0.8
    )
