"""Runs that are killed by SIGKILL at chosen moments; started by test_kill.py.

    python killed_runs.py JSON

JSON: {"cache": folder, "arguments": [...], "output": folder}. The run `output`/whole is left alone, and
its file operations are noted: write, fsync, rename, replace, link, delete. Other runs are killed in the
middle of one: of each kind, the middle one, and one earlier; a last one a moment after its first step
began. Prints {run's name: signal that ended it, or 0} as JSON.

Each run is a fork of this process, which has imported everything and started no thread.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import threading
from pathlib import Path

import datasets
import torch

from liver_landmark.training import loop
from liver_landmark.training.recipe import parse_recipe
from liver_landmark.training.training_run import prepare_run


class Killer:
    """Notes file operations; dies in the middle of the n-th, counted from 1."""

    def __init__(self, notes: Path, moment: int | None) -> None:
        self.notes = notes
        self.moment = moment
        self.count = 0

    def watch(self, owner: object, name: str) -> None:
        original = getattr(owner, name)

        def watched(*args: object, **options: object) -> object:
            self.count += 1
            with self.notes.open("a") as file:
                file.write(f"{name}\n")
            if self.count == self.moment:
                if name == "rmtree":
                    # Half of it is gone.
                    next(path for path in sorted(Path(str(args[0])).rglob("*")) if path.is_file()).unlink()
                os.kill(os.getpid(), signal.SIGKILL)
            return original(*args, **options)

        setattr(owner, name, watched)


def run(arguments: list[str], output_dir: Path, moment: int | None, seconds: float | None) -> None:
    """Trains, until the n-th file operation or for so many seconds."""
    killer = Killer(notes_of(output_dir), moment)
    current = prepare_run(*parse_recipe([*arguments, f"--output_dir={output_dir}"]))
    for owner, name in (
        (torch, "save"),
        (Path, "write_text"),
        (os, "fsync"),
        (Path, "rename"),
        (Path, "replace"),
        (Path, "symlink_to"),
        (shutil, "rmtree"),
    ):
        killer.watch(owner, name)
    if seconds is not None:
        threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGKILL)).start()
    loop.train(current)


def notes_of(output_dir: Path) -> Path:
    return output_dir.with_suffix(".operations")


def run_in_fork(
    arguments: list[str], output_dir: Path, moment: int | None = None, seconds: float | None = None
) -> int:
    """The signal that ended the run, 0 for none."""
    child = os.fork()
    if child == 0:
        run(arguments, output_dir, moment, seconds)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if os.WIFEXITED(status) and os.WEXITSTATUS(status) != 0:
        raise RuntimeError(f"{output_dir.name} failed")
    return os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0


def main() -> None:
    request = json.loads(sys.argv[1])
    arguments, output = request["arguments"], Path(request["output"])
    datasets.config.HF_DATASETS_CACHE = Path(request["cache"])
    datasets.disable_progress_bars()
    torch.set_num_threads(1)

    whole = output / "whole"
    ends = {"whole": run_in_fork(arguments, whole)}
    operations = notes_of(whole).read_text().split()
    moments = {}
    for kind in sorted(set(operations)):
        places = [index + 1 for index, name in enumerate(operations) if name == kind]
        moments[f"in-{kind}"] = places[len(places) // 2]
    moments["early"] = 2 * len(operations) // 5
    for name, moment in moments.items():
        ends[name] = run_in_fork(arguments, output / name, moment=moment)
    ends["timed"] = run_in_fork(arguments, output / "timed", seconds=0.4)
    print(json.dumps(ends))


if __name__ == "__main__":
    main()
