"""Builds a dataset into a folder, from a raw folder or the renderer, and takes it to the Hub.

`build_raw_set`: a reader finds the frames (`readers/`), `finish_plan` gives them splits, `read_row` makes
rows of them, which `DatasetWriter` writes. `build_synthetic`: the same writer writes rows that are rendered.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import warnings
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence, Set
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow.parquet as pq
from huggingface_hub import HfApi
from huggingface_hub.errors import HTTPError, XetDownloadError
from huggingface_hub.utils import validate_repo_id
from PIL import Image

from ..curves.rasterize import AS_DRAWN, get_protocol
from ..model.landmarks_liver_landmark import DEFAULT_LANDMARKS, LandmarkTable
from ..synthetic.dataset import GENERATOR_VERSION, PROTOCOL, SyntheticRequest, frames_by_split, iterate_rows
from ..utils.atomic_files import write_json
from ..utils.background import ordered_map
from .card import SetCounts
from .dataset_folder import (
    BUILD_FILE,
    DatasetWriter,
    Outcome,
    ShardRecord,
    check_output,
    dataset_folder,
    is_built,
    plan_shards,
    write_build,
    write_card,
)
from .readers import (
    CustomOptions,
    Found,
    L3dOptions,
    MaskOptions,
    Plan,
    Problem,
    ProblemError,
    RawFrame,
    SplitOptions,
    check_trainable,
    find_custom,
    find_l3d,
    find_masks,
    find_p2ilf,
    finish_plan,
    read_row,
)
from .readers.frame_plan import file_digest
from .readers.raw_folders import natural_key
from .schema import SPLITS
from .show import draw_tile, write_sheet

REPORT_FILE = "report.json"
SHEET_FILE = "contact_sheet.png"
# They name the raw files, which may say more than the set should.
LEFT_AT_HOME: tuple[str, ...] = (REPORT_FILE, BUILD_FILE)

_SHEET_FRAMES, _SHEET_COLUMNS, _SHEET_TILE_PX = 12, 4, 400
# Two 4K frames, or eight of 1080p, from reading to writing: decoding takes up to 20 bytes a pixel, and an
# encoded frame up to four.
_PIXELS_AT_ONCE = 2**24

# From a raw set.

# Part of a build's fingerprint: raise it whenever the same raw set gives other rows.
READER_VERSION = 1

SetName = Literal["l3d", "p2ilf", "llsd", "custom"]
DEFAULT_PROTOCOLS: dict[str, str] = {
    "l3d": "d2gpland",
    "p2ilf": "p2ilf",
    "llsd": AS_DRAWN,
    "custom": "synthetic",
}


@dataclass(frozen=True)
class RawRequest:
    """What to build from which folder.

    Attributes:
        set_name: `l3d`, `p2ilf`, `llsd` or `custom`: how the folder is read.
        raw: The raw folder.
        options: L3dOptions, MaskOptions or CustomOptions; P2ILF has none.
        splits: Where folders do not decide; L3D's do.
        protocol: How labels are drawn; None: `DEFAULT_PROTOCOLS`.
    """

    set_name: SetName
    raw: Path
    options: L3dOptions | MaskOptions | CustomOptions | None = None
    splits: SplitOptions = field(default_factory=SplitOptions)
    protocol: str | None = None

    def __post_init__(self) -> None:
        expected = {"l3d": L3dOptions, "llsd": MaskOptions, "custom": CustomOptions, "p2ilf": type(None)}
        if self.set_name not in expected:
            raise ValueError(f"set {self.set_name!r} is unknown: choose one of {', '.join(expected)}")
        if not isinstance(self.options, expected[self.set_name]):
            raise ValueError(f"set {self.set_name!r} takes options of {expected[self.set_name].__name__}")
        if self.label_protocol != AS_DRAWN:
            get_protocol(self.label_protocol)
        elif self.set_name != "llsd":
            raise ValueError(f"protocol {AS_DRAWN!r} is for masks; {self.set_name} has polylines to draw")

    @property
    def label_protocol(self) -> str:
        """The protocol that labels are drawn by."""
        return self.protocol or DEFAULT_PROTOCOLS[self.set_name]

    @property
    def table(self) -> LandmarkTable:
        """The set's landmarks: of one's own frames those that were asked for, else the default ones."""
        own = isinstance(self.options, CustomOptions | MaskOptions)
        return self.options.table if own else DEFAULT_LANDMARKS

    @property
    def source(self) -> str:
        """The schema's `source` of all its frames."""
        if isinstance(self.options, L3dOptions):
            return self.options.edition
        return self.set_name if self.options is None else self.options.source

    def find(self) -> Found:
        """What the reader of the set finds."""
        if isinstance(self.options, L3dOptions):
            return find_l3d(self.raw, self.options)
        if isinstance(self.options, MaskOptions):
            return find_masks(self.raw, self.options)
        if isinstance(self.options, CustomOptions):
            return find_custom(self.raw, self.options)
        return find_p2ilf(self.raw)

    def as_json(self, plan: Plan) -> dict[str, Any]:
        """All that decides the set's bytes, as JSON values without paths of this machine."""
        options = {} if self.options is None else asdict(self.options)
        if isinstance(self.options, CustomOptions):
            # What is in these files counts, and not where they lie: the labels here, the XML in `inputs`.
            options |= {"label_map": dict(self.options.labels().classes), "annotations": None}
        found = {
            "inputs": plan.inputs,
            "problems": [asdict(problem) for problem in plan.problems],
            "tolerated": plan.tolerated,
            "pictures": plan.pictures,
        }
        return {
            "set": self.set_name,
            "reader_version": READER_VERSION,
            "options": options,
            "splits": asdict(self.splits),
            "protocol": self.label_protocol,
            "raw_sha256": hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest(),
        }


