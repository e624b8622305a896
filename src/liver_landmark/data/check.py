"""Everything that can be wrong with a dataset that somebody sent: card, files, rows, pictures.

Files are streamed: of the pictures those of one row group are in memory, of all rows only ids and hashes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from datasets import Features
from PIL import ExifTags, Image
from tqdm import tqdm

from ..curves.rasterize import AS_DRAWN, PROTOCOLS, rasterize_landmarks
from ..model.landmarks_liver_landmark import DEFAULT_LANDMARKS, IGNORE_INDEX, LandmarkTable
from ..utils.frame_files import FrameError, decode_picture
from .card import FILES_HEADER, SetCounts
from .dataset_folder import file_digest
from .loading import CARD_ERRORS, first_difference, problems_of_batch
from .readers.pictures import bare_picture
from .schema import SPLITS, describe_metadata, landmark_features, landmarks_of, picture_digest

# ----------------------------------------------------------------------------------------------------
# What a dataset's card says of its content, against what was counted.

CARD_FILE = "README.md"

# First cell of a table's row -> its other cells.
_Table = dict[str, list[str]]


def compare_card(card: Path, counts: SetCounts, files: Mapping[str, Path]) -> Iterator[str]:
    """Each number and hash of a card that is not the one found, in words.

    Compared are the frames of each split in the front matter, by which `datasets` plans, and the tables that
    this package's builds write; what else a card says is its author's.

    Args:
        card: README.md.
        counts: Of all rows.
        files: The set's files by their path below its folder, with forward slashes.
    """
    try:
        front_matter, body = _parts(card.read_text(encoding="utf-8"))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        yield f"cannot be read ({' '.join(str(error).split())})"
        return
    for split, said in _said_frames(front_matter).items():
        found = counts.frames[split]
        if said != found:
            yield f"it says {said} frames of split {split!r}, there are {found}"
    real = dict(_tables("\n\n".join(counts.tables().values())))
    for header, rows in _tables(body):
        if header == FILES_HEADER:
            # Only where a card says them: it takes as long as reading the set again.
            real[header] = {f"`{name}`": [f"`{file_digest(path)}`"] for name, path in files.items()}
        expected = real.get(header)
        if expected is None:
            continue
        for name in dict.fromkeys([*rows, *expected]):
            if rows.get(name) != expected.get(name):
                yield (
                    f"its table of {' | '.join(header)} says {_cells(rows, name)} for {name!r}, "
                    f"found: {_cells(expected, name)}"
                )


def _cells(table: _Table, name: str) -> str:
    return " | ".join(table[name]) if name in table else "nothing"


def _parts(text: str) -> tuple[dict[str, Any], str]:
    """YAML front matter between lines of `---`, and the rest."""
    lines = text.splitlines()
    if not lines or lines[0].strip() != "---":
        return {}, text
    ends = [number for number, line in enumerate(lines) if number and line.strip() == "---"]
    if not ends:
        raise ValueError("its front matter does not end")
    front_matter = yaml.safe_load("\n".join(lines[1 : ends[0]]))
    if not isinstance(front_matter, dict):
        raise ValueError("its front matter is no mapping")
    return front_matter, "\n".join(lines[ends[0] + 1 :])


def _said_frames(front_matter: dict[str, Any]) -> dict[str, Any]:
    """Split -> frames, of the default configuration."""
    infos = front_matter.get("dataset_info") or []
    infos = [infos] if isinstance(infos, dict) else infos
    said = {}
    for info in infos if isinstance(infos, list) else []:
        if isinstance(info, dict) and info.get("config_name", "default") == "default":
            splits = info.get("splits")
            for split in splits if isinstance(splits, list) else []:
                if isinstance(split, dict) and isinstance(split.get("name"), str):
                    said[split["name"]] = split.get("num_examples")
    return said


def _tables(body: str) -> Iterator[tuple[tuple[str, ...], _Table]]:
    """(header, rows) of each Markdown table."""
    header: tuple[str, ...] = ()
    rows: _Table = {}
    for line in [*body.splitlines(), ""]:
        line = line.strip()
        if not (line.startswith("|") and line.endswith("|") and len(line) > 1):
            if header:
                yield header, rows
            header, rows = (), {}
            continue
        cells = [cell.strip() for cell in line[1:-1].split("|")]
        if not header:
            header = tuple(cells)
        elif not all(set(cell) <= set(":-") for cell in cells):
            rows[cells[0]] = cells[1:]


# ----------------------------------------------------------------------------------------------------
# What can be wrong with a row's names and pictures: sizes, ids, metadata, a label that nothing has drawn.

_PICTURE_COLUMNS = ("image", "label", "depth", "regions")
# Protocols that draw at a fixed width would need a canvas of any height for a narrower frame.
_LARGEST_ASPECT = 64
_STROKE_TOLERANCE_PX = 1e-3
# Result files are called after frames: with a suffix, in the usual file systems' 255 bytes.
_LONGEST_NAME_BYTES = 200


def check_names(row: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with the names of a row's frame and patient, in words."""
    for column in ("frame_id", "patient_id"):
        name = row[column]
        if name is None:
            continue  # missing, which is said already
        if not name.strip():
            yield f"its {column} is empty"
        elif {"/", "\\"} & set(name) or name in (".", ".."):
            yield f"its {column} is a path, and results are called after it"
        elif len(name.encode("utf-8", "surrogatepass")) > _LONGEST_NAME_BYTES:
            yield f"its {column} is longer than {_LONGEST_NAME_BYTES} bytes, and results are called after it"


