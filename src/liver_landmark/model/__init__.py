"""All that travels to the Hub as custom code: flat siblings on torch, numpy, PIL and transformers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..utils import lazy_exports

if TYPE_CHECKING:
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
__getattr__, __dir__ = lazy_exports(
    globals(),
    {
        "configuration_liver_landmark": ["LiverLandmarkConfig"],
        "image_processing_liver_landmark": ["LiverLandmarkImageProcessor"],
        "modeling_liver_landmark": ["LiverLandmarkForSemanticSegmentation"],
        "pipeline_liver_landmark": ["LiverLandmarkSegmentationPipeline"],
    },
)
