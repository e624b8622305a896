"""The runs: their records on disk, and the table that follows from them."""

from __future__ import annotations

import json
import platform
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from liver_landmark.model.landmarks_liver_landmark import DEFAULT_LANDMARKS
from liver_landmark.utils.atomic_files import write_text

# (peak learning rate, seed) -> what the run left.
Runs = dict[tuple[float | None, int], dict[str, Any]]


class Records:
    """The lines of runs*.jsonl in a folder; this process appends to one of these files.

    A record is known by (settings, method, lr, seed). Its test scores come in a second line.
    """

    def __init__(self, folder: Path, part: int | None) -> None:
        self.folder = folder
        self.path = folder / ("runs.jsonl" if part is None else f"runs-{part}.jsonl")

    def repair(self) -> None:
        """Drops a last line that was cut off when the run was killed."""
        if self.path.exists():
            text = self.path.read_text(encoding="utf-8")
            write_text(self.path, text[: text.rfind("\n") + 1])

    def append(self, record: dict[str, Any]) -> None:
        """Adds a record, at once and for whoever follows the file."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record, allow_nan=False) + "\n")

    def read(self, settings: str, method: str) -> Runs:
        """{(lr, seed): record} of a method under these settings, from all parts."""
        found: Runs = {}
        for path in sorted(self.folder.glob("runs*.jsonl")):
            for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
                # Another part may be writing its last line.
                record = json.loads(line) if line.endswith("\n") else {"settings": None}
                if record["settings"] == settings and record["method"] == method:
                    key = (record["lr"], record["seed"])
                    if found.get(key, {"test": None})["test"] is None:
                        found[key] = record
        return found


def machine() -> dict[str, Any]:
    """Where a run was computed."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    processor = names[0] if names else platform.processor() or platform.machine()
    return {"processor": processor, "threads": torch.get_num_threads(), "torch": torch.__version__}


def best_lr(runs: Runs) -> float | None:
    """Of all learning rates tried on seed 0, the one with the best validation DSC; None: all diverged."""
    scored = {
        lr: run["validation"]["dsc"] for (lr, seed), run in runs.items() if seed == 0 and run["validation"]
    }
    return max(scored, key=scored.__getitem__, default=None)


def summarize(runs: Runs, seeds: int, reference: Runs) -> dict[str, Any]:
    """What a method reached.

    Args:
        runs: The method's.
        seeds: Seeds 0 to seeds - 1 count at the chosen rate.
        reference: The runs of the method to compare with, seed by seed; may be the same or empty.
    """
    lr = best_lr(runs)
    tried = {str(rate): _dsc(run, "validation") for (rate, seed), run in sorted(runs.items()) if seed == 0}
    rates = sorted(rate for rate, seed in runs if seed == 0)
    tested = tested_runs(runs, seeds)
    others = tested_runs(reference, seeds)
    pairs = [_dsc(tested[seed], "test") - _dsc(others[seed], "test") for seed in tested if seed in others]
    return {
        "lr": lr,
        "validation_dsc_by_lr": tried,
        "lr_at_an_edge": lr is not None and len(rates) > 1 and lr in (rates[0], rates[-1]),
        "seeds": sorted(tested),
        "test_dsc": spread([_dsc(run, "test") for run in tested.values()]),
        "test_dsc_per_class": {
            name: spread([run["test"]["per_class"][name] for run in tested.values()])
            for name in DEFAULT_LANDMARKS.names
        },
        "test_dsc_minus_reference": spread(pairs),
        "state_bytes": max((run["state_bytes"] for run in tested.values()), default=None),
        "trained_parameters": max((run["trained_parameters"] for run in tested.values()), default=None),
        **{
            key: statistics.median(run[key] for run in tested.values()) if tested else None
            for key in ("seconds_per_step", "optimizer_ms_per_step")
        },
    }


