"""Datasets of the schema, from folders or the Hub, alone or mixed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datasets
import yaml
from PIL import UnidentifiedImageError

from ..curves.protocols import AS_DRAWN, check_label_protocol
from .labels import DrawLabels, check_class_order, reorder_classes
from .mixing import mix_sets
from .schema import SPLITS
from .stored_pictures import picture_digest
from .validation import validate_patients, validate_split

# What tells one dataset's content from another's; storage, paths and metadata do not count.
_FINGERPRINT_COLUMNS = ("patient_id", "frame_id", "protocol", "landmarks", "label", "image")
# What `datasets` raises on a card that it cannot follow.
CARD_ERRORS = (ValueError, TypeError, KeyError, AttributeError, RecursionError, yaml.YAMLError)


class RowError(ValueError):
    """A row of a dataset that cannot be used; the message is one line and names it."""


def load_landmark_dataset(
    path_or_id: str | Path | Sequence[str | Path],
    split: str | None = None,
    protocol: str | None = None,
    class_order: Sequence[str] | None = None,
) -> datasets.Dataset | datasets.DatasetDict:
    """Loads a dataset of the schema, or several as one; labels follow a protocol of choice.

    Args:
        path_or_id: A folder that scripts/build_dataset.py wrote, or a dataset id on the Hub; or several
            of them, to be mixed: see `mixing.mix_sets`.
        split: `train`, `validation` or `test`: then no file of another split is read, except that mixed
            sets are always compared whole; None: all.
        protocol: Name of the rasterising protocol that labels shall follow. Where it is not the one
            that they were stored by, they are drawn anew from the polylines, on access. `as_drawn`: sets
            whose labels are their source's own masks, and no others. None: as stored, and drawn by the
            row's own protocol where no label is stored.
        class_order: The three landmarks in another order: label ids become 1, 2, 3 in that order, and so do
            the classes that `landmarks` names. For code outside of this package, whose own evaluation
            refuses such rows. None: ridge, silhouette, ligament.

    Returns:
        A plain `datasets.Dataset`; or a `DatasetDict` of all splits, where several sets' test splits are
        called `test_<name>`.

    Raises:
        FileNotFoundError: There is no such folder and no such dataset on the Hub.
        ValueError: The split, a column of the schema or the protocol does not exist; a column is of another
            type; a polyline is not finite, of one point or outside of its frame; a patient is in two splits;
            sets cannot be mixed. The message is one line.
    """
    if protocol is not None:
        check_label_protocol(protocol)
    order = None if class_order is None else check_class_order(class_order)
    names = [str(path_or_id)] if isinstance(path_or_id, str | Path) else [str(name) for name in path_or_id]
    if not names:
        raise ValueError("no dataset is named: give a folder or Hub id, or several")
    if len(names) == 1:
        splits = _load_set(names[0], split, protocol)
    else:
        splits = _load_mixture(names, split, protocol)
    ready = {key: _with_wanted_labels(part, protocol, order) for key, part in splits.items()}
    return datasets.DatasetDict(ready) if split is None else ready[split]


def _load_set(name: str, split: str | None, protocol: str | None) -> dict[str, datasets.Dataset]:
    """A set's splits as they are stored, validated."""
    splits = _load_splits(name, split)
    for part in splits.values():
        validate_split(part, name)
        stored = set(part.unique("protocol"))
        if protocol == AS_DRAWN and stored - {AS_DRAWN}:
            raise ValueError(
                f"dataset {name}: its labels are drawn by {', '.join(sorted(stored - {AS_DRAWN}))} and not "
                f"stored as their source drew them: ask for another protocol than {AS_DRAWN}"
            )
    validate_patients(splits, name)
    return splits


def _load_mixture(
    names: Sequence[str], split: str | None, protocol: str | None
) -> dict[str, datasets.Dataset]:
    _check_split(split)
    if split == "test":
        raise ValueError(
            f"split 'test' of {len(names)} datasets: test splits are kept apart; load each set's by itself"
        )
    mixed = mix_sets([(name, _load_set(name, None, protocol)) for name in names])
    if split is not None and split not in mixed:
        raise ValueError(f"datasets {', '.join(names)}: none of them has a split {split!r}")
    return mixed


def _check_split(split: str | None) -> None:
    if split is not None and split not in SPLITS:
        raise ValueError(f"split {split!r} is unknown: choose one of {', '.join(SPLITS)}")


def _load_splits(name: str, split: str | None) -> dict[str, datasets.Dataset]:
    _check_split(split)
    try:
        files = datasets.load_dataset_builder(name).config.data_files or {}
    except (FileNotFoundError, ConnectionError) as error:
        raise FileNotFoundError(
            f"dataset {name}: no folder with data files, and not reached on the Hub ({_first_line(error)})"
        ) from error
    except CARD_ERRORS as error:
        raise ValueError(f"dataset {name}: its card cannot be understood ({_first_line(error)})") from error
    if split is not None and split not in files:
        raise ValueError(f"dataset {name}: no split {split!r} (there are: {', '.join(map(str, files))})")
    wanted = {key: list(files[key]) for key in files if split in (None, str(key))}
    try:
        # Naming the files keeps `datasets` from preparing the other splits as well. The card counts
        # all of them, so its numbers cannot be checked here.
        loaded = datasets.load_dataset(name, data_files=wanted, verification_mode="no_checks")
    except (datasets.exceptions.DatasetGenerationError, OSError, ValueError) as error:
        cause = error.__cause__ or error
        raise ValueError(f"dataset {name}: a file of it cannot be read ({_first_line(cause)})") from error
    return {str(key): part for key, part in loaded.items()}


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _with_wanted_labels(
    dataset: datasets.Dataset, protocol: str | None, class_order: tuple[str, ...] | None
) -> datasets.Dataset:
    """`dataset` with a transform that draws and renumbers labels, unless all are stored as wanted."""
    stored = dataset.data.column("label").null_count == 0
    if class_order is not None:
        dataset = reorder_classes(dataset, class_order)
    elif stored and (protocol is None or set(dataset.unique("protocol")) == {protocol}):
        return dataset
    return dataset.with_transform(DrawLabels(protocol, class_order))


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
                row[column] = picture_digest(row[column])
            digest.update(json.dumps(row, sort_keys=True).encode())
    return digest.hexdigest()
