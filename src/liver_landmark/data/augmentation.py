"""Augmentation of a frame, its mask and its polylines together: geometry, light, occlusion."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
import torch
from kornia.contrib import diamond_square
from kornia.geometry.linalg import transform_points
from kornia.geometry.transform import warp_affine

from ..curves import get_protocol, rasterize_landmarks
from ..model.landmarks_liver_landmark import DEFAULT_LANDMARKS, IGNORE_INDEX
from .augmentation_config import AugmentationConfig

# ----------------------------------------------------------------------------------------------------
# Polylines cut at the border of their frame.

# A curve that only touches the border leaves a piece of no length, give or take round-off.
_SHORTEST_PIECE_PX = 1e-6


def clip_polyline(points: np.ndarray, width: int, height: int) -> list[np.ndarray]:
    """The parts of an open polyline that lie in a frame, in the order and direction of its points.

    Integers name pixel centers, so the frame reaches from -1/2 to width - 1/2 and height - 1/2. Each
    segment is cut by the parameters at which it enters and leaves (Liang and Barsky 1984).

    Args:
        points: (N, 2) x, y in px, finite.
        width: Frame width in px.
        height: Frame height in px.

    Returns:
        (M, 2) float64 arrays of at least two different points each: none for a polyline that is nowhere
        inside, several for one that leaves and comes back.
    """
    points = np.asarray(points, dtype=np.float64).reshape(-1, 2)
    low, high = np.array([-0.5, -0.5]), np.array([width - 0.5, height - 0.5])
    within_axis = (low <= points) & (points <= high)
    inside = within_axis.all(axis=1)
    if inside.all():
        return _long_enough([points])

    start, step = points[:-1], np.diff(points, axis=0)
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        to_low, to_high = (low - start) / step, (high - start) / step
    # Along an axis that a segment does not move on, it is inside all the way or not at all.
    still = step == 0
    first = np.where(still, np.where(within_axis[:-1], -np.inf, np.inf), np.minimum(to_low, to_high))
    last = np.where(still, np.inf, np.maximum(to_low, to_high))
    enter, leave = np.maximum(first.max(axis=1), 0), np.minimum(last.min(axis=1), 1)

    pieces: list[list[np.ndarray]] = []
    goes_on = False
    for index in np.flatnonzero(enter < leave):
        if not (goes_on and inside[index]):
            entry = points[index] if inside[index] else start[index] + enter[index] * step[index]
            pieces.append([entry])
        ends_inside = inside[index + 1]
        pieces[-1].append(points[index + 1] if ends_inside else start[index] + leave[index] * step[index])
        # The next visible segment is the next one of the polyline only where this one ends inside.
        goes_on = ends_inside
    return _long_enough([np.clip(piece, low, high) for piece in pieces])


def _long_enough(pieces: list[np.ndarray]) -> list[np.ndarray]:
    return [piece for piece in pieces if len(piece) and np.ptp(piece, axis=0).max() > _SHORTEST_PIECE_PX]


# ----------------------------------------------------------------------------------------------------
# Geometry: one matrix for image, mask and polylines, composed once and applied once.


@dataclass(frozen=True)
class Geometry:
    """A flip, then a rotation and scaling about the frame's center, then a window enlarged to the frame.

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

        Integers name pixel centers: a flip takes x to width - 1 - x, and an enlargement by s takes the
        center x of a pixel to (x + 1/2) s - 1/2.
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


# ----------------------------------------------------------------------------------------------------
# Light and camera: brightness, contrast, color and gamma by one table; blur; noise.

_BLUR_REFERENCE_HEIGHT_PX = 1080
# OpenCV's Gaussian below this is the identity on 8 bits.
_SMALLEST_SIGMA_PX = 0.2
_GRAIN_HEIGHT_PX = 540


