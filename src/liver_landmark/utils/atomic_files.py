"""Files, folders and links that are complete or absent, and folders that one process at a time works in.

Each is written beside its place and renamed into it. Two strengths: `new_folder`, `write_text`, `point_link`
and `remove_folder` also wait for the disk, for what must survive a power cut: checkpoints and records.
`atomic_path` and the writers built on it do not, for results that come by the hundred and can be made again.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from PIL import Image

# Names that hold something half-written or half-deleted.
_PREFIX = ".incomplete-"
_PARTIAL = re.compile(r"\.(.+)\.[0-9a-f]{8}\.partial(\.[^.]*)?", re.DOTALL)
_IS_WINDOWS = os.name == "nt"


def _flush_to_disk(path: Path) -> None:
    """Waits until the content of a file, or the entries of a folder, would survive a power cut."""
    if _IS_WINDOWS and path.is_dir():
        return  # Windows opens no folder, and keeps a journal of names itself.
    # Windows flushes only what may be written; elsewhere a file may be read-only.
    descriptor = os.open(path, os.O_RDWR if _IS_WINDOWS else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """Yields a temporary sibling of `target` to fill; at the end it becomes `target` in one rename.

    What is in it gets the modes that the umask leaves, whatever its writers chose. An exception inside
    removes the temporary folder and leaves `target` as it was: absent.
    """
    if target.exists():
        raise FileExistsError(f"{target} already exists")
    temporary = target.parent / f"{_PREFIX}{target.name}"
    target.parent.mkdir(parents=True, exist_ok=True)
    if temporary.exists():
        shutil.rmtree(temporary)
    temporary.mkdir()
    try:
        yield temporary
        _use_common_modes(temporary)
        # Renaming before the content has reached the disk could leave, after a power cut, a folder
        # of the right name with empty files in it.
        for folder, _, names in os.walk(temporary):
            for name in names:
                _flush_to_disk(Path(folder, name))
            _flush_to_disk(Path(folder))
        temporary.rename(target)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    _flush_to_disk(target.parent)


def _use_common_modes(folder: Path) -> None:
    """Gives everything in a folder that was just made the folder's own mode; files cannot be executed."""
    mode = folder.stat().st_mode & 0o777
    for parent, folders, names in os.walk(folder):
        for name in folders:
            Path(parent, name).chmod(mode)
        for name in names:
            Path(parent, name).chmod(mode & 0o666)


def write_text(path: Path, text: str) -> None:
    """Writes or replaces a text file in one rename."""
    temporary = path.parent / f"{_PREFIX}{path.name}"
    temporary.write_text(text, encoding="utf-8")
    _flush_to_disk(temporary)
    temporary.replace(path)
    _flush_to_disk(path.parent)


def point_link(link: Path, target: Path) -> None:
    """Makes `link` a relative symbolic link to `target`, in one rename if it pointed elsewhere before.

    Windows asks for its developer mode to make links, and does not rename over one that names a folder: there
    the former one goes first.
    """
    temporary = link.parent / f"{_PREFIX}{link.name}"
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(os.path.relpath(target, link.parent), target_is_directory=target.is_dir())
    if _IS_WINDOWS and link.is_symlink():
        link.unlink()
    temporary.replace(link)
    _flush_to_disk(link.parent)


def remove_folder(folder: Path) -> None:
    """Deletes a folder; killed on the way, what is left does not bear its name."""
    doomed = folder.parent / f"{_PREFIX}removed-{folder.name}"
    if doomed.exists():
        shutil.rmtree(doomed)
    folder.rename(doomed)
    shutil.rmtree(doomed)


