"""Polylines and masks: the named rasterising protocols and the drawing by them."""

from .protocols import PROTOCOLS, Protocol, get_protocol
from .rasterize import landmark_id, rasterize_landmarks, resize_mask

__all__ = ["PROTOCOLS", "Protocol", "get_protocol", "landmark_id", "rasterize_landmarks", "resize_mask"]
