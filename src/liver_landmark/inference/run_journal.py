"""What a prediction run has done so far, and its records: predictions.jsonl, cvat.xml and run.json.

    <output>/.unfinished/              with parts: .unfinished-2-of-8/
      settings.json                    what the results depend on
      planned.json                     what the run may write
      rows.jsonl                       lines of predictions.jsonl; after an input's, one that says it is done
      videos/<name>_mask/              a video on its way (`video_writer.VideoOutput`)

A run that ends, with or without failures, puts its lines in the inputs' order into predictions.jsonl and
removes the folder.
"""

from __future__ import annotations

import json
import platform
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

import av
import cv2

from ..curves.formats import FrameAnnotation
from ..curves.formats.annotation import xml_fragment
from ..curves.formats.cvat import iterate_cvat
from ..model.landmarks_liver_landmark import LandmarkTable
from ..utils.atomic_files import atomic_path, hold_folder, write_json
from .predictor import LandmarkPredictor
from .result_files import UNLISTED, OutputError, PredictionOptions, RunFiles, Source, frame_annotation
from .smoothing import CausalSmoother

_DONE = "input_done"


class Journal:
    """Lines of finished inputs, in the order in which they were finished."""

    def __init__(self, path: Path) -> None:
        """Use `open_journal`."""
        self._path = path
        self._ranges: dict[str, tuple[int, int]] = {}
        self._read()

    def _read(self) -> None:
        """Finds each finished input's lines, and cuts off what was being written when the run was killed."""
        self._path.touch()
        start = position = 0
        with self._path.open("rb") as lines:
            for line in lines:
                try:
                    row = json.loads(line)
                except ValueError:
                    break
                if not line.endswith(b"\n"):
                    break
                if _DONE in row:
                    self._ranges[row[_DONE]] = (start, position)
                    start = position + len(line)
                position += len(line)
        with self._path.open("r+b") as file:
            file.truncate(start)

    def __contains__(self, source: Source) -> bool:
        return str(source.file) in self._ranges

    def add(self, source: Source, lines: Iterable[str]) -> None:
        """Notes that an input is done, with its lines of predictions.jsonl."""
        with self._path.open("ab") as file:
            start = position = file.tell()
            for line in lines:
                position += file.write(line.encode())
            file.write((json.dumps({_DONE: str(source.file)}) + "\n").encode())
        self._ranges[str(source.file)] = (start, position)

    def lines(self, source: Source) -> Iterator[str]:
        """The lines of an input; none if it is not done."""
        start, end = self._ranges.get(str(source.file), (0, 0))
        with self._path.open("rb") as file:
            file.seek(start)
            while file.tell() < end:
                yield file.readline().decode()

    def first_row(self, source: Source) -> dict[str, Any] | None:
        """The first line of an input as it was read; None if it has none."""
        line = next(self.lines(source), None)
        return None if line is None else json.loads(line)


@contextmanager
def open_journal(
    files: RunFiles, settings: Mapping[str, Any], *, resume: bool, overwrite: bool
) -> Iterator[Journal]:
    """The run's journal; the work folder is removed at the end, and stays where the run does not get there.

    Args:
        files: The run's.
        settings: What the results depend on: a run goes on with the same ones only.
        resume: Go on where a former run stopped, or retry what failed in one that ended.
        overwrite: Throw away what a former run left.

    Raises:
        OutputError: another run's remains, not to be thrown away, or of other settings, or a folder that
            cannot be made, locked or written.
        FileExistsError: another process is at work in the folder.
    """
    settings = json.loads(json.dumps(settings))
    busy = f"{files.output}: another run is writing it: wait for it, or give another --output"
    with ExitStack() as held:
        try:
            was_interrupted = files.settings.is_file()
            held.enter_context(hold_folder(files.work, busy))
            with _removed_on_errors(None if was_interrupted else files.work):
                if files.meets_others():
                    raise FileExistsError(busy)
                if was_interrupted and not resume and not overwrite:
                    raise OutputError(
                        f"{files.output}: an interrupted run lies here: --resume goes on with it, "
                        "--overwrite starts over"
                    )
                if was_interrupted and resume:
                    _check_same(files, _read_json(files.settings), settings)
                else:
                    files.clear_work()
                    if resume:
                        _take_up_finished(files, settings)
                    write_json(files.settings, settings)
                journal = Journal(files.rows)
        except FileExistsError:
            raise
        except OSError as error:
            raise OutputError(
                f"{files.output}: cannot be written: {error.strerror or error}: choose another --output"
            ) from error
        yield journal
        shutil.rmtree(files.work)


