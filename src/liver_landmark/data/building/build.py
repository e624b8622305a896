"""Builds a data set from a raw one: planned, read frame by frame, sharded, then put into its place whole."""

from __future__ import annotations

import json
import os
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Set
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ...background import ordered_map
from ..readers import Plan, Problem, ProblemError, RawFrame, finish_plan, read_row
from ..readers.splits import check_trainable
from ..schema import SPLITS
from .finished_set import REPORT_FILE, count_records, fill_folder
from .raw_request import RawRequest
from .shards import shard_writer
from .work_folder import Shard, ShardRecord, WorkFolder, file_digest
from .writer import check_output, dataset_folder, is_built, request_fingerprint

FRAMES_PER_SHARD = 128
# Two 4K frames, or eight of 1080p, from reading to writing: decoding takes up to 20 bytes a pixel, and an
# encoded frame up to four.
_PIXELS_AT_ONCE = 2**24


# A row and what was let pass in it, or why there is none.
_Outcome = tuple[dict[str, Any], Mapping[str, int]] | Problem


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

    def report(problem: Problem) -> None:
        if strict:
            raise ProblemError(problem)
        on_problem(problem)

    # L3D's splits are published: none are drawn.
    splits = None if request.set_name == "l3d" else request.splits
    plan = finish_plan(request.find(), splits, workers)
    for problem in plan.problems:
        report(problem)
    described = request.as_json(plan)
    work = WorkFolder(output, request_fingerprint(described))
    if is_built(output, described):
        if work.is_of_this_set():  # killed when all was done but to clear up
            with work.opened():
                pass
        return _told_by(output)
    check_output(output, overwrite)
    with work.opened():
        with warnings.catch_warnings():
            # Once for all threads: what Pillow warns of is refused or harmless.
            warnings.simplefilter("ignore")
            shards = _read_shards(plan, work, request.label_protocol, workers, report)
        counts = count_records(shards)
        try:
            check_trainable(counts.frames, {split: len(frames) for split, frames in plan.frames.items()})
        except ValueError as error:
            raise ValueError(f"{raw}: {error}") from error
        with dataset_folder(output, overwrite) as folder:
            fill_folder(folder, request, described, plan, shards, work, card_template)
    return _told_by(output, built=True)


def _told_by(output: Path, built: bool = False) -> BuildResult:
    report = json.loads((output / REPORT_FILE).read_text(encoding="utf-8"))
    return BuildResult(built, report["frames"], report["left_out"], len(report["problems"]))


def _shards(plan: Plan) -> Iterator[Shard]:
    for split in SPLITS:
        frames = plan.frames[split]
        for number, start in enumerate(range(0, len(frames), FRAMES_PER_SHARD)):
            yield Shard(split, number, tuple(frames[start : start + FRAMES_PER_SHARD]))


def _read_shards(
    plan: Plan, work: WorkFolder, protocol: str, workers: int, report: Callable[[Problem], None]
) -> list[tuple[Shard, ShardRecord]]:
    """All shards in order, those that are not there yet written."""
    uses = Counter(file for frames in plan.frames.values() for frame in frames for file in frame.files)
    # Files of several frames were read when planning, once.
    shared = {file for file, count in uses.items() if count > 1}

    def read(frame: RawFrame) -> _Outcome:
        try:
            outcome = read_row(plan.raw, frame, protocol)
        except ProblemError as error:
            outcome = error.problem
        return _changed(plan, frame, shared) or outcome

    def pixels(frame: RawFrame) -> int:
        return _PIXELS_AT_ONCE if frame.decoded_pixels is None else frame.decoded_pixels

    shards = list(_shards(plan))
    records = {shard.name: work.finished(shard) for shard in shards}
    for record in records.values():
        for problem in () if record is None else record.problems:
            report(problem)
    missing = [shard for shard in shards if records[shard.name] is None]
    total, ahead = sum(len(shard.frames) for shard in shards), sum(len(shard.frames) for shard in missing)
    frames = (frame for shard in missing for frame in shard.frames)
    with (
        closing(ordered_map(read, frames, workers, pixels, _PIXELS_AT_ONCE)) as outcomes,
        tqdm(total=total, initial=total - ahead, unit="frame", disable=None) as progress,
    ):
        for shard in missing:
            records[shard.name] = _write_shard(shard, outcomes, work, report, progress.update)
    return [(shard, records[shard.name]) for shard in shards]


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


def _write_shard(
    shard: Shard,
    outcomes: Iterator[_Outcome],
    work: WorkFolder,
    report: Callable[[Problem], None],
    advance: Callable[[], object],
) -> ShardRecord:
    record, path = ShardRecord(), work.parquet(shard)
    with shard_writer(path) as writer:
        # The shard's frames first: at their end no outcome of the next shard is taken.
        for _, outcome in zip(shard.frames, outcomes, strict=False):
            if isinstance(outcome, Problem):
                record.problems.append(outcome)
                report(outcome)
            else:
                row, tolerated = outcome
                writer.add(row)
                record.add(row)
                record.tolerated.update(tolerated)
            advance()
    if record.frames:
        record.sha256, record.size_bytes = file_digest(path), path.stat().st_size
    else:
        path.unlink()
    work.finish(shard, record)
    return record
