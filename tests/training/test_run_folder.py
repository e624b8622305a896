"""The folder of a run: which checkpoints it keeps, what `last` and `best` are, and metrics.jsonl."""

from __future__ import annotations

import errno
import itertools
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from liver_landmark.training.run_folder import MetricsLog, RunFolder, plain_numbers


def save(folder: RunFolder, step: int, keep_last: int = 2) -> None:
    with folder.new_checkpoint(step, keep_last) as path:
        (path / "step").write_text(str(step))


def save_best(folder: RunFolder, text: str) -> None:
    with folder.new_best() as path:
        (path / "model").write_text(text)


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    folder = RunFolder(tmp_path / "run")
    folder.path.mkdir()
    return folder


def test_last_is_a_relative_link_and_old_checkpoints_go(folder: RunFolder) -> None:
    for step in (100, 200, 300, 1_000_000):
        save(folder, step)
    assert list(folder.steps()) == [300, 1_000_000]
    assert os.readlink(folder.last) == "checkpoints/step-1000000"
    assert (folder.last / "step").read_text() == "1000000"


def test_checkpoint_to_go_on_from(folder: RunFolder) -> None:
    assert folder.find_checkpoint("never") is None
    assert folder.find_checkpoint("auto") is None
    with pytest.raises(ValueError, match="holds no checkpoint"):
        folder.find_checkpoint("required")
    save(folder, 1)
    save(folder, 2)
    steps = folder.steps()
    assert folder.find_checkpoint("never") is None
    assert folder.find_checkpoint("auto") == folder.find_checkpoint("required") == steps[2]
    assert folder.find_checkpoint(str(steps[1])) == steps[1]
    assert folder.find_checkpoint(str(folder.last)) == steps[2]
    with pytest.raises(ValueError, match="is no checkpoint of"):
        folder.find_checkpoint(str(folder.path))
    # Killed before the first link.
    folder.last.unlink()
    assert folder.find_checkpoint("required") == steps[2]


def test_half_written_checkpoint_is_none(folder: RunFolder) -> None:
    save(folder, 5)
    shutil.copytree(folder.checkpoints / "step-000005", folder.checkpoints / ".incomplete-step-000006")
    assert list(folder.steps()) == [5]
    folder.remove_leftovers()
    assert [path.name for path in folder.checkpoints.iterdir()] == ["step-000005"]


def test_going_back_drops_what_came_later(folder: RunFolder) -> None:
    for step in (1, 2, 3):
        save(folder, step, keep_last=5)
    folder.go_back_to(2)
    assert list(folder.steps()) == [1, 2]
    assert os.readlink(folder.last) == "checkpoints/step-000002"


def killed_at(moment: int, work: Callable[[], None]) -> bool:
    """Does the work in a process that dies at its n-th file operation; whether it came to its end."""
    child = os.fork()
    if child == 0:
        operations = itertools.count(1)

        def watch(owner: object, name: str) -> None:
            original = getattr(owner, name)

            def watched(*args: object, **options: object) -> object:
                if next(operations) == moment:
                    os._exit(9)
                return original(*args, **options)

            setattr(owner, name, watched)

        for owner, name in ((Path, "rename"), (shutil, "rmtree"), (os, "fsync"), (Path, "mkdir")):
            watch(owner, name)
        try:
            work()
            os._exit(0)
        finally:
            os._exit(1)  # no exception may leave for the parent's stack
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, 9)
    return code == 0


@pytest.mark.parametrize("first", [True, False])
def test_killed_at_any_moment_best_is_the_old_or_the_new_one(tmp_path: Path, first: bool) -> None:
    seen = set()
    for moment in range(1, 60):
        folder = RunFolder(tmp_path / str(moment))
        folder.path.mkdir()
        if not first:
            save_best(folder, "old")
            # And what an earlier kill has left is no obstacle.
            killed_at(moment // 2, lambda folder=folder: save_best(folder, "old"))
            folder = RunFolder(folder.path)
        done = killed_at(moment, lambda folder=folder: save_best(folder, "new"))
        best = RunFolder(folder.path).best
        seen.add((best / "model").read_text() if best.exists() else "none")
        folder.remove_leftovers()
        assert [path.name for path in folder.path.iterdir()] == ["best"] * best.exists()
        save_best(folder, "newer")
        assert (best / "model").read_text() == "newer"
        if done:
            break
    assert done
    assert seen == ({"none", "new"} if first else {"old", "new"})


def test_best_survives_as_a_copy_that_others_may_read(folder: RunFolder, tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        with folder.new_best() as path:
            (path / "model").write_text("x")
            (path / "model").chmod(0o600)
            (path / "inner").mkdir(mode=0o700)
    finally:
        os.umask(before)
    folder.best.rename(tmp_path / "given away")
    modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.glob("given away/**/*")}
    assert modes == {"model": 0o644, "inner": 0o755}


def test_without_links_the_last_checkpoint_is_that_with_the_most_steps(folder, monkeypatch) -> None:
    def refuse(self: Path, target: object, **options: object) -> None:
        raise OSError(code, os.strerror(code))

    code = errno.EPERM
    monkeypatch.setattr(Path, "symlink_to", refuse)
    save(folder, 1)
    save(folder, 2)
    assert not folder.last.exists()
    assert folder.find_checkpoint("required") == folder.steps()[2]
    folder.go_back_to(1)
    assert folder.find_checkpoint("auto") == folder.steps()[1]
    code = errno.ENOSPC
    with pytest.raises(OSError, match="space"):
        save(folder, 3)


def test_deleting_a_run_leaves_other_files(folder: RunFolder) -> None:
    save(folder, 1)
    save_best(folder, "x")
    folder.metrics.write_text("")
    folder.run_record.write_text("")
    folder.tensorboard.mkdir()
    (folder.path / "notes.txt").write_text("mine")
    assert folder.holds_run()
    folder.delete_run()
    assert [path.name for path in folder.path.iterdir()] == ["notes.txt"]
    assert not folder.holds_run()


def test_records_are_lines_of_json(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path / "metrics.jsonl")
    log.append({"step": 1, "loss": 0.1})
    log.append({"step": 2, "validation": {"dsc": float("nan"), "per_class": {"ridge": np.float64(0.5)}}})
    records = [json.loads(line) for line in log.path.read_text().splitlines()]
    assert records[0] == {"step": 1, "loss": 0.1}
    assert records[1] == {"step": 2, "validation": {"dsc": None, "per_class": {"ridge": 0.5}}}


def test_going_back_drops_later_steps_and_a_cut_line(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path / "metrics.jsonl")
    # No file is no error.
    log.keep_up_to(3)
    log.flush_to_disk()
    assert not log.path.exists()
    for step in (1, 2, 2, 3):
        log.append({"step": step})
    with log.path.open("a") as file:
        file.write('{"step": 2, "lo')
    log.keep_up_to(2)
    assert log.path.read_text() == '{"step": 1}\n{"step": 2}\n{"step": 2}\n'


@given(st.recursive(st.floats() | st.integers() | st.text() | st.none() | st.booleans(), st.lists))
def test_plain_numbers_are_json(value: object) -> None:
    json.loads(json.dumps(plain_numbers(value), allow_nan=False))
