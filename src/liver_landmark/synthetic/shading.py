"""From light to the video frame: reflection, shadows, smoke, exposure, blur, noise, border."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from .domains import Domain
from .geometry import Region, Surface, dot, unit
from .landmarks import Buffers, View
from .textures import mix, sample_tile, smoothstep

_BLOOD = np.array([0.30, 0.05, 0.04])
_NO_BLOOD = (Region.OUTSIDE, Region.INSTRUMENT)


# Light from the endoscope's tip: reflection, shadows, ambient occlusion.


@dataclass(frozen=True)
class Light:
    """The lamp beside the lens and how the room answers.

    Attributes:
        offset_mm: (3,) place of the lamp in the camera's frame.
        ambient: Share of light that comes from all sides.
        spread: Exponent of the fall-off toward the border of the light cone.
        shininess: Exponent of the specular lobe.
        falloff: Exponent of the intensity 1 / d² as the video processor leaves it: 1 is physical, less
            is range compensation.
        softness: Exponent of the diffuse term: 1 is Lambert's, less is scattering tissue.
    """

    offset_mm: np.ndarray
    ambient: float
    spread: float
    shininess: float
    falloff: float
    softness: float


def sample_light(rng: np.random.Generator) -> Light:
    """Draws a lamp."""
    angle = rng.uniform(0, 2 * np.pi)
    offset = rng.uniform(4, 9) * np.array([np.cos(angle), np.sin(angle), 0.0])
    return Light(
        offset,
        rng.uniform(0.05, 0.12),
        rng.uniform(1.0, 3.5),
        rng.uniform(120, 380),
        rng.uniform(0.2, 0.9),
        rng.uniform(0.25, 0.8),
    )


def shade(rng: np.random.Generator, view: View, buffers: Buffers, light: Light, blood: float) -> np.ndarray:
    """(H, W, 3) float32 linear radiance, about 1 where a white patch faces the lamp at the median distance.

    Args:
        rng: Places the blood.
        view: Camera and scenes.
        buffers: What every pixel shows.
        light: The lamp.
        blood: Amount of blood, 0..1.
    """
    camera = view.camera
    albedo, normals, gloss = _gather(view, buffers)
    depth = np.where(np.isfinite(buffers.depth), buffers.depth, 0).astype(np.float32)
    points = buffers.rays * depth[..., None]
    normals = normals @ camera.rotation.T.astype(np.float32)
    to_eye = -unit(buffers.rays)
    to_lamp = light.offset_mm.astype(np.float32) - points
    distance2 = np.maximum(dot(to_lamp, to_lamp), 1.0)
    to_lamp = to_lamp / np.sqrt(distance2)[..., None]
    facing = np.sign(dot(normals, to_eye))
    normals = normals * np.where(facing == 0, 1, facing)[..., None]

    if blood > 0:
        albedo, gloss = _bleed(rng, view, buffers, points, albedo, gloss, blood)
    diffuse = np.clip(dot(normals, to_lamp), 0, 1) ** light.softness
    half = unit(to_eye + to_lamp)
    specular = np.clip(dot(normals, half), 0, 1) ** light.shininess

    seen = buffers.region != Region.OUTSIDE
    reference2 = float(np.median(distance2[seen])) if seen.any() else 1.0
    arriving = (reference2 / distance2) ** light.falloff
    intensity = arriving * to_eye_cone(to_eye, light.spread) * _shadow(view, points, light)
    open_sky = _ambient_occlusion(depth, camera.width)
    red_room = np.array([1.0, 0.72, 0.65], dtype=np.float32) * light.ambient
    ambient = (open_sky * np.clip(arriving, 0.2, 1.5))[..., None] * red_room
    linear_albedo = albedo**2.0
    radiance = linear_albedo * ((0.9 * diffuse + 0.1) * intensity * (0.45 + 0.55 * open_sky))[..., None]
    radiance = radiance + linear_albedo * ambient + (1.8 * gloss * specular * intensity)[..., None]
    return (radiance * seen[..., None]).astype(np.float32)


def to_eye_cone(to_eye: np.ndarray, spread: float) -> np.ndarray:
    """(H, W) fall-off of the light cone, 1 on the optical axis."""
    return np.clip(-to_eye[..., 2], 0, 1) ** spread


def _gather(view: View, buffers: Buffers) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Albedo (H, W, 3), world normals (H, W, 3) and gloss (H, W) of what each pixel shows."""
    shape = buffers.region.shape
    albedo, normals = np.zeros((*shape, 3), np.float32), np.zeros((*shape, 3), np.float32)
    normals[..., 2] = -1
    gloss = np.zeros(shape, np.float32)
    for scene_index, scene in enumerate(view.scenes):
        for surface_index, surface in enumerate(scene.surfaces):
            here = (buffers.scene == scene_index) & (buffers.surface == surface_index)
            if not here.any():
                continue
            rows, columns = np.flatnonzero(here.any(axis=1)), np.flatnonzero(here.any(axis=0))
            box = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
            mask = here[box]
            atlas_column, atlas_row = _atlas_position(surface, buffers.row[box], buffers.column[box])
            for target, atlas in ((albedo, surface.albedo), (normals, surface.normals)):
                picked = cv2.remap(
                    atlas, atlas_column, atlas_row, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
                )
                target[box][mask] = picked[mask]
            gloss[box][mask] = surface.gloss
    return albedo, normals, gloss


