"""From radiance to the frame as a video processor gives it: smoke, exposure, colour, blur, noise, border."""

from __future__ import annotations

import cv2
import numpy as np

from .curves import View
from .domains import Domain
from .noise import sample_tile


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
