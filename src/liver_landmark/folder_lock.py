"""A folder that one process at a time works in."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

LOCK_FILE = "lock"


@contextmanager
def hold_folder(folder: Path, busy: str) -> Iterator[None]:
    """Makes the folder and holds its lock, which the system takes back from whoever is killed.

    Raises:
        FileExistsError: another process holds it; the message is `busy`.
    """
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / LOCK_FILE).open("wb") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise FileExistsError(busy) from None
            # Whoever held it before may have removed the folder with the file that is locked now.
            if not _is_in_place(lock, folder):
                continue
            yield
            return


def is_held(folder: Path) -> bool:
    """Whether a process holds the lock of a folder, which need not be there; nothing is changed."""
    try:
        with (folder / LOCK_FILE).open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def _is_in_place(lock: BinaryIO, folder: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(lock.fileno()), os.stat(folder / LOCK_FILE))
    except FileNotFoundError:
        return False
