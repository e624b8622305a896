"""Frames in, masks and overlays out: from Python, or over files."""

from ..frame_files import FrameError, FrameLimits, read_frame
from .overlay import draw_overlay
from .predictor import FramePrediction, LandmarkPredictor, ModelLoadError, load_model_and_processor

__all__ = [
    "FrameError",
    "FrameLimits",
    "FramePrediction",
    "LandmarkPredictor",
    "ModelLoadError",
    "draw_overlay",
    "load_model_and_processor",
    "read_frame",
]