def tested_runs(runs: Runs, seeds: int) -> dict[int, dict[str, Any]]:
    """{seed: run} of those runs at the chosen rate that the test split has scored."""
    lr = best_lr(runs)
    chosen = {seed: runs.get((lr, seed)) for seed in range(seeds)}
    return {seed: run for seed, run in chosen.items() if run is not None and run["test"] is not None}


def spread(values: Sequence[float | None]) -> dict[str, float | None]:
    """{"mean", "sd"} with n - 1; the standard deviation of one value is None, and so is all of none."""
    known = [value for value in values if value is not None]
    return {
        "mean": statistics.mean(known) if known else None,
        "sd": statistics.stdev(known) if len(known) > 1 else None,
    }


def _dsc(run: Mapping[str, Any], split: str) -> float | None:
    return run[split]["dsc"] if run[split] else None


def format_table(results: Mapping[str, Any]) -> str:
    """results.json as Markdown; DSC in points, that is times 100."""
    reference = results["reference"]
    titles = ["method", "learning rates: validation DSC", "edge", "test DSC", *DEFAULT_LANDMARKS.names]
    titles += [f"minus {reference}, by seed", "state MiB", "s/step", "optimizer ms/step"]
    lines = ["| " + " | ".join(titles) + " |", "|---" * len(titles) + "|"]
    start = results["unadapted"]
    if start is not None:
        values = [
            start["test"]["dsc"],
            *(start["test"]["per_class"][name] for name in DEFAULT_LANDMARKS.names),
        ]
        cells = [f"not adapted | {_points(start['validation']['dsc'])} |", *map(_points, values)]
        lines.append("| " + " | ".join([*cells, "", "", "", ""]) + " |")
    for name, row in results["methods"].items():
        cells = _cells(name, row, is_reference=name == reference)
        if len(row["seeds"]) < results["seeds"]:
            cells[0] += f" ({len(row['seeds'])} of {results['seeds']} seeds)"
        lines.append("| " + " | ".join(cells) + " |")
    lines += [
        "",
        f"Test DSC in points, mean ± standard deviation (n - 1) over {results['seeds']} "
        f"seed{'s' * (results['seeds'] > 1)} at the learning rate in bold, which the validation split chose "
        "on seed 0 (edge: it is the lowest or highest that was tried). Pooled over the landmarks, then "
        "one by one.",
        "",
        "```",
        results["command"],
        "```",
        "",
        f"{results['steps']} steps of {results['batch_size']} frames; rank {results['rank']}, refresh every "
        f"{results['gap']} steps; {'; '.join(results['machines'])}; {results['date']}.",
    ]
    return "\n".join(lines) + "\n"


def _cells(name: str, row: Mapping[str, Any], *, is_reference: bool) -> list[str]:
    rates = []
    for rate, dsc in row["validation_dsc_by_lr"].items():
        bold = "**" if float(rate) == row["lr"] else ""
        rates.append(f"{bold}{rate}: {_points(dsc)}{bold}")
    state = row["state_bytes"]
    return [
        f"`{name}`",
        ", ".join(rates),
        "yes" if row["lr_at_an_edge"] else "",
        _with_spread(row["test_dsc"]),
        *(_with_spread(row["test_dsc_per_class"][landmark]) for landmark in DEFAULT_LANDMARKS.names),
        "" if is_reference else _with_spread(row["test_dsc_minus_reference"], sign="+"),
        "–" if state is None else f"{state / 2**20:.2f}",
        "–" if row["seconds_per_step"] is None else f"{row['seconds_per_step']:.2f}",
        "–" if row["optimizer_ms_per_step"] is None else f"{row['optimizer_ms_per_step']:.1f}",
    ]


def _points(dsc: float | None, sign: str = "") -> str:
    return "–" if dsc is None else f"{100 * dsc:{sign}.1f}"


def _with_spread(value: Mapping[str, float | None], sign: str = "") -> str:
    text = _points(value["mean"], sign)
    return text if value["sd"] is None else f"{text} ± {_points(value['sd'])}"
