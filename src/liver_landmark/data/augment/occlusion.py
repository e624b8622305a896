"""Occlusion: smoke and blood over the frame, as veils that are made small and enlarged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from kornia.contrib import diamond_square

# Smoke and the edges of blood are soft: no more is seen at full size.
_LARGEST_VEIL_HEIGHT_PX = 135
# Nodes along each side of the fractal: its finest clouds are a thirty-second of the frame.
_FRACTAL_NODES = 33
_FRACTAL_ROUGHNESS = 0.6
# A fractal is mostly half-way: its square has clearings.
_SMOKE_EXPONENT = 2
_BLOTS = (1, 3)
_BLOT_RADIUS = (0.1, 0.3)  # of the frame's height, one beside the other: the area decides the size
_BLOT_RAGGEDNESS = 2.5
_BLOOD_OPACITY = (0.7, 0.95)
_EDGE_SOFTNESS = 0.3


@dataclass(frozen=True)
class Veil:
    """A see-through layer of one colour.

    Attributes:
        color: (3,) float32 RGB, 0 to 1.
        opacity: (h, w) float32, 0 (nothing is there) to 1.
    """

    color: np.ndarray
    opacity: np.ndarray


def veil_size(width: int, height: int) -> tuple[int, int]:
    """(width, height) in px of the veils for a frame of that size: of its proportions."""
    veil_height = min(height, _LARGEST_VEIL_HEIGHT_PX)
    return max(1, round(width * veil_height / height)), veil_height


def draw_clouds(size: tuple[int, int], rngs: Sequence[np.random.Generator]) -> list[np.ndarray]:
    """Plasma fractals (kornia's diamond-square), one by each generator, all in one call.

    Args:
        size: (width, height) in px.
        rngs: Each draws its own, whatever the others are.

    Returns:
        (h, w) float32 arrays that span 0 to 1.
    """

    def uniform(shape: torch.Size, device: torch.device | None, dtype: torch.dtype | None) -> torch.Tensor:
        return torch.from_numpy(np.stack([rng.random(tuple(shape[1:]), dtype=np.float32) for rng in rngs]))

    nodes = diamond_square(
        (len(rngs), 1, _FRACTAL_NODES, _FRACTAL_NODES),
        roughness=_FRACTAL_ROUGHNESS,
        random_fn=uniform,
        normalize_range=(0.0, 1.0),
    )
    # Cubic, or the nodes would show as creases; it overshoots by little.
    clouds = (cv2.resize(plane, size, interpolation=cv2.INTER_CUBIC) for plane in nodes[:, 0].numpy())
    return [np.clip(plane, 0, 1) for plane in clouds]


def draw_smoke(clouds: np.ndarray, density: float, rng: np.random.Generator) -> Veil:
    """A cloudy veil of one light grey.

    Args:
        clouds: (h, w) float32, 0 to 1.
        density: Opacity where it is thickest.
        rng: Draws the grey.
    """
    grey = rng.uniform(0.6, 0.95) + rng.uniform(-0.03, 0.03, 3)
    return Veil(grey.astype(np.float32), np.float32(density) * clouds**_SMOKE_EXPONENT)


def draw_blood(clouds: np.ndarray, area: float, rng: np.random.Generator) -> Veil:
    """Ragged, dark red blots with soft edges.

    Args:
        clouds: (h, w) float32, 0 to 1: what makes the edges ragged.
        area: Share of the frame that is more than half as opaque as the blots' middles.
        rng: Draws number, places, red and opacity.
    """
    height, width = clouds.shape
    red = np.array([rng.uniform(0.25, 0.5), rng.uniform(0.0, 0.06), rng.uniform(0.0, 0.06)])
    opacity = rng.uniform(*_BLOOD_OPACITY)
    x, y = np.arange(width, dtype=np.float32) / height, np.arange(height, dtype=np.float32)[:, None] / height
    nearness = np.full((height, width), -np.inf, dtype=np.float32)
    for _ in range(rng.integers(_BLOTS[0], _BLOTS[1] + 1)):
        center_x, center_y = rng.uniform(0, width / height), rng.uniform(0, 1)
        radius = rng.uniform(*_BLOT_RADIUS)
        distance = np.hypot(x - np.float32(center_x), y - np.float32(center_y))
        np.maximum(nearness, 1 - distance / np.float32(radius), out=nearness)
    field = nearness + _BLOT_RAGGEDNESS * clouds
    # The level that just this share of the frame exceeds is the middle of the soft edge.
    edge = np.quantile(field, 1 - area)
    ramp = np.clip((field - edge) / _EDGE_SOFTNESS + 0.5, 0, 1)
    smooth = ramp * ramp * (3 - 2 * ramp)
    return Veil(red.astype(np.float32), (opacity * smooth).astype(np.float32))


def lay_over(image: np.ndarray, veils: Sequence[Veil]) -> np.ndarray:
    """An (H, W, 3) uint8 image seen through veils of equal size, the first of them nearest to the image."""
    shown, through = np.float32(0), np.float32(1)
    for veil in veils:
        shown = shown * (1 - veil.opacity[..., None]) + veil.color * veil.opacity[..., None]
        through = through * (1 - veil.opacity)
    size = (image.shape[1], image.shape[0])
    # One pass over the full frame in 8 bits, whatever the number of veils. Where nothing is there, the
    # factor is 255 / 255 and the image stays as it was.
    added = cv2.resize(_to_bytes(shown), size, interpolation=cv2.INTER_LINEAR)
    factor = cv2.resize(_to_bytes(through), size, interpolation=cv2.INTER_LINEAR)
    return cv2.add(cv2.multiply(image, cv2.merge([factor] * 3), scale=1 / 255), added)


def _to_bytes(values: np.ndarray) -> np.ndarray:
    return np.rint(values * 255).astype(np.uint8)
