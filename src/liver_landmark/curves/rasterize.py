"""Polylines to masks of class ids, by the named rasterizing protocols.

Polylines are the truth; a mask follows from them by a protocol, and so does the Dice that a model
gets (30 against 35 px on identical centerlines: pooled Dice .908). A number is only comparable with
a published one under that publication's protocol.

OpenCV is the rasterizer because it is what every published protocol used: PIL at the same width
agrees only to .96 pooled Dice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from ..model.landmarks_liver_landmark import DEFAULT_LANDMARKS


@dataclass(frozen=True)
class Protocol:
    """How polylines become a mask, and how mask and prediction reach the scored size.

    Attributes:
        name: The name that options and result files use.
        stroke_width_px: Native frame (width, height) in px -> stroke width in px of the canvas.
        label_resize: How the mask of class ids is resized from its canvas (`resize_mask`).
        prediction_resize: How logits are resized to the scored size.
        canvas_width_px: Width of the canvas on which strokes are drawn, its height following from
            the frame's; None draws at the frame's native size.
        source: Where the definition was read.
    """

    name: str
    stroke_width_px: Callable[[int, int], float]
    label_resize: Literal["nearest", "nearest_exact", "bilinear"]
    prediction_resize: Literal["nearest", "bilinear"]
    source: str
    canvas_width_px: int | None = None

    def canvas_size(self, width: int, height: int) -> tuple[int, int]:
        """(width, height) in px of the canvas for a frame of that size."""
        if self.canvas_width_px is None:
            return width, height
        return self.canvas_width_px, max(1, round(height * self.canvas_width_px / width))

    def native_stroke_width_px(self, width: int, height: int) -> float:
        """Stroke width in px of the frame itself, for a frame of that size."""
        canvas_width, _ = self.canvas_size(width, height)
        return self.stroke_width_px(width, height) * width / canvas_width


def _constant(stroke_px: float) -> Callable[[int, int], float]:
    return lambda width, height: stroke_px


PROTOCOLS: dict[str, Protocol] = {
    protocol.name: protocol
    for protocol in (
        Protocol("d2gpland", _constant(30), "bilinear", "bilinear", "D2GPLand, arXiv 2406.17858, code"),
        Protocol(
            "d2gpland_plus",
            lambda width, height: 35 * height / 1080,
            "nearest",
            "bilinear",
            "D2GPLand+, code",
        ),
        Protocol("toponet", _constant(35), "nearest", "bilinear", "TopoNet, arXiv 2507.00519, code"),
        Protocol("srft_galore", _constant(30), "bilinear", "nearest", "arXiv 2511.03163, code"),
        Protocol("slippa", _constant(12), "nearest", "bilinear", "SLiPPA, code"),
        Protocol("p2ilf", _constant(12), "nearest", "bilinear", "P2ILF challenge, public scripts"),
        # D2GPLand's stroke relative to a 1080p frame, at any frame size: drawn at 1920 px of width
        # whatever the frame's, so that small synthetic frames are scored by the same stroke. Labels of
        # 456 px drawn with OpenCV's plain nearest lie 0.4 px beside the 1024² truth: 2 points of Dice.
        Protocol(
            "synthetic", _constant(30), "nearest_exact", "bilinear", "this project", canvas_width_px=1920
        ),
    )
}


# Not a protocol: a `protocol` column of this value says that labels are the masks of the source, which no
# drawing gives back, and that the polylines beside them were traced.
AS_DRAWN = "as_drawn"


def check_label_protocol(name: str) -> str:
    """`name`, if labels can follow it: a protocol or AS_DRAWN; else a ValueError that names them all."""
    if name != AS_DRAWN and name not in PROTOCOLS:
        raise ValueError(
            f"protocol {name!r} is unknown: choose one of {', '.join(PROTOCOLS)}, or {AS_DRAWN} for labels "
            "as their source drew them"
        )
    return name


def get_protocol(name: str) -> Protocol:
    """The protocol of that name; a ValueError names the ones there are."""
    try:
        return PROTOCOLS[name]
    except KeyError:
        raise ValueError(f"protocol {name!r} is unknown: choose one of {', '.join(PROTOCOLS)}") from None


# OpenCV's plain nearest takes the source pixel under each target pixel's *corner*, and so shifts what it
# shrinks by up to half a target pixel: what published scripts do, and nothing else should.
_CV2_RESIZE = {"nearest": "INTER_NEAREST", "bilinear": "INTER_LINEAR"}
# Far outside any frame, and well inside OpenCV's integers.
_LARGEST_COORDINATE = 2.0**24


def landmark_id(category: str | int, names: Sequence[str] = DEFAULT_LANDMARKS.names) -> int:
    """Class id of a landmark given by name, or by its 0-based index in the dataset schema's ClassLabel.

    Args:
        category: The landmark.
        names: All landmarks in the order of their ids, which begin with 1.
    """
    if isinstance(category, str):
        if category not in names:
            raise ValueError(f"landmark {category!r} is unknown: choose one of {', '.join(names)}")
        return names.index(category) + 1
    if not 0 <= category < len(names):
        raise ValueError(f"landmark index {category} is out of range 0..{len(names) - 1}")
    return category + 1


def rasterize_landmarks(
    landmarks: Sequence[Mapping[str, Any]],
    width: int,
    height: int,
    protocol: Protocol,
    output_size: tuple[int, int] | None = None,
    names: Sequence[str] = DEFAULT_LANDMARKS.names,
) -> np.ndarray:
    """Draws a frame's polylines as strokes of class ids.

    Args:
        landmarks: The schema's list of `{"category": name or index, "points": [(x, y), …]}` in px of
            the native frame, in the order annotated: later strokes lie over earlier ones.
        width: Native frame width in px.
        height: Native frame height in px.
        protocol: Fixes canvas, stroke width and resize.
        output_size: (width, height) in px of the mask; None gives the frame's native size.
        names: The landmarks that categories name or number, in the order of their ids, which begin with 1.

    Returns:
        (height, width) uint8 class ids.

    Raises:
        ValueError: an unknown category, or a coordinate that is no number or beyond ± 2**24.
    """
    import cv2  # here, so that recipes and options know the protocols without it

    canvas_width, canvas_height = protocol.canvas_size(width, height)
    canvas = np.zeros((canvas_height, canvas_width), dtype=np.uint8)
    stroke_px = max(1, round(protocol.stroke_width_px(width, height)))
    scale = np.array([canvas_width / width, canvas_height / height])
    for landmark in landmarks:
        points = np.asarray(landmark["points"], dtype=np.float64).reshape(-1, 2)
        if len(points) == 0:
            continue
        # Written so that NaN fails too: cast to integers, it would be a stroke from nowhere.
        if not (np.abs(points) <= _LARGEST_COORDINATE).all():
            raise ValueError(f"landmark {landmark['category']!r}: a coordinate is not finite or out of range")
        if protocol.canvas_width_px is None:
            # Truncation, not rounding: what the published protocols' scripts do to labelme's floats.
            polyline = points.astype(np.int32)
        else:
            # Integers name pixel centers, so a resize by s maps x to (x + 1/2) s - 1/2.
            polyline = np.rint((points + 0.5) * scale - 0.5).astype(np.int32)
        cv2.polylines(
            canvas,
            [polyline],
            isClosed=False,
            color=landmark_id(landmark["category"], names),
            thickness=stroke_px,
        )
    return resize_mask(canvas, output_size or (width, height), protocol.label_resize)


def resize_mask(mask: np.ndarray, size: tuple[int, int], interpolation: str = "nearest_exact") -> np.ndarray:
    """Resizes a (H, W) uint8 mask of class ids.

    Args:
        mask: The mask.
        size: (width, height) in px of the result.
        interpolation: `nearest_exact` takes the source pixel that a target pixel's center falls in; `nearest`
            (OpenCV's, as published protocols use it) is shifted by up to half a px; `bilinear` invents ids,
            as two protocols do.
    """
    if (mask.shape[1], mask.shape[0]) == tuple(size):
        return mask
    if interpolation == "nearest_exact":
        # In integers, as the image processor does: OpenCV's INTER_NEAREST_EXACT misses by one at edges.
        rows, columns = (
            (2 * np.arange(new) + 1) * old // (2 * new)
            for new, old in zip((size[1], size[0]), mask.shape, strict=True)
        )
        return mask[rows[:, None], columns]
    import cv2

    return cv2.resize(mask, tuple(size), interpolation=getattr(cv2, _CV2_RESIZE[interpolation]))
