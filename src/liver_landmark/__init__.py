"""Finds the ridge, the silhouette and the falciform ligament of the liver in a laparoscopic frame.

Importing this package registers the model with transformers' Auto classes, and the pipeline task
"liver-landmark-segmentation". `AutoModel` gives the segmentation class too: there is no headless model
to tell it from.
"""

import os
import sys

if "torch" not in sys.modules:
    # OpenMP threads that wait actively collapse when anything else uses a core, as decoding does beside the
    # model. Read once, when torch is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from transformers import AutoConfig, AutoImageProcessor, AutoModel, AutoModelForSemanticSegmentation
from transformers.pipelines import PIPELINE_REGISTRY

from .model import (
    LiverLandmarkConfig,
    LiverLandmarkForSemanticSegmentation,
    LiverLandmarkImageProcessor,
    LiverLandmarkSegmentationPipeline,
)
from .model.pipeline_liver_landmark import TASK

__version__ = "0.1.0"

AutoConfig.register(LiverLandmarkConfig.model_type, LiverLandmarkConfig)
AutoModel.register(LiverLandmarkConfig, LiverLandmarkForSemanticSegmentation)
AutoModelForSemanticSegmentation.register(LiverLandmarkConfig, LiverLandmarkForSemanticSegmentation)
AutoImageProcessor.register(LiverLandmarkConfig, image_processor_classes={"pil": LiverLandmarkImageProcessor})
PIPELINE_REGISTRY.register_pipeline(
    TASK,
    pipeline_class=LiverLandmarkSegmentationPipeline,
    pt_model=AutoModelForSemanticSegmentation,
    type="image",
)

__all__ = [
    "LiverLandmarkConfig",
    "LiverLandmarkForSemanticSegmentation",
    "LiverLandmarkImageProcessor",
    "LiverLandmarkSegmentationPipeline",
    "__version__",
]
