"""Frames in which `SeesColors` finds what it should."""

from __future__ import annotations

import numpy as np

from liver_landmark.model.landmarks_liver_landmark import DEFAULT_LANDMARKS


def colored_frame(names: tuple[str, ...], height: int = 180, width: int = 320) -> np.ndarray:
    """(H, W, 3) uint8: gray, with a bar in a paler tone of the color of each landmark named."""
    frame = np.full((height, width, 3), 90, np.uint8)
    for row, landmark in enumerate(DEFAULT_LANDMARKS.landmarks):
        if landmark.name in names:
            top = height * (2 * row + 1) // 7
            frame[top : top + height // 12, width // 8 : -width // 8] = 30 + 0.7 * np.array(landmark.color)
    return frame
