"""The three landmarks of a frame as px polylines, taken from the geometry and cut where they are hidden."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from skimage.measure import find_contours

from .anatomy import UPPER_COLUMNS, Liver
from .geometry import Camera, Region, Scene, dot, unit

# Relative to the frame's width: spacing of points, the shortest piece kept, the longest hidden gap bridged.
SPACING, SHORTEST, BRIDGED = 0.01, 0.03, 0.012
# How much nearer than a curve a surface has to be to hide it, mm: more for the falciform's own remnant,
# whose foot is the ligament.
_HIDES_MM, _FRINGE_HIDES_MM = 1.2, 5.0
# Cosine between a face and the line of sight below which a curve on the face is over the horizon.
_FACING = 0.1
# A contour counts as occluding what lies behind if that is not nearer than this, mm.
_BEHIND_MM, _TOUCHING_MM = 2.5, -4.0


@dataclass(frozen=True)
class View:
    """A camera in an abdomen: the scenes that it sees and where its round border cuts.

    Attributes:
        camera: The camera.
        liver: The liver.
        scenes: Scenes that hide each other; the first one's surface 0 is the liver.
        border_center: (x, y) of the round view in px.
        border_radius: Its radius in px.
    """

    camera: Camera
    liver: Liver
    scenes: tuple[Scene, ...]
    border_center: tuple[float, float]
    border_radius: float

    def inside(self, px: np.ndarray, margin_px: float = 0.0) -> np.ndarray:
        """(N,) bool: which px (N, 2) lie in the frame and in the round view."""
        x, y = px[..., 0], px[..., 1]
        with np.errstate(invalid="ignore"):
            round_view = np.hypot(x - self.border_center[0], y - self.border_center[1])
            return (
                (x > -0.5 + margin_px)
                & (y > -0.5 + margin_px)
                & (x < self.camera.width - 0.5 - margin_px)
                & (y < self.camera.height - 0.5 - margin_px)
                & (round_view < self.border_radius - margin_px)
            )


@dataclass(frozen=True)
class Buffers:
    """What each pixel shows, arrays of shape (H, W).

    Attributes:
        rays: (H, W, 3) float32 directions in the camera's frame, z = 1.
        inside: Which pixels lie in the round view.
        scene: Index of the scene hit, -1 for none.
        surface: Index of the surface within it, -1 for none.
        row: Fractional grid row on it.
        column: Fractional grid column on it.
        depth: Depth along the optical axis, mm; inf for none.
        region: Region ids.
    """

    rays: np.ndarray
    inside: np.ndarray
    scene: np.ndarray
    surface: np.ndarray
    row: np.ndarray
    column: np.ndarray
    depth: np.ndarray
    region: np.ndarray


def cast_view(view: View) -> Buffers:
    """Casts one ray through every pixel into the view's scenes."""
    camera = view.camera
    shape = (camera.height, camera.width)
    pixels = camera.pixel_grid()
    rays = camera.directions(pixels).astype(np.float32)
    buffers = Buffers(
        rays=rays,
        inside=view.inside(pixels),
        scene=np.full(shape, -1, dtype=np.int32),
        surface=np.full(shape, -1, dtype=np.int32),
        row=np.zeros(shape, dtype=np.float32),
        column=np.zeros(shape, dtype=np.float32),
        depth=np.full(shape, np.inf, dtype=np.float32),
        region=np.zeros(shape, dtype=np.uint8),
    )
    for index in range(len(view.scenes)):
        buffers = add_scene(view, buffers, index)
    return buffers


