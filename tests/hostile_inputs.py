"""Files that strangers may hand over: broken, mislabeled, enormous or odd, and what is right for each."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from hostile.collection import Collection, HostileInput, Outcome
from hostile.pictures import write_pictures
from hostile.special import write_special_files
from hostile.videos import write_videos

__all__ = ["HostileInput", "Outcome", "write_hostile_inputs"]

_WRITERS = {"pictures": write_pictures, "videos": write_videos, "special": write_special_files}


def write_hostile_inputs(folder: Path, seed: int = 0, *, few: bool = False) -> list[HostileInput]:
    """Writes the whole collection into folders below one; the same seed gives the same bytes.

    Args:
        folder: Made where it is missing.
        seed: Of pictures, cuts and noise.
        few: One of each family.
    """
    inputs: list[HostileInput] = []
    for name, write in _WRITERS.items():
        collection = Collection(folder / name, most=1 if few else None)
        write(collection, np.random.default_rng(seed))
        inputs += collection.inputs
    return inputs