@dataclass(frozen=True)
class BuildResult:
    """What a build did.

    Attributes:
        built: False if the output held this very set already, and nothing was done.
        frames: Frames in the set, by split.
        left_out: Pictures of the raw folder that are not in the set.
        problems: Lines in report.json; a label without a frame has one too.
    """

    built: bool
    frames: Mapping[str, int]
    left_out: int
    problems: int


def build_raw_set(
    request: RawRequest,
    output: Path,
    card_template: str,
    *,
    workers: int = 2,
    overwrite: bool = False,
    strict: bool = False,
    on_problem: Callable[[Problem], None] = lambda problem: None,
) -> BuildResult:
    """Builds the set into `output`; the bytes depend on the raw files and the request alone.

    A build that is killed or interrupted goes on from its finished shards when the same one is started
    again. One that fails leaves nothing behind.

    Args:
        request: What to build.
        output: Folder to write: `data/*.parquet`, README.md, contact_sheet.png, report.json, build.json.
        card_template: Text of README.md with `$name` placeholders.
        workers: Threads that read frames.
        overwrite: Replace another built set in `output`.
        strict: Stop at the first problem.
        on_problem: Called with each problem as it is met.

    Raises:
        ProblemError: the first problem of a strict build.
        ValueError: the folder is no such raw set, or too little of it is left.
        OSError: a folder is missing, in the way or full, or another build is writing into the output.
    """
    # Not `absolute`, which leaves ".." in.
    output, raw = (Path(os.path.abspath(folder)) for folder in (output, request.raw))
    if output.is_relative_to(raw) or raw.is_relative_to(output):
        raise ValueError(f"{output}: lies within the raw folder, or that in it; give another --output")

    def report_problem(problem: Problem) -> None:
        if strict:
            raise ProblemError(problem)
        on_problem(problem)

    # L3D's splits are published: none are drawn.
    splits = None if request.set_name == "l3d" else request.splits
    plan = finish_plan(request.find(), splits, workers)
    for problem in plan.problems:
        report_problem(problem)
    described = request.as_json(plan)
    writer = DatasetWriter(output, described, plan_shards(plan.frames), request.table.names)
    if is_built(output, described):
        writer.clear_up()
        return _told_by(output)
    check_output(output, overwrite)
    with writer.opened():
        with warnings.catch_warnings():
            # Once for all threads: what Pillow warns of is refused or harmless.
            warnings.simplefilter("ignore")
            counts = writer.write(_reader(plan, request.label_protocol, workers), report_problem)
        try:
            check_trainable(counts.frames, {split: len(frames) for split, frames in plan.frames.items()})
        except ValueError as error:
            raise ValueError(f"{raw}: {error}") from error
        with dataset_folder(output, overwrite) as folder:
            report = _report(plan, writer.records, counts)
            write_json(folder / REPORT_FILE, report)
            tolerated = ", ".join(f"{name} {count}" for name, count in report["tolerated"].items())
            values = {
                "source": request.source,
                "landmarks": ", ".join(f"`{name}`" for name in request.table.names),
                "class_ids": ", ".join(f"{number} {name}" for number, name in request.table.id2label.items()),
                "protocol": request.label_protocol,
                "stroke": _stroke_range(writer.records),
                "left_out": str(report["left_out"]),
                "tolerated": tolerated or "none",
            }
            _fill_folder(folder, writer, counts, request.table, described, card_template, values)
    return _told_by(output, built=True)