def replace_folder(new: Path, target: Path) -> None:
    """Renames `new` to `target`; a folder, or a link to one, that was there is renamed aside before.

    It is deleted afterward; of a link only the link. Killed between the two renames, `target` is absent and
    `new` is whole. Where the second rename fails, `target` is what it was.
    """
    former = target.parent / f"{_PREFIX}removed-{target.name}"
    _delete(former)
    there = target.exists() or target.is_symlink()
    if there:
        target.rename(former)
    try:
        new.rename(target)
    except BaseException:
        if there:
            former.rename(target)
        raise
    _flush_to_disk(target.parent)
    _delete(former)


def _delete(path: Path) -> None:
    """Deletes a folder with all that is in it, a file, or a link without what it points to."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def remove_leftovers(folder: Path) -> None:
    """Deletes what killed processes left half-written or half-deleted directly in `folder`."""
    for leftover in folder.glob(f"{_PREFIX}*"):
        _delete(leftover)


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yields a temporary path beside `path`; renames it to `path` at the end, or removes it on an error.

    The temporary name keeps the suffix, by which writers choose their format, and starts with a dot.
    """
    temporary = path.with_name(f".{path.stem}.{secrets.token_hex(4)}.partial{path.suffix}")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def partial_target(name: str) -> str | None:
    """What a file was to be called that has a temporary name of `atomic_path`'s; None for other names."""
    match = _PARTIAL.fullmatch(name)
    return None if match is None else match[1] + (match[2] or "")


def write_png(path: Path, pixels: np.ndarray) -> None:
    """Writes (H, W) uint8 as mode L, (H, W, 3) uint8 as RGB."""
    with atomic_path(path) as temporary:
        # Level 1 is several times faster than the default, and a frame's overlay hardly larger for it.
        Image.fromarray(pixels).save(temporary, format="PNG", compress_level=1)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Writes indented JSON; a NaN or an infinity is a ValueError, since JSON has none."""
    _write_result(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def write_json_lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Writes one JSON object a line."""
    lines = [json.dumps(row, allow_nan=False) + "\n" for row in rows]
    _write_result(path, "".join(lines))


# json escapes what is not ASCII: file names that are no UTF-8 get through.
def _write_result(path: Path, text: str) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


# How long a lock is asked for: whoever only looks whether it is held has it for an instant.
_PATIENCE_S, _POLL_S = 0.2, 0.02


@contextmanager
def hold_folder(folder: Path, busy: str) -> Iterator[None]:
    """Makes the folder and holds its lock, which the system takes back from whoever is killed.

    The lock is a file beside the folder, so that its holder can remove the folder, on Windows too. It goes
    when the lock is given back; one that a killed process left does no harm.

    Raises:
        FileExistsError: another process, or another thread, holds it; the message is `busy`.
        OSError: the folder cannot be made, or its file system does not support locks.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = _take_lock(folder)
    if lock is None:
        raise FileExistsError(busy)
    try:
        folder.mkdir(exist_ok=True)
        yield
    finally:
        _give_back(lock)


def is_held(folder: Path) -> bool:
    """Whether a process holds the lock of a folder, which need not be there."""
    if not _lock_file(folder).exists():
        return False
    lock = _take_lock(folder)
    if lock is None:
        return True
    _give_back(lock)
    return False


def _lock_file(folder: Path) -> Path:
    return folder.with_name(f".lock-{folder.name}")


def _take_lock(folder: Path) -> FileLock | None:
    # Without the fallback to files that mean a lock by being there, which outlive whoever is killed.
    lock = FileLock(_lock_file(folder), thread_local=False, fallback_to_soft=False)
    try:
        lock.acquire(timeout=_PATIENCE_S, poll_interval=_POLL_S)
    except Timeout:
        return None
    return lock


def _give_back(lock: FileLock) -> None:
    path = Path(lock.lock_file)
    try:
        # While it is held: who waits for it notices that the file went, and makes it anew.
        path.unlink(missing_ok=True)
    except PermissionError:
        # Windows removes no open file: once it is closed, unless another process has opened it since.
        lock.release()
        with suppress(OSError):
            path.unlink(missing_ok=True)
    finally:
        lock.release()
