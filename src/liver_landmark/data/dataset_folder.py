"""The folder of a dataset while it is written: Parquet shards, card, fingerprint; whole or not at all.

A build plans its frames as shards. `DatasetWriter` writes them one by one beside the output, where a killed
build finds them again. When all are there, it moves them into the folder that `dataset_folder` puts in place.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import string
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from ..model.landmarks_liver_landmark import DEFAULT_LANDMARKS
from ..utils.atomic_files import (
    atomic_path,
    hold_folder,
    new_folder,
    remove_folder,
    replace_folder,
    write_text,
)
from .card import FILES_HEADER, SetCounts, data_files, dataset_info
from .readers import Problem
from .readers.frame_plan import file_digest
from .schema import SPLITS, landmark_features

BUILD_FILE = "build.json"
# What is done again at most when a build is killed.
FRAMES_PER_SHARD = 128
# A row group is what a reader decodes at once and the writer holds.
ROWS_PER_GROUP = 16
BYTES_PER_GROUP = 2**24

_PICTURES = ("image", "label", "depth", "regions")
_FINGERPRINT_FILE = "fingerprint.txt"

Row = dict[str, Any]
_Frame = TypeVar("_Frame")

# The finished folder: known by the fingerprint of its request, and replaced whole.


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
        build = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not JSON ({error}); remove {output} or give another --output") from None
    return build if isinstance(build, dict) else {}


def write_build(folder: Path, request: Mapping[str, Any]) -> None:
    """Writes the request and its fingerprint, by which a finished build is known."""
    build = {"fingerprint": request_fingerprint(request), "request": dict(request)}
    text = json.dumps(build, indent=2, sort_keys=True) + "\n"
    (Path(folder) / BUILD_FILE).write_text(text, encoding="utf-8")


def write_card(folder: Path, template: str, values: Mapping[str, str]) -> None:
    """Writes README.md from a template with `$name` placeholders; a missing value is a KeyError."""
    text = string.Template(template).substitute(values)
    (Path(folder) / "README.md").write_text(text, encoding="utf-8")


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
    replace_folder(complete, output)


# Rows to Parquet, for every set that is built.


def write_parquet(path: Path, rows: Iterable[Row], names: Sequence[str] = DEFAULT_LANDMARKS.names) -> None:
    """Writes rows of the schema, in row groups that are small in memory; the file is whole or not there.

    Args:
        path: The file.
        rows: With encoded pictures, and landmarks by name. The same rows give the same bytes.
        names: The set's landmarks, in the order of their ids.

    Raises:
        ValueError: a landmark that is none of these.
    """
    schema = landmark_features(names).arrow_schema
    numbers = {name: number for number, name in enumerate(names)}
    group: list[Row] = []
    size = 0
    with atomic_path(path) as temporary, pq.ParquetWriter(temporary, schema, compression="zstd") as parquet:
        for row in rows:
            group.append({**row, "landmarks": _numbered(row["landmarks"], numbers)})
            size += sum(len(row[name]["bytes"]) for name in _PICTURES if row[name] is not None)
            if len(group) == ROWS_PER_GROUP or size >= BYTES_PER_GROUP:
                parquet.write_table(pa.Table.from_pylist(group, schema=schema))
                group, size = [], 0
        if group:
            parquet.write_table(pa.Table.from_pylist(group, schema=schema))


def _numbered(landmarks: Sequence[Row] | None, numbers: Mapping[str, int]) -> list[Row] | None:
    """Categories as the schema's ClassLabel stores them; None where a set has masks only."""
    if landmarks is None:
        return None
    for curve in landmarks:
        if curve["category"] not in numbers:
            raise ValueError(f"landmark {curve['category']!r} is unknown: choose one of {', '.join(numbers)}")
    return [{"category": numbers[curve["category"]], "points": curve["points"]} for curve in landmarks]


# Shard by shard, so that a build that was killed goes on where it was.


@dataclass(frozen=True)
class Shard(Generic[_Frame]):
    """A range of the planned frames of a split that becomes one file."""

    split: str
    number: int
    frames: tuple[_Frame, ...]

    @property
    def name(self) -> str:
        """Name of its files while the set is built."""
        return f"{self.split}-{self.number:05d}"


