"""Polylines and masks: drawing by the named rasterising protocols, and tracing the way back."""

from .pixel_graph import NoisyMaskError
from .protocols import PROTOCOLS, Protocol, get_protocol
from .rasterize import landmark_id, rasterize_landmarks, resize_mask
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
