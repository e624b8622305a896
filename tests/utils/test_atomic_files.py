"""Files, folders and links: complete or absent; and a folder that one process at a time works in."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from liver_landmark.utils.atomic_files import (
    atomic_path,
    hold_folder,
    is_held,
    new_folder,
    partial_target,
    point_link,
    remove_folder,
    remove_leftovers,
    replace_folder,
    write_json,
    write_json_lines,
    write_png,
    write_text,
)

# Holds the lock of a folder until it is told, or killed.
HOLD = """
import runpy, sys
from pathlib import Path
with runpy.run_path(sys.argv[1])["hold_folder"](Path(sys.argv[2]), "busy"):
    print("held", flush=True)
    sys.stdin.read()
"""


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_or_folder_appears_when_it_is_complete(tmp_path: Path) -> None:
    with new_folder(tmp_path / "a" / "b") as folder:
        (folder / "one").write_text("1")
        assert not (tmp_path / "a" / "b").exists()
        (folder / "two").mkdir()
    assert names(tmp_path / "a") == ["b"]
    assert names(tmp_path / "a" / "b") == ["one", "two"]
    path = tmp_path / "a" / "c.txt"
    with atomic_path(path) as temporary:
        assert (temporary.parent, temporary.suffix) == (path.parent, ".txt")
        temporary.write_text("new")
        assert not path.exists()
    assert path.read_text() == "new"
    assert names(tmp_path / "a") == ["b", "c.txt"]
    with pytest.raises(FileExistsError), new_folder(tmp_path / "a"):
        pass


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_error_leaves_what_was_there_and_nothing_else(tmp_path: Path, monkeypatch, error: type) -> None:
    write_text(tmp_path / "a.txt", "old")

    def fail(target: AbstractContextManager[Path]) -> None:
        with target as path:
            (path / "one" if path.is_dir() else path).write_text("half")
            raise error

    for target in (atomic_path(tmp_path / "a.txt"), new_folder(tmp_path / "b")):
        with pytest.raises(error):
            fail(target)
    assert names(tmp_path) == ["a.txt"]
    with pytest.raises(error), hold_folder(tmp_path / "work", "busy"):
        raise error
    assert not is_held(tmp_path / "work")
    assert names(tmp_path) == ["a.txt", "work"]
    monkeypatch.setattr(Path, "replace", Mock(side_effect=OSError("killed")))
    with pytest.raises(OSError, match="killed"):
        write_text(tmp_path / "a.txt", "new")
    assert (tmp_path / "a.txt").read_text() == "old"


def test_leftover_of_a_killed_writer_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / ".incomplete-a").mkdir()
    (tmp_path / ".incomplete-a" / "half").write_text("")
    with new_folder(tmp_path / "a") as folder:
        (folder / "one").write_text("1")
    assert names(tmp_path / "a") == ["one"]


def test_content_is_on_disk_before_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events, opened = [], {}
    open_file, fsync, rename = os.open, os.fsync, Path.rename

    def opening(path: Path, *options: object, **more: object) -> int:
        descriptor = open_file(path, *options, **more)
        opened[descriptor] = Path(path)
        return descriptor

    monkeypatch.setattr(os, "open", opening)
    monkeypatch.setattr(os, "fsync", lambda fd: (events.append(opened[fd]), fsync(fd)))
    monkeypatch.setattr(Path, "rename", lambda self, to: (events.append("rename"), rename(self, to)))
    with new_folder(tmp_path / "a") as folder:
        (folder / "inner").mkdir()
        (folder / "inner" / "file").write_text("1")
    before = [event.name for event in events[: events.index("rename")]]
    assert {"file", "inner", ".incomplete-a"} <= set(before)
    # The new name itself, too.
    assert events[-1] == tmp_path


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


def test_link_is_relative_and_can_be_moved_with_its_folder(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / "run" / name).mkdir(parents=True)
        point_link(tmp_path / "run" / "last", tmp_path / "run" / name)
    assert os.readlink(tmp_path / "run" / "last") == "two"
    (tmp_path / "run").rename(tmp_path / "moved")
    assert (tmp_path / "moved" / "last").resolve() == (tmp_path / "moved" / "two").resolve()


def test_half_deleted_folder_does_not_bear_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").mkdir()
    monkeypatch.setattr("shutil.rmtree", Mock(side_effect=OSError("killed")))
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


def test_a_folder_is_replaced_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "text").write_text(name)
    replace_folder(tmp_path / "old", tmp_path / "set")
    rename = Path.rename

    def killed_after_the_first(self: Path, to: Path) -> None:
        if self.name == "new":
            raise OSError("killed")
        rename(self, to)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", killed_after_the_first)
        with pytest.raises(OSError, match="killed"):
            replace_folder(tmp_path / "new", tmp_path / "set")
    # Between the two renames both are whole.
    assert names(tmp_path) == [".incomplete-removed-set", "new"]
    replace_folder(tmp_path / "new", tmp_path / "set")
    assert names(tmp_path) == ["set"]
    assert (tmp_path / "set" / "text").read_text() == "new"


@contextmanager
def held_elsewhere(repository: Path, folder: Path) -> Iterator[subprocess.Popen]:
    """Another process that holds a folder until it is told, or killed."""
    module = str(repository / "src" / "liver_landmark" / "utils" / "atomic_files.py")
    command = [sys.executable, "-c", HOLD, module, str(folder)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8"
    ) as process:
        assert process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.kill()


def test_one_process_at_a_time_holds_a_folder(repository: Path, tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "work"
    assert not is_held(folder)
    with held_elsewhere(repository, folder) as other:
        assert folder.is_dir()
        assert is_held(folder)
        with pytest.raises(FileExistsError, match="busy here"), hold_folder(folder, "busy here"):
            pass
        other.communicate("")
    assert not is_held(folder)
    # Given back, its lock file is gone, too.
    assert names(folder.parent) == ["work"]


def test_who_is_killed_holds_nothing(repository: Path, tmp_path: Path) -> None:
    folder = tmp_path / "work"
    with held_elsewhere(repository, folder) as other:
        other.kill()
    assert names(tmp_path) == [".lock-work", "work"]
    with hold_folder(folder, "busy"):
        assert is_held(folder)
    assert not is_held(folder)
    assert names(tmp_path) == ["work"]


def test_whoever_holds_a_folder_can_remove_it(tmp_path: Path) -> None:
    with hold_folder(tmp_path / "work", "busy"):
        remove_folder(tmp_path / "work")
        assert is_held(tmp_path / "work")
    assert names(tmp_path) == []


def test_a_folder_that_went_with_its_lock_is_made_again(tmp_path: Path) -> None:
    """Each holder removes folder and lock file while others already wait for that lock file."""

    def work_once(number: int) -> None:
        while True:
            try:
                with hold_folder(tmp_path / "work", "busy"):
                    (tmp_path / "one at a time").touch(exist_ok=False)
                    (tmp_path / "work" / f"{number}").touch()
                    assert names(tmp_path / "work") == [f"{number}"]
                    (tmp_path / "one at a time").unlink()
                    remove_folder(tmp_path / "work")
            except FileExistsError as error:
                assert str(error) == "busy"  # noqa: PT017
            else:
                return

    with ThreadPoolExecutor(4) as pool:
        assert len(list(pool.map(work_once, range(100)))) == 100
    assert names(tmp_path) == []


NAMES = st.text(st.characters(exclude_characters="/\0", codec="utf-8"), min_size=1)


@given(NAMES.filter(lambda name: name.strip(".")))
def test_a_temporary_name_tells_what_it_was_to_become(name):
    # Nothing is written, so that there is nothing to rename.
    with suppress(FileNotFoundError), atomic_path(Path("folder", name)) as temporary:
        assert temporary.name != name
        assert partial_target(temporary.name) == name


@pytest.mark.parametrize(
    "name",
    [
        "a.0123abcd.partial.png",
        ".a.0123abc.partial.png",
        ".a.0123abcde.partial.png",
        ".a.0123ABCD.partial.png",
        ".a.0123abcd.partly.png",
        ".a.0123abcd.partial.png.bak",
        ".0123abcd.partial.png",
        ".a.png",
    ],
)
def test_names_that_only_look_temporary_are_told_apart(name):
    assert partial_target(name) is None


def test_png_json_and_lines_come_back(tmp_path):
    ids = np.arange(12, dtype=np.uint8).reshape(3, 4)
    write_png(tmp_path / "ids.png", ids)
    with Image.open(tmp_path / "ids.png") as image:
        assert image.mode == "L"
        np.testing.assert_array_equal(np.asarray(image), ids)
    content = {"name": "Bauchspiegelung äöü", "path": "caf\udce9", "values": [1, None]}
    write_json(tmp_path / "a.json", content)
    assert json.loads((tmp_path / "a.json").read_text()) == content
    write_json_lines(tmp_path / "a.jsonl", [content, {}])
    assert [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()] == [content, {}]
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "nan.json", {"value": float("nan")})
    assert not (tmp_path / "nan.json").exists()
