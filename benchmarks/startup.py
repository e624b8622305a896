"""Times what a user waits for before anything is done: imports, --help, wrong options.

Each is a new process.

    python benchmarks/startup.py --rounds 7 --output FILE.json

Every round starts each process once. Imports are compared with `from transformers import AutoModel,
PreTrainedModel`, which no program of this kind can do without; the ratios are of CPU seconds, user and
system, of the whole process.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial

from liver_landmark.utils.atomic_files import write_json
from shared import add_output, environment, interleave, markdown_table, median_ratio, new_parser, positive_int

TRANSFORMERS = "from transformers import AutoModel, PreTrainedModel"
IMPORTS = {
    "python": "pass",
    TRANSFORMERS: TRANSFORMERS,
    "import torch": "import torch",
    "import liver_landmark": "import liver_landmark",
    "import liver_landmark.optim": "import liver_landmark.optim",
    "import liver_landmark; AutoModel": f"import liver_landmark; {TRANSFORMERS}",
}
# Arguments of the command, and the exit code that they must end with.
COMMANDS = {
    "--help": 0,
    "--version": 0,
    "predict --help": 0,
    "train --help": 0,
    "--bogus": 2,
    "predict frame.png --bogus": 2,
    "stream 0 --bogus": 2,
    "train --bogus": 2,
    "train --config synthetic_tiny --optimizer.bogus 1": 2,
    "evaluate --bogus": 2,
    "calibrate --bogus": 2,
    "data build synthetic --bogus": 2,
    "data check --bogus": 2,
}


def run(arguments: list[str], expected: int, folder: str) -> tuple[float, float]:
    """Wall and CPU seconds of a process, which must end with that exit code."""
    before, start = os.times(), time.perf_counter()
    done = subprocess.run(arguments, cwd=folder, capture_output=True, encoding="utf-8", check=False)
    wall_s, after = time.perf_counter() - start, os.times()
    if done.returncode != expected:
        raise SystemExit(f"{' '.join(arguments)} ended with {done.returncode}: {done.stderr}")
    cpu_s = after.children_user + after.children_system - before.children_user - before.children_system
    return wall_s, cpu_s


def main() -> None:
    parser = new_parser(__doc__)
    parser.add_argument("--rounds", type=positive_int, default=7, help="default: %(default)s")
    add_output(parser)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        calls = {name: ([sys.executable, "-c", code], 0) for name, code in IMPORTS.items()} | {
            f"liver-landmark {text}": ([sys.executable, "-m", "liver_landmark", *text.split()], code)
            for text, code in COMMANDS.items()
        }
        measurements = {
            name: partial(lambda turn, call: run(*call, folder), call=call) for name, call in calls.items()
        }
        # The first round reads the files into memory.
        times = interleave(measurements, options.rounds, warm_ups=1)
    base = [cpu for _, cpu in times[TRANSFORMERS]]
    figures = {
        name: {
            "wall_s": statistics.median(wall for wall, _ in values),
            "cpu_s": statistics.median(cpu for _, cpu in values),
            "cpu_ratio": median_ratio([cpu for _, cpu in values], base),
        }
        for name, values in times.items()
    }
    rows = [["", "wall s", "CPU s", "CPU ratio to transformers' import"]]
    rows += [
        [f"`{name}`", f"{row['wall_s']:.2f}", f"{row['cpu_s']:.2f}", f"{row['cpu_ratio']:.2f}"]
        for name, row in figures.items()
    ]
    print(markdown_table(rows, "---:"))
    if options.output:
        write_json(options.output, {"rounds": options.rounds, **environment(), "figures": figures})


if __name__ == "__main__":
    main()
