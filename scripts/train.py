#!/usr/bin/env python
"""Trains a liver landmark model by a recipe.

python scripts/train.py --config hub_configs/training/synthetic_tiny.yaml --data.path D --output_dir R
accelerate launch scripts/train.py --config RECIPE.yaml --optimizer.lr 3e-4 --resume
"""

from __future__ import annotations

import os
import sys

# Read when torch is imported. Threads that wait actively collapse when anything else uses a core.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import datasets
from transformers.utils import logging as transformers_logging

from liver_landmark.data.loading import RowError
from liver_landmark.training.loop import train
from liver_landmark.training.recipe import parse_recipe
from liver_landmark.training.training_run import prepare_run


def main(arguments: list[str]) -> int:
    """Runs the script and returns its exit status."""
    if not sys.stderr.isatty():
        datasets.disable_progress_bars()
        transformers_logging.disable_progress_bar()
    try:
        recipe, options = parse_recipe(arguments)
        run = prepare_run(recipe, options)
    except (ValueError, OSError) as error:
        return _fail(error)
    if run.step and run.accelerator.is_main_process:
        print(f"{run.folder.path}: going on after step {run.step} of {run.total_steps}", flush=True)
    try:
        record = train(run)
    # Only what is no bug: a diverging run, a frame that cannot be used, a full disk.
    except (FloatingPointError, RowError, OSError) as error:
        return _fail(error)
    except KeyboardInterrupt:
        print(f"train.py: interrupted in step {run.step}; --resume goes on", file=sys.stderr)
        return 130
    if run.accelerator.is_main_process:
        best = record["best"]
        print(
            f"{record['step']} steps in {record['train_seconds']:.0f} s; best validation DSC "
            f"{best['dsc']:.4f} at step {best['step']}: {run.folder.best}"
        )
    return 0


def _fail(error: Exception) -> int:
    process = os.environ.get("RANK", "0")
    where = "" if process == "0" else f" [process {process}]"
    print(f"train.py{where}: error: {' '.join(str(error).split())}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
