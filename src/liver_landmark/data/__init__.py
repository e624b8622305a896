"""Datasets of the schema: building, loading, mixing, checking, and the synthetic benchmark."""

from __future__ import annotations

from typing import Any

__all__ = ["load_landmark_dataset"]


def __getattr__(name: str) -> Any:
    # On first use: `datasets` takes seconds to import, and recipes need this folder without it.
    if name != "load_landmark_dataset":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from .loading import load_landmark_dataset

    return load_landmark_dataset


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
