"""Writes a dataset of the schema: Parquet shards by split, a card, a fingerprint; whole or not at all."""

from __future__ import annotations

import hashlib
import json
import string
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ...atomic_files import new_folder, remove_folder
from ...curves import landmark_id
from ...model.landmarks_liver_landmark import ID2LABEL
from ..schema import SPLITS, landmark_features
from .card import SetCounts, dataset_info

BUILD_FILE = "build.json"
ROWS_PER_SHARD = 2000
# Small row groups, so that reading one frame does not decode hundreds.
_ROWS_PER_GROUP = 50


def request_fingerprint(request: Mapping[str, Any]) -> str:
    """SHA-256 of a build request (JSON values only)."""
    return hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()


def is_built(output: Path, request: Mapping[str, Any]) -> bool:
    """Whether `output` holds the finished dataset of just this request."""
    return _read_build(output).get("fingerprint") == request_fingerprint(request)


def _read_build(output: Path) -> dict[str, Any]:
    path = output / BUILD_FILE
    if not path.is_file():
        return {}
    try:
        build = json.loads(path.read_text())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not JSON ({error}); remove {output} or give another --output") from None
    return build if isinstance(build, dict) else {}


def check_output(output: Path, overwrite: bool) -> None:
    """Refuses, by a FileExistsError, to build over anything but a built dataset, and over one unasked."""
    if output.exists() and not output.is_dir():
        raise FileExistsError(f"{output}: is a file; give another --output")
    if output.is_dir() and any(output.iterdir()):
        if not (output / BUILD_FILE).is_file():
            raise FileExistsError(
                f"{output}: holds something that is not a built dataset; give another --output"
            )
        if not overwrite:
            raise FileExistsError(f"{output}: holds another dataset; pass --overwrite to replace it")


@contextmanager
def dataset_folder(output: Path, overwrite: bool) -> Iterator[Path]:
    """Yields a temporary folder beside `output` that takes its place on success and vanishes on failure.

    An existing dataset is replaced only with `overwrite`, and only once the new one is complete; anything
    else that is not an empty folder never is.
    """
    output = Path(output).absolute()
    check_output(output, overwrite)
    # Complete under this name first, since a folder cannot be renamed over another one.
    complete = output.with_name(f".{output.name}.complete")
    if complete.exists():
        remove_folder(complete)
    with new_folder(complete) as folder:
        yield folder
    if output.exists():
        remove_folder(output)
    complete.rename(output)


class DatasetWriter:
    """Takes rows of the schema and writes `data/<split>-<shard>-of-<shards>.parquet` under a folder.

    Rows may give a landmark's category by name. Counts of what was written are kept for the card.
    """

    def __init__(self, folder: Path, rows_per_shard: int = ROWS_PER_SHARD):
        self.folder = Path(folder) / "data"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.rows_per_shard = rows_per_shard
        self._features = landmark_features()
        self._rows: dict[str, list[dict[str, Any]]] = {split: [] for split in SPLITS}
        self._shards: Counter[str] = Counter()
        self.counts = SetCounts()
        self._frame_ids: set[str] = set()

    def add(self, split: str, row: Mapping[str, Any]) -> None:
        """Adds one row; a ValueError names a frame id or a patient that is already taken."""
        if split not in SPLITS:
            raise ValueError(f"split {split!r} is unknown: choose one of {', '.join(SPLITS)}")
        if row["frame_id"] in self._frame_ids:
            raise ValueError(
                f"frame_id {row['frame_id']!r} occurs twice; frame ids must be unique in a dataset"
            )
        for other in SPLITS:
            if other != split and row["patient_id"] in self.counts.patients[other]:
                raise ValueError(
                    f"patient {row['patient_id']!r} is in {other} and in {split}; splits are by patient"
                )
        self._frame_ids.add(row["frame_id"])
        landmarks = row["landmarks"] or ()  # None where a set has masks only
        names = {ID2LABEL[landmark_id(landmark["category"])] for landmark in landmarks}
        self.counts.add(split, row["patient_id"], names, row["width"], row["height"])
        self._rows[split].append(self._features.encode_example(dict(row)))
        if len(self._rows[split]) >= self.rows_per_shard:
            self._flush(split)

    def close(self) -> None:
        """Writes what is left and gives the shards their final names."""
        for split in SPLITS:
            if self._rows[split]:
                self._flush(split)
            count = self._shards[split]
            for shard in range(count):
                final = self.folder / f"{split}-{shard:05d}-of-{count:05d}.parquet"
                self._shard_path(split, shard).rename(final)

    def _shard_path(self, split: str, shard: int) -> Path:
        return self.folder / f"{split}-{shard:05d}.parquet"

    def _flush(self, split: str) -> None:
        table = pa.Table.from_pylist(self._rows[split], schema=self._features.arrow_schema)
        path = self._shard_path(split, self._shards[split])
        pq.write_table(table, path, row_group_size=_ROWS_PER_GROUP, compression="zstd")
        self._shards[split] += 1
        self._rows[split] = []

    def summary(self) -> dict[str, str]:
        """What fills a card's placeholders, once the writer is closed.

        `SetCounts.tables`, and for the front matter `dataset_info`.
        """
        frames = self.counts.frames
        sizes = {
            split: sum(path.stat().st_size for path in self.folder.glob(f"{split}-*.parquet"))
            for split in SPLITS
        }
        return {"dataset_info": dataset_info(sizes, frames), **self.counts.tables()}


def write_card(folder: Path, template: str, values: Mapping[str, str]) -> None:
    """Writes README.md from a template with `$name` placeholders; a missing value is a KeyError."""
    text = string.Template(template).substitute(values)
    (Path(folder) / "README.md").write_text(text, encoding="utf-8")


def write_build(folder: Path, request: Mapping[str, Any]) -> None:
    """Writes the request and its fingerprint, by which a finished build is known."""
    build = {"fingerprint": request_fingerprint(request), "request": dict(request)}
    (Path(folder) / BUILD_FILE).write_text(json.dumps(build, indent=2, sort_keys=True) + "\n")