def _told_by(output: Path, built: bool = False) -> BuildResult:
    report = json.loads((output / REPORT_FILE).read_text(encoding="utf-8"))
    return BuildResult(built, report["frames"], report["left_out"], len(report["problems"]))


def _reader(
    plan: Plan, protocol: str, workers: int
) -> Callable[[Iterator[RawFrame]], Generator[Outcome, None, None]]:
    """What makes rows of planned frames, a few frames at a time."""
    uses = Counter(file for frames in plan.frames.values() for frame in frames for file in frame.files)
    # Files of several frames were read when planning, once.
    shared = {file for file, count in uses.items() if count > 1}

    def read(frame: RawFrame) -> Outcome:
        try:
            outcome: Outcome = read_row(plan.raw, frame, protocol)
        except ProblemError as error:
            outcome = error.problem
        return _changed(plan, frame, shared) or outcome

    def pixels(frame: RawFrame) -> int:
        return _PIXELS_AT_ONCE if frame.decoded_pixels is None else frame.decoded_pixels

    return lambda frames: ordered_map(read, frames, workers, pixels, _PIXELS_AT_ONCE)


def _changed(plan: Plan, frame: RawFrame, shared: Set[str]) -> Problem | None:
    """A frame whose own files are not those that were planned with: what is in which split would not hold."""
    for file in frame.files:
        path = plan.raw / file
        if file not in shared and not _is_as_planned(path, plan.inputs[file]):
            return Problem(file, "was changed while the set was built: build it again")
    return None


def _is_as_planned(path: Path, digest: str) -> bool:
    try:
        return path.is_file() and file_digest(path) == digest
    except OSError:
        return False


def _report(plan: Plan, records: Sequence[ShardRecord], counts: SetCounts) -> dict[str, Any]:
    """What report.json says: counts, every problem, what was let pass."""
    problems = [*plan.problems, *(problem for record in records for problem in record.problems)]
    tolerated = Counter(plan.tolerated)
    for record in records:
        tolerated.update(record.tolerated)
    frames = {split: counts.frames[split] for split in SPLITS if counts.frames[split]}
    return {
        "frames": frames,
        "patients": {split: sorted(counts.patients[split], key=natural_key) for split in frames},
        "pictures": plan.pictures,
        "left_out": plan.pictures - sum(frames.values()),
        "problems": [
            {"file": problem.file, "reason": problem.reason}
            for problem in sorted(problems, key=lambda problem: natural_key(problem.file))
        ],
        "tolerated": dict(sorted((+tolerated).items())),
    }


def _stroke_range(records: Sequence[ShardRecord]) -> str:
    strokes = [frame["stroke_width"] for record in records for frame in record.frames]
    low, high = f"{min(strokes):.4g}", f"{max(strokes):.4g}"
    return f"{low} px" if low == high else f"{low} to {high} px"


# From the renderer.


