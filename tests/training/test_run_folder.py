"""The folder of a run: which checkpoints it keeps, what `last` and `best` point to."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from liver_landmark.training.run_folder import RunFolder


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


def test_killed_before_the_first_link_the_checkpoint_is_found(folder: RunFolder) -> None:
    save(folder, 5)
    folder.last.unlink()
    assert folder.find_checkpoint("required") == folder.steps()[5]


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


def test_best_is_replaced_in_one_rename(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    save_best(folder, "first")
    seen = []
    replace = Path.replace

    def watched(self: Path, to: Path) -> Path:
        seen.append((folder.best / "model").read_text())
        result = replace(self, to)
        seen.append((folder.best / "model").read_text())
        return result

    monkeypatch.setattr(Path, "replace", watched)
    save_best(folder, "second")
    assert seen == ["first", "second"]
    assert len(list(folder.path.glob(".best-*"))) == 1
    assert not os.path.isabs(os.readlink(folder.best))


def test_best_that_was_not_pointed_to_any_more_goes(folder: RunFolder) -> None:
    save_best(folder, "first")
    shutil.copytree(folder.best, folder.path / ".best-b")
    folder.remove_leftovers()
    assert len(list(folder.path.glob(".best-*"))) == 1
    assert (folder.best / "model").read_text() == "first"
    save_best(folder, "second")
    save_best(folder, "third")
    assert (folder.best / "model").read_text() == "third"


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
