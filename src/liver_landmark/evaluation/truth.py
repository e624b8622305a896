"""The truth of a dataset's frame: a mask by a protocol at the scored size."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import datasets
import numpy as np

from ..curves import Protocol, get_protocol, rasterize_landmarks, resize_mask
from ..model.landmarks_liver_landmark import IGNORE_INDEX


def truth_mask(row: Mapping[str, Any], protocol: Protocol, resolution: int) -> np.ndarray:
    """Draws a frame's truth.

    Polylines are the truth where a frame has them: they are drawn by the protocol on its canvas and
    resized by its rule, whatever `label` was drawn with; only the ignored pixels (255) are taken over
    from `label`. A frame without polylines is scored by its `label`, resized by nearest.

    Args:
        row: A row of the dataset schema; reads `landmarks`, `label`, `width`, `height`.
        protocol: How strokes are drawn.
        resolution: Width and height of the mask in px.

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
    if not row["landmarks"]:
        if label is None and row["landmarks"] is None:
            raise ValueError("neither 'landmarks' nor 'label' is given")
        return np.zeros(size, np.uint8) if label is None else label
    truth = rasterize_landmarks(row["landmarks"], row["width"], row["height"], protocol, size)
    if label is not None:
        truth[label == IGNORE_INDEX] = IGNORE_INDEX
    return truth


def dataset_protocol(dataset: datasets.Dataset) -> str:
    """The one protocol that a dataset's `protocol` column names; a ValueError where it is not one."""
    names = sorted(dataset.unique("protocol"), key=str)
    if len(names) != 1 or names[0] is None:
        raise ValueError(
            f"the dataset's protocol column holds {', '.join(map(str, names)) or 'nothing'}: "
            "name the protocol to score by"
        )
    return get_protocol(names[0]).name
