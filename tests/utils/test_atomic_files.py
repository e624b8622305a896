"""Files, folders and links: complete or absent."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from liver_landmark.utils.atomic_files import (
    new_folder,
    point_link,
    remove_folder,
    remove_leftovers,
    write_text,
)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_folder_appears_when_it_is_complete(tmp_path: Path) -> None:
    with new_folder(tmp_path / "a" / "b") as folder:
        (folder / "one").write_text("1")
        assert not (tmp_path / "a" / "b").exists()
        (folder / "two").mkdir()
    assert names(tmp_path / "a") == ["b"]
    assert names(tmp_path / "a" / "b") == ["one", "two"]


def test_failure_leaves_nothing(tmp_path: Path) -> None:
    def fail() -> None:
        with new_folder(tmp_path / "a") as folder:
            (folder / "one").write_text("1")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert names(tmp_path) == []


def test_existing_folder_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(FileExistsError), new_folder(tmp_path / "a"):
        pass


def test_leftover_of_a_killed_writer_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / ".incomplete-a").mkdir()
    (tmp_path / ".incomplete-a" / "half").write_text("")
    with new_folder(tmp_path / "a") as folder:
        (folder / "one").write_text("1")
    assert names(tmp_path / "a") == ["one"]


def test_content_is_on_disk_before_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events = []
    fsync, rename = os.fsync, Path.rename
    monkeypatch.setattr(
        os, "fsync", lambda fd: (events.append(os.readlink(f"/proc/self/fd/{fd}")), fsync(fd))
    )
    monkeypatch.setattr(Path, "rename", lambda self, to: (events.append("rename"), rename(self, to)))
    with new_folder(tmp_path / "a") as folder:
        (folder / "inner").mkdir()
        (folder / "inner" / "file").write_text("1")
    before = [Path(event).name for event in events[: events.index("rename")]]
    assert {"file", "inner", ".incomplete-a"} <= set(before)
    # The new name itself, too.
    assert events[-1] == str(tmp_path)


@pytest.mark.parametrize("umask", [0o022, 0o027])
def test_files_and_folders_have_the_modes_of_the_umask(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        with new_folder(tmp_path / "a") as folder:
            (folder / "inner").mkdir(mode=0o700)
            (folder / "inner" / "secret").write_text("1")
            (folder / "inner" / "secret").chmod(0o600)
    finally:
        os.umask(before)
    modes = {
        path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "a", *(tmp_path / "a").rglob("*"))
    }
    assert modes == {"a": 0o777 & ~umask, "inner": 0o777 & ~umask, "secret": 0o666 & ~umask}


def test_text_is_replaced_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_text(tmp_path / "a", "old")
    monkeypatch.setattr(Path, "replace", lambda self, to: (_ for _ in ()).throw(OSError("killed")))
    with pytest.raises(OSError, match="killed"):
        write_text(tmp_path / "a", "new")
    assert (tmp_path / "a").read_text() == "old"


def test_link_is_relative_and_can_be_moved_with_its_folder(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / "run" / name).mkdir(parents=True)
        point_link(tmp_path / "run" / "last", tmp_path / "run" / name)
    assert os.readlink(tmp_path / "run" / "last") == "two"
    (tmp_path / "run").rename(tmp_path / "moved")
    assert (tmp_path / "moved" / "last").resolve() == (tmp_path / "moved" / "two").resolve()


def test_half_deleted_folder_does_not_bear_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").mkdir()
    monkeypatch.setattr("shutil.rmtree", lambda path: (_ for _ in ()).throw(OSError("killed")))
    with pytest.raises(OSError, match="killed"):
        remove_folder(tmp_path / "a")
    assert not (tmp_path / "a").exists()


def test_leftovers_go_and_the_rest_stays(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / ".incomplete-b").mkdir()
    (tmp_path / ".incomplete-c").write_text("")
    (tmp_path / ".incomplete-d").symlink_to("a")
    (tmp_path / ".hidden").write_text("")
    remove_leftovers(tmp_path)
    assert names(tmp_path) == [".hidden", "a"]
