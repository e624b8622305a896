"""The named rasterising protocols: how wide a stroke is and how masks and predictions are resized.

Polylines are the truth; a mask follows from them by a protocol, and so does the Dice that a model
gets (30 against 35 px on identical centrelines: pooled Dice .908). A number is only comparable with
a published one under that publication's protocol.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal


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
