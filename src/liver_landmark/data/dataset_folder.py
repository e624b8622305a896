"""The folder of a dataset while it is written: Parquet shards, card, fingerprint; whole or not at all."""

from __future__ import annotations

import hashlib
import json
import shutil
import string
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ..curves import landmark_id
from ..model.landmarks_liver_landmark import ID2LABEL, LANDMARK_NAMES
from ..utils.atomic_files import LOCK_FILE, atomic_path, hold_folder, new_folder, remove_folder, write_text
from .card import SetCounts, dataset_info
from .readers import Problem, RawFrame
from .schema import SPLITS, landmark_features

# ----------------------------------------------------------------------------------------------------
# Writes a dataset of the schema: Parquet shards by split, a card, a fingerprint; whole or not at all.

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


# ----------------------------------------------------------------------------------------------------
# Rows to Parquet, in row groups that are small in memory.

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


# ----------------------------------------------------------------------------------------------------
# Where a set is while it is built: complete shards beside the output, from which a killed build goes on.

_FINGERPRINT_FILE = "fingerprint.txt"


@dataclass(frozen=True)
class Shard:
    """A range of the planned frames of a split that becomes one file."""

    split: str
    number: int
    frames: tuple[RawFrame, ...]

    @property
    def name(self) -> str:
        """Name of its files while the set is built."""
        return f"{self.split}-{self.number:05d}"


@dataclass
class ShardRecord:
    """What is known of a finished shard.

    Attributes:
        frames: Of each row: patient_id, landmarks (names), width, height, stroke_width.
        problems: Frames of its range that are not in it.
        tolerated: Irregularities that were let pass, by name.
        sha256: Of its file; None if it has no rows and so no file.
        size_bytes: Of its file.
    """

    frames: list[dict[str, Any]] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    tolerated: Counter[str] = field(default_factory=Counter)
    sha256: str | None = None
    size_bytes: int = 0

    def add(self, row: Mapping[str, Any]) -> None:
        """Notes a row that was written."""
        names = {curve["category"] for curve in row["landmarks"]}
        kept = {key: row[key] for key in ("patient_id", "width", "height", "stroke_width")}
        self.frames.append({**kept, "landmarks": sorted(names)})

    def as_text(self) -> str:
        """As JSON."""
        # asdict would count a Counter's items instead of copying it.
        values = asdict(self) | {"tolerated": self.tolerated}
        return json.dumps(values, indent=1, sort_keys=True) + "\n"

    @classmethod
    def from_text(cls, text: str) -> ShardRecord:
        """From `as_text`."""
        values = json.loads(text)
        values["problems"] = [Problem(**problem) for problem in values["problems"]]
        values["tolerated"] = Counter(values["tolerated"])
        return cls(**values)


def file_digest(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class WorkFolder:
    """`.<output's name>.building` beside the output: each shard as `<shard>.parquet` and `<shard>.json`.

    The JSON is written last: a shard is finished when it is there and fits its file.
    """

    def __init__(self, output: Path, fingerprint: str) -> None:
        self._output = Path(output).absolute()
        self.path = self._output.with_name(f".{self._output.name}.building")
        self._fingerprint = fingerprint

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Makes it, or takes what a killed build of the very same set left in it.

        It is removed at the end and on an exception, but not when the build is interrupted by Ctrl-C.

        Raises:
            FileExistsError: another build of the same output is at work in it.
        """
        busy = f"{self._output}: another build is writing it: wait for it, or give another --output"
        with hold_folder(self.path, busy):
            if not self.is_of_this_set():
                self._remove_all_but_the_lock()
                write_text(self.path / _FINGERPRINT_FILE, self._fingerprint)
            try:
                yield
            except KeyboardInterrupt:
                raise
            except BaseException:
                remove_folder(self.path)
                raise
            remove_folder(self.path)

    def is_of_this_set(self) -> bool:
        """Whether it is there, left by a build of the very same set."""
        marker = self.path / _FINGERPRINT_FILE
        return marker.is_file() and marker.read_text(encoding="utf-8") == self._fingerprint

    def _remove_all_but_the_lock(self) -> None:
        for path in self.path.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            elif path.name != LOCK_FILE:
                path.unlink()

    def parquet(self, shard: Shard) -> Path:
        """Where a shard's rows are."""
        return self.path / f"{shard.name}.parquet"

    def finish(self, shard: Shard, record: ShardRecord) -> None:
        """Notes that a shard's file is complete."""
        with atomic_path(self.path / f"{shard.name}.json") as temporary:
            temporary.write_text(record.as_text(), encoding="utf-8")

    def finished(self, shard: Shard) -> ShardRecord | None:
        """The record of a shard that is complete; None otherwise."""
        path = self.path / f"{shard.name}.json"
        if not path.is_file():
            return None
        try:
            record = ShardRecord.from_text(path.read_text(encoding="utf-8"))
        except (ValueError, TypeError, KeyError):
            return None  # torn by a power cut: made again
        parquet = self.parquet(shard)
        if record.sha256 is None:
            return record
        return record if parquet.is_file() and file_digest(parquet) == record.sha256 else None
