"""metrics.jsonl: one JSON object a line, so that a curve can be read while the run goes on.

{"step": 10, "epoch": 0.03, "loss": 1.21, "lr": 0.0001, "grad_norm": 2.3, "seconds_per_step": 0.46}
{"step": 200, "validation": {"dsc": 0.41, …}}
"""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

from ..atomic_files import write_text


def plain_numbers(value: Any) -> Any:
    """`value` with NaN and infinity, which JSON does not have, as None."""
    if isinstance(value, dict):
        return {str(key): plain_numbers(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [plain_numbers(entry) for entry in value]
    # NumPy's and torch's scalars.
    value = value.item() if hasattr(value, "item") else value
    return None if isinstance(value, float) and not math.isfinite(value) else value


class MetricsLog:
    """Appends records to a file; one process of a run has one."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, record: dict[str, Any]) -> None:
        """Adds a record, at once and for whoever follows the file."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(plain_numbers(record), allow_nan=False) + "\n")

    def flush_to_disk(self) -> None:
        """Waits until a power cut would leave the records written so far: a checkpoint relies on them."""
        if self.path.exists():
            with self.path.open("rb") as file:
                os.fsync(file.fileno())

    def keep_up_to(self, step: int) -> None:
        """Drops records of later steps, and a last line that was cut off when the run was killed."""
        if not self.path.exists():
            return
        kept = []
        for line in self.path.read_text(encoding="utf-8").splitlines(keepends=True):
            if line.endswith("\n") and json.loads(line)["step"] <= step:
                kept.append(line)
        write_text(self.path, "".join(kept))
