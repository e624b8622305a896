"""The one table of landmarks: class ids, names and colors, of a model or a dataset.

Where a model is at hand its configuration decides (`LiverLandmarkConfig.landmark_table`), where a dataset
is, its schema. `DEFAULT_LANDMARKS` is what a new model has: ids and colors of the L3D dataset (D2GPLand,
arXiv 2406.17858): 0 background, 1 ridge (red), 2 silhouette (green), 3 ligament (blue). Other code orders
the classes otherwise, so nothing else in this project spells an id or a color out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

# Pixels of this value in a mask belong to no class and count in no loss and no metric.
IGNORE_INDEX = 255
BACKGROUND_COLOR = (0, 0, 0)
# Ids without a class, and ignored pixels, come out gray, so that a wrong mask shows.
_NO_CLASS_COLOR = 128
_KNOWN_COLORS = {"ridge": (255, 0, 0), "silhouette": (0, 255, 0), "ligament": (0, 0, 255)}
# Of other landmarks, in order: far apart from the three above and from each other on tissue.
_FURTHER_COLORS = (
    (255, 255, 0),
    (255, 0, 255),
    (0, 255, 255),
    (255, 128, 0),
    (255, 255, 255),
    (128, 0, 255),
    (0, 128, 128),
    (128, 128, 0),
)
# What label maps and switches say instead of a landmark's name.
_RESERVED_NAMES = ("ignore", "none")
# Names become parts of file names and columns.
_NAME = re.compile(r"\w[\w .-]{0,62}(?<![ .])")


@dataclass(frozen=True)
class Landmark:
    """One class of the segmentation.

    Attributes:
        id: The class id in masks and the channel in logits, from 1.
        name: The class name in datasets, configs and results.
        color: RGB, 0 to 255, for overlays and color masks.
    """

    id: int
    name: str
    color: tuple[int, int, int]


@dataclass(frozen=True)
class LandmarkTable:
    """The classes of a model or a dataset. Class 0 is the background, whatever its name.

    Attributes:
        landmarks: The other classes, ids 1, 2, … in order.
        background: The name of class 0.
    """

    landmarks: tuple[Landmark, ...]
    background: str = "background"

    def __post_init__(self) -> None:
        if not self.landmarks:
            raise ValueError("labels: there must be at least one landmark beside the background")
        if len(self.landmarks) >= IGNORE_INDEX:
            raise ValueError(
                f"labels: {len(self.landmarks)} landmarks, at most {IGNORE_INDEX - 1} are possible"
            )
        for name in self.class_names:
            if not isinstance(name, str) or not _NAME.fullmatch(name):
                raise ValueError(
                    f"labels: {name!r} cannot name a landmark: use up to 63 letters, digits, '_', '-', '.' "
                    "and spaces, beginning with a letter or digit"
                )
            if name in self.names and name.casefold() in _RESERVED_NAMES:
                raise ValueError(f"labels: {name!r} cannot name a landmark: it means that there is none")
        folded = [name.casefold() for name in self.class_names]
        for name in self.class_names:
            if folded.count(name.casefold()) > 1:
                raise ValueError(f"labels: {name!r} occurs twice; names must differ by more than case")

    @classmethod
    def from_names(
        cls,
        names: Sequence[str],
        colors: Mapping[str, Sequence[int]] | None = None,
        background: str = "background",
    ) -> LandmarkTable:
        """A table of landmarks with ids in the order of their names.

        Args:
            names: The landmarks, without the background.
            colors: RGB, 0 to 255, by name; the others get a color of their own.
            background: The name of class 0.

        Raises:
            ValueError: names or colors that cannot be, in one line.
        """
        if isinstance(names, str):
            raise ValueError(f"labels: {names!r} is one text, expected a list of names")
        colors = {} if colors is None else colors
        if not isinstance(colors, Mapping):
            raise ValueError(f"label_colors must give RGB by landmark, got {colors!r}")
        for name, color in colors.items():
            if name not in names:
                raise ValueError(f"label_colors: {name!r} is no landmark; there are {', '.join(names)}")
            if (
                not isinstance(color, Sequence)
                or len(color) != 3
                or any(
                    not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= 255
                    for value in color
                )
            ):
                raise ValueError(f"label_colors.{name} must be three integers from 0 to 255, got {color!r}")
        taken = {tuple(color) for color in colors.values()} | {
            _KNOWN_COLORS[name] for name in names if name in _KNOWN_COLORS
        }
        free = [color for color in _FURTHER_COLORS if color not in taken]
        landmarks = []
        for number, name in enumerate(names, start=1):
            color = colors.get(name) or _KNOWN_COLORS.get(name)
            if color is None:
                color = free.pop(0) if free else _FURTHER_COLORS[number % len(_FURTHER_COLORS)]
            landmarks.append(Landmark(number, name, (int(color[0]), int(color[1]), int(color[2]))))
        return cls(tuple(landmarks), background)

    @classmethod
    def from_id2label(
        cls, id2label: Mapping[int, str], colors: Mapping[str, Sequence[int]] | None = None
    ) -> LandmarkTable:
        """A table from a transformers config's `id2label`, ids 0 to n - 1, 0 the background.

        Raises:
            ValueError: ids with a gap, fewer than two classes, names or colors that cannot be, in one line.
        """
        names = {int(key): name for key, name in id2label.items()}
        if sorted(names) != list(range(len(names))):
            raise ValueError(f"id2label must have the ids 0 to {len(names) - 1}, got {sorted(names)}")
        if len(names) < 2:
            raise ValueError(
                f"num_labels must be at least 2, the background and a landmark, got {len(names)} label(s)"
            )
        return cls.from_names([names[key] for key in range(1, len(names))], colors, names[0])

    @property
    def names(self) -> tuple[str, ...]:
        """The landmarks' names, ids from 1."""
        return tuple(landmark.name for landmark in self.landmarks)

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of all classes, indexed by id."""
        return (self.background, *self.names)

    @property
    def num_classes(self) -> int:
        """Landmarks and background: the channels of the logits."""
        return len(self.landmarks) + 1

    @property
    def id2label(self) -> dict[int, str]:
        """Class id to name, background included, as transformers configs have it."""
        return dict(enumerate(self.class_names))

    @property
    def label2id(self) -> dict[str, int]:
        """Name to class id, background included."""
        return {name: number for number, name in enumerate(self.class_names)}

    @property
    def colors(self) -> dict[str, tuple[int, int, int]]:
        """Landmark name to RGB, 0 to 255."""
        return {landmark.name: landmark.color for landmark in self.landmarks}

    def translate(self, mask: np.ndarray, source: LandmarkTable) -> np.ndarray:
        """A mask of another table's ids in the ids of this one, by name.

        Args:
            mask: (H, W) uint8 class ids of `source`, 255 ignored.
            source: The table of the mask. Landmarks of it that are not in this one become background.

        Returns:
            (H, W) uint8, the mask itself where the ids are the same.

        Raises:
            ValueError: the mask holds an id that `source` does not have.
        """
        if mask.size and source.names != self.names:
            found = np.flatnonzero(np.bincount(mask.ravel(), minlength=256))
            for odd in found[(found >= source.num_classes) & (found != IGNORE_INDEX)].tolist():
                raise ValueError(
                    f"the mask holds {odd}, which is neither a class id (0 to {source.num_classes - 1}) "
                    f"nor {IGNORE_INDEX}"
                )
            ids = np.zeros(256, np.uint8)
            ids[IGNORE_INDEX] = IGNORE_INDEX
            for landmark in source.landmarks:
                ids[landmark.id] = self.label2id[landmark.name] if landmark.name in self.names else 0
            return ids[mask]
        return mask

    @cached_property
    def palette(self) -> np.ndarray:
        """(256, 3) uint8: a mask of class ids indexes straight into it."""
        palette = np.full((256, 3), _NO_CLASS_COLOR, dtype=np.uint8)
        palette[0] = BACKGROUND_COLOR
        for landmark in self.landmarks:
            palette[landmark.id] = landmark.color
        palette.flags.writeable = False
        return palette


DEFAULT_LANDMARKS = LandmarkTable.from_names(("ridge", "silhouette", "ligament"))

__all__ = [
    "BACKGROUND_COLOR",
    "DEFAULT_LANDMARKS",
    "IGNORE_INDEX",
    "Landmark",
    "LandmarkTable",
]
