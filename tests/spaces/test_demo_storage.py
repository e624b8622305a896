"""Uploads and results go when they should, and not before."""

from __future__ import annotations

import os
from types import SimpleNamespace

import pytest
from demo_storage import AnalysisStore, StoredBytes, Sweeper, sweep_folder
from demo_uploads import CountedUploads


def analysis(megabytes=1):
    return SimpleNamespace(size_bytes=megabytes * 10**6)


@pytest.fixture
def uploads():
    return CountedUploads()


@pytest.fixture
def upload(uploads, tmp_path):
    """Uploads a file of that name, anew where it is gone."""

    def write(name="frame.png"):
        (tmp_path / name).write_bytes(b"x")
        uploads.update([str(tmp_path / name)])
        return tmp_path / name

    return write


def test_an_upload_goes_with_the_last_who_uploaded_it(uploads, upload):
    path = upload()
    upload()
    other = upload("other.png")
    uploads.release(str(path))
    assert path.exists()
    assert str(path) in uploads
    uploads.release(str(path))
    assert not path.exists()
    assert uploads == {str(other)}
    # A file that nobody uploaded is not the demo's to delete.
    path.write_bytes(b"x")
    uploads.release(str(path))
    assert path.exists()


def test_uploads_whose_users_were_refused_are_forgotten_with_their_files(uploads, upload):
    refused, waiting = upload("refused.png"), upload("waiting.png")
    # Gradio's clean-up removes while it goes through them.
    for path in uploads:
        uploads.discard(path)
        uploads.add(path)
    refused.unlink()
    uploads.forget_missing()
    assert uploads == {str(waiting)}
    # The next one with the same file is the only one.
    uploads.release(str(upload("refused.png")))
    assert not refused.exists()


def test_an_upload_that_gradio_has_swept_counts_no_more(uploads, upload):
    path = upload()
    path.unlink()
    uploads -= {str(path)}
    uploads.release(str(upload()))
    assert not path.exists()
    uploads.update([str(path)])
    uploads -= {str(path)}
    uploads.forget_missing()
    assert not uploads._waiting


def test_the_longest_unused_analyses_go_first():
    store = AnalysisStore(max_bytes=3e6, max_age_s=100, clock=lambda: 0.0)
    kept = {name: analysis() for name in "abc"}
    for name, one in kept.items():
        store.put(name, one)
    assert store.get("a") is kept["a"]
    store.put("d", analysis())
    assert [store.get(name) is not None for name in "abcd"] == [True, False, True, True]
    # Another one of the same page takes the place of its last.
    store.put("d", analysis())
    assert len(store) == 3
    # One alone is kept whatever its size: its page is looking at it.
    store.put("e", analysis(9))
    assert len(store) == 1
    store.drop("e")
    assert store.get("e") is None


def test_analyses_go_when_they_were_not_used_for_long():
    now = [0.0]
    store = AnalysisStore(max_bytes=1e9, max_age_s=100, clock=lambda: now[0])
    store.put("a", analysis())
    store.put("b", analysis())
    now[0] = 90
    assert store.get("a") is not None
    now[0] = 101
    store.sweep()
    assert len(store) == 1
    assert store.get("b") is None
    assert store.get("a") is not None


def test_what_is_stored_is_what_lies_there_and_what_is_coming(tmp_path):
    now = [0.0]
    stored = StoredBytes(tmp_path, 1000, clock=lambda: now[0])
    # Three quarters are for uploads.
    assert stored.reserve(400)
    assert not stored.reserve(351)
    assert stored.reserve(350)
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "frame.png").write_bytes(bytes(350))
    stored.unreserve(350)
    # Promised until the folder is looked at again, then seen.
    assert not stored.reserve(1)
    now[0] = 2
    assert not stored.reserve(1)
    stored.unreserve(400)
    now[0] = 4
    assert stored.reserve(400)
    stored.unreserve(400)
    assert not stored.is_full()
    (tmp_path / "video.zip").write_bytes(bytes(650))
    now[0] = 6
    assert stored.is_full()
    (tmp_path / "video.zip").unlink()
    now[0] = 8
    assert not stored.is_full()


def test_a_sweep_takes_old_files_and_empty_folders(tmp_path):
    (tmp_path / "one" / "deep").mkdir(parents=True)
    (tmp_path / "one" / "deep" / "frame.png").write_bytes(b"x")
    (tmp_path / "left over").write_bytes(b"x")
    os.symlink(tmp_path / "nowhere", tmp_path / "broken link")
    assert sweep_folder(tmp_path, 3600) == 0
    assert sweep_folder(tmp_path, 0) == 3
    assert list(tmp_path.iterdir()) == []
    assert sweep_folder(tmp_path, 0) == 0


def test_the_sweeper_sweeps_often_enough(tmp_path):
    parts = (tmp_path, AnalysisStore(1e9, 1), CountedUploads())
    assert Sweeper(*parts, 600).interval_s == 10
    assert Sweeper(*parts, 10).interval_s == 2
    sweeper = Sweeper(*parts, 1)
    sweeper.start()
    (tmp_path / "frame.png").write_bytes(b"x")
    sweeper.join(0.1)
    assert sweeper.is_alive()
    sweeper.stop()
    sweeper.join(5)
    assert not sweeper.is_alive()
