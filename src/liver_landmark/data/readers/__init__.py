"""Readers of raw sets: what lies in a folder (`find_…`), one plan for all of it, and its rows."""

from .custom import CustomOptions, find_custom
from .frame_plan import (
    Camera,
    Found,
    FrameLabels,
    Plan,
    Problem,
    ProblemError,
    RawFrame,
    SplitOptions,
    check_trainable,
    finish_plan,
)
from .l3d import L3dOptions, find_l3d
from .llsd import MaskOptions, find_masks
from .p2ilf import find_p2ilf
from .rows import read_row

__all__ = [
    "Camera",
    "CustomOptions",
    "Found",
    "FrameLabels",
    "L3dOptions",
    "MaskOptions",
    "Plan",
    "Problem",
    "ProblemError",
    "RawFrame",
    "SplitOptions",
    "check_trainable",
    "find_custom",
    "find_l3d",
    "find_masks",
    "find_p2ilf",
    "finish_plan",
    "read_row",
]