@contextmanager
def _removed_on_errors(folder: Path | None) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError):
        if folder is not None:
            shutil.rmtree(folder)
        raise


def _take_up_finished(files: RunFiles, settings: dict[str, Any]) -> None:
    """Makes a journal of a run that ended, without the inputs that failed in it."""
    missing = [file.name for file in (files.run, files.predictions) if not file.is_file()]
    if len(missing) == 2:
        return
    if missing:
        raise OutputError(
            f"{files.output}: no run to go on with: {missing[0]} is missing: choose another --output"
        )
    try:
        record = _read_json(files.run)
        _check_same(files, record.get("settings", {}), settings)
        failed = {failure["file"] for failure in record["failed"]}
        done: str | None = None
        with (
            files.predictions.open(encoding="utf-8") as lines,
            files.rows.open("w", encoding="utf-8", newline="\n") as rows,
        ):
            for line in lines:
                file = json.loads(line)["file"]
                if file in failed:
                    continue
                if done not in (None, file):
                    rows.write(json.dumps({_DONE: done}) + "\n")
                rows.write(line)
                done = file
            if done is not None:
                rows.write(json.dumps({_DONE: done}) + "\n")
    except OutputError:
        raise
    # Damaged by whoever edited them.
    except (ValueError, KeyError, TypeError) as error:
        reason = f"{files.run.name} or {files.predictions.name} is damaged: {error!r}"
        raise OutputError(f"{files.output}: {reason}; --overwrite starts over") from error


def _check_same(files: RunFiles, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    for name in sorted({*before, *now}):
        if before.get(name) != now.get(name):
            raise OutputError(
                f"{files.output}: the run that lies here had {name} {before.get(name)!r}, not "
                f"{now.get(name)!r}: resume with the same options and model, or --overwrite"
            )


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise OutputError(f"{path}: damaged: {error}; --overwrite starts over") from error
    if not isinstance(content, dict):
        raise OutputError(f"{path}: damaged; --overwrite starts over")
    return content


def write_predictions(path: Path, journal: Journal, sources: Sequence[Source]) -> None:
    """Writes predictions.jsonl: the lines of all inputs, in the inputs' order."""
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as file:
        for source in sources:
            file.writelines(journal.lines(source))


# What follows from predictions.jsonl once it is written.


@dataclass(frozen=True)
class Totals:
    """Sums over the lines of a predictions.jsonl.

    Attributes:
        frames: Lines.
        frames_with: Landmark -> frames that it is present in.
        milliseconds: Stage -> mean wall time a frame.
        frame_interval_s: Mean time between a video's frames; None without videos.
    """

    frames: int
    frames_with: dict[str, int]
    milliseconds: dict[str, float]
    frame_interval_s: float | None

    @classmethod
    def of(cls, path: Path, landmarks: LandmarkTable) -> Totals:
        """Reads the file once, a line at a time; the landmarks are the model's."""
        frames, intervals, elapsed_s = 0, 0, 0.0
        present: Counter[str] = Counter()
        spent: Counter[str] = Counter()
        before: dict[str, Any] = {}
        for row in read_rows(path):
            frames += 1
            present.update(row["present"])
            spent.update(row["milliseconds"])
            if row.get("frame", 0) > 0 and row["file"] == before.get("file"):
                intervals += 1
                elapsed_s += row["time_s"] - before["time_s"]
            before = row
        return cls(
            frames,
            {name: present[name] for name in landmarks.names},
            {stage: round(total / frames, 3) for stage, total in spent.items()},
            elapsed_s / intervals if intervals else None,
        )


def read_rows(path: Path) -> Iterator[dict[str, Any]]:
    """The lines of a predictions.jsonl."""
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)


