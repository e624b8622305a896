"""SRFT-GaLore, an optimizer with low-rank state. Its code needs torch only, and nothing of the rest."""

from .basis import PROJ_TYPES, SIDES, compute_basis
from .layerwise import LayerwiseStep, LayerwiseStepper
from .param_groups import galore_param_groups
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