def build_synthetic(
    request: SyntheticRequest, output: Path, card_template: str, workers: int = 1, overwrite: bool = False
) -> bool:
    """Builds the dataset into `output`; the bytes do not depend on `workers`.

    A build that is killed or interrupted goes on from its finished shards, as `build_raw_set`.

    Args:
        request: What to render.
        output: Folder to write: `data/*.parquet`, README.md, contact_sheet.png, build.json.
        card_template: Text of README.md with `$name` placeholders.
        workers: Processes that render frames.
        overwrite: Replace another built set in `output`.

    Returns:
        False if `output` holds this very dataset already, and nothing was done.

    Raises:
        OSError: a folder is in the way or full, or another build is writing into the output.
    """
    output, described = Path(output), request.as_json()
    writer = DatasetWriter(output, described, plan_shards(frames_by_split(request)))
    if is_built(output, described):
        writer.clear_up()
        return False
    check_output(output, overwrite)

    def rows_of(frames: Iterator[tuple[int, int]]) -> Generator[Outcome, None, None]:
        with closing(iterate_rows(request, workers, frames)) as rows:
            for _, row in rows:
                yield row, {}

    with writer.opened():
        counts = writer.write(rows_of)
        with dataset_folder(output, overwrite) as folder:
            values = {name: str(value) for name, value in asdict(request).items()}
            values |= {"protocol": PROTOCOL.name, "version": str(GENERATOR_VERSION)}
            _fill_folder(folder, writer, counts, DEFAULT_LANDMARKS, described, card_template, values)
    return True


# What both leave in the folder: Parquet files, contact sheet, card, request.


def _fill_folder(
    folder: Path,
    writer: DatasetWriter[Any],
    counts: SetCounts,
    table: LandmarkTable,
    described: Mapping[str, Any],
    card_template: str,
    values: Mapping[str, str],
) -> None:
    files = writer.place(folder)
    _write_sheet(folder / SHEET_FILE, [path for split in SPLITS for path in files.get(split, ())], table)
    write_card(folder, card_template, {**values, **writer.card_values(counts, files)})
    write_build(folder, described)


def _write_sheet(path: Path, files: Sequence[Path], table: LandmarkTable) -> None:
    tiles = []
    for row in _spread_rows(files, _SHEET_FRAMES):
        with Image.open(io.BytesIO(row["image"]["bytes"])) as image:
            rgb = np.asarray(image.convert("RGB"))
        caption = row["frame_id"]
        tiles.append(draw_tile(rgb, row["landmarks"], _SHEET_TILE_PX, caption=caption, table=table))
    write_sheet(path, tiles, _SHEET_COLUMNS)


def _spread_rows(files: Sequence[Path], wanted: int) -> Iterator[dict[str, Any]]:
    """At most so many rows, spread evenly over all files; a row group is in memory at a time."""
    sizes = [pq.read_metadata(file).num_rows for file in files]
    total = sum(sizes)
    chosen = {index * total // min(wanted, total) for index in range(min(wanted, total))}
    first = 0
    for file in files:
        with pq.ParquetFile(file) as parquet:
            for group in range(parquet.num_row_groups):
                rows = parquet.metadata.row_group(group).num_rows
                hits = sorted(index - first for index in chosen if first <= index < first + rows)
                if hits:
                    table = parquet.read_row_group(group, columns=["image", "landmarks", "frame_id"])
                    yield from table.take(hits).to_pylist()
                first += rows


# To the Hub.


class PublishError(ValueError):
    """The Hub did not take the set; the message is one line."""


def check_repo_id(repo_id: str) -> None:
    """Raises a ValueError where no data set on the Hub can be called so."""
    try:
        validate_repo_id(repo_id)
    except ValueError as error:
        raise ValueError(f"--push-to-hub {repo_id!r}: {_one_line(error)}") from None


def publish(folder: Path, repo_id: str, *, public: bool = False, api: HfApi | None = None) -> str:
    """Uploads a built set, without the files that name raw files.

    Args:
        folder: What `build_raw_set` or `build_synthetic` wrote.
        repo_id: `user/name`; made where it does not exist.
        public: A repository that is newly made can be seen by everyone; one that exists stays as it is.
        api: None takes the user's own.

    Returns:
        The repository's address.

    Raises:
        PublishError: the Hub refuses or is not reached; the folder is whole all the same.
    """
    api = api or HfApi()
    try:
        repository = api.create_repo(repo_id, repo_type="dataset", private=not public, exist_ok=True)
        api.upload_folder(
            repo_id=repo_id,
            repo_type="dataset",
            folder_path=folder,
            commit_message="Built by liver-landmark data build",
            ignore_patterns=list(LEFT_AT_HOME),
            # A set with fewer shards must not leave those of the former one behind.
            delete_patterns=["data/*.parquet"],
        )
    except (HTTPError, XetDownloadError, OSError, ValueError) as error:
        raise PublishError(f"{folder} is built, but {repo_id} was not pushed: {_one_line(error)}") from error
    return str(repository)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