def write_cvat(files: RunFiles, frames: int) -> list[dict[str, Any]]:
    """Writes the curves of all frames as one file that CVAT uploads.

    Pictures are named as their files are, with folders where two have one name; a video's frames as CVAT
    names them, frame_000012, behind the video's name where there are several inputs.

    Returns:
        Entries of run.json's `failed` for the files whose names XML cannot hold: their curves are left out.
    """
    path, predictions = files.cvat, files.predictions
    inputs = list(dict.fromkeys(row["file"] for row in read_rows(predictions)))
    counts = Counter(Path(file).name for file in inputs)
    names = {
        file: Path(file).name if counts[Path(file).name] == 1 else Path(file).as_posix() for file in inputs
    }

    def annotation(row: dict[str, Any]) -> FrameAnnotation:
        name = names[row["file"]]
        if "frame" in row:
            frame = f"frame_{row['frame']:06d}"
            name = frame if len(names) == 1 else f"{name}/{frame}"
        return frame_annotation(row, name, files.landmarks)

    refused: dict[str, str] = {}
    for file, name in names.items():
        try:
            xml_fragment(Element("image", name=name), 0)
        except ValueError as error:
            refused[file] = f"{file}: its curves are not in {path.name}: {error}"
    left_out = Counter(row["file"] for row in read_rows(predictions) if row["file"] in refused)
    kept = (annotation(row) for row in read_rows(predictions) if row["file"] not in refused)
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(iterate_cvat(kept, frames - left_out.total(), files.landmarks))
    return [{"file": name, "reason": reason, "frames": left_out[name]} for name, reason in refused.items()]


def merge_parts(files: RunFiles, sources: Sequence[Source]) -> list[dict[str, Any]]:
    """Makes predictions.jsonl and run.json of the parts' once all are there.

    Whichever part ends last does it, or several at once: they write the same.

    Args:
        files: Those of any part.
        sources: The inputs of all parts.

    Returns:
        Entries like those of run.json's `failed`: why the parts, though all there, were not merged, or what
        cvat.xml lacks.
    """
    parts, whole = files.parts, files.whole
    if not all(part.run.is_file() for part in parts):
        return []
    records = []
    for part in parts:
        try:
            record = json.loads(part.run.read_text(encoding="utf-8"))
            missing = {"settings", "totals", "failed", "options"} - record.keys()
        except (ValueError, AttributeError):
            missing = {"everything"}
        if missing:
            return _not_merged(whole, f"{part.run.name} is damaged")
        records.append(record)
    # A part of another run, of another model or other options, is not merged with these.
    settings = [record["settings"] | {"part_id": None} for record in records]
    for part_id, other in enumerate(settings):
        for name in sorted({*other, *settings[0]}):
            if other.get(name) != settings[0].get(name):
                first, this = settings[0].get(name), other.get(name)
                return _not_merged(whole, f"part 0 had {name} {first!r}, part {part_id} {this!r}")
    for part_id, part in enumerate(parts):
        place = {str(source.file): at for at, source in enumerate(sources[part_id :: len(parts)])}
        last = 0
        for row in read_rows(part.predictions):
            if place.get(row["file"], -1) < last:
                return _not_merged(whole, f"part {part_id} had other inputs, {row['file']} among them")
            last = place[row["file"]]
    former = whole.recorded()
    with ExitStack() as opened:
        lines = [
            _LinesByFile(opened.enter_context(part.predictions.open(encoding="utf-8"))) for part in parts
        ]
        merged = opened.enter_context(atomic_path(whole.predictions))
        with merged.open("w", encoding="utf-8", newline="\n") as file:
            for number, source in enumerate(sources):
                file.writelines(lines[number % len(parts)].take(str(source.file)))
    totals = Totals.of(whole.predictions, files.landmarks)
    refused = []
    if "cvat" in files.options.curves:
        refused = write_cvat(whole, totals.frames)
    merged_record = _merged_record(records, totals, sources)
    merged_record["failed"] += refused
    merged_record["totals"]["failed"] += len(refused)
    merged_record[UNLISTED] = whole.unlisted(former)
    write_json(whole.run, merged_record)
    return refused


def _not_merged(whole: RunFiles, why: str) -> list[dict[str, Any]]:
    path = whole.predictions
    reason = f"{path}: the parts are not merged: {why}: run all parts with the same inputs and options"
    return [{"file": str(path), "reason": reason, "frames": 0}]


class _LinesByFile:
    """Lines of a part's predictions, which are in the inputs' order."""

    def __init__(self, lines: Iterator[str]) -> None:
        self._lines = lines
        self._next = next(lines, None)

    def take(self, file: str) -> Iterator[str]:
        """The next lines as long as they are of that input."""
        while self._next is not None and json.loads(self._next)["file"] == file:
            yield self._next
            self._next = next(self._lines, None)


