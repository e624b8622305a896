"""Augmentation of a frame, its mask and its polylines together: geometry, light, and what is in the way.

Flips and rotations are what arXiv 2511.03163 trains with; a mirrored liver is still labelled right,
because the three landmarks are named by what they are and not by the patient's left and right.

The library is kornia: albumentations is no longer maintained, transformers augments nothing, and kornia's
functions (not its random modules, which draw from torch's global generator) warp frame, mask and points by
one matrix that is drawn here.
"""

from .augmentation import Augmentation, LabelledFrame
from .config import AugmentationConfig

__all__ = ["Augmentation", "AugmentationConfig", "LabelledFrame"]
