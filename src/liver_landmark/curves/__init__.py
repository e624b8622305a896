"""Polylines and masks: drawing by the named rasterizing protocols, and tracing the way back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..utils import lazy_exports

if TYPE_CHECKING:
    from .rasterize import PROTOCOLS, Protocol, get_protocol, landmark_id, rasterize_landmarks, resize_mask
    from .skeleton import NoisyMaskError
    from .tracing import TracedPolyline, trace_polylines

__all__ = [
    "PROTOCOLS",
    "NoisyMaskError",
    "Protocol",
    "TracedPolyline",
    "get_protocol",
    "landmark_id",
    "rasterize_landmarks",
    "resize_mask",
    "trace_polylines",
]
__getattr__, __dir__ = lazy_exports(
    globals(),
    {
        "rasterize": [
            "PROTOCOLS",
            "Protocol",
            "get_protocol",
            "landmark_id",
            "rasterize_landmarks",
            "resize_mask",
        ],
        "skeleton": ["NoisyMaskError"],
        "tracing": ["TracedPolyline", "trace_polylines"],
    },
)