def _merged_record(
    records: Sequence[dict[str, Any]], totals: Totals, sources: Sequence[Source]
) -> dict[str, Any]:
    place = {str(source.file): number for number, source in enumerate(sources)}
    failed = [failure for record in records for failure in record["failed"]]
    sums = {
        name: round(sum(record["totals"][name] for record in records), 3)
        for name in ("inputs", "predicted", "predicted_before", "failed", "seconds")
    }
    return {
        **records[0],
        "settings": records[0]["settings"] | {"part_id": None},
        "options": records[0]["options"] | {"part_id": None},
        "totals": records[0]["totals"] | sums | {"frames": totals.frames, "frames_with": totals.frames_with},
        "milliseconds_per_frame": totals.milliseconds,
        "failed": sorted(failed, key=lambda failure: place.get(failure["file"], len(place))),
    }


# run.json: what a run was asked, with what it ran, and what came of it.

_PACKAGES = ("liver-landmark", "torch", "transformers", "numpy", "pillow")
# How a run is carried out, but not what comes out of it.
_NOT_IN_RESULTS = ("batch_size", "limits", "video_limits")


@dataclass
class RunReport:
    """What became of the inputs.

    Attributes:
        inputs: How many this run was to predict.
        predicted: Of them, how many have a prediction, this run's or an earlier one's that it went on with.
        frames: Lines in predictions.jsonl.
        failed: {"file", "reason"} of each input without a prediction, or with one of its beginning only:
            {"frames": how many} then.
    """

    inputs: int = 0
    predicted: int = 0
    frames: int = 0
    failed: list[dict[str, Any]] = field(default_factory=list)


def result_settings(
    predictor: LandmarkPredictor, options: PredictionOptions, model_name: str
) -> dict[str, Any]:
    """What the results depend on; a run goes on with the same settings only."""
    asked = {name: value for name, value in asdict(options).items() if name not in _NOT_IN_RESULTS}
    return {
        "model": model_name,
        "model_revision": predictor.revision,
        "dtype": str(predictor.dtype).removeprefix("torch."),
        "views": None if predictor.views is None else asdict(predictor.views),
        **asked,
        "version": version("liver-landmark"),
    }


def run_record(
    predictor: LandmarkPredictor,
    settings: dict[str, Any],
    options: PredictionOptions,
    report: RunReport,
    totals: Totals,
    seconds: float,
    *,
    skipped: int,
    before: int,
) -> dict[str, Any]:
    """The content of run.json.

    Args:
        predictor: The model.
        settings: `result_settings`.
        options: The run's.
        report: What became of the inputs.
        totals: Of predictions.jsonl.
        seconds: Wall time of this run.
        skipped: Files of the folders that are neither pictures nor videos.
        before: Inputs that an earlier run had predicted, which this one went on with.
    """
    return {
        "command": "predict",
        "model": settings["model"],
        "model_revision": settings["model_revision"],
        "device": str(predictor.device),
        "dtype": settings["dtype"],
        # What the numbers in the masks mean.
        "classes": predictor.landmarks.id2label,
        "presence_calibrated": predictor.model.config.presence_calibration is not None,
        "options": asdict(options),
        "settings": settings,
        "smoothing_delay_ms": _smoothing_delay_ms(options, totals),
        "totals": {
            "inputs": report.inputs,
            "predicted": report.predicted,
            "predicted_before": before,
            "failed": len(report.failed),
            "frames": totals.frames,
            "frames_with": totals.frames_with,
            "skipped_in_folders": skipped,
            "seconds": round(seconds, 3),
        },
        "milliseconds_per_frame": totals.milliseconds,
        "failed": report.failed,
        # OpenCV comes under several distribution names.
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in _PACKAGES},
            "opencv": cv2.__version__,
            "av": av.__version__,
        },
    }


def _smoothing_delay_ms(options: PredictionOptions, totals: Totals) -> float | None:
    """By how much smoothed curves are late, at the videos' mean frame interval."""
    if options.smoothing_s is None or totals.frame_interval_s is None:
        return None
    return round(CausalSmoother(options.smoothing_s).delay_at(totals.frame_interval_s) * 1e3, 1)