def plan_shards(frames: Mapping[str, Sequence[_Frame]]) -> list[Shard[_Frame]]:
    """The shards of a set, in order; `frames` are those of each split."""
    return [
        Shard(split, number, tuple(frames[split][start : start + FRAMES_PER_SHARD]))
        for split in SPLITS
        for number, start in enumerate(range(0, len(frames[split]), FRAMES_PER_SHARD))
    ]


@dataclass
class ShardRecord:
    """What is known of a finished shard.

    Attributes:
        frames: Of each row: frame_id, patient_id, landmarks (names), width, height, stroke_width.
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

    def add(self, row: Row, tolerated: Mapping[str, int]) -> None:
        """Notes a row that is written."""
        kept = {key: row[key] for key in ("frame_id", "patient_id", "width", "height", "stroke_width")}
        # None where a set has masks only.
        names = {curve["category"] for curve in row["landmarks"] or ()}
        self.frames.append({**kept, "landmarks": sorted(names)})
        self.tolerated.update(tolerated)

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


# A row and what was let pass in it, or why there is none.
Outcome = tuple[Row, Mapping[str, int]] | Problem


class DatasetWriter(Generic[_Frame]):
    """Writes the shards of a set into `.<output's name>.building` beside the output.

    Each is `<shard>.parquet` and `<shard>.json`, which is written last: a shard is finished when it is there
    and fits its file.

    Args:
        output: Where the set is to be.
        request: What decides its bytes, as JSON values.
        shards: All of them, in order.
        names: The set's landmarks, in the order of their ids.
    """

    def __init__(
        self,
        output: Path,
        request: Mapping[str, Any],
        shards: Sequence[Shard[_Frame]],
        names: Sequence[str] = DEFAULT_LANDMARKS.names,
    ) -> None:
        self._output = Path(output).absolute()
        self.path = self._output.with_name(f".{self._output.name}.building")
        self._fingerprint = request_fingerprint(request)
        self.shards = shards
        self.names = tuple(names)
        self.records: list[ShardRecord] = []

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Makes the work folder, or takes what a killed build of the very same set left in it.

        It is removed at the end and on an exception, but not when the build is interrupted by Ctrl-C.

        Raises:
            FileExistsError: another build of the same output is at work in it.
        """
        busy = f"{self._output}: another build is writing it: wait for it, or give another --output"
        with hold_folder(self.path, busy):
            if not self._is_of_this_set():
                shutil.rmtree(self.path)
                self.path.mkdir()
                write_text(self.path / _FINGERPRINT_FILE, self._fingerprint)
            try:
                yield
            except KeyboardInterrupt:
                raise
            except BaseException as error:
                remove_folder(self.path)
                if isinstance(error, OSError) and error.errno and error.filename is None:
                    # pyarrow does not say of which file it speaks.
                    raise OSError(error.errno, os.strerror(error.errno), str(self._output)) from error
                raise
            remove_folder(self.path)

    def clear_up(self) -> None:
        """Removes what a build left that was killed when all was done but that."""
        if self._is_of_this_set():
            with self.opened():
                pass

    def _is_of_this_set(self) -> bool:
        marker = self.path / _FINGERPRINT_FILE
        return marker.is_file() and marker.read_text(encoding="utf-8") == self._fingerprint

    def write(
        self,
        rows_of: Callable[[Iterator[_Frame]], Generator[Outcome, None, None]],
        on_problem: Callable[[Problem], None] = lambda problem: None,
    ) -> SetCounts:
        """Writes the shards that are not finished yet.

        Args:
            rows_of: Gives, in order, the row of each frame that it is handed.
            on_problem: Called with each problem, those of finished shards first.

        Returns:
            Counts of the whole set.

        Raises:
            ValueError: a frame id that occurs twice, or a patient in two splits.
        """
        finished = [self.finished(shard) for shard in self.shards]
        for record in finished:
            for problem in () if record is None else record.problems:
                on_problem(problem)
        missing = [shard for shard, record in zip(self.shards, finished, strict=True) if record is None]
        total, ahead = (sum(len(shard.frames) for shard in shards) for shards in (self.shards, missing))
        with (
            closing(rows_of(frame for shard in missing for frame in shard.frames)) as outcomes,
            tqdm(total=total, initial=total - ahead, unit="frame", disable=None) as progress,
        ):
            self.records = [
                self._write_shard(shard, outcomes, on_problem, progress) if record is None else record
                for shard, record in zip(self.shards, finished, strict=True)
            ]
        return self._counts()

    def _write_shard(
        self,
        shard: Shard[_Frame],
        outcomes: Iterator[Outcome],
        on_problem: Callable[[Problem], None],
        progress: tqdm,
    ) -> ShardRecord:
        record, path = ShardRecord(), self._parquet(shard)

        def rows() -> Iterator[Row]:
            # The shard's frames first: at their end no outcome of the next shard is taken.
            for _, outcome in zip(shard.frames, outcomes, strict=False):
                if isinstance(outcome, Problem):
                    record.problems.append(outcome)
                    on_problem(outcome)
                else:
                    record.add(*outcome)
                    yield outcome[0]
                progress.update()

        write_parquet(path, rows(), self.names)
        if record.frames:
            record.sha256, record.size_bytes = file_digest(path), path.stat().st_size
        else:
            path.unlink()
        with atomic_path(path.with_suffix(".json")) as temporary:
            temporary.write_text(record.as_text(), encoding="utf-8")
        return record

    def finished(self, shard: Shard[_Frame]) -> ShardRecord | None:
        """The record of a shard that is complete; None otherwise."""
        parquet = self._parquet(shard)
        path = parquet.with_suffix(".json")
        if not path.is_file():
            return None
        try:
            record = ShardRecord.from_text(path.read_text(encoding="utf-8"))
        except (ValueError, TypeError, KeyError):
            return None  # torn by a power cut: made again
        if record.sha256 is None:
            return record
        return record if parquet.is_file() and file_digest(parquet) == record.sha256 else None

    def _parquet(self, shard: Shard[_Frame]) -> Path:
        return self.path / f"{shard.name}.parquet"

    def _counts(self) -> SetCounts:
        counts = SetCounts(self.names)
        split_of: dict[str, str] = {}
        frame_ids: set[str] = set()
        for shard, record in zip(self.shards, self.records, strict=True):
            for frame in record.frames:
                patient, frame_id = frame["patient_id"], frame["frame_id"]
                if frame_id in frame_ids:
                    raise ValueError(
                        f"frame_id {frame_id!r} occurs twice; frame ids must be unique in a dataset"
                    )
                frame_ids.add(frame_id)
                split = split_of.setdefault(patient, shard.split)
                if split != shard.split:
                    raise ValueError(
                        f"patient {patient!r} is in {split} and in {shard.split}; splits are by patient"
                    )
                counts.add(shard.split, patient, frame["landmarks"], frame["width"], frame["height"])
        return counts

    def place(self, folder: Path) -> dict[str, list[Path]]:
        """Moves the files into `data/` of the set's folder, numbered without gaps; those of each split."""
        data = folder / "data"
        data.mkdir()
        placed: dict[str, list[Path]] = {}
        for split in SPLITS:
            filled = [shard for shard, record in self._filled() if shard.split == split]
            for number, shard in enumerate(filled):
                path = data / f"{split}-{number:05d}-of-{len(filled):05d}.parquet"
                self._parquet(shard).replace(path)
                placed.setdefault(split, []).append(path)
        return placed

    def _filled(self) -> Iterator[tuple[Shard[_Frame], ShardRecord]]:
        """The shards that have rows."""
        return (pair for pair in zip(self.shards, self.records, strict=True) if pair[1].frames)

    def card_values(self, counts: SetCounts, files: Mapping[str, Sequence[Path]]) -> dict[str, str]:
        """What fills a card's placeholders: `SetCounts.tables`, `dataset_info`, `data_files` and `hashes`.

        Args:
            counts: What `write` gave.
            files: What `place` gave.
        """
        sizes: Counter[str] = Counter()
        hashes = [f"| {' | '.join(FILES_HEADER)} |", "|---|---|"]
        names = (path.name for split in SPLITS for path in files.get(split, ()))
        for name, (shard, record) in zip(names, self._filled(), strict=True):
            sizes[shard.split] += record.size_bytes
            hashes.append(f"| `data/{name}` | `{record.sha256}` |")
        return {
            **counts.tables(),
            "dataset_info": dataset_info(sizes, counts.frames),
            "data_files": data_files(counts.frames),
            "hashes": "\n".join(hashes),
        }
