"""The one table of the three landmarks: class ids, names and colors.

Ids and colors are those of the L3D dataset (D2GPLand, arXiv 2406.17858): 0 background, 1 ridge
(red), 2 silhouette (green), 3 ligament (blue). Other code orders the classes otherwise, so nothing
else in this project spells an id or a color out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Landmark:
    """One class of the segmentation.

    Attributes:
        id: The class id in masks and the channel in logits.
        name: The class name in datasets, configs and results.
        color: RGB, 0 to 255, for overlays and color masks.
        description: What the curve is, in a few words.
    """

    id: int
    name: str
    color: tuple[int, int, int]
    description: str


BACKGROUND = Landmark(0, "background", (0, 0, 0), "everything else")
RIDGE = Landmark(1, "ridge", (255, 0, 0), "anterior lower edge of the liver")
SILHOUETTE = Landmark(2, "silhouette", (0, 255, 0), "occluding contour of the liver")
LIGAMENT = Landmark(3, "ligament", (0, 0, 255), "falciform ligament, where it meets the liver")

CLASSES: tuple[Landmark, ...] = (BACKGROUND, RIDGE, SILHOUETTE, LIGAMENT)
LANDMARKS: tuple[Landmark, ...] = CLASSES[1:]
NUM_CLASSES = len(CLASSES)

# Pixels of this value in a mask belong to no class and count in no loss and no metric.
IGNORE_INDEX = 255

ID2LABEL: dict[int, str] = {landmark.id: landmark.name for landmark in CLASSES}
LABEL2ID: dict[str, int] = {landmark.name: landmark.id for landmark in CLASSES}
LANDMARK_NAMES: tuple[str, ...] = tuple(landmark.name for landmark in LANDMARKS)

# (256, 3) uint8: a mask of class ids indexes straight into it. Ids without a class, and the ignored
# ones, come out gray, so that a wrong mask shows.
PALETTE = np.full((256, 3), 128, dtype=np.uint8)
for _landmark in CLASSES:
    PALETTE[_landmark.id] = _landmark.color

__all__ = [
    "BACKGROUND",
    "CLASSES",
    "ID2LABEL",
    "IGNORE_INDEX",
    "LABEL2ID",
    "LANDMARKS",
    "LANDMARK_NAMES",
    "LIGAMENT",
    "NUM_CLASSES",
    "PALETTE",
    "RIDGE",
    "SILHOUETTE",
    "Landmark",
]
