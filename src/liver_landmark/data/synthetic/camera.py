"""The endoscope's camera: a pinhole with radial distortion (OpenCV's k1, k2) and a pose."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_UNDISTORT_STEPS = 12


@dataclass(frozen=True)
class Camera:
    """Intrinsics in px of the frame (integers name pixel centres) and the pose in the world.

    Attributes:
        width: Frame width in px.
        height: Frame height in px.
        fx: Focal length in px along x.
        fy: Focal length in px along y.
        cx: Principal point in px.
        cy: Principal point in px.
        k: Radial coefficients (k1, k2): r -> r (1 + k1 r² + k2 r⁴) on the normalised plane.
        rotation: (3, 3), world to camera (x right, y down, z forward).
        position: (3,) optical centre in the world, mm.
    """

    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float
    k: tuple[float, float]
    rotation: np.ndarray
    position: np.ndarray

    def resized(self, width: int, height: int) -> Camera:
        """The same camera with a frame of another size: x maps to (x + ½) s - ½."""
        sx, sy = width / self.width, height / self.height
        return Camera(
            width,
            height,
            self.fx * sx,
            self.fy * sy,
            (self.cx + 0.5) * sx - 0.5,
            (self.cy + 0.5) * sy - 0.5,
            self.k,
            self.rotation,
            self.position,
        )

    def project(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """World points (N, 3) -> px (N, 2) and depth along the optical axis (N,) mm; behind it px is NaN."""
        local = (points - self.position) @ self.rotation.T
        depth = local[:, 2]
        plane = np.where(depth[:, None] > 1e-3, local[:, :2] / np.maximum(depth, 1e-3)[:, None], np.nan)
        r2 = (plane**2).sum(axis=1, keepdims=True)
        # Far outside of the frame the polynomial folds back; such points are not in view.
        plane = np.where(r2 < 4.0, plane * (1 + self.k[0] * r2 + self.k[1] * r2**2), np.nan)
        return plane * (self.fx, self.fy) + (self.cx, self.cy), depth

    def directions(self, px: np.ndarray) -> np.ndarray:
        """Camera-frame directions (…, 3) with z = 1 through pixels (…, 2)."""
        x, y = (px[..., 0] - self.cx) / self.fx, (px[..., 1] - self.cy) / self.fy
        # The distortion only scales the radius, so that one number a pixel is sought.
        distorted2 = x * x + y * y
        shrink = np.ones_like(x)
        for _ in range(_UNDISTORT_STEPS):
            r2 = distorted2 * shrink * shrink
            shrink = 1 / (1 + r2 * (self.k[0] + self.k[1] * r2))
        return np.stack([x * shrink, y * shrink, np.ones_like(x)], axis=-1)

    def unproject(self, px: np.ndarray, depth: np.ndarray) -> np.ndarray:
        """Pixels (…, 2) and depths (…,) mm along the optical axis -> world points (…, 3)."""
        return (self.directions(px) * depth[..., None]) @ self.rotation + self.position

    def pixel_grid(self) -> np.ndarray:
        """(H, W, 2) the pixel centres."""
        return np.stack(np.meshgrid(np.arange(self.width), np.arange(self.height)), axis=-1).astype(
            np.float64
        )


def look_at(position: np.ndarray, target: np.ndarray, roll_rad: float) -> np.ndarray:
    """(3, 3) world-to-camera rotation that looks from `position` to `target`, level but for the roll."""
    forward = (target - position) / np.linalg.norm(target - position)
    right = np.cross(np.array([0.0, 1.0, 0.0]), forward)
    right /= np.linalg.norm(right)
    down = np.cross(forward, right)
    cosine, sine = np.cos(roll_rad), np.sin(roll_rad)
    return np.stack([cosine * right + sine * down, -sine * right + cosine * down, forward])