def relight(image: np.ndarray, gain: np.ndarray, contrast: float, gamma: float) -> np.ndarray:
    """Changes brightness, color, contrast and gamma of a (H, W, 3) uint8 image, in that order.

    All of it maps each channel's 256 values by itself, so one table of 256 x 3 is all the arithmetic:
    exact to rounding, and quicker than one pass over the pixels for each. kornia's contrast is about
    zero or the frame's mean and not about mid-gray.

    Args:
        image: (H, W, 3) uint8.
        gain: (3,) factors of the channels.
        contrast: Factor on the distance from mid-gray.
        gamma: Exponent on intensities of 0 to 1.
    """
    levels = np.arange(256)[:, None] / 255 * gain
    levels = np.clip(0.5 + (levels - 0.5) * contrast, 0, 1) ** gamma
    table = np.rint(levels * 255).astype(np.uint8)
    return cv2.LUT(image, table[:, None, :])


def blur(image: np.ndarray, sigma_px: float) -> np.ndarray:
    """Blurs a (H, W, 3) uint8 image by a Gaussian.

    OpenCV's, in 8 bits: kornia's takes twenty times as long on a 1080p frame.

    Args:
        image: (H, W, 3) uint8.
        sigma_px: Standard deviation in px of a frame 1080 px high.
    """
    sigma_px *= image.shape[0] / _BLUR_REFERENCE_HEIGHT_PX
    if sigma_px < _SMALLEST_SIGMA_PX:
        return image
    return cv2.GaussianBlur(image, (0, 0), sigma_px)


