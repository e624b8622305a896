"""All that travels to the Hub as custom code: flat siblings on torch, numpy, PIL and transformers."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

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

_MODULES = {
    "LiverLandmarkConfig": "configuration",
    "LiverLandmarkForSemanticSegmentation": "modeling",
    "LiverLandmarkImageProcessor": "image_processing",
    "LiverLandmarkSegmentationPipeline": "pipeline",
}


def __getattr__(name: str) -> Any:
    # On first use: the names of landmarks are wanted without torch and transformers.
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    # Wholly, before our modules take names from it: where another thread is just importing it, they would
    # take them from the module that it replaces at its end.
    import_module("transformers")
    globals()[name] = getattr(import_module(f"{__name__}.{_MODULES[name]}_liver_landmark"), name)
    return globals()[name]


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
