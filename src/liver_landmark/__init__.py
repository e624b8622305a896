"""Finds the ridge, the silhouette and the falciform ligament of the liver in a laparoscopic frame.

Importing this package registers the model with transformers' Auto classes. `AutoModel` gives the
segmentation class too: there is no headless model to tell it from.
"""

from transformers import AutoConfig, AutoImageProcessor, AutoModel, AutoModelForSemanticSegmentation

from .model import (
    LiverLandmarkConfig,
    LiverLandmarkForSemanticSegmentation,
    LiverLandmarkImageProcessor,
)

__version__ = "0.1.0"

AutoConfig.register(LiverLandmarkConfig.model_type, LiverLandmarkConfig)
AutoModel.register(LiverLandmarkConfig, LiverLandmarkForSemanticSegmentation)
AutoModelForSemanticSegmentation.register(LiverLandmarkConfig, LiverLandmarkForSemanticSegmentation)
AutoImageProcessor.register(LiverLandmarkConfig, image_processor_classes={"pil": LiverLandmarkImageProcessor})

__all__ = [
    "LiverLandmarkConfig",
    "LiverLandmarkForSemanticSegmentation",
    "LiverLandmarkImageProcessor",
    "__version__",
]
