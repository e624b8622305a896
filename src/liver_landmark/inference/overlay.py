"""A frame with its landmarks, their curves or a probability drawn over it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ..curves.tracing import TracedPolyline
from ..model.landmarks_liver_landmark import DEFAULT_LANDMARKS, Landmark, LandmarkTable

# Parts of the frame's width, so that a 456 px frame and a 4K frame come out alike.
_OUTLINE_WIDTH = 1 / 960
_CURVE_WIDTH, _CURVE_EDGE = 1 / 480, 1 / 1280
_LEGEND_TEXT_HEIGHT = 1 / 60
_SMALLEST_LEGEND_TEXT_PX = 9
_EDGE_COLOR = (16, 16, 16)
# OpenCV takes places in whole 16ths of a px.
_SHIFT = 4


def draw_overlay(
    frame: np.ndarray,
    mask: np.ndarray | None,
    *,
    alpha: float = 0.4,
    legend: bool = True,
    landmarks: Sequence[str] | None = None,
    curves: Sequence[TracedPolyline] | None = None,
    table: LandmarkTable = DEFAULT_LANDMARKS,
) -> np.ndarray:
    """Blends each landmark's color over the frame, draws its outline, and curves on top.

    Args:
        frame: (H, W, 3) uint8 RGB.
        mask: (H, W) uint8 class ids; background and ignored pixels (255) stay as they are. None: curves only.
        alpha: Share of the color inside a landmark, 0 to 1.
        legend: Name the landmarks in the upper left corner; those that are not there have an empty box.
        landmarks: Names of those to draw; the others are left out, of the legend too. None: all.
        curves: Drawn in their landmark's color with a thin dark edge.
        table: What the ids of the mask mean, and the colors: of the model that made it.

    Returns:
        (H, W, 3) uint8 RGB, a new array.

    Raises:
        ValueError: shapes or types differ from these, or a landmark is unknown.
    """
    _check_frame(frame)
    if mask is not None and (mask.shape != frame.shape[:2] or mask.dtype != np.uint8):
        raise ValueError(f"mask must be {frame.shape[:2]} uint8 class ids, got {mask.shape} {mask.dtype}")
    _check_alpha(alpha)
    landmarks = table.names if landmarks is None else landmarks
    if unknown := set(landmarks) - set(table.names):
        raise ValueError(f"landmarks: {sorted(unknown)[0]!r} is none of {', '.join(table.names)}")
    chosen = [landmark for landmark in table.landmarks if landmark.name in landmarks]
    drawn = frame.copy()
    present = _draw_strokes(frame, mask, alpha, chosen, drawn) if mask is not None else set()
    shown = [curve for curve in curves or () if curve.category in landmarks]
    _draw_curves(drawn, shown, table)
    present.update(curve.category for curve in shown)
    if legend:
        _draw_legend(drawn, tuple((landmark, landmark.name in present) for landmark in chosen), table.names)
    return drawn


def _check_frame(frame: np.ndarray) -> None:
    if frame.ndim != 3 or frame.shape[2] != 3 or frame.dtype != np.uint8:
        raise ValueError(f"frame must be (H, W, 3) uint8 RGB, got {frame.shape} {frame.dtype}")


def _check_alpha(alpha: float) -> None:
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha must lie between 0 and 1, got {alpha}")


def _draw_strokes(
    frame: np.ndarray, mask: np.ndarray, alpha: float, landmarks: Sequence[Landmark], drawn: np.ndarray
) -> set[str]:
    """Draws a mask's landmarks into `drawn`, within the box of what is not background; which there are."""
    left, top, width, height = cv2.boundingRect(mask)
    if not width:
        return set()
    box = (slice(top, top + height), slice(left, left + width))
    window, corner, strokes = drawn[box], (left, top), {}
    # One plane for all classes; rounded twice, so that a level may be one off.
    faded = cv2.convertScaleAbs(frame[box], alpha=1 - alpha)
    inside = np.empty((height, width), np.uint8)
    for landmark in landmarks:
        cv2.inRange(mask[box], landmark.id, landmark.id, inside)
        contours, _ = cv2.findContours(inside, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE, offset=corner)
        if not contours:
            continue
        tint = [round(alpha * level) for level in landmark.color]
        cv2.add(faded, (*tint, 0), window, inside)
        strokes[landmark] = contours
    outline_px = max(1, round(frame.shape[1] * _OUTLINE_WIDTH))
    for landmark, contours in strokes.items():
        # No anti-aliasing: an outline of one color stays crisp when a person zooms in.
        cv2.drawContours(drawn, contours, -1, landmark.color, outline_px)
    return {landmark.name for landmark in strokes}