def add_scene(view: View, buffers: Buffers, index: int) -> Buffers:
    """The buffers with one more of the view's scenes, where it is nearer."""
    camera, scene = view.camera, view.scenes[index]
    # Turned into the world the rays keep their length: distances along them are depths.
    hits = scene.cast(camera.position, (buffers.rays @ camera.rotation.astype(np.float32)).reshape(-1, 3))
    shape = buffers.depth.shape
    distance = hits.distance.reshape(shape)
    nearer = distance < buffers.depth
    surface = hits.surface.reshape(shape)
    table = np.array([part.region for part in scene.surfaces], dtype=np.uint8)
    return Buffers(
        rays=buffers.rays,
        inside=buffers.inside,
        scene=np.where(nearer, np.int32(index), buffers.scene),
        surface=np.where(nearer, surface, buffers.surface),
        row=np.where(nearer, hits.row.reshape(shape), buffers.row),
        column=np.where(nearer, hits.column.reshape(shape), buffers.column),
        depth=np.where(nearer, distance, buffers.depth),
        region=np.where(
            buffers.inside, np.where(nearer, table[surface], buffers.region), np.uint8(Region.OUTSIDE)
        ),
    )


def extract_landmarks(view: View, buffers: Buffers) -> list[dict]:
    """The schema's list of {`category`, `points`} with float32 (N, 2) points: ridge, silhouette, ligament."""
    curves = {
        "ridge": visible_pieces(view, view.liver.ridge()),
        "silhouette": silhouette_pieces(view, buffers),
        "ligament": visible_pieces(view, view.liver.ligament(), view.liver.ligament_normals()),
    }
    return [
        {"category": category, "points": piece.astype(np.float32)}
        for category, pieces in curves.items()
        for piece in pieces
    ]


def visible_pieces(view: View, curve: np.ndarray, normals: np.ndarray | None = None) -> list[np.ndarray]:
    """The visible parts of a curve on the liver as px polylines.

    Args:
        view: Camera and scenes.
        curve: (N, 3) points in mm, in order.
        normals: (N, 3) the surface's normals along a curve that runs over a face: it ends where the face
            turns away, and the falciform's remnant may stand close in front of it. None for an edge.
    """
    px, _ = view.camera.project(curve)
    in_view = view.inside(px)
    visible = in_view.copy()
    if normals is not None:
        visible &= dot(unit(view.camera.position - curve), normals) > _FACING
    points = curve[in_view]
    rays = points - view.camera.position
    length = np.linalg.norm(rays, axis=1)
    for scene in view.scenes:
        hits = scene.cast(view.camera.position, rays)
        margin = np.full(len(points), _HIDES_MM)
        if normals is not None:
            regions = np.array([surface.region for surface in scene.surfaces])[hits.surface]
            margin[regions == Region.FALCIFORM] = _FRINGE_HIDES_MM
        visible[in_view] &= hits.distance > 1 - margin / np.maximum(length, 1e-6)
    return cut_polyline(px, visible, ~in_view, view.camera.width)


def silhouette_pieces(view: View, buffers: Buffers) -> list[np.ndarray]:
    """The visible occluding contour of the liver's upper face against what lies behind, as px polylines."""
    camera = view.camera
    liver = (buffers.region == Region.LIVER).astype(np.float32)
    if not liver.any():
        return []
    sigma = max(0.9, camera.width / 456)
    soft = cv2.GaussianBlur(liver, (0, 0), sigma)
    gradient_x, gradient_y = cv2.Sobel(soft, cv2.CV_32F, 1, 0), cv2.Sobel(soft, cv2.CV_32F, 0, 1)
    pieces = []
    for contour in find_contours(soft, 0.5):
        px = contour[:, ::-1]
        if len(px) < 8:
            continue
        inward = np.stack([_nearest(gradient_x, px), _nearest(gradient_y, px)], axis=1)
        inward /= np.maximum(np.linalg.norm(inward, axis=1, keepdims=True), 1e-6)
        keep, outside_view = _occludes(view, buffers, px, inward, reach_px=1.8 * sigma)
        closed = np.allclose(px[0], px[-1])
        if closed and not keep.all():
            # Start in a gap, so that no piece is torn at the place where the tracing began.
            start = int(np.argmin(keep))
            px = np.roll(px[:-1], -start, axis=0)
            keep, outside_view = np.roll(keep[:-1], -start), np.roll(outside_view[:-1], -start)
        pieces += cut_polyline(px, keep, outside_view, camera.width)
    return pieces


