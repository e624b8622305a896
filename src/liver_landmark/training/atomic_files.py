"""Files, folders and links that are complete or absent, whenever the process is killed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# Names that hold something half-written or half-deleted.
_PREFIX = ".incomplete-"


def _flush_to_disk(path: Path) -> None:
    """Waits until the content of a file, or the entries of a folder, would survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """Yields a temporary sibling of `target` to fill; at the end it becomes `target` in one rename.

    An exception inside removes the temporary folder and leaves `target` as it was: absent.
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


def write_text(path: Path, text: str) -> None:
    """Writes or replaces a text file in one rename."""
    temporary = path.parent / f"{_PREFIX}{path.name}"
    temporary.write_text(text, encoding="utf-8")
    _flush_to_disk(temporary)
    temporary.replace(path)
    _flush_to_disk(path.parent)


def point_link(link: Path, target: Path) -> None:
    """Makes `link` a relative symbolic link to `target`, in one rename if it pointed elsewhere before."""
    temporary = link.parent / f"{_PREFIX}{link.name}"
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(os.path.relpath(target, link.parent))
    temporary.replace(link)
    _flush_to_disk(link.parent)


def remove_folder(folder: Path) -> None:
    """Deletes a folder; killed on the way, what is left does not bear its name."""
    doomed = folder.parent / f"{_PREFIX}removed-{folder.name}"
    if doomed.exists():
        shutil.rmtree(doomed)
    folder.rename(doomed)
    shutil.rmtree(doomed)


def remove_leftovers(folder: Path) -> None:
    """Deletes what killed processes left half-written or half-deleted directly in `folder`."""
    for leftover in folder.glob(f"{_PREFIX}*"):
        if leftover.is_dir() and not leftover.is_symlink():
            shutil.rmtree(leftover)
        else:
            leftover.unlink()
