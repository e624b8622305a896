"""The work folder: finished shards survive an interruption, and nothing survives a failure."""

from __future__ import annotations

import fcntl
import shutil
import signal
import subprocess
import sys
from collections import Counter

import pytest

from liver_landmark.data.dataset_folder import Shard, ShardRecord, WorkFolder, file_digest
from liver_landmark.data.readers import Problem

FIRST, SECOND = Shard("train", 0, ()), Shard("train", 1, ())


def finish(work: WorkFolder, shard: Shard, content: bytes) -> ShardRecord:
    path = work.parquet(shard)
    path.write_bytes(content)
    frame = {"patient_id": "P", "width": 4, "height": 3, "stroke_width": 1.5, "landmarks": ["ridge"]}
    record = ShardRecord(
        [frame], [Problem("a.jpg", "broken")], Counter(rigde=2), file_digest(path), len(content)
    )
    work.finish(shard, record)
    return record


def interrupt(work: WorkFolder, error: type[BaseException] = KeyboardInterrupt) -> ShardRecord:
    """One finished shard, and then the error."""
    records = []

    def build():
        with work.opened():
            records.append(finish(work, FIRST, b"rows"))
            raise error

    with pytest.raises(error):
        build()
    return records[0]


def test_finished_shards_survive_an_interruption(tmp_path):
    work = WorkFolder(tmp_path / "set", "fingerprint")
    record = interrupt(work)
    assert [path.name for path in tmp_path.iterdir()] == [".set.building"]
    with WorkFolder(tmp_path / "set", "fingerprint").opened():
        assert work.finished(FIRST) == record
        assert work.finished(SECOND) is None
    assert list(tmp_path.iterdir()) == []


def test_another_build_starts_anew(tmp_path):
    interrupt(WorkFolder(tmp_path / "set", "fingerprint"))
    other = WorkFolder(tmp_path / "set", "other")
    with other.opened():
        assert other.finished(FIRST) is None
        assert not other.parquet(FIRST).exists()


@pytest.mark.parametrize("error", [OSError, ValueError, SystemExit])
def test_a_failure_leaves_nothing(tmp_path, error):
    interrupt(WorkFolder(tmp_path / "set", "fingerprint"), error)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("torn", ["parquet", "json", "no parquet", "other json"])
def test_what_a_power_cut_tore_is_made_again(tmp_path, torn):
    work = WorkFolder(tmp_path / "set", "fingerprint")
    interrupt(work)
    path = work.parquet(FIRST)
    if torn == "parquet":
        path.write_bytes(b"row")
    elif torn == "no parquet":
        path.unlink()
    else:
        path.with_suffix(".json").write_text('{"frames": [' if torn == "json" else "{}[]")
    with work.opened():
        assert work.finished(FIRST) is None


def test_a_shard_without_rows_needs_no_file(tmp_path):
    work = WorkFolder(tmp_path / "set", "fingerprint")
    with work.opened():
        record = ShardRecord(problems=[Problem("a.jpg", "broken")])
        work.finish(FIRST, record)
        assert work.finished(FIRST) == record


def test_two_builds_of_one_output_do_not_meet(tmp_path):
    first, second = (WorkFolder(tmp_path / "set", name) for name in ("fingerprint", "other"))
    with first.opened():
        record = finish(first, FIRST, b"rows")
        for work in (second, WorkFolder(tmp_path / "set", "fingerprint")):
            with pytest.raises(FileExistsError, match="another build is writing it"), work.opened():
                pass
        assert first.finished(FIRST) == record
    with second.opened():
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_went_with_its_lock_is_made_again(tmp_path, monkeypatch):
    work, flock, removed = WorkFolder(tmp_path / "set", "fingerprint"), fcntl.flock, []

    def removed_meanwhile(lock, operation):
        if not removed:
            removed.append(shutil.rmtree(work.path))
        flock(lock, operation)

    monkeypatch.setattr(fcntl, "flock", removed_meanwhile)
    with work.opened():
        finish(work, FIRST, b"rows")
    assert removed
    assert list(tmp_path.iterdir()) == []


def test_a_killed_build_holds_no_lock(tmp_path):
    script = (
        "import os, signal, sys; from pathlib import Path\n"
        "from liver_landmark.data.dataset_folder import WorkFolder\n"
        "with WorkFolder(Path(sys.argv[1]), 'fingerprint').opened(): os.kill(os.getpid(), signal.SIGKILL)"
    )
    killed = subprocess.run([sys.executable, "-c", script, str(tmp_path / "set")], check=False)
    assert killed.returncode == -signal.SIGKILL
    work = WorkFolder(tmp_path / "set", "fingerprint")
    assert work.is_of_this_set()
    with work.opened():
        pass
    assert list(tmp_path.iterdir()) == []
