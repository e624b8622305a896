"""Looking around in a raw folder: what lies there, in an order that does not depend on the machine."""

from __future__ import annotations

import re
from collections import defaultdict, deque
from collections.abc import Iterable, Sequence
from pathlib import Path

from ...frame_files import SUFFIXES


def natural_key(text: str) -> tuple[tuple[tuple[int, int | str], ...], str]:
    """Sorts numbers in names as numbers: frame 9 before frame 10."""
    parts = re.split(r"([0-9]+)", text)
    return tuple((0, int(part)) if part.isdecimal() else (1, part) for part in parts), text


def check_raw_folder(raw: Path) -> None:
    """Raises a FileNotFoundError or NotADirectoryError that names the folder."""
    if not raw.exists():
        raise FileNotFoundError(f"{raw}: no such folder")
    if not raw.is_dir():
        raise NotADirectoryError(f"{raw}: not a folder")


def relative(raw: Path, path: Path) -> str:
    """A path as reports name it: below the raw folder, with forward slashes."""
    return path.relative_to(raw).as_posix()


def subfolders(folder: Path) -> list[Path]:
    """The folders directly below, without hidden ones."""
    found = [path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")]
    return sorted(found, key=lambda path: natural_key(path.name))


def folders_named(folder: Path, *names: str) -> list[Path]:
    """The folders directly below that bear one of the names, in any case."""
    wanted = {name.casefold() for name in names}
    return [path for path in subfolders(folder) if path.name.casefold() in wanted]


def files_in(folder: Path, suffixes: Sequence[str]) -> tuple[list[Path], int]:
    """The files directly below with one of the suffixes, in any case, and how many others lie there.

    Hidden files count as neither: some systems put one beside each file that is copied.
    """
    entries = [path for path in folder.iterdir() if not path.name.startswith(".") and not path.is_dir()]
    found = [path for path in entries if path.suffix.lower() in suffixes]
    return sorted(found, key=lambda path: natural_key(path.name)), len(entries) - len(found)


def pictures_in(folder: Path) -> tuple[list[Path], int]:
    """The pictures directly below a folder, and how many other files lie there."""
    return files_in(folder, SUFFIXES)


def folders_below(folder: Path) -> list[Path]:
    """The folder and all below it, without hidden ones.

    Links to folders are followed, but no folder is entered twice, and none that the first one lies in: what a
    stranger links costs no more time than it has folders, and brings nobody's other data in.
    """
    top = folder.resolve()
    found, entered, waiting = [], set(), deque([folder])
    while waiting:
        place = waiting.popleft()
        real = place.resolve()
        if real in entered or real in top.parents:
            continue
        entered.add(real)
        found.append(place)
        # Links last: a folder that lies here itself is known by that name.
        inner = subfolders(place)
        waiting.extendleft(path for path in reversed(inner) if not path.is_symlink())
        waiting.extend(path for path in inner if path.is_symlink())
    return found


def files_below(folder: Path) -> list[Path]:
    """All files below a folder, without hidden ones and hidden folders."""
    found = []
    for place in folders_below(folder):
        found += [path for path in place.iterdir() if not path.name.startswith(".") and not path.is_dir()]
    return sorted(found, key=lambda path: natural_key(relative(folder, path)))


def by_stem(files: Iterable[Path]) -> dict[str, list[Path]]:
    """Files by their name without suffix."""
    groups: dict[str, list[Path]] = defaultdict(list)
    for file in files:
        groups[file.stem].append(file)
    return dict(groups)
