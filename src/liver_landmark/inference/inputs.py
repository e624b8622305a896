"""Which files a prediction runs on, and what their results are called."""

from __future__ import annotations

import glob
import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..frame_files import SUFFIXES


@dataclass(frozen=True)
class Inputs:
    """Attributes:
    files: Every frame once, in the order of the arguments, a folder's by name.
    skipped: Files of the folders that are no pictures by their suffix.
    """

    files: list[Path]
    skipped: int


def collect_inputs(
    arguments: Sequence[str], *, recursive: bool = False, output: Path | None = None
) -> Inputs:
    """Resolves files, glob patterns and folders to files.

    A file that is named is taken whatever its suffix, and even where it does not exist, so that its
    failure has a line of its own. A folder gives its pictures by suffix, without hidden ones.

    Args:
        arguments: Paths and patterns.
        recursive: Take the folders below a folder too.
        output: Where results go: what lies there is no input of a folder around it.

    Raises:
        ValueError: a pattern or a folder without pictures, or a folder that is the output's.
    """
    files: dict[str, Path] = {}
    skipped = 0
    for argument in arguments:
        paths = [Path(argument)]
        if not paths[0].exists() and glob.has_magic(argument):
            paths = [Path(match) for match in sorted(glob.glob(argument, recursive=True))]
            if not paths:
                raise ValueError(f"pattern {argument!r} matches no file")
        for path in paths:
            found = [path]
            if path.is_dir():
                if output is not None and _absolute(path) == _absolute(output):
                    raise ValueError(f"folder {path} is both input and output: choose another output folder")
                every = list(_files_below(path, recursive, output))
                found = [file for file in every if file.suffix.lower() in SUFFIXES]
                skipped += len(every) - len(found)
                if not found:
                    raise ValueError(f"folder {path} holds no picture ({', '.join(SUFFIXES)})")
            for file in found:
                files.setdefault(_absolute(file), file)
    return Inputs(list(files.values()), skipped)


def _files_below(folder: Path, recursive: bool, output: Path | None) -> Iterator[Path]:
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(
            name
            for name in folders
            if recursive
            and not name.startswith(".")
            and (output is None or _absolute(Path(parent, name)) != _absolute(output))
        )
        yield from (Path(parent, name) for name in sorted(names) if not name.startswith("."))


def _absolute(path: Path) -> str:
    return os.path.abspath(path)


def output_names(files: Sequence[Path]) -> list[str]:
    """A name for each file's results: its stem, with as much added as keeps all of them apart.

    Files that share a stem get their suffix added (`frame_jpg`), or else the names of their folders in
    front (`patient1_frame`), or both, and where all that is not enough, a number. Names are told apart
    without regard to case, as some file systems do.
    """
    groups: dict[str, list[Path]] = defaultdict(list)
    for file in files:
        groups[file.stem.casefold()].append(file)
    taken: set[str] = set()
    names: dict[Path, str] = {}
    # Stems that nobody shares come first, so that they keep their plain name.
    for group in sorted(groups.values(), key=len):
        for file, name in zip(group, _names_apart(group), strict=True):
            unique, number = name, 2
            while unique.casefold() in taken:
                unique, number = f"{name}-{number}", number + 1
            taken.add(unique.casefold())
            names[file] = unique
    return [names[file] for file in files]


def _names_apart(group: list[Path]) -> list[str]:
    """The first way of naming that tells a group of files of one stem apart."""
    folders = [Path(_absolute(file)).parent.parts[1:] for file in group]
    names = [file.stem for file in group]
    for depth in range(max(map(len, folders)) + 1):
        fronts = ["".join(f"{part}_" for part in parts[len(parts) - depth :]) for parts in folders]
        for with_suffix in (False, True):
            names = [
                front + file.stem + (f"_{file.suffix[1:]}" if with_suffix else "")
                for front, file in zip(fronts, group, strict=True)
            ]
            if len({name.casefold() for name in names}) == len(names):
                return names
    return names
