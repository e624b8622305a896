"""Rows to Parquet, in row groups that are small in memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ...atomic_files import atomic_path
from ...model.landmarks_liver_landmark import LANDMARK_NAMES
from ..schema import landmark_features

# A row group is what a reader decodes at once and the writer holds.
ROWS_PER_GROUP = 16
BYTES_PER_GROUP = 2**24
_PICTURES = ("image", "label", "depth", "regions")


class ShardWriter:
    """Writes rows with encoded pictures and landmarks by name; the same rows give the same bytes."""

    def __init__(self, parquet: pq.ParquetWriter) -> None:
        self._parquet = parquet
        self._rows: list[dict[str, Any]] = []
        self._bytes = 0

    def add(self, row: dict[str, Any]) -> None:
        """Adds one row."""
        # The schema's ClassLabel is stored as a number.
        landmarks = [
            {"category": LANDMARK_NAMES.index(curve["category"]), "points": curve["points"]}
            for curve in row["landmarks"]
        ]
        self._rows.append({**row, "landmarks": landmarks})
        self._bytes += sum(len(row[name]["bytes"]) for name in _PICTURES if row[name] is not None)
        if len(self._rows) == ROWS_PER_GROUP or self._bytes >= BYTES_PER_GROUP:
            self.flush()

    def flush(self) -> None:
        """Writes what has been added as a row group."""
        if self._rows:
            self._parquet.write_table(pa.Table.from_pylist(self._rows, schema=self._parquet.schema))
        self._rows, self._bytes = [], 0


@contextmanager
def shard_writer(path: Path) -> Iterator[ShardWriter]:
    """A writer whose file is complete at the end, or not there."""
    schema = landmark_features().arrow_schema
    with atomic_path(path) as temporary, pq.ParquetWriter(temporary, schema, compression="zstd") as parquet:
        writer = ShardWriter(parquet)
        yield writer
        writer.flush()
