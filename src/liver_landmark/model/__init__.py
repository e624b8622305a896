"""All that travels to the Hub as custom code: flat siblings on torch, numpy, PIL and transformers."""

from .configuration_liver_landmark import LiverLandmarkConfig
from .image_processing_liver_landmark import LiverLandmarkImageProcessor
from .modeling_liver_landmark import LiverLandmarkForSemanticSegmentation
from .pipeline_liver_landmark import LiverLandmarkSegmentationPipeline

__all__ = [
    "LiverLandmarkConfig",
    "LiverLandmarkForSemanticSegmentation",
    "LiverLandmarkImageProcessor",
    "LiverLandmarkSegmentationPipeline",
]