def _atlas_position(surface: Surface, row: np.ndarray, column: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    rows, columns = surface.points.shape[:2]
    height, width = surface.albedo.shape[:2]
    return column * np.float32((width - 1) / (columns - 1)), row * np.float32((height - 1) / (rows - 1))


def _shadow(view: View, points: np.ndarray, light: Light) -> np.ndarray:
    """(H, W) share of the lamp's light that arrives, by shadow rays on every second pixel."""
    camera = view.camera
    step = max(2, round(camera.width / 228))
    coarse = points[::step, ::step].reshape(-1, 3).astype(np.float64)
    world = coarse @ camera.rotation + camera.position
    lamp = light.offset_mm @ camera.rotation + camera.position
    lit = np.ones(len(world), dtype=bool)
    for scene in view.scenes:
        lit &= scene.reaches(lamp, world, tolerance_mm=1.5)
    grid = lit.reshape(points[::step, ::step].shape[:2]).astype(np.float32)
    grid = cv2.GaussianBlur(grid, (0, 0), 0.8)
    return 0.5 + 0.5 * cv2.resize(grid, points.shape[1::-1], interpolation=cv2.INTER_LINEAR)


def _ambient_occlusion(depth: np.ndarray, width: int) -> np.ndarray:
    """(H, W) in 0..1, low where the surroundings stand nearer than the point: furrows and contacts."""
    scale = 228 / width
    small = cv2.resize(depth, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    occlusion = np.zeros_like(small)
    for sigma, range_mm in ((2.0, 5.0), (6.0, 14.0)):
        occlusion += np.clip((small - cv2.GaussianBlur(small, (0, 0), sigma)) / range_mm, 0, 1)
    return 1 - 0.25 * np.clip(cv2.resize(occlusion, depth.shape[::-1], interpolation=cv2.INTER_LINEAR), 0, 1)


def _bleed(
    rng: np.random.Generator,
    view: View,
    buffers: Buffers,
    points: np.ndarray,
    albedo: np.ndarray,
    gloss: np.ndarray,
    blood: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Blood lies where a noise in space is high, on whatever tissue is there."""
    world = points @ view.camera.rotation.astype(np.float32) + view.camera.position.astype(np.float32)
    place = sample_tile("cloud", rng, world[..., 0], world[..., 2] - world[..., 1], 190.0)
    amount = 0.8 * smoothstep(place, 2.0 - 1.2 * blood, 3.0 - 1.2 * blood)
    amount[np.isin(buffers.region, _NO_BLOOD)] = 0
    return mix(albedo, _BLOOD, amount), np.maximum(gloss, amount)


# What the video processor makes of it: smoke, exposure, color, blur, noise, border.


def develop(
    rng: np.random.Generator, domain: Domain, view: View, radiance: np.ndarray, inside: np.ndarray
) -> np.ndarray:
    """(H, W, 3) linear radiance -> (H, W, 3) uint8 RGB; `inside` (H, W) is the round view."""
    height, width = radiance.shape[:2]
    level = np.percentile(radiance[inside].mean(axis=-1), 90) if inside.any() else 1.0
    picture = radiance * (rng.uniform(*domain.exposure) ** 2 / max(float(level), 1e-6))

    # Local brightness control, as in modern video processors: far and dark places are lifted.
    scale = 64 / width
    gray = cv2.resize(picture.mean(axis=-1), None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    surround = cv2.resize(
        cv2.GaussianBlur(gray, (0, 0), 5.0), (width, height), interpolation=cv2.INTER_LINEAR
    )
    lift = (0.25 / (surround + 0.02)) ** rng.uniform(0.5, 0.9)
    picture = picture * np.clip(lift, 0.5, 4.0)[..., None].astype(np.float32)

    if rng.random() < domain.smoke_share:
        unit_mm = np.float32(200.0 / width)
        x, y = np.meshgrid(np.arange(width) * unit_mm, np.arange(height) * unit_mm)
        veil = 0.5 + 0.35 * sample_tile("cloud", rng, x, y, 320.0)
        density = (rng.uniform(0.1, 0.55) * np.clip(veil, 0.05, 1.2))[..., None]
        smoke = rng.uniform(0.18, 0.4) * np.array([1.0, 0.97, 0.95])
        picture = picture * (1 - density) + density * smoke.astype(np.float32)

    gains = np.array(domain.color_gain) * (1 + rng.normal(0, domain.color_jitter, 3))
    picture = np.maximum(picture * gains.astype(np.float32), 0)
    # A soft shoulder, as a video processor's knee has, then display gamma.
    over = np.maximum(picture - 0.6, 0)
    picture = (np.minimum(picture, 0.6) + over / (1 + 2.5 * over)) ** (1 / rng.uniform(1.9, 2.2))
    gray = picture.mean(axis=-1, keepdims=True)
    picture = gray + (picture - gray) * rng.uniform(0.65, 1.25)
    picture = (picture - 0.5) * rng.uniform(0.85, 1.15) + 0.5

    sigma = rng.uniform(*domain.blur) * width
    picture = cv2.GaussianBlur(picture, (0, 0), max(sigma, 0.35))
    noise = rng.standard_normal((height, width, 3), dtype=np.float32)
    noise = 0.75 * cv2.GaussianBlur(noise, (0, 0), 0.6) + 0.25 * noise.mean(axis=-1, keepdims=True)
    picture = picture + 2.0 * rng.uniform(*domain.noise) * noise
    return (np.clip(picture, 0, 1) * _border(view)[..., None] * 255 + 0.5).astype(np.uint8)


def _border(view: View) -> np.ndarray:
    """(H, W) 1 in the round view, 0 outside, with an edge of about two pixels at 456 px width."""
    pixels = view.camera.pixel_grid()
    distance = np.hypot(pixels[..., 0] - view.border_center[0], pixels[..., 1] - view.border_center[1])
    soft = max(1.0, view.camera.width / 300)
    return np.clip((view.border_radius - distance) / soft, 0, 1).astype(np.float32)
