"""SRFT-GaLore, an optimizer with low-rank state. Its code needs torch only, and nothing of the rest."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .basis import compute_basis
    from .layerwise import LayerwiseStep, LayerwiseStepper
    from .param_groups import PROJ_TYPES, SIDES, galore_param_groups
    from .srft_galore_adamw import SRFTGaLoreAdamW

__all__ = [
    "PROJ_TYPES",
    "SIDES",
    "LayerwiseStep",
    "LayerwiseStepper",
    "SRFTGaLoreAdamW",
    "compute_basis",
    "galore_param_groups",
]

_MODULES = {
    "compute_basis": "basis",
    "LayerwiseStep": "layerwise",
    "LayerwiseStepper": "layerwise",
    "SRFTGaLoreAdamW": "srft_galore_adamw",
}


def __getattr__(name: str) -> Any:
    # On first use: a recipe checks the settings of a group without torch.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = getattr(import_module(f"{__name__}.{_MODULES.get(name, 'param_groups')}"), name)
    return globals()[name]


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
