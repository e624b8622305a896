"""The picture that a page shows: the frame with its landmarks, reduced, as JPEG."""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace

import cv2
import numpy as np

from ...model.landmarks_liver_landmark import LANDMARK_NAMES
from ..overlay import draw_overlay
from .result import Result


@dataclass(frozen=True)
class Look:
    """How a page wants its picture drawn.

    Attributes:
        alpha: Share of the landmarks' colour, 0 to 1.
        landmarks: Names of those to draw.
    """

    alpha: float = 0.4
    landmarks: tuple[str, ...] = LANDMARK_NAMES

    def __post_init__(self) -> None:
        if not 0 <= self.alpha <= 1:
            raise ValueError(f"alpha must lie between 0 and 1, got {self.alpha}")
        unknown = [name for name in self.landmarks if name not in LANDMARK_NAMES]
        if unknown:
            raise ValueError(f"landmarks are {', '.join(LANDMARK_NAMES)}; unknown: {unknown[0]!r}")


@dataclass(frozen=True)
class PictureOptions:
    """What is the same for all pages.

    Attributes:
        max_width: Wider frames are reduced to it before they are drawn, px; the model sees them whole.
        quality: Of the JPEG, 1 to 100.
        alpha: Share of the landmarks' colour that pages start with, 0 to 1.
    """

    max_width: int = 1280
    quality: int = 85
    alpha: float = 0.4

    def __post_init__(self) -> None:
        if self.max_width < 16:
            raise ValueError(f"max_width must be at least 16 px, got {self.max_width}")
        if not 1 <= self.quality <= 100:
            raise ValueError(f"quality must lie between 1 and 100, got {self.quality}")
        Look(self.alpha)


class PictureMaker:
    """Draws results on request, once for all pages that want the same."""

    def __init__(self, options: PictureOptions | None = None) -> None:
        """None takes the defaults."""
        self.options = options or PictureOptions()
        self._lock = threading.Lock()
        self._last: tuple[int, Look, bytes] | None = None

    def jpeg(self, result: Result, look: Look) -> bytes:
        """The result's picture; the last one is kept."""
        look = replace(look, landmarks=tuple(name for name in LANDMARK_NAMES if name in look.landmarks))
        with self._lock:
            if self._last is None or self._last[:2] != (result.number, look):
                self._last = (result.number, look, self._encode(result, look))
            return self._last[2]

    def _encode(self, result: Result, look: Look) -> bytes:
        pixels, mask = result.pixels, result.prediction.mask
        height, width = mask.shape
        if width > self.options.max_width:
            size = (self.options.max_width, max(1, round(height * self.options.max_width / width)))
            pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
            mask = cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST)
        drawn = draw_overlay(pixels, mask, alpha=look.alpha, legend=False, landmarks=look.landmarks)
        bgr = cv2.cvtColor(drawn, cv2.COLOR_RGB2BGR)
        _, jpeg = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, self.options.quality])
        return np.asarray(jpeg).tobytes()
