"""Datasets of the schema: building, loading, mixing, checking, and the synthetic benchmark."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..utils import lazy_exports

if TYPE_CHECKING:
    from .loading import load_landmark_dataset

__all__ = ["load_landmark_dataset"]
__getattr__, __dir__ = lazy_exports(globals(), {"loading": ["load_landmark_dataset"]})