def _nearest(picture: np.ndarray, px: np.ndarray) -> np.ndarray:
    x = np.clip(np.round(px[:, 0]).astype(int), 0, picture.shape[1] - 1)
    y = np.clip(np.round(px[:, 1]).astype(int), 0, picture.shape[0] - 1)
    return picture[y, x]


def _occludes(
    view: View, buffers: Buffers, px: np.ndarray, inward: np.ndarray, reach_px: float
) -> tuple[np.ndarray, np.ndarray]:
    """Where contour points (N, 2) are the upper face's edge in front of something; where the view ends."""
    inner, outer = px + inward * reach_px, px - inward * reach_px
    outside_view = ~view.inside(px, margin_px=2.0 * reach_px)
    inner_region, outer_region = _nearest(buffers.region, inner), _nearest(buffers.region, outer)
    behind = _nearest(buffers.depth, outer) - _nearest(buffers.depth, inner)
    threshold = np.where(outer_region == Region.WALL, _TOUCHING_MM, _BEHIND_MM)
    row, column = _nearest(buffers.row, inner), _nearest(buffers.column, inner)
    first, last = view.liver.ridge_rows
    at_ridge = (column < 0.09 * UPPER_COLUMNS) & (row > first - 2) & (row < last + 2)
    upper = (column < UPPER_COLUMNS + 2) & ~at_ridge
    keep = (inner_region == Region.LIVER) & (behind > threshold) & upper & ~outside_view
    return keep & (outer_region != Region.INSTRUMENT) & (outer_region != Region.OUTSIDE), outside_view


def cut_polyline(px: np.ndarray, keep: np.ndarray, never: np.ndarray, width: int) -> list[np.ndarray]:
    """Splits a polyline into its kept runs.

    Args:
        px: (N, 2) points in order.
        keep: (N,) bool, which points are visible.
        never: (N,) bool, points that no bridge may cross (outside of the view).
        width: Frame width in px, which all lengths are relative to.

    Returns:
        Pieces of evenly spaced points; gaps shorter than BRIDGED are closed (noise of the visibility
        test), pieces shorter than SHORTEST dropped.
    """
    steps = np.linalg.norm(np.diff(px, axis=0), axis=1)
    along = np.concatenate([[0.0], np.cumsum(np.nan_to_num(steps, nan=width))])
    kept = keep.copy()
    edges = np.flatnonzero(np.diff(np.concatenate([[True], keep, [True]]).astype(np.int8)))
    for start, stop in zip(edges[::2], edges[1::2], strict=True):
        touches_end = start == 0 or stop == len(keep)
        if (
            not touches_end
            and not never[start:stop].any()
            and along[stop] - along[start - 1] < BRIDGED * width
        ):
            kept[start:stop] = True
    edges = np.flatnonzero(np.diff(np.concatenate([[False], kept, [False]]).astype(np.int8)))
    pieces = []
    for start, stop in zip(edges[::2], edges[1::2], strict=True):
        length = along[stop - 1] - along[start]
        if stop - start >= 2 and length >= SHORTEST * width:
            where = np.linspace(along[start], along[stop - 1], max(2, round(length / (SPACING * width)) + 1))
            run = slice(start, stop)
            pieces.append(np.stack([np.interp(where, along[run], px[run, axis]) for axis in (0, 1)], axis=1))
    return pieces


def visible_length(landmarks: list[dict], category: str, width: int) -> float:
    """Total length of a landmark's pieces relative to the frame's width."""
    pieces = [landmark["points"] for landmark in landmarks if landmark["category"] == category]
    return float(sum(np.linalg.norm(np.diff(piece, axis=0), axis=1).sum() for piece in pieces)) / width
