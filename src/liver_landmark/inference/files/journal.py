"""What a prediction run has done so far, so that an interrupted one can go on.

    <output>/.unfinished/              with parts: .unfinished-2-of-8/
      settings.json                    what the results depend on
      rows.jsonl                       lines of predictions.jsonl; after an input's, one that says it is done
      videos/<name>_mask/              a video on its way (`video_output.py`)

A run that ends, with or without failures, puts its lines in the inputs' order into predictions.jsonl and
removes the folder.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from ...atomic_files import atomic_path, write_json
from ...folder_lock import hold_folder
from .inputs import Source
from .outputs import PartNames

SETTINGS_FILE, ROWS_FILE = "settings.json", "rows.jsonl"
_DONE = "input_done"


class ResumeError(ValueError):
    """An output that a run cannot begin in or go on with; the message is one line."""


class Journal:
    """Lines of finished inputs, in the order in which they were finished."""

    def __init__(self, folder: Path) -> None:
        """Use `open_journal`."""
        self.folder = folder
        self._path = folder / ROWS_FILE
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
    output: Path, names: PartNames, settings: Mapping[str, Any], *, resume: bool, overwrite: bool
) -> Iterator[Journal]:
    """The run's journal; the work folder is removed at the end, and stays where the run does not get there.

    Args:
        output: Folder of the results.
        names: Of this run's files.
        settings: What the results depend on: a run goes on with the same ones only.
        resume: Go on where a former run stopped, or retry what failed in one that ended.
        overwrite: Throw away what a former run left.

    Raises:
        ResumeError: another run's remains, not to be thrown away, or of other settings, or a folder that
            cannot be made, locked or written.
        FileExistsError: another process is at work in the folder.
    """
    work = output / names.work
    settings = json.loads(json.dumps(settings))
    busy = f"{output}: another run is writing it: wait for it, or give another --output"
    with ExitStack() as held:
        try:
            was_interrupted = (work / SETTINGS_FILE).is_file()
            held.enter_context(hold_folder(work, busy))
            if names.meets_others(output):
                if not was_interrupted:
                    shutil.rmtree(work)
                raise FileExistsError(busy)
            if was_interrupted and not resume and not overwrite:
                raise ResumeError(
                    f"{output}: an interrupted run lies here: --resume goes on with it, "
                    "--overwrite starts anew"
                )
            _begin(output, names, settings, go_on=was_interrupted and resume, take_up=resume)
            journal = Journal(work)
        except FileExistsError:
            raise
        except OSError as error:
            raise ResumeError(
                f"{output}: cannot be written: {error.strerror or error}: choose another --output"
            ) from error
        yield journal
        shutil.rmtree(work)


def _begin(output: Path, names: PartNames, settings: dict[str, Any], *, go_on: bool, take_up: bool) -> None:
    """Leaves a work folder that a journal can be opened in: an interrupted run's, or a new one."""
    work = output / names.work
    if go_on:
        _check_same(output, _read_json(work / SETTINGS_FILE), settings)
        return
    _clear(work)
    if take_up:
        try:
            _take_up_finished(output, names, work, settings)
        except ResumeError:
            shutil.rmtree(work)
            raise
        # Damaged by whoever edited them.
        except (ValueError, KeyError, TypeError) as error:
            shutil.rmtree(work)
            reason = f"{names.run} or {names.predictions} is damaged: {error!r}"
            raise ResumeError(f"{output}: {reason}; --overwrite starts anew") from error
    write_json(work / SETTINGS_FILE, settings)


def _clear(work: Path) -> None:
    for path in work.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name in (SETTINGS_FILE, ROWS_FILE):
            path.unlink()


def _take_up_finished(output: Path, names: PartNames, work: Path, settings: dict[str, Any]) -> None:
    """Makes a journal of a run that ended, without the inputs that failed in it."""
    if not (output / names.run).is_file() or not (output / names.predictions).is_file():
        return
    record = _read_json(output / names.run)
    _check_same(output, record.get("settings", {}), settings)
    failed = {failure["file"] for failure in record["failed"]}
    done: str | None = None
    with (output / names.predictions).open(encoding="utf-8") as lines, (work / ROWS_FILE).open("w") as rows:
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


def _check_same(output: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    for name in sorted({*before, *now}):
        if before.get(name) != now.get(name):
            raise ResumeError(
                f"{output}: the run that lies here had {name} {before.get(name)!r}, not {now.get(name)!r}: "
                "resume with the same options and model, or --overwrite"
            )


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ResumeError(f"{path}: damaged: {error}; --overwrite starts anew") from error
    if not isinstance(content, dict):
        raise ResumeError(f"{path}: damaged; --overwrite starts anew")
    return content


def write_predictions(path: Path, journal: Journal, sources: Sequence[Source]) -> None:
    """Writes predictions.jsonl: the lines of all inputs, in the inputs' order."""
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as file:
        for source in sources:
            file.writelines(journal.lines(source))