def _draw_curves(drawn: np.ndarray, curves: Sequence[TracedPolyline], table: LandmarkTable) -> None:
    width_px = max(1, round(drawn.shape[1] * _CURVE_WIDTH))
    edge_px = max(1, round(drawn.shape[1] * _CURVE_EDGE))
    lines = [np.rint(curve.points * (1 << _SHIFT)).astype(np.int32) for curve in curves]
    # All edges first: where curves cross, none cuts another.
    cv2.polylines(drawn, lines, False, _EDGE_COLOR, width_px + 2 * edge_px, cv2.LINE_AA, _SHIFT)
    colors = table.colors
    for curve, line in zip(curves, lines, strict=True):
        cv2.polylines(drawn, [line], False, colors[curve.category], width_px, cv2.LINE_AA, _SHIFT)


# A landmark and whether it is there.
_Entries = tuple[tuple[Landmark, bool], ...]


def _draw_legend(drawn: np.ndarray, entries: _Entries, names: tuple[str, ...]) -> None:
    """Names and colors on a dark plate in the upper left corner, as wide as the longest of all `names`."""
    if not entries:
        return
    text_px = max(_SMALLEST_LEGEND_TEXT_PX, round(drawn.shape[1] * _LEGEND_TEXT_HEIGHT))
    ink, shining_through = _legend(text_px, entries, names)
    corner = drawn[: len(ink), : ink.shape[1]]
    rows, columns = corner.shape[:2]
    plate = cv2.multiply(corner, shining_through[:rows, :columns], scale=1 / (3 * 255))
    corner[:] = cv2.add(plate, ink[:rows, :columns])


@lru_cache(maxsize=64)
def _legend(text_px: int, entries: _Entries, names: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
    """What the legend adds to the plate, and how much of the plate shines through it: (h, w, 3) uint8."""
    # Drawn on black and on white: letters have soft edges.
    on_black, on_white = (_draw_names(text_px, entries, names, ground) for ground in (0, 255))
    return on_black, on_white - on_black


def _draw_names(text_px: int, entries: _Entries, names: tuple[str, ...], ground: int) -> np.ndarray:
    font = ImageFont.load_default(size=text_px)
    line_px, margin_px = round(1.5 * text_px), round(0.6 * text_px)
    text_width_px = max(font.getlength(name) for name in names)
    width = round(2 * margin_px + text_px + text_width_px + 0.5 * text_px)
    height = 2 * margin_px + len(entries) * line_px - (line_px - text_px)
    picture = Image.new("RGB", (width, height), (ground, ground, ground))
    draw = ImageDraw.Draw(picture)
    for row, (landmark, found) in enumerate(entries):
        top = margin_px + row * line_px
        box = (margin_px, top, margin_px + text_px, top + text_px)
        draw.rectangle(
            box,
            fill=landmark.color if found else None,
            outline=landmark.color,
            width=max(1, text_px // 10),
        )
        draw.text(
            (margin_px + 1.5 * text_px, top + text_px / 2),
            landmark.name,
            font=font,
            fill=(255, 255, 255) if found else (150, 150, 150),
            anchor="lm",
        )
    return np.asarray(picture)


def draw_heat_map(frame: np.ndarray, probability: np.ndarray, *, alpha: float = 0.8) -> np.ndarray:
    """Colors a frame by a probability: viridis, from violet to yellow, which the color-blind can read too.

    The color's share of a pixel is `alpha` times the probability: where there is nothing, tissue shows.

    Args:
        frame: (H, W, 3) uint8 RGB.
        probability: (H, W) floats, 0 to 1.
        alpha: The share at probability 1, 0 to 1.

    Returns:
        (H, W, 3) uint8 RGB, a new array.

    Raises:
        ValueError: shapes, types or values differ from these.
    """
    _check_frame(frame)
    _check_alpha(alpha)
    if probability.shape != frame.shape[:2] or not np.issubdtype(probability.dtype, np.floating):
        raise ValueError(
            f"probability must be {frame.shape[:2]} floats, got {probability.shape} {probability.dtype}"
        )
    # The negation: nan is refused too.
    if probability.size and not (probability.min() >= 0 and probability.max() <= 1):
        raise ValueError("probability must lie between 0 and 1")
    levels = cv2.convertScaleAbs(probability.astype(np.float32, copy=False), alpha=255)
    added, kept = _heat_tables(float(alpha))
    levels = cv2.merge([levels, levels, levels])
    faded = cv2.multiply(frame, cv2.LUT(levels, kept), scale=1 / 255)
    return cv2.add(faded, cv2.LUT(levels, added))


@lru_cache(maxsize=16)
def _heat_tables(alpha: float) -> tuple[np.ndarray, np.ndarray]:
    """(256, 1, 3) uint8 each: the color that a probability adds, and how much of the frame it keeps."""
    steps = np.arange(256, dtype=np.uint8)[:, None]
    colors = cv2.applyColorMap(steps, cv2.COLORMAP_VIRIDIS)[..., ::-1].astype(np.float64)
    share = (alpha * steps / 255.0)[..., None]
    added = np.rint(share * colors).astype(np.uint8)
    kept = np.repeat(np.rint(255 * (1 - share)), 3, axis=2).astype(np.uint8)
    return added, kept
