"""Finds the ridge, the silhouette and the falciform ligament of the liver in a laparoscopic frame.

Importing this package registers the model with transformers' Auto classes, and the pipeline task
"liver-landmark-segmentation". `AutoModel` gives the segmentation class too: there is no headless model
to tell it from.

It imports neither torch nor transformers: classes are imported when they are first asked for, and the
model is registered when transformers has loaded its Auto classes, before or after this package.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import TYPE_CHECKING, Any

from . import model
from .utils import lazy_exports

if TYPE_CHECKING:
    from .model import (
        LiverLandmarkConfig,
        LiverLandmarkForSemanticSegmentation,
        LiverLandmarkImageProcessor,
        LiverLandmarkSegmentationPipeline,
    )

if "torch" not in sys.modules:
    # OpenMP threads that wait actively collapse when anything else uses a core, as decoding does beside the
    # model. Read once, when torch is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

__version__ = "0.1.0"
__all__ = [
    "LiverLandmarkConfig",
    "LiverLandmarkForSemanticSegmentation",
    "LiverLandmarkImageProcessor",
    "LiverLandmarkSegmentationPipeline",
    "__version__",
]
__getattr__, __dir__ = lazy_exports(globals(), {"model": [name for name in __all__ if name != "__version__"]})

# transformers finds the classes of its own models by name: a table gives the class's name, and the module
# `transformers.models.<model type>` the class, when it is first needed. This model is entered in the same
# way, so that nothing of it is imported while a module of transformers is half-loaded.
_MODEL_TYPE = "liver_landmark"
sys.modules[f"transformers.models.{_MODEL_TYPE}"] = model


def _enter_config(auto: ModuleType) -> None:
    auto.CONFIG_MAPPING_NAMES[_MODEL_TYPE] = "LiverLandmarkConfig"


def _enter_in(names: dict[str, Any], mapping: Any, entry: str | dict[str, str]) -> None:
    names[_MODEL_TYPE] = entry
    # The mapping made this when the configuration was not in its table yet, if transformers came first.
    mapping._reverse_config_mapping["LiverLandmarkConfig"] = _MODEL_TYPE


def _enter_model(auto: ModuleType) -> None:
    name = "LiverLandmarkForSemanticSegmentation"
    _enter_in(auto.MODEL_MAPPING_NAMES, auto.MODEL_MAPPING, name)
    _enter_in(
        auto.MODEL_FOR_SEMANTIC_SEGMENTATION_MAPPING_NAMES, auto.MODEL_FOR_SEMANTIC_SEGMENTATION_MAPPING, name
    )


def _enter_image_processor(auto: ModuleType) -> None:
    names = {"pil": "LiverLandmarkImageProcessor"}
    _enter_in(auto.IMAGE_PROCESSOR_MAPPING_NAMES, auto.IMAGE_PROCESSOR_MAPPING, names)


def _enter_pipeline(pipelines: ModuleType) -> None:
    pipelines.PIPELINE_REGISTRY.supported_tasks["liver-landmark-segmentation"] = {
        "impl": f"{model.__name__}.LiverLandmarkSegmentationPipeline",
        "pt": (pipelines.AutoModelForSemanticSegmentation,),
        "type": "image",
    }


class _EnterOnImport(MetaPathFinder):
    """Enters the model in each of transformers' tables right after the table's module has been executed.

    It finds what the other finders find, and adds a step to the loader. With nothing left to wait for, it
    takes itself out.
    """

    def __init__(self) -> None:
        self.waiting: dict[str, Callable[[ModuleType], None]] = {
            "transformers.models.auto.configuration_auto": _enter_config,
            "transformers.models.auto.modeling_auto": _enter_model,
            "transformers.models.auto.image_processing_auto": _enter_image_processor,
            "transformers.pipelines": _enter_pipeline,
        }

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname in self.waiting:
            for finder in [finder for finder in sys.meta_path if finder is not self]:
                spec = finder.find_spec(fullname, path, target)
                if spec is not None:
                    self._add_step(spec)
                    return spec
        return None

    def _add_step(self, spec: ModuleSpec) -> None:
        execute = spec.loader.exec_module

        def execute_and_enter(module: ModuleType) -> None:
            execute(module)
            self.enter(spec.name, module)

        spec.loader.exec_module = execute_and_enter

    def enter(self, name: str, module: ModuleType) -> None:
        """Enters the model in the tables of a module that is complete."""
        self.waiting[name](module)
        self.waiting.pop(name)
        if not self.waiting:
            sys.meta_path.remove(self)


def _register() -> None:
    # A reload starts over.
    sys.meta_path[:] = [
        finder for finder in sys.meta_path if type(finder).__name__ != _EnterOnImport.__name__
    ]
    finder = _EnterOnImport()
    sys.meta_path.insert(0, finder)
    for name in [name for name in finder.waiting if name in sys.modules]:
        # Of a module that another thread is just executing, this waits for the end.
        finder.enter(name, import_module(name))


_register()
