"""What follows from predictions.jsonl once it is written: totals, CVAT's file, one run made of its parts."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

from ...atomic_files import atomic_path, write_json
from ...curves.exchange import FrameAnnotation
from ...curves.exchange.cvat import iterate_cvat
from ...curves.exchange.xml_text import xml_fragment
from ...model.landmarks_liver_landmark import LANDMARK_NAMES
from .inputs import Source
from .outputs import PartNames
from .options import PredictionOptions
from .outputs import frame_annotation


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
    def of(cls, path: Path) -> Totals:
        """Reads the file once, a line at a time."""
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
            {name: present[name] for name in LANDMARK_NAMES},
            {stage: round(total / frames, 3) for stage, total in spent.items()},
            elapsed_s / intervals if intervals else None,
        )


def read_rows(path: Path) -> Iterator[dict[str, Any]]:
    """The lines of a predictions.jsonl."""
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)


def write_cvat(path: Path, predictions: Path, frames: int) -> list[dict[str, Any]]:
    """Writes the curves of all frames as one file that CVAT uploads.

    Pictures are named as their files are, with folders where two have one name; a video's frames as CVAT
    names them, frame_000012, behind the video's name where there are several inputs.

    Returns:
        Entries of run.json's `failed` for the files whose names XML cannot hold: their curves are left out.
    """
    names = Counter(Path(row["file"]).name for row in read_rows(predictions) if row.get("frame", 0) == 0)

    def annotation(row: dict[str, Any]) -> FrameAnnotation:
        file = Path(row["file"])
        name = file.name if names[file.name] == 1 else file.as_posix()
        if "frame" in row:
            frame = f"frame_{row['frame']:06d}"
            name = frame if len(names) == 1 else f"{name}/{frame}"
        return frame_annotation(row, name)

    refused: dict[str, str] = {}
    left_out: Counter[str] = Counter()
    for row in read_rows(predictions):
        if row.get("frame", 0) == 0:
            try:
                xml_fragment(Element("image", name=annotation(row).file_name), 0)
            except ValueError as error:
                refused[row["file"]] = f"{row['file']}: its curves are not in {path.name}: {error}"
        left_out[row["file"]] += row["file"] in refused
    kept = (annotation(row) for row in read_rows(predictions) if row["file"] not in refused)
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(iterate_cvat(kept, frames - left_out.total()))
    return [{"file": name, "reason": reason, "frames": left_out[name]} for name, reason in refused.items()]


def merge_parts(output: Path, options: PredictionOptions, sources: Sequence[Source]) -> list[dict[str, Any]]:
    """Makes predictions.jsonl and run.json of the parts' once all are there.

    Whichever part ends last does it, or several at once: they write the same.

    Returns:
        Entries like those of run.json's `failed`: why the parts, though all there, were not merged, or what
        cvat.xml lacks.
    """
    parts = [PartNames(replace(options, part_id=part_id)) for part_id in range(options.num_parts)]
    if not all((output / part.run).is_file() for part in parts):
        return []
    path = output / "predictions.jsonl"
    records = []
    for part in parts:
        try:
            record = json.loads((output / part.run).read_text(encoding="utf-8"))
            missing = {"settings", "totals", "failed", "options"} - record.keys()
        except (ValueError, AttributeError):
            missing = {"everything"}
        if missing:
            return _not_merged(path, f"{part.run} is damaged")
        records.append(record)
    # A part of another run, of another model or other options, is not merged with these.
    settings = [record["settings"] | {"part_id": None} for record in records]
    for part_id, other in enumerate(settings):
        for name in sorted({*other, *settings[0]}):
            if other.get(name) != settings[0].get(name):
                first, this = settings[0].get(name), other.get(name)
                return _not_merged(path, f"part 0 had {name} {first!r}, part {part_id} {this!r}")
    for part_id, part in enumerate(parts):
        place = {str(source.file): at for at, source in enumerate(sources[part_id :: options.num_parts])}
        last = 0
        for row in read_rows(output / part.predictions):
            if place.get(row["file"], -1) < last:
                return _not_merged(path, f"part {part_id} had other inputs, {row['file']} among them")
            last = place[row["file"]]
    with ExitStack() as opened:
        lines = [
            _LinesByFile(opened.enter_context((output / part.predictions).open(encoding="utf-8")))
            for part in parts
        ]
        merged = opened.enter_context(atomic_path(path))
        with merged.open("w", encoding="utf-8", newline="\n") as file:
            for number, source in enumerate(sources):
                file.writelines(lines[number % len(parts)].take(str(source.file)))
    totals = Totals.of(path)
    refused = []
    if "cvat" in options.curves:
        refused = write_cvat(output / "cvat.xml", path, totals.frames)
    merged_record = _merged_record(records, totals, sources)
    merged_record["failed"] += refused
    merged_record["totals"]["failed"] += len(refused)
    write_json(output / "run.json", merged_record)
    return refused


def _not_merged(path: Path, why: str) -> list[dict[str, Any]]:
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
    merged = {
        **records[0],
        "settings": records[0]["settings"] | {"part_id": None},
        "options": records[0]["options"] | {"part_id": None},
        "totals": records[0]["totals"] | sums | {"frames": totals.frames, "frames_with": totals.frames_with},
        "milliseconds_per_frame": totals.milliseconds,
        "failed": sorted(failed, key=lambda failure: place.get(failure["file"], len(place))),
    }
    return merged
