"""A frame with its landmarks drawn over it."""

from __future__ import annotations

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ..model.landmarks_liver_landmark import LANDMARKS, PALETTE

# Parts of the frame's width, so that a 456 px frame and a 4K frame come out alike.
_OUTLINE_WIDTH = 1 / 960
_LEGEND_TEXT_HEIGHT = 1 / 60
_SMALLEST_LEGEND_TEXT_PX = 9


def draw_overlay(
    frame: np.ndarray, mask: np.ndarray, *, alpha: float = 0.4, legend: bool = True
) -> np.ndarray:
    """Blends each landmark's colour over the frame and draws its outline.

    Args:
        frame: (H, W, 3) uint8 RGB.
        mask: (H, W) uint8 class ids; background and ignored pixels (255) stay as they are.
        alpha: Share of the colour inside a landmark, 0 to 1.
        legend: Name the landmarks in the upper left corner; those that the mask lacks have an empty box.

    Returns:
        (H, W, 3) uint8 RGB, a new array.

    Raises:
        ValueError: shapes or types differ from these.
    """
    if frame.ndim != 3 or frame.shape[2] != 3 or frame.dtype != np.uint8:
        raise ValueError(f"frame must be (H, W, 3) uint8 RGB, got {frame.shape} {frame.dtype}")
    if mask.shape != frame.shape[:2] or mask.dtype != np.uint8:
        raise ValueError(f"mask must be {frame.shape[:2]} uint8 class ids, got {mask.shape} {mask.dtype}")
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha must lie between 0 and 1, got {alpha}")
    drawn = frame.copy()
    outline_px = max(1, round(frame.shape[1] * _OUTLINE_WIDTH))
    present = []
    for landmark in LANDMARKS:
        plane = mask == landmark.id
        if not plane.any():
            continue
        present.append(landmark.name)
        blended = (1 - alpha) * frame[plane] + alpha * PALETTE[landmark.id].astype(np.float64)
        drawn[plane] = np.rint(blended).astype(np.uint8)
    for landmark in LANDMARKS:
        contours, _ = cv2.findContours(
            (mask == landmark.id).view(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE
        )
        # No anti-aliasing: an outline of one colour stays crisp when a person zooms in.
        cv2.drawContours(drawn, contours, -1, landmark.color, outline_px)
    if legend:
        drawn = _with_legend(drawn, present)
    return drawn


def _with_legend(frame: np.ndarray, present: list[str]) -> np.ndarray:
    """Names and colours on a dark plate in the upper left corner."""
    text_px = max(_SMALLEST_LEGEND_TEXT_PX, round(frame.shape[1] * _LEGEND_TEXT_HEIGHT))
    font = ImageFont.load_default(size=text_px)
    line_px, margin_px = round(1.5 * text_px), round(0.6 * text_px)
    text_width_px = max(font.getlength(landmark.name) for landmark in LANDMARKS)
    right = min(frame.shape[1], round(2 * margin_px + text_px + text_width_px + 0.5 * text_px))
    bottom = min(frame.shape[0], 2 * margin_px + len(LANDMARKS) * line_px - (line_px - text_px))
    plated = frame.copy()
    plated[:bottom, :right] = plated[:bottom, :right] // 3
    picture = Image.fromarray(plated)
    draw = ImageDraw.Draw(picture)
    for row, landmark in enumerate(LANDMARKS):
        top = margin_px + row * line_px
        box = (margin_px, top, margin_px + text_px, top + text_px)
        found = landmark.name in present
        line_width_px = max(1, text_px // 10)
        draw.rectangle(
            box, fill=landmark.color if found else None, outline=landmark.color, width=line_width_px
        )
        draw.text(
            (margin_px + 1.5 * text_px, top + text_px / 2),
            landmark.name,
            font=font,
            fill=(255, 255, 255) if found else (150, 150, 150),
            anchor="lm",
        )
    return np.asarray(picture)
