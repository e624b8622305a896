"""The folder of a built set: shards under their final names, card, contact sheet, report."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from PIL import Image

from ...atomic_files import write_json
from ..contact_sheet import draw_tile, write_sheet
from ..readers import Plan
from ..readers.files import natural_key
from ..schema import SPLITS
from .card import FILES_HEADER, SetCounts, data_files, dataset_info
from .raw_request import RawRequest
from .work_folder import Shard, ShardRecord, WorkFolder
from .writer import write_build, write_card

REPORT_FILE = "report.json"
SHEET_FILE = "contact_sheet.png"
_SHEET_FRAMES, _SHEET_COLUMNS, _SHEET_TILE_PX = 12, 4, 400

_Shards = Sequence[tuple[Shard, ShardRecord]]


def count_records(shards: _Shards) -> SetCounts:
    """Counts what is in the shards."""
    counts = SetCounts()
    for shard, record in shards:
        for frame in record.frames:
            counts.add(shard.split, frame["patient_id"], frame["landmarks"], frame["width"], frame["height"])
    return counts


def fill_folder(
    folder: Path,
    request: RawRequest,
    described: Mapping[str, Any],
    plan: Plan,
    shards: _Shards,
    work: WorkFolder,
    card_template: str,
) -> None:
    """Fills the folder of a set whose shards are all finished; their files are moved into it.

    Args:
        folder: Empty.
        request: What was asked for.
        described: The same as JSON values.
        plan: What was found in the raw folder.
        shards: All of them, in order.
        work: Where their files are.
        card_template: Text of README.md with `$name` placeholders.
    """
    counts = count_records(shards)
    files = _place_shards(folder / "data", shards, work)
    _write_sheet(folder / SHEET_FILE, list(files))
    report = _report(plan, shards, counts)
    write_json(folder / REPORT_FILE, report)
    write_card(folder, card_template, _card_values(request, report, counts, files))
    write_build(folder, described)


def _place_shards(folder: Path, shards: _Shards, work: WorkFolder) -> dict[Path, tuple[Shard, ShardRecord]]:
    """Moves the shards that have rows to the names that `datasets` knows, numbered without gaps."""
    folder.mkdir()
    placed = {}
    for split in SPLITS:
        filled = [(shard, record) for shard, record in shards if shard.split == split and record.frames]
        for number, (shard, record) in enumerate(filled):
            path = folder / f"{split}-{number:05d}-of-{len(filled):05d}.parquet"
            work.parquet(shard).rename(path)
            placed[path] = (shard, record)
    return placed


def _write_sheet(path: Path, files: Sequence[Path]) -> None:
    tiles = []
    for row in _spread_rows(files, _SHEET_FRAMES):
        with Image.open(io.BytesIO(row["image"]["bytes"])) as image:
            rgb = np.asarray(image.convert("RGB"))
        tiles.append(draw_tile(rgb, row["landmarks"], _SHEET_TILE_PX, caption=row["frame_id"]))
    write_sheet(path, tiles, _SHEET_COLUMNS)


def _spread_rows(files: Sequence[Path], wanted: int) -> Iterator[dict[str, Any]]:
    """At most so many rows, spread evenly over all files; a row group is in memory at a time."""
    sizes = [pq.read_metadata(file).num_rows for file in files]
    total = sum(sizes)
    chosen = {index * total // min(wanted, total) for index in range(min(wanted, total))}
    first = 0
    for file in files:
        with pq.ParquetFile(file) as parquet:
            for group in range(parquet.num_row_groups):
                rows = parquet.metadata.row_group(group).num_rows
                hits = sorted(index - first for index in chosen if first <= index < first + rows)
                if hits:
                    table = parquet.read_row_group(group, columns=["image", "landmarks", "frame_id"])
                    yield from table.take(hits).to_pylist()
                first += rows


def _report(plan: Plan, shards: _Shards, counts: SetCounts) -> dict[str, Any]:
    """What report.json says: counts, every problem, what was let pass."""
    problems = [*plan.problems, *(problem for _, record in shards for problem in record.problems)]
    tolerated = Counter(plan.tolerated)
    for _, record in shards:
        tolerated.update(record.tolerated)
    frames = {split: counts.frames[split] for split in SPLITS if counts.frames[split]}
    return {
        "frames": frames,
        "patients": {split: sorted(counts.patients[split], key=natural_key) for split in frames},
        "pictures": plan.pictures,
        "left_out": plan.pictures - sum(frames.values()),
        "problems": [
            {"file": problem.file, "reason": problem.reason}
            for problem in sorted(problems, key=lambda problem: natural_key(problem.file))
        ],
        "tolerated": dict(sorted((+tolerated).items())),
    }


def _card_values(
    request: RawRequest,
    report: Mapping[str, Any],
    counts: SetCounts,
    files: Mapping[Path, tuple[Shard, ShardRecord]],
) -> dict[str, str]:
    sizes: Counter[str] = Counter()
    strokes = [frame["stroke_width"] for _, record in files.values() for frame in record.frames]
    hashes = [f"| {' | '.join(FILES_HEADER)} |", "|---|---|"]
    for path, (shard, record) in files.items():
        sizes[shard.split] += record.size_bytes
        hashes.append(f"| `data/{path.name}` | `{record.sha256}` |")
    low, high = f"{min(strokes):.4g}", f"{max(strokes):.4g}"
    tolerated = ", ".join(f"{name} {count}" for name, count in report["tolerated"].items())
    return {
        **counts.tables(),
        "dataset_info": dataset_info(sizes, counts.frames),
        "data_files": data_files(counts.frames),
        "source": request.source,
        "protocol": request.label_protocol,
        "stroke": f"{low} px" if low == high else f"{low} to {high} px",
        "left_out": str(report["left_out"]),
        "tolerated": tolerated or "none",
        "hashes": "\n".join(hashes),
    }
