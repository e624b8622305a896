"""From the labels that annotators typed to the three landmarks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path

from ...model.landmarks_liver_landmark import LANDMARK_NAMES
from .annotation import AnnotationError, shown
from .limits import parse_json, read_annotation_bytes

# In the place of a landmark's name: leave curves of that label out.
IGNORE = "ignore"
_TARGETS = (*LANDMARK_NAMES, IGNORE)


@dataclass(frozen=True)
class LabelMap:
    """Which landmark a label in a file means. Upper and lower case are the same.

    Attributes:
        classes: Label in lower case -> "ridge", "silhouette", "ligament" or "ignore".
        tolerated: Misspelt labels in lower case -> the same. They are read like the others, and
            `FrameAnnotation.tolerated` lists those that a file used, so that callers can count them.
    """

    classes: Mapping[str, str]
    tolerated: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for label, target in (*self.classes.items(), *self.tolerated.items()):
            if target not in _TARGETS:
                raise ValueError(
                    f"label {shown(label)} is mapped to {shown(target)}: choose one of {', '.join(_TARGETS)}"
                )
            if label != label.casefold():
                raise ValueError(f"label {shown(label)} has to be in lower case: {shown(label.casefold())}")

    @classmethod
    def parse(cls, entries: Iterable[str]) -> LabelMap:
        """The class names themselves, and entries such as "falciform=ligament" or "tool=ignore".

        An entry for a class name replaces it. What stands after the last `=` is the class.

        Raises:
            ValueError: an entry without `=`, an empty label, an unknown class, a label with two classes.
        """
        given: list[tuple[str, str]] = []
        for entry in entries:
            label, equals, target = entry.rpartition("=")
            if not equals or not label:
                raise ValueError(
                    f"label map {shown(entry)}: expected LABEL=CLASS, such as falciform=ligament"
                )
            given.append((label, target))
        return cls._extended(given)

    @classmethod
    def read(cls, path: Path | str) -> LabelMap:
        """The same from a JSON file: `{"falciform": "ligament", "tool": "ignore"}`.

        Raises:
            AnnotationError: unreadable, or no such mapping.
        """
        content = parse_json(read_annotation_bytes(path), path)
        if not isinstance(content, dict) or not all(isinstance(target, str) for target in content.values()):
            raise AnnotationError(path, 'expected one JSON object such as {"falciform": "ligament"}')
        try:
            return cls._extended(content.items())
        except ValueError as error:
            raise AnnotationError(path, str(error)) from None

    @classmethod
    def _extended(cls, given: Iterable[tuple[str, str]]) -> LabelMap:
        classes: dict[str, str] = {}
        for label, target in given:
            key, target = label.casefold(), target.casefold()
            if classes.setdefault(key, target) != target:
                raise ValueError(f"label {shown(label)} is mapped to {classes[key]} and to {shown(target)}")
        return cls({**{name: name for name in LANDMARK_NAMES}, **classes})

    def category(self, label: str, file: str | PathLike[str], field: str = "label") -> str | None:
        """The landmark that a label means; None leaves its curve out.

        Args:
            label: As it stands in the file.
            file: The annotation file, for the message.
            field: Where in the file, for the message.

        Raises:
            AnnotationError: an unknown label; the line names the known ones.
        """
        key = label.casefold()
        target = self.classes.get(key) or self.tolerated.get(key)
        if target is None:
            raise AnnotationError(
                file,
                f"{field} {shown(label)} is unknown; known are {', '.join(map(shown, self.classes))}: "
                "map it to one of the classes or to ignore",
            )
        return None if target == IGNORE else target

    def is_tolerated(self, label: str) -> bool:
        """Whether a label is one of the misspelt ones."""
        key = label.casefold()
        return key in self.tolerated and key not in self.classes


DEFAULT_LABELS = LabelMap({name: name for name in LANDMARK_NAMES})
# L3D's files spell ridge in both ways.
L3D_LABELS = LabelMap(DEFAULT_LABELS.classes, tolerated={"rigde": "ridge"})
