"""Where a set is while it is built: complete shards beside the output, from which a killed build goes on."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ...atomic_files import atomic_path, remove_folder, write_text
from ...folder_lock import LOCK_FILE, hold_folder
from ..readers import Problem, RawFrame

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
