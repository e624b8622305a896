"""Frames and videos in; masks, curves and overlays out: from Python, or over files."""

from ..frame_files import FrameError, FrameLimits, read_frame
from .files.inputs import collect_inputs
from .files.iterate import FileFrame, iterate_predictions
from .files.options import PredictionOptions
from .files.run import RunListener, predict_files
from .loading import ModelLoadError, load_model_and_processor
from .overlay import draw_heat_map, draw_overlay
from .prediction import FramePrediction
from .predictor import LandmarkPredictor
from .smoothing import CausalSmoother
from .video.limits import VideoError, VideoLimits
from .video.reader import open_video
from .views import AveragedViews

__all__ = [
    "AveragedViews",
    "CausalSmoother",
    "FileFrame",
    "FrameError",
    "FrameLimits",
    "FramePrediction",
    "LandmarkPredictor",
    "ModelLoadError",
    "PredictionOptions",
    "RunListener",
    "VideoError",
    "VideoLimits",
    "collect_inputs",
    "draw_heat_map",
    "draw_overlay",
    "iterate_predictions",
    "load_model_and_processor",
    "open_video",
    "predict_files",
    "read_frame",
]
