"""Datasets of the schema, from a folder or the Hub."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow
from PIL import Image, UnidentifiedImageError

from ..curves import get_protocol, rasterize_landmarks
from ..model.landmarks_liver_landmark import IGNORE_INDEX, LANDMARKS
from .schema import SPLITS, validate_columns

# Every column that the drawing of a label reads.
_DRAWING_COLUMNS = ("label", "landmarks", "width", "height", "protocol", "frame_id")
# What tells one dataset's content from another's; storage, paths and metadata do not count.
_FINGERPRINT_COLUMNS = ("patient_id", "frame_id", "protocol", "landmarks", "label", "image")


class RowError(ValueError):
    """A row of a dataset that cannot be used; the message is one line and names it."""


def load_landmark_dataset(
    path_or_id: str | Path, split: str | None = None, protocol: str | None = None
) -> datasets.Dataset | datasets.DatasetDict:
    """Loads a dataset of the schema; its labels follow a protocol of choice.

    Args:
        path_or_id: A folder that scripts/build_dataset.py wrote, or a dataset id on the Hub.
        split: `train`, `validation` or `test`: then no file of another split is read; None: all.
        protocol: Name of the rasterising protocol that labels shall follow. Where it is not the one
            that they were stored by, they are drawn anew from the polylines, on access. None: as
            stored, and drawn by the set's own protocol where no label is stored.

    Returns:
        A plain `datasets.Dataset`, or a `DatasetDict` of all splits.

    Raises:
        FileNotFoundError: There is no such folder and no such dataset on the Hub.
        ValueError: The split, a column of the schema or the protocol does not exist.
    """
    if protocol is not None:
        get_protocol(protocol)
    name = str(path_or_id)
    splits = _load_splits(name, split)
    for part in splits.values():
        validate_columns(part, name)
    drawn = {key: _with_drawn_labels(part, protocol) for key, part in splits.items()}
    return datasets.DatasetDict(drawn) if split is None else drawn[split]


def _load_splits(name: str, split: str | None) -> dict[str, datasets.Dataset]:
    if split is not None and split not in SPLITS:
        raise ValueError(f"split {split!r} is unknown: choose one of {', '.join(SPLITS)}")
    try:
        builder = datasets.load_dataset_builder(name)
        files = builder.config.data_files or {}
        if split is not None and split not in files:
            raise ValueError(f"dataset {name}: no split {split!r} (there are: {', '.join(map(str, files))})")
        wanted = {key: list(files[key]) for key in files if split in (None, str(key))}
        # Naming the files keeps `datasets` from preparing the other splits as well. The card counts
        # all of them, so its numbers cannot be checked here.
        loaded = datasets.load_dataset(name, data_files=wanted, verification_mode="no_checks")
    except (FileNotFoundError, ConnectionError) as error:
        raise FileNotFoundError(
            f"dataset {name}: no folder with data files, and not reached on the Hub ({_first_line(error)})"
        ) from error
    except (datasets.exceptions.DatasetGenerationError, pyarrow.ArrowInvalid) as error:
        cause = error.__cause__ or error
        raise ValueError(f"dataset {name}: a file of it cannot be read ({_first_line(cause)})") from error
    return {str(key): part for key, part in loaded.items()}


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _with_drawn_labels(dataset: datasets.Dataset, protocol: str | None) -> datasets.Dataset:
    """`dataset` with a transform that draws labels, unless all are stored as they are wanted."""
    stored = dataset.data.column("label").null_count == 0
    if stored and (protocol is None or set(dataset.unique("protocol")) == {protocol}):
        return dataset
    return dataset.with_transform(DrawLabels(protocol))


class DrawLabels:
    """A `datasets` transform: labels drawn from the polylines by `protocol` (None: each row's own)."""

    def __init__(self, protocol: str | None) -> None:
        self.protocol = protocol

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
        batch["label"] = [label for label, _, _ in drawn]
        batch["protocol"] = [name for _, name, _ in drawn]
        if "stroke_width" in batch:
            batch["stroke_width"] = [width for _, _, width in drawn]
        return batch

    def _draw(self, row: dict[str, Any]) -> tuple[Image.Image, str, float]:
        protocol = get_protocol(self.protocol or row["protocol"])
        width, height = row["width"], row["height"]
        stroke_width = protocol.native_stroke_width_px(width, height)
        stored = row["label"]
        if stored is not None and row["protocol"] == protocol.name:
            return stored, protocol.name, stroke_width
        label = rasterize_landmarks(row["landmarks"], width, height, protocol)
        if stored is not None:
            old = np.asarray(stored)
            if not row["landmarks"] and np.isin(old, [landmark.id for landmark in LANDMARKS]).any():
                raise ValueError(
                    f"frame {row['frame_id']}: its mask shows landmarks but it has no polylines to draw "
                    f"by protocol {protocol.name!r}: use protocol {row['protocol']!r}"
                )
            label[old == IGNORE_INDEX] = IGNORE_INDEX
        return Image.fromarray(label), protocol.name, stroke_width


def read_row(rows: datasets.Dataset, index: int) -> dict[str, Any]:
    """A row with its pictures decoded and its label drawn.

    Args:
        rows: Needs the columns `image`, `width`, `height` and `frame_id`.
        index: Which one.

    Raises:
        RowError: a picture that cannot be decoded or is missing, a size that is not the row's, or polylines
            that cannot be drawn.
    """
    try:
        row = rows[index]
    # What Pillow raises on broken files, and the drawing of labels on impossible polylines.
    except (OSError, SyntaxError, ValueError) as error:
        unknown = isinstance(error, UnidentifiedImageError)  # its text is an object's address
        reason = "of no known format" if unknown else " ".join(str(error).split())
        part = (
            "its label cannot be drawn"
            if isinstance(error, ValueError)
            else "a picture of it cannot be decoded"
        )
        raise RowError(f"row {index}: {part} ({reason})") from error
    if row["image"] is None:
        raise RowError(f"frame {row['frame_id']} (row {index}): it has no image")
    # Polylines are in px of the native frame: on an image of another size they would be shifted.
    if row["image"].size != (row["width"], row["height"]):
        raise RowError(
            f"frame {row['frame_id']}: its image is {row['image'].width}x{row['image'].height} px, "
            f"its row says {row['width']}x{row['height']}"
        )
    return row


def spread_frames(rows: datasets.Dataset, max_frames: int | None) -> datasets.Dataset:
    """At most `max_frames` rows (None: all), spread evenly, so that every patient has a part."""
    if max_frames is None or max_frames >= len(rows):
        return rows
    return rows.select([index * len(rows) // max_frames for index in range(max_frames)])


def dataset_fingerprint(dataset: datasets.Dataset) -> str:
    """SHA-256 of a dataset's content: frames, labels, polylines, patients and their order.

    The same rows give the same fingerprint wherever and however they are stored.
    """
    digest = hashlib.sha256()
    table = dataset.select_columns(list(_FINGERPRINT_COLUMNS)).with_format("arrow")
    for batch in table.iter(batch_size=64):
        for row in batch.to_pylist():
            for column in ("image", "label"):
                row[column] = _image_digest(row[column])
            digest.update(json.dumps(row, sort_keys=True).encode())
    return digest.hexdigest()


def _image_digest(image: dict[str, Any] | None) -> str | None:
    if image is None:
        return None
    data = image["bytes"] if image["bytes"] is not None else Path(image["path"]).read_bytes()
    return hashlib.sha256(data).hexdigest()
