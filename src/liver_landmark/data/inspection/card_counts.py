"""What a dataset's card says of its content, against what was counted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from ..building.card import FILES_HEADER, SetCounts
from ..building.work_folder import file_digest

CARD_FILE = "README.md"

# First cell of a table's row -> its other cells.
_Table = dict[str, list[str]]


def compare_card(card: Path, counts: SetCounts, files: Mapping[str, Path]) -> Iterator[str]:
    """Each number and hash of a card that is not the one found, in words.

    Compared are the frames of each split in the front matter, by which `datasets` plans, and the tables that
    this package's builds write; what else a card says is its author's.

    Args:
        card: README.md.
        counts: Of all rows.
        files: The set's files by their path below its folder, with forward slashes.
    """
    try:
        front_matter, body = _parts(card.read_text(encoding="utf-8"))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        yield f"cannot be read ({' '.join(str(error).split())})"
        return
    for split, said in _said_frames(front_matter).items():
        found = counts.frames[split]
        if said != found:
            yield f"it says {said} frames of split {split!r}, there are {found}"
    real = dict(_tables("\n\n".join(counts.tables().values())))
    for header, rows in _tables(body):
        if header == FILES_HEADER:
            # Only where a card says them: it takes as long as reading the set again.
            real[header] = {f"`{name}`": [f"`{file_digest(path)}`"] for name, path in files.items()}
        expected = real.get(header)
        if expected is None:
            continue
        for name in dict.fromkeys([*rows, *expected]):
            if rows.get(name) != expected.get(name):
                yield (
                    f"its table of {' | '.join(header)} says {_cells(rows, name)} for {name!r}, "
                    f"found: {_cells(expected, name)}"
                )


def _cells(table: _Table, name: str) -> str:
    return " | ".join(table[name]) if name in table else "nothing"


def _parts(text: str) -> tuple[dict[str, Any], str]:
    """YAML front matter between lines of `---`, and the rest."""
    lines = text.splitlines()
    if not lines or lines[0].strip() != "---":
        return {}, text
    ends = [number for number, line in enumerate(lines) if number and line.strip() == "---"]
    if not ends:
        raise ValueError("its front matter does not end")
    front_matter = yaml.safe_load("\n".join(lines[1 : ends[0]]))
    if not isinstance(front_matter, dict):
        raise ValueError("its front matter is no mapping")
    return front_matter, "\n".join(lines[ends[0] + 1 :])


def _said_frames(front_matter: dict[str, Any]) -> dict[str, Any]:
    """Split -> frames, of the default configuration."""
    infos = front_matter.get("dataset_info") or []
    infos = [infos] if isinstance(infos, dict) else infos
    said = {}
    for info in infos if isinstance(infos, list) else []:
        if isinstance(info, dict) and info.get("config_name", "default") == "default":
            splits = info.get("splits")
            for split in splits if isinstance(splits, list) else []:
                if isinstance(split, dict) and isinstance(split.get("name"), str):
                    said[split["name"]] = split.get("num_examples")
    return said


def _tables(body: str) -> Iterator[tuple[tuple[str, ...], _Table]]:
    """(header, rows) of each Markdown table."""
    header: tuple[str, ...] = ()
    rows: _Table = {}
    for line in [*body.splitlines(), ""]:
        line = line.strip()
        if not (line.startswith("|") and line.endswith("|") and len(line) > 1):
            if header:
                yield header, rows
            header, rows = (), {}
            continue
        cells = [cell.strip() for cell in line[1:-1].split("|")]
        if not header:
            header = tuple(cells)
        elif not all(set(cell) <= set(":-") for cell in cells):
            rows[cells[0]] = cells[1:]
