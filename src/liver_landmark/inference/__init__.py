"""Frames and videos in; masks, curves and overlays out: from Python, or over files."""

from ..utils.frame_files import FrameError, FrameLimits, read_frame
from .frame_sources import collect_inputs
from .overlay import draw_heat_map, draw_overlay
from .predict_files import FileFrame, RunListener, iterate_predictions, predict_files
from .predictor import FramePrediction, LandmarkPredictor, ModelLoadError, load_model_and_processor
from .result_files import OutputError, PredictionOptions
from .smoothing import CausalSmoother
from .video_reader import VideoError, VideoLimits, open_video
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
    "OutputError",
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