def add_noise(image: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Adds the same Gaussian noise to all channels of a (H, W, 3) uint8 image.

    Args:
        image: (H, W, 3) uint8.
        strength: Standard deviation as a share of full intensity.
        rng: Draws the noise.
    """
    height, width = image.shape[:2]
    # A grain of some px in large frames: what the model still sees after resizing, and less to draw.
    grain_px = max(1, round(height / _GRAIN_HEIGHT_PX))
    grains = rng.standard_normal((-(-height // grain_px), -(-width // grain_px)), dtype=np.float32)
    noise = np.rint(grains * np.float32(255 * strength)).astype(np.int16)
    if grain_px > 1:
        noise = noise.repeat(grain_px, axis=0)[:height].repeat(grain_px, axis=1)[:, :width]
    return cv2.add(image, cv2.merge([noise] * 3), dtype=cv2.CV_8U)


# ----------------------------------------------------------------------------------------------------
# Occlusion: smoke and blood over the frame, as veils that are made small and enlarged.

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
    """A see-through layer of one color.

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
    """A cloudy veil of one light gray.

    Args:
        clouds: (h, w) float32, 0 to 1.
        density: Opacity where it is thickest.
        rng: Draws the gray.
    """
    gray = rng.uniform(0.6, 0.95) + rng.uniform(-0.03, 0.03, 3)
    return Veil(gray.astype(np.float32), np.float32(density) * clouds**_SMOKE_EXPONENT)


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


# ----------------------------------------------------------------------------------------------------
# Draws and applies one variation of a frame.

_OUTSIDE_ID = {"background": 0, "ignore": IGNORE_INDEX}


@dataclass(frozen=True)
class LabeledFrame:
    """A frame with its label and the curves that the label shows.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        mask: (H, W) uint8 class ids, 255 ignored.
        landmarks: The schema's `{"category": name or index, "points": [(x, y), …]}` in px of the
            frame, in the order annotated; empty where there are none.
        protocol: The rasterizing protocol that drew `mask` from `landmarks`, by its name. None: another
            hand drew it, and it can only be warped.
        names: The landmarks that categories name or number, in the order of their ids, which begin with 1.
        inverse_depth: (H, W) float32, 1 / depth, 0 where it is not known; None: it is not wanted.
    """

    image: np.ndarray
    mask: np.ndarray
    landmarks: Sequence[Mapping[str, Any]] = ()
    protocol: str | None = None
    names: tuple[str, ...] = DEFAULT_LANDMARKS.names
    inverse_depth: np.ndarray | None = None


class Augmentation:
    """Draws and applies one variation of a frame; the same one for the same (seed, epoch, index).

    That it depends on nothing else makes a resumed run equal the uninterrupted one, whatever process
    or worker prepares a frame.

    Args:
        config: How frames vary.
        seed: Of all draws.
        calm: How they vary from `calm_from_epoch` on; None: as before.
        calm_from_epoch: An epoch.
    """

    def __init__(
        self,
        config: AugmentationConfig,
        seed: int,
        calm: AugmentationConfig | None = None,
        calm_from_epoch: int = 0,
    ) -> None:
        self.config = config
        self.seed = seed
        self.calm = config if calm is None else calm
        self.calm_from_epoch = calm_from_epoch

    def __call__(self, frame: LabeledFrame, epoch: int, index: int) -> LabeledFrame:
        """Varies a frame.

        Where its geometry changes and a protocol drew the mask, the mask is redrawn from the moved
        polylines: the stroke keeps the width that the protocol gives it. A frame whose geometry stays keeps
        mask and polylines as they are.

        Args:
            frame: Left as it is; what does not change is shared with the result.
            epoch: Pass over the data, from 0.
            index: Row of the dataset.

        Returns:
            The varied frame, of the same size; ids stay ids, and polylines are clipped to the frame.

        Raises:
            ValueError: image and mask differ in size, or the protocol is unknown.
        """
        if frame.image.shape[:2] != frame.mask.shape:
            raise ValueError(f"image {frame.image.shape[:2]} and mask {frame.mask.shape} differ in size")
        config = self.config if epoch < self.calm_from_epoch else self.calm
        drawn = draw_variation(config, np.random.default_rng([self.seed, epoch, index]))
        # What is in the way belongs to the scene: it moves with it, and none of it is outside of it.
        frame = replace(frame, image=drawn.occlude(frame.image))
        if not drawn.geometry.is_identity:
            frame = move_frame(frame, drawn.geometry, _OUTSIDE_ID[config.outside])
        return replace(frame, image=drawn.light(frame.image))


@dataclass(frozen=True)
class Variation:
    """All that is drawn for one frame; the defaults of `Geometry` and the neutral values change nothing.

    Attributes:
        geometry: Where everything goes.
        gain: (3,) factors of the channels.
        contrast: Factor on the distance from mid-gray.
        gamma: Exponent on intensities.
        blur_px: Standard deviation in px of a frame 1080 px high.
        noise: Standard deviation as a share of full intensity.
        smoke_density: Opacity of the thickest smoke; 0: none.
        blood_area: Share of the frame under blood; 0: none.
        noise_rng: Draws the noise.
        smoke_rng: Draws the smoke.
        blood_rng: Draws the blood.
    """

    geometry: Geometry
    gain: np.ndarray
    contrast: float
    gamma: float
    blur_px: float
    noise: float
    smoke_density: float
    blood_area: float
    noise_rng: np.random.Generator
    smoke_rng: np.random.Generator
    blood_rng: np.random.Generator

    def occlude(self, image: np.ndarray) -> np.ndarray:
        """Blood and, before it, smoke."""
        candidates = (
            (draw_blood, self.blood_area, self.blood_rng),
            (draw_smoke, self.smoke_density, self.smoke_rng),
        )
        wanted = [candidate for candidate in candidates if candidate[1] > 0]
        if not wanted:
            return image
        clouds = draw_clouds(veil_size(image.shape[1], image.shape[0]), [rng for _, _, rng in wanted])
        veils = [draw(own, strength, rng) for own, (draw, strength, rng) in zip(clouds, wanted, strict=True)]
        return lay_over(image, veils)

    def light(self, image: np.ndarray) -> np.ndarray:
        """Light, blur and noise, in the order in which a camera meets them."""
        if (self.gain != 1).any() or self.contrast != 1 or self.gamma != 1:
            image = relight(image, self.gain, self.contrast, self.gamma)
        if self.blur_px > 0:
            image = blur(image, self.blur_px)
        return add_noise(image, self.noise, self.noise_rng) if self.noise > 0 else image


def draw_variation(config: AugmentationConfig, rng: np.random.Generator) -> Variation:
    """Draws everything, whether or not it is on: a frame's rotation does not depend on other settings."""
    flip_x, flip_y, rotate = rng.random(3) < [config.horizontal_flip, config.vertical_flip, config.rotation]
    angle, brightness, contrast, gamma = rng.uniform(-1, 1, 4)
    color = rng.uniform(-1, 1, 3)
    scale, crop, smoke, blood = rng.random(4) < [config.scale, config.crop, config.smoke, config.blood]
    log_scale = rng.uniform(*config.log_scale_range())
    crop_side = rng.uniform(config.crop_min_side, 1)
    crop_x, crop_y, blur_strength, noise, smoke_density, blood_area = rng.random(6)
    # Generators of their own: how much one of them draws moves no other.
    noise_rng, smoke_rng, blood_rng = rng.spawn(3)
    return Variation(
        geometry=Geometry(
            flip_x=bool(flip_x),
            flip_y=bool(flip_y),
            angle_degrees=angle * config.rotation_degrees if rotate else 0.0,
            scale=math.exp(log_scale) if scale else 1.0,
            crop_side=crop_side if crop else 1.0,
            crop_x=crop_x,
            crop_y=crop_y,
        ),
        gain=(1 + brightness * config.brightness) * (1 + color * config.color),
        contrast=1 + contrast * config.contrast,
        gamma=math.exp(gamma * config.gamma),
        blur_px=blur_strength * config.blur_px,
        noise=noise * config.noise,
        smoke_density=smoke_density * config.smoke_density if smoke else 0.0,
        blood_area=blood_area * config.blood_area if blood else 0.0,
        noise_rng=noise_rng,
        smoke_rng=smoke_rng,
        blood_rng=blood_rng,
    )


def move_frame(frame: LabeledFrame, geometry: Geometry, outside_id: int) -> LabeledFrame:
    """Image, mask, polylines and depth moved by one matrix.

    Args:
        frame: The frame.
        geometry: Where everything goes.
        outside_id: The mask's id where pixels from outside the frame come in; the image is black there.
    """
    height, width = frame.mask.shape
    matrix = geometry.matrix(width, height)
    landmarks = transform_landmarks(frame.landmarks, matrix, width, height)
    redrawn = bool(frame.landmarks) and frame.protocol is not None

    def moved(mask: np.ndarray, outside: int) -> np.ndarray:
        return flip_picture(mask, geometry) if geometry.only_flips else warp_mask(mask, matrix, outside)

    image = flip_picture(frame.image, geometry) if geometry.only_flips else warp_image(frame.image, matrix)
    if frame.inverse_depth is not None:
        frame = replace(frame, inverse_depth=_moved_depth(frame.inverse_depth, geometry, matrix))
    if not redrawn:
        return replace(frame, image=image, mask=moved(frame.mask, outside_id), landmarks=landmarks)
    protocol = get_protocol(frame.protocol)
    mask = rasterize_landmarks(landmarks, width, height, protocol, names=frame.names)
    if not geometry.only_flips:
        # A stroke is as wide as it is: beside the frame's old border it would lie on black.
        mask[~comes_from_frame(matrix, width, height)] = outside_id
    ignored = frame.mask == IGNORE_INDEX
    if ignored.any():
        mask[moved(ignored.view(np.uint8), 0) == 1] = IGNORE_INDEX
    return replace(frame, image=image, mask=mask, landmarks=landmarks)


def _moved_depth(inverse_depth: np.ndarray, geometry: Geometry, matrix: np.ndarray) -> np.ndarray:
    """Nearest: between two surfaces there is none. Zoomed or turned, a view's depths keep their ratios."""
    if geometry.only_flips:
        return flip_picture(inverse_depth, geometry)
    planes = torch.tensor(inverse_depth)[None]
    return _warp(planes, matrix, "nearest")[0].numpy()
