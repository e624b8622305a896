"""The truth of a dataset's frame: a mask by a protocol, or as its source drew it, at the scored size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import datasets
import numpy as np

from ..curves import Protocol, get_protocol, rasterize_landmarks, resize_mask
from ..curves.rasterize import AS_DRAWN, check_label_protocol
from ..data.schema import landmarks_of
from ..model.landmarks_liver_landmark import IGNORE_INDEX, LandmarkTable


@dataclass(frozen=True)
class Scoring:
    """How truth and prediction reach the scored size.

    Attributes:
        name: A protocol's name, or `as_drawn`.
        protocol: What draws the truth from the polylines; None: the truth is the stored label.
        prediction_resize: How logits are resized.
        definition: All of it in words.
    """

    name: str
    protocol: Protocol | None
    prediction_resize: Literal["nearest", "bilinear"]
    definition: str


def get_scoring(name: str) -> Scoring:
    """The scoring by a protocol, or by the masks of the source; a ValueError names the ones there are."""
    if check_label_protocol(name) == AS_DRAWN:
        # Of the paper's external set, LLSD, there are masks only; its logits are resized as elsewhere.
        definition = (
            "labels as their source drew them, resized by nearest, logits by nearest "
            "(arXiv 2511.03163, external validation)"
        )
        return Scoring(AS_DRAWN, None, "nearest", definition)
    protocol = get_protocol(name)
    definition = (
        f"strokes of {protocol.native_stroke_width_px(1920, 1080):g} px in a 1920x1080 frame, "
        f"labels resized by {protocol.label_resize}, logits by {protocol.prediction_resize} "
        f"({protocol.source}); frames without polylines are scored by their stored label"
    )
    return Scoring(name, protocol, protocol.prediction_resize, definition)


def truth_mask(
    row: Mapping[str, Any], protocol: Protocol | None, resolution: int, stored: LandmarkTable
) -> np.ndarray:
    """Draws a frame's truth, in the class ids of its dataset.

    Polylines are the truth where a frame has them: they are drawn by the protocol on its canvas and
    resized by its rule, whatever `label` was drawn with; only the ignored pixels (255) are taken over
    from `label`. A frame without polylines is scored by its `label`, resized by nearest.

    Args:
        row: A row of the dataset schema; reads `landmarks`, `label`, `width`, `height`.
        protocol: How strokes are drawn; None: the label as it is stored, resized by nearest.
        resolution: Width and height of the mask in px.
        stored: The landmarks of the dataset, which its categories and labels number.

    Returns:
        (resolution, resolution) uint8 class ids, 255 where ignored.

    Raises:
        ValueError: the row has neither polylines nor a label, or its label is not a mask of class ids.
    """
    size = (resolution, resolution)
    label = None
    if row["label"] is not None:
        if row["label"].mode not in ("L", "P"):
            raise ValueError(
                f"column 'label' is a picture of mode {row['label'].mode}, expected class ids in mode L"
            )
        label = resize_mask(np.asarray(row["label"]), size)
    if protocol is None:
        if label is None:
            raise ValueError("no 'label' is given")
        return label
    if not row["landmarks"]:
        if label is None and row["landmarks"] is None:
            raise ValueError("neither 'landmarks' nor 'label' is given")
        return np.zeros(size, np.uint8) if label is None else label
    truth = rasterize_landmarks(row["landmarks"], row["width"], row["height"], protocol, size, stored.names)
    if label is not None:
        truth[label == IGNORE_INDEX] = IGNORE_INDEX
    return truth


def dataset_protocol(dataset: datasets.Dataset) -> str:
    """The one protocol, or `as_drawn`, that a dataset's `protocol` column names; a ValueError if not one."""
    names = sorted(dataset.unique("protocol"), key=str)
    if len(names) != 1 or names[0] is None:
        raise ValueError(
            f"the dataset's protocol column holds {', '.join(map(str, names)) or 'nothing'}: "
            "name the protocol to score by"
        )
    return check_label_protocol(names[0])


def check_scorable(dataset: datasets.Dataset, scoring: Scoring, landmarks: LandmarkTable) -> LandmarkTable:
    """The landmarks that a dataset's numbers mean.

    Args:
        dataset: Rows of the schema. It may show more landmarks than the model has: they are not scored.
        scoring: By which it is scored.
        landmarks: The model's.

    Raises:
        ValueError: the dataset does not show a landmark of the model, so that nothing of it can be right,
            or its labels are not what the scoring takes them for.
    """
    stored = landmarks_of(dataset.features)
    missing = [name for name in landmarks.names if name not in stored.names]
    if missing:
        raise ValueError(
            f"the model's landmarks are {', '.join(landmarks.names)}, those of the dataset "
            f"{', '.join(stored.names)}: {missing[0]} cannot be scored; evaluate on a dataset that has it"
        )
    names = set(dataset.unique("protocol"))
    if scoring.protocol is None and names != {AS_DRAWN}:
        raise ValueError(
            f"the dataset's protocol column holds {', '.join(sorted(map(str, names)))}: its labels are not "
            "as their source drew them; score by a protocol"
        )
    return stored
