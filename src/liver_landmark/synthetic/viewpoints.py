"""Where the endoscope stands, and the instruments that reach into its view."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .anatomy import SECTIONS, UPPER_COLUMNS, Patient
from .geometry import Camera, Region, Scene, Surface, bumped_normals, look_at, sample_grid, tube, unit
from .landmarks import Buffers, View, cast_view, extract_landmarks, visible_length

# L3D's 1,152 frames by the landmark that they lack: none 1,056, ligament 74, ridge 19, silhouette 3.
ABSENT_COUNTS: dict[str | None, int] = {None: 1056, "ligament": 74, "ridge": 19, "silhouette": 3}
# Visible length, relative to the frame's width, that a landmark needs to count as shown by a view.
_SHOWN = {"ridge": 0.15, "silhouette": 0.18, "ligament": 0.12}
_TRIAL_WIDTH = 96
_TRIALS = 60
_NEAREST_MM = 22.0

_SHAFT_COLORS = np.array([[0.10, 0.10, 0.11], [0.55, 0.56, 0.58], [0.30, 0.31, 0.33]])
_STEEL = np.array([0.66, 0.67, 0.70])


# Views: landmarks are as often out of them as they are in L3D.


@dataclass(frozen=True)
class Aim:
    """The share of the frame (0..1) and the place on the liver that one kind of view looks at."""

    lateral: tuple[float, float]
    column: tuple[float, float]
    distance: float
    steeper_deg: float


# What to look at so that a landmark is missing; the distance scales the domain's.
_AIMS: dict[str | None, tuple[Aim, ...]] = {
    None: (Aim((-0.18, 0.18), (0.15, 0.45), 1.0, 0.0),),
    "ligament": (Aim((-0.85, -0.45), (0.05, 0.5), 0.75, 0.0), Aim((0.4, 0.75), (0.05, 0.5), 0.65, 0.0)),
    "ridge": (Aim((-0.2, 0.2), (0.5, 0.8), 0.75, -6.0),),
    "silhouette": (Aim((-0.2, 0.2), (0.08, 0.25), 0.62, 18.0),),
}


def sample_view(rng: np.random.Generator, patient: Patient, width: int, height: int) -> View:
    """Draws the view of one frame, without instruments.

    The landmark to be missing (or none) is drawn first, by L3D's counts; then cameras are drawn until
    one shows just the others. What is left out is so by where the camera stands and what is in its way.
    """
    kinds = list(ABSENT_COUNTS)
    weights = np.array([ABSENT_COUNTS[kind] for kind in kinds], dtype=float)
    absent = kinds[rng.choice(len(kinds), p=weights / weights.sum())]
    best: tuple[float, View] | None = None
    for _ in range(_TRIALS):
        aim = _AIMS[absent][rng.integers(len(_AIMS[absent]))]
        view = _draw(rng, patient, aim, width, height)
        shortfall = _shortfall(
            _resized(view, _TRIAL_WIDTH, max(16, round(_TRIAL_WIDTH * height / width))), absent
        )
        if best is None or shortfall < best[0]:
            best = shortfall, view
        if shortfall == 0:
            break
    return best[1]


def _shortfall(view: View, absent: str | None) -> float:
    """How far a view is from showing every landmark but `absent`; 0 if it does."""
    buffers = cast_view(view)
    seen = buffers.region != Region.OUTSIDE
    nearest = buffers.depth[seen].min()
    if nearest < _NEAREST_MM:
        return 10.0 + _NEAREST_MM - nearest
    liver_share = (buffers.region[seen] == Region.LIVER).mean()
    shortfall = max(0.0, 0.33 - liver_share) + max(0.0, liver_share - 0.92)
    landmarks = extract_landmarks(view, buffers)
    for category, needed in _SHOWN.items():
        length = visible_length(landmarks, category, view.camera.width)
        shortfall += length if category == absent else max(0.0, needed - length)
    return shortfall


def _draw(rng: np.random.Generator, patient: Patient, aim: Aim, width: int, height: int) -> View:
    domain, liver = patient.domain, patient.liver
    boundary_row = np.interp(
        liver.shape.boundary + rng.uniform(*aim.lateral), liver.lateral, np.arange(SECTIONS, dtype=float)
    )
    column = rng.uniform(*aim.column) * UPPER_COLUMNS
    target = sample_grid(liver.points, np.array([boundary_row]), np.array([column]))[0].astype(float)
    distance = rng.uniform(*domain.distance_mm) * aim.distance
    elevation = np.deg2rad(rng.uniform(*domain.elevation_deg) + aim.steeper_deg)
    azimuth = np.deg2rad(rng.uniform(-domain.azimuth_deg, domain.azimuth_deg))
    toward = np.array(
        [np.sin(azimuth) * np.cos(elevation), -np.sin(elevation), -np.cos(azimuth) * np.cos(elevation)]
    )
    roll = np.deg2rad(rng.normal(0, domain.roll_deg / 2))
    position = target + distance * toward
    focal = width / 2 / np.tan(np.deg2rad(rng.uniform(*domain.horizontal_fov_deg)) / 2)
    center = np.array([(width - 1) / 2, (height - 1) / 2]) + rng.uniform(-0.012, 0.012, 2) * width
    camera = Camera(
        width,
        height,
        focal,
        focal,
        float(center[0]),
        float(center[1]),
        (float(rng.uniform(*domain.k1)), float(rng.uniform(0.0, 0.02))),
        look_at(position, target, roll),
        position,
    )
    border = tuple(
        (np.array([(width - 1) / 2, (height - 1) / 2]) + rng.uniform(-0.02, 0.02, 2) * width).tolist()
    )
    radius = rng.uniform(*domain.round_border) * width / 2
    return View(camera, liver, (patient.scene,), border, float(radius))


def _resized(view: View, width: int, height: int) -> View:
    camera = view.camera.resized(width, height)
    scale = width / view.camera.width
    center = tuple(
        (c + 0.5) * s - 0.5
        for c, s in zip(view.border_center, (scale, height / view.camera.height), strict=True)
    )
    return View(camera, view.liver, view.scenes, center, view.border_radius * scale)


# Instruments: thin shafts that reach from beside the camera to somewhere in the view.


def sample_instruments(rng: np.random.Generator, view: View, buffers: Buffers, count: int) -> Scene | None:
    """A scene of `count` instruments whose tips stand over random visible places; None for 0."""
    if count == 0:
        return None
    seen = np.argwhere((buffers.region != Region.OUTSIDE) & np.isfinite(buffers.depth))
    surfaces = []
    for _ in range(count):
        # Mostly toward the frame's border, where they hide less.
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
    toward = unit(camera.position - place)
    tip = place + toward * rng.uniform(1.5, 12)
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
