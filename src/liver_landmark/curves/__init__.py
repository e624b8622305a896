"""Polylines and masks: drawing by the named rasterizing protocols, and tracing the way back."""

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
