"""Everything that can be wrong with a set that somebody sent, file by file and row by row.

Files are streamed: of the pictures those of one row group are in memory, of all rows only ids and hashes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Features
from tqdm import tqdm

from ...model.landmarks_liver_landmark import LANDMARK_NAMES
from ..building.card import SetCounts
from ..loading import CARD_ERRORS
from ..schema import SPLITS, landmark_features
from ..stored_pictures import picture_digest
from ..validation import first_difference, problems_of_batch
from .card_counts import CARD_FILE, compare_card
from .row_checks import check_names, check_pictures

_ROWS_IN_MEMORY = 8
_READ_BYTES = 2**20
# Pages of large values span their row group, which is therefore what is in memory, about twice.
_LARGEST_ROW_GROUP_BYTES = 2**30


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong.

    Attributes:
        place: The file, and where it has rows the row in it, from 0, with its frame id.
        reason: What is wrong there.
    """

    place: str
    reason: str

    def __str__(self) -> str:
        # Ids come from strangers: one line stays one line, and a terminal obeys nobody.
        line = f"{self.place}: {self.reason}"
        return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in line)


def split_files(folder: Path) -> dict[str, list[Path]]:
    """Split -> its files, as plain `datasets.load_dataset(folder)` finds them.

    Raises:
        FileNotFoundError: no such folder, or no data files in it.
        ValueError: its card says something that cannot be understood.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder")
    try:
        files = datasets.load_dataset_builder(str(folder.resolve())).config.data_files or {}
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{folder}: no data files in it ({_one_line(error)})") from error
    except CARD_ERRORS as error:
        raise ValueError(f"{folder / CARD_FILE}: cannot be understood ({_one_line(error)})") from error
    return {str(split): [Path(str(file)) for file in names] for split, names in files.items()}


class SetCheck:
    """The check of one dataset folder.

    Attributes:
        folder: The folder.
        counts: What was found in the rows so far.
        found: Problems so far.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.counts = SetCounts()
        self.found = 0
        self._home_of_frame: dict[str, str] = {}
        self._home_of_patient: dict[tuple[str, str], str] = {}
        self._shared_patients: set[tuple[str, str]] = set()
        self._home_of_picture: dict[str, tuple[str, str]] = {}

    def problems(self, progress: bool = False) -> Iterator[Problem]:
        """All problems, as they are found.

        Args:
            progress: Show a progress bar on stderr.

        Raises:
            FileNotFoundError: there is no dataset in the folder.
        """
        for problem in self._problems(progress):
            self.found += 1
            yield problem

    def _problems(self, progress: bool) -> Iterator[Problem]:
        try:
            files = split_files(self.folder)
        except ValueError as error:
            place, _, reason = str(error).partition(": ")
            yield Problem(place, reason)
            return
        with tqdm(unit="frame", disable=not progress) as bar:
            for split, names in files.items():
                if split not in SPLITS:
                    reason = f"split {split!r} is unknown: expected {', '.join(SPLITS)}"
                    yield Problem(str(self.folder), reason)
                    continue
                for path in names:
                    yield from self._check_file(path, split, bar)
        card = self.folder / CARD_FILE
        if card.is_file():
            folder = self.folder.resolve()
            named = {
                path.relative_to(folder).as_posix(): path
                for path in chain.from_iterable(files.values())
                if path.is_relative_to(folder) and path.is_file()
            }
            for reason in compare_card(card, self.counts, named):
                yield Problem(str(card), reason)

    def _check_file(self, path: Path, split: str, bar: tqdm) -> Iterator[Problem]:
        place = self._name(path)
        try:
            file = pq.ParquetFile(path, buffer_size=_READ_BYTES, pre_buffer=False)
        except (pa.ArrowException, OSError) as error:
            yield Problem(place, f"no readable Parquet file ({_one_line(error)})")
            return
        with file:
            difference = _type_difference(file.schema_arrow)
            if difference is not None:
                yield Problem(place, f"{difference}; its rows are not checked")
                return
            groups = (file.metadata.row_group(index) for index in range(file.metadata.num_row_groups))
            largest = max((group.total_byte_size for group in groups), default=0)
            if largest > _LARGEST_ROW_GROUP_BYTES:
                yield Problem(
                    place,
                    f"a row group of it holds {largest} bytes, more than {_LARGEST_ROW_GROUP_BYTES}: write "
                    "it in smaller ones; its rows are not checked",
                )
                return
            first_row = 0
            try:
                for batch in file.iter_batches(_ROWS_IN_MEMORY, columns=list(landmark_features())):
                    batch.validate(full=True)
                    yield from self._check_batch(batch, split, f"{place}, row", first_row)
                    first_row += len(batch)
                    bar.update(len(batch))
            except (pa.ArrowException, OSError) as error:
                yield Problem(place, f"cannot be read from row {first_row} on ({_one_line(error)})")

    def _check_batch(
        self, batch: pa.RecordBatch, split: str, place: str, first_row: int
    ) -> Iterator[Problem]:
        impossible: dict[int, list[str]] = {}
        for index, reason in problems_of_batch(batch):
            impossible.setdefault(index, []).append(reason)
        for index, row in enumerate(batch.to_pylist()):
            here = f"{place} {first_row + index} (frame {row['frame_id']})"
            reasons = impossible.get(index, [])
            for reason in (
                *reasons,
                *check_names(row),
                *check_pictures(row, drawable=not reasons),
                *self._compare_with_others(row, split, here),
            ):
                yield Problem(here, reason)
            known = {LANDMARK_NAMES[i] for i in _categories(row) if i in range(len(LANDMARK_NAMES))}
            self.counts.add(split, row["patient_id"], known, row["width"], row["height"])

    def _compare_with_others(self, row: dict[str, Any], split: str, here: str) -> Iterator[str]:
        frame_id, patient = row["frame_id"], (row["source"], row["patient_id"])
        if frame_id is not None:
            other = self._home_of_frame.setdefault(frame_id, here)
            if other != here:
                yield f"its frame_id is taken: {other}"
        if patient[1] is not None:
            other_split = self._home_of_patient.setdefault(patient, split)
            # Once for a patient, not for each frame.
            if other_split != split and patient not in self._shared_patients:
                self._shared_patients.add(patient)
                yield f"its patient {patient[1]!r} of source {patient[0]!r} is in {other_split} too"
        if row["image"] is not None and row["image"]["bytes"] is not None:
            digest = picture_digest(row["image"])
            other_split, other = self._home_of_picture.setdefault(digest, (split, here))
            if other_split != split:
                yield f"its image is the very same as in {other_split}: {other}"

    def _name(self, path: Path) -> str:
        folder = self.folder.resolve()
        return str(self.folder / path.relative_to(folder)) if path.is_relative_to(folder) else str(path)


def _categories(row: dict[str, Any]) -> Iterator[int]:
    return (landmark["category"] for landmark in row["landmarks"] or () if landmark is not None)


def _type_difference(schema: pa.Schema) -> str | None:
    # What a file says of its columns counts only where it agrees with Arrow's own types.
    try:
        return first_difference(Features.from_arrow_schema(schema))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        return f"its columns cannot be understood ({_one_line(error)})"


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
