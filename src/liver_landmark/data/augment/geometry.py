"""Geometry: one matrix for image, mask and polylines, composed once and applied once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from kornia.geometry.linalg import transform_points
from kornia.geometry.transform import warp_affine

from .clipping import clip_polyline


@dataclass(frozen=True)
class Geometry:
    """A flip, then a rotation and scaling about the frame's centre, then a window enlarged to the frame.

    Attributes:
        flip_x: Left becomes right.
        flip_y: Top becomes bottom.
        angle_degrees: Positive turns counter-clockwise, as seen.
        scale: Above 1 enlarges.
        crop_side: Sides of the window as a share of the frame's.
        crop_x: Where the window lies, from 0 (at the left border) to 1 (at the right one).
        crop_y: Likewise, from the top to the bottom.
    """

    flip_x: bool = False
    flip_y: bool = False
    angle_degrees: float = 0.0
    scale: float = 1.0
    crop_side: float = 1.0
    crop_x: float = 0.5
    crop_y: float = 0.5

    @property
    def only_flips(self) -> bool:
        """Whether pixels change places without being interpolated."""
        return (self.angle_degrees, self.scale, self.crop_side) == (0, 1, 1)

    @property
    def is_identity(self) -> bool:
        """Whether everything stays where it is."""
        return self.only_flips and not (self.flip_x or self.flip_y)

    def matrix(self, width: int, height: int) -> np.ndarray:
        """(3, 3) float64 matrix from px of the frame to px of the result, both of that size.

        Integers name pixel centres: a flip takes x to width - 1 - x, and an enlargement by s takes the
        centre x of a pixel to (x + 1/2) s - 1/2.
        """
        flip = np.eye(3)
        if self.flip_x:
            flip[0, 0], flip[0, 2] = -1, width - 1
        if self.flip_y:
            flip[1, 1], flip[1, 2] = -1, height - 1
        center = ((width - 1) / 2, (height - 1) / 2)
        turn = np.eye(3)
        if (self.angle_degrees, self.scale) != (0, 1):
            turn[:2] = cv2.getRotationMatrix2D(center, self.angle_degrees, self.scale)
        window = np.eye(3)
        if self.crop_side != 1:
            share = self.crop_side
            left, top = self.crop_x * (1 - share) * width, self.crop_y * (1 - share) * height
            window[0] = 1 / share, 0, (0.5 - left) / share - 0.5
            window[1] = 0, 1 / share, (0.5 - top) / share - 0.5
        return window @ turn @ flip


def flip_picture(picture: np.ndarray, geometry: Geometry) -> np.ndarray:
    """A (H, W, …) picture with its pixels in other places; only the flips of `geometry` are looked at."""
    # OpenCV's codes: 0 about the horizontal axis, 1 about the vertical one, -1 about both.
    code = {(True, True): -1, (True, False): 1, (False, True): 0}.get((geometry.flip_x, geometry.flip_y))
    return picture.copy() if code is None else cv2.flip(picture, code)


def warp_image(image: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Warps an (H, W, 3) uint8 image, bilinear; what comes in from outside is black."""
    # Copied, since decoded pictures are read-only, and in planes, which torch samples fastest.
    planes = torch.tensor(image).permute(2, 0, 1).contiguous().float()
    warped = _warp(planes, matrix, "bilinear")
    # Interpolated values are within 0..255 up to round-off: adding a half and cutting off rounds them.
    return cv2.merge(list(warped.add_(0.5).to(torch.uint8).numpy()))


def warp_mask(mask: np.ndarray, matrix: np.ndarray, outside_id: int) -> np.ndarray:
    """Warps an (H, W) uint8 mask, nearest: ids stay ids; `outside_id` comes in from outside."""
    # Sampling gives 0 outside: exclusive or, before and after, makes that the id asked for.
    planes = torch.from_numpy(mask ^ np.uint8(outside_id))[None].float()
    return _warp(planes, matrix, "nearest").to(torch.uint8)[0].numpy() ^ np.uint8(outside_id)


def _warp(planes: torch.Tensor, matrix: np.ndarray, mode: str) -> torch.Tensor:
    affine = torch.from_numpy(matrix[None, :2]).float()
    return warp_affine(planes[None], affine, tuple(planes.shape[-2:]), mode=mode, padding_mode="zeros")[0]


def comes_from_frame(matrix: np.ndarray, width: int, height: int) -> np.ndarray:
    """(H, W) bool: whether the pixel of the frame that lies nearest to each pixel's origin exists."""
    to_source = np.linalg.inv(matrix).astype(np.float32)
    columns, rows = np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)[:, None]
    inside = np.ones((height, width), dtype=bool)
    for (by_column, by_row, offset), size in zip(to_source[:2], (width, height), strict=True):
        source = by_column * columns + (by_row * rows + offset)
        inside &= (source >= -0.5) & (source <= size - 0.5)
    return inside


def transform_landmarks(
    landmarks: Sequence[Mapping[str, Any]], matrix: np.ndarray, width: int, height: int
) -> tuple[dict[str, Any], ...]:
    """Polylines moved by `matrix` and clipped to the frame, in the order annotated.

    Args:
        landmarks: The schema's `{"category": …, "points": [(x, y), …]}` in px.
        matrix: (3, 3) from px to px.
        width: Frame width in px.
        height: Frame height in px.

    Returns:
        The same, with points as (N, 2) float64 arrays; a curve that leaves and comes back is two.
    """
    polylines = [np.asarray(landmark["points"], dtype=np.float64).reshape(-1, 2) for landmark in landmarks]
    if not polylines:
        return ()
    # All points in one call: it costs more than its arithmetic.
    points = torch.from_numpy(np.concatenate(polylines))
    moved = transform_points(torch.from_numpy(matrix), points).numpy()
    ends = np.cumsum([len(polyline) for polyline in polylines])
    return tuple(
        {"category": landmark["category"], "points": piece}
        for landmark, polyline in zip(landmarks, np.split(moved, ends[:-1]), strict=True)
        for piece in clip_polyline(polyline, width, height)
    )
