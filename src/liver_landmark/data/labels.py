"""Labels as they are wanted and not as they are stored: by another protocol, in another order of classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import datasets
import numpy as np
from datasets import ClassLabel, Features
from PIL import Image

from ..curves.protocols import AS_DRAWN, get_protocol
from ..curves.rasterize import rasterize_landmarks
from ..model.landmarks_liver_landmark import IGNORE_INDEX, LABEL2ID, LANDMARK_NAMES, LANDMARKS
from .schema import landmark_features

# Every column that the drawing of a label reads.
_DRAWING_COLUMNS = ("label", "landmarks", "width", "height", "protocol", "frame_id")


class DrawLabels:
    """A `datasets` transform: labels by `protocol`, their ids in `class_order`.

    Args:
        protocol: Labels stored by another one are drawn anew from the polylines. None: each row's own, so
            that only missing labels are drawn. AS_DRAWN is never drawn.
        class_order: The names of ids 1, 2, 3, which the column `landmarks` must follow already; None: the
            schema's.
    """

    def __init__(self, protocol: str | None, class_order: tuple[str, ...] | None = None) -> None:
        self.protocol = protocol
        self.class_order = class_order

    def __call__(self, batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
        # Asked for single columns (`dataset["patient_id"]`), `datasets` hands over nothing else.
        if "label" not in batch:
            return batch
        missing = [column for column in _DRAWING_COLUMNS if column not in batch]
        if missing:
            # What is stored would be another protocol's label, or none.
            raise ValueError(
                f"labels are drawn on access and need the column {missing[0]!r} beside them: select or keep "
                f"{', '.join(_DRAWING_COLUMNS)}"
            )
        batch = dict(batch)
        columns = [batch[column] for column in _DRAWING_COLUMNS]
        drawn = [
            self._draw(dict(zip(_DRAWING_COLUMNS, row, strict=True))) for row in zip(*columns, strict=True)
        ]
        batch["label"] = [self._renumber(label) for label, _, _ in drawn]
        batch["protocol"] = [name for _, name, _ in drawn]
        if "stroke_width" in batch:
            stored = batch["stroke_width"]
            batch["stroke_width"] = [
                old if new is None else new for old, (_, _, new) in zip(stored, drawn, strict=True)
            ]
        return batch

    def _draw(self, row: dict[str, Any]) -> tuple[Image.Image, str, float | None]:
        """Label, protocol and stroke width in px, None where the stored one holds."""
        wanted = self.protocol or row["protocol"]
        stored = row["label"]
        if wanted == AS_DRAWN:
            if stored is None or row["protocol"] != AS_DRAWN:
                raise ValueError(f"frame {row['frame_id']}: no label is stored as its source drew it")
            return stored, AS_DRAWN, None
        protocol = get_protocol(wanted)
        width, height = row["width"], row["height"]
        stroke_width = protocol.native_stroke_width_px(width, height)
        if stored is not None and row["protocol"] == protocol.name:
            return stored, protocol.name, stroke_width
        label = rasterize_landmarks(self._named(row["landmarks"]), width, height, protocol)
        if stored is not None:
            old = np.asarray(stored)
            if not row["landmarks"] and np.isin(old, [landmark.id for landmark in LANDMARKS]).any():
                raise ValueError(
                    f"frame {row['frame_id']}: its mask shows landmarks but it has no polylines to draw "
                    f"by protocol {protocol.name!r}: use protocol {row['protocol']!r}"
                )
            label[old == IGNORE_INDEX] = IGNORE_INDEX
        return Image.fromarray(label), protocol.name, stroke_width

    def _named(self, landmarks: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Landmarks whose categories are names: numbers would mean the schema's order."""
        if self.class_order is None:
            return landmarks
        return [landmark | {"category": self.class_order[landmark["category"]]} for landmark in landmarks]

    def _renumber(self, label: Image.Image) -> Image.Image:
        if self.class_order is None:
            return label
        # 0, 255 and ids that no mask should hold stay what they are.
        ids = np.arange(256, dtype=np.uint8)
        for new_id, name in enumerate(self.class_order, start=1):
            ids[LABEL2ID[name]] = new_id
        return Image.fromarray(ids[np.asarray(label)])


def check_class_order(class_order: Sequence[str]) -> tuple[str, ...]:
    """The order as a tuple; a ValueError says that it does not name each landmark once."""
    if isinstance(class_order, str) or sorted(class_order) != sorted(LANDMARK_NAMES):
        raise ValueError(
            f"class_order is {class_order!r}: give {', '.join(LANDMARK_NAMES)}, each once, in any order"
        )
    return tuple(class_order)


def reorder_classes(dataset: datasets.Dataset, class_order: tuple[str, ...]) -> datasets.Dataset:
    """Rows whose column `landmarks` numbers its classes in that order; the other columns are not touched."""
    features = landmark_features()
    features["landmarks"].feature["category"] = ClassLabel(names=list(class_order))
    rows = dataset.data.column("landmarks").to_pylist()
    for landmark in (landmark for row in rows for landmark in row or ()):
        landmark["category"] = class_order.index(LANDMARK_NAMES[landmark["category"]])
    column = datasets.Dataset.from_dict(
        {"landmarks": rows}, features=Features({"landmarks": features["landmarks"]})
    )
    rest = dataset.remove_columns("landmarks")
    return datasets.concatenate_datasets([rest, column], axis=1).select_columns(dataset.column_names)
