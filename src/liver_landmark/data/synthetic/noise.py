"""Procedural noise: tileable pictures sampled in mm, and smooth fields in space."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
from scipy.spatial import cKDTree

TILE_PX = 512
# The tiles are the same for all patients and domains; offset, turn and scale make them differ.
_TILE_SEED = 20240917


def _filtered(rng: np.random.Generator, response: np.ndarray) -> np.ndarray:
    """Periodic Gaussian noise with an amplitude spectrum, zero mean, unit variance, (TILE_PX, TILE_PX)."""
    noise = np.fft.irfft2(
        np.fft.rfft2(rng.standard_normal((TILE_PX, TILE_PX))) * response, s=(TILE_PX, TILE_PX)
    )
    return (noise / noise.std()).astype(np.float32)


@lru_cache(maxsize=1)
def noise_tiles() -> dict[str, np.ndarray]:
    """Tileable (512, 512) float32 pictures of zero mean and unit variance.

    `cloud` is scale-free; `blobs` has one size (16 px a blob); `cells` are rounded lumps with thin
    furrows between them (16 px a lump); `grain` is fine.
    """
    rng = np.random.default_rng(_TILE_SEED)
    frequency = np.hypot(np.fft.fftfreq(TILE_PX)[:, None], np.fft.rfftfreq(TILE_PX)[None])
    frequency[0, 0] = 1.0
    cloud = frequency**-1.7
    cloud[0, 0] = 0.0

    def band(period_px: float, width: float) -> np.ndarray:
        return np.exp(-0.5 * (np.log(frequency * period_px) / width) ** 2)

    # Lumps: the distance to the nearest of scattered seeds against the second nearest (Worley noise).
    seeds = rng.uniform(0, TILE_PX, (TILE_PX**2 // 16**2, 2))
    pixels = np.stack(np.meshgrid(np.arange(TILE_PX), np.arange(TILE_PX)), axis=-1).reshape(-1, 2)
    near = cKDTree(seeds, boxsize=TILE_PX).query(pixels, k=2)[0]
    cells = np.sqrt(np.minimum((near[:, 1] - near[:, 0]) / 8, 1.0)).reshape(TILE_PX, TILE_PX)
    cells = cv2.GaussianBlur(np.pad(cells, 8, mode="wrap"), (0, 0), 1.2)[8:-8, 8:-8]
    return {
        "cloud": _filtered(rng, cloud),
        "blobs": _filtered(rng, band(32, 0.35)),
        "cells": ((cells - cells.mean()) / cells.std()).astype(np.float32),
        "grain": _filtered(rng, band(5, 0.5)),
    }


def sample_tile(
    name: str, rng: np.random.Generator, u_mm: np.ndarray, v_mm: np.ndarray, tile_mm: float
) -> np.ndarray:
    """A tile laid over surface coordinates (mm) at a random place and turn, `tile_mm` a repeat."""
    if min(u_mm.shape) > 128 and (name == "cloud" or (name == "blobs" and tile_mm > 300)):
        # Next to nothing of these lies above half the sampling rate.
        half = sample_tile(name, rng, u_mm[::2, ::2], v_mm[::2, ::2], tile_mm)
        return cv2.resize(half, u_mm.shape[::-1], interpolation=cv2.INTER_LINEAR)
    angle, shift_u, shift_v = rng.uniform(0, 2 * np.pi), *rng.uniform(0, TILE_PX, 2)
    scale = TILE_PX / tile_mm
    cosine, sine = np.cos(angle) * scale, np.sin(angle) * scale
    x = (u_mm * cosine - v_mm * sine + shift_u).astype(np.float32)
    y = (u_mm * sine + v_mm * cosine + shift_v).astype(np.float32)
    return cv2.remap(noise_tiles()[name], x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)


def field(rng: np.random.Generator, points: np.ndarray, wavelength_mm: float, waves: int = 20) -> np.ndarray:
    """A smooth random field in space, about unit variance: sines of random direction and phase."""
    direction = rng.standard_normal((waves, points.shape[-1]))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    number = 2 * np.pi / (wavelength_mm * rng.uniform(0.7, 1.4, waves))
    phase = rng.uniform(0, 2 * np.pi, waves)
    argument = points.astype(np.float32) @ (direction * number[:, None]).T.astype(np.float32) + phase.astype(
        np.float32
    )
    return np.sin(argument).sum(axis=-1) * np.float32(np.sqrt(2 / waves))


def random_walk(
    rng: np.random.Generator, start: np.ndarray, heading: float, length: float, step: float, bend: float
) -> np.ndarray:
    """(N, 2) points of a smooth wandering line; `bend` is the spread of the turn per step in radians."""
    count = max(2, round(length / step))
    turns = np.convolve(rng.normal(0, bend, count), np.ones(5) / 5**0.5, mode="same")
    angle = heading + np.cumsum(turns)
    steps = step * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return start + np.cumsum(steps, axis=0)


def vessels(rng: np.random.Generator, shape: tuple[int, int], trees: int, width_px: float) -> np.ndarray:
    """(h, w) float32 in 0..1: branching vessels, thinner with every branching."""
    canvas = np.zeros(shape, dtype=np.float32)
    height, width = shape

    def grow(start: np.ndarray, heading: float, caliber: float, depth: int) -> None:
        length = rng.uniform(0.12, 0.3) * width
        line = random_walk(rng, start, heading, length, step=6.0, bend=0.12)
        points = np.round(line * 8).astype(np.int32)
        strength = 0.35 + 0.65 * min(1.0, caliber / width_px)
        cv2.polylines(canvas, [points], False, strength, max(1, round(caliber)), cv2.LINE_AA, shift=3)
        if depth:
            for _ in range(rng.integers(1, 4)):
                where = line[rng.integers(len(line) // 4, len(line))]
                grow(where, heading + rng.choice([-1, 1]) * rng.uniform(0.3, 0.9), caliber * 0.65, depth - 1)

    for _ in range(trees):
        grow(rng.uniform(0, 1, 2) * (width, height), rng.uniform(0, 2 * np.pi), width_px, 2)
    return cv2.GaussianBlur(canvas, (0, 0), max(0.6, width_px * 0.35))