def check_pictures(
    row: Mapping[str, Any], drawable: bool, names: Sequence[str] = DEFAULT_LANDMARKS.names
) -> Iterator[str]:
    """What is wrong with the pictures of a row, in words.

    Args:
        row: A row of the schema as it is stored, pictures not decoded.
        drawable: Its size and polylines are possible, so that its label can be compared with a
            drawing.
        names: The set's landmarks, in the order of their ids.
    """
    for column in _PICTURE_COLUMNS:
        stored = row[column]
        if stored is None:
            if column == "image":
                yield "its image is missing"
            continue
        if stored["bytes"] is None:
            yield f"its {column} is not inside of the file, which names {stored['path']!r} for it"
            continue
        try:
            picture = decode_picture(stored["bytes"], f"its {column}")
        except FrameError as error:
            yield str(error)
            continue
        yield from _check_picture(picture, column, stored["bytes"])
        if picture.size != (row["width"], row["height"]):
            yield (
                f"its {column} is {picture.width}x{picture.height} px, "
                f"its row says {row['width']}x{row['height']}"
            )
        elif column == "label" and picture.mode == "L":
            yield from _check_label(np.asarray(picture), row, drawable, names)
    yield from _check_stroke_width(row, drawable)


def _check_picture(picture: Image.Image, column: str, data: bytes) -> Iterator[str]:
    metadata = describe_metadata(picture)
    bare = bare_picture(data)
    if metadata is None and bare is not None and not bare.whole:
        metadata = "something that its pixels do not need"
    if metadata is not None:
        yield f"metadata is left in its {column}: {metadata}"
    if picture.getexif().get(ExifTags.Base.Orientation, 1) != 1:
        yield f"an EXIF orientation turns its {column} against its polylines"
    if column == "label" and picture.mode != "L":
        yield f"its label is a picture of mode {picture.mode}, expected class ids in mode L"
    if column == "image" and (picture.mode.startswith("I") or picture.mode == "F"):
        yield f"its image has pixels of type {picture.mode}, expected 8-bit color or gray"


def _check_label(
    label: np.ndarray, row: Mapping[str, Any], drawable: bool, names: Sequence[str]
) -> Iterator[str]:
    counts = np.bincount(label.ravel(), minlength=256)
    wrong = [value for value in np.flatnonzero(counts).tolist() if len(names) < value != IGNORE_INDEX]
    if wrong:
        yield (
            f"its label holds {', '.join(map(str, wrong[:5]))}{', …' if len(wrong) > 5 else ''}: neither "
            f"class ids (0 to {len(names)}) nor {IGNORE_INDEX}"
        )
        return
    if not drawable or row["protocol"] not in PROTOCOLS:
        return
    width, height = row["width"], row["height"]
    if max(width, height) > _LARGEST_ASPECT * min(width, height):
        yield f"a frame of {width}x{height} px is too narrow for its label to be drawn"
        return
    drawn = rasterize_landmarks(
        row["landmarks"] or (), width, height, PROTOCOLS[row["protocol"]], names=names
    )
    differing = int(((drawn != label) & (label != IGNORE_INDEX)).sum())
    if differing:
        yield (
            f"its label is not what {row['protocol']} draws from its polylines: {differing} px of "
            f"{label.size} differ"
        )


def _check_stroke_width(row: Mapping[str, Any], drawable: bool) -> Iterator[str]:
    name, stored_px = row["protocol"], row["stroke_width"]
    if name is None:
        return
    if name not in PROTOCOLS:
        if name != AS_DRAWN:
            yield f"its protocol {name!r} is unknown: expected {', '.join(PROTOCOLS)} or {AS_DRAWN}"
        return
    if drawable and stored_px is not None:
        expected_px = PROTOCOLS[name].native_stroke_width_px(row["width"], row["height"])
        if not abs(stored_px - expected_px) <= _STROKE_TOLERANCE_PX:
            yield f"its stroke_width is {stored_px:g} px, {name} draws {expected_px:g} px"


# ----------------------------------------------------------------------------------------------------
# Everything that can be wrong with a set that somebody sent, file by file and row by row.

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
        self._landmarks: tuple[str, LandmarkTable] | None = None
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
            features, difference = _read_features(file.schema_arrow)
            if difference is None:
                difference = self._other_landmarks(place, landmarks_of(features))
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

    def _other_landmarks(self, place: str, landmarks: LandmarkTable) -> str | None:
        """How a file's landmarks differ from those of the first one, in words; None where they do not."""
        if self._landmarks is None:
            self._landmarks = place, landmarks
            self.counts.names = landmarks.names
        first, known = self._landmarks
        if landmarks.names == known.names:
            return None
        return f"its landmarks are {', '.join(landmarks.names)}, those of {first} {', '.join(known.names)}"

    def _check_batch(
        self, batch: pa.RecordBatch, split: str, place: str, first_row: int
    ) -> Iterator[Problem]:
        impossible: dict[int, list[str]] = {}
        names = self.counts.names
        for index, reason in problems_of_batch(batch, names):
            impossible.setdefault(index, []).append(reason)
        for index, row in enumerate(batch.to_pylist()):
            here = f"{place} {first_row + index} (frame {row['frame_id']})"
            reasons = impossible.get(index, [])
            for reason in (
                *reasons,
                *check_names(row),
                *check_pictures(row, not reasons, names),
                *self._compare_with_others(row, split, here),
            ):
                yield Problem(here, reason)
            known = {names[i] for i in _categories(row) if i in range(len(names))}
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


def _read_features(schema: pa.Schema) -> tuple[Features, str | None]:
    """What a file says of its columns, and how that differs from the dataset schema, in words."""
    # What it says counts only where it agrees with Arrow's own types.
    try:
        features = Features.from_arrow_schema(schema)
        return features, first_difference(features)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        return Features(), f"its columns cannot be understood ({_one_line(error)})"


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
