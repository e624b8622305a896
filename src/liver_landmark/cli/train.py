"""`liver-landmark train`: a model by a recipe, alone or under `accelerate launch`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from .options import EXIT_CODES, Interrupted, RunError, announce, one_line_errors, quiet_datasets


def train(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(metavar="--config RECIPE [--FIELD VALUE]...", show_default=False),
    ] = None,
) -> int:
    """Train a model by a recipe.

    Every field of the recipe is an option; `train --help` lists them. It runs in several processes under
    `accelerate launch -m liver_landmark train ...`.
    """
    from ..training.recipe import build_parser, parse_recipe

    given = _with_presets(arguments or [])
    if {"--help", "-h"} & set(given):
        parser = build_parser()
        parser.prog = "liver-landmark train"
        parser.epilog = f"--preset NAME is short for --model.architecture NAME. {EXIT_CODES}"
        parser.print_help()
        return 0
    with one_line_errors():
        recipe, options = parse_recipe(given)
    announce("loading data and model")
    from transformers.utils import logging as transformers_logging

    from ..data.loading import RowError
    from ..training.loop import train as run_training
    from ..training.training_run import prepare_run

    quiet_datasets()
    if not sys.stderr.isatty():
        transformers_logging.disable_progress_bar()
    with one_line_errors():
        run = prepare_run(recipe, options)
    if run.step and run.accelerator.is_main_process:
        print(f"{run.folder.path}: going on after step {run.step} of {run.total_steps}", flush=True)
    try:
        record = run_training(run)
    # Only what is no bug: a diverging run, a frame that cannot be used, a full disk.
    except (FloatingPointError, RowError, OSError) as error:
        raise RunError(str(error)) from error
    except KeyboardInterrupt:
        raise Interrupted(f"in step {run.step}; --resume auto goes on") from None
    if run.accelerator.is_main_process:
        best = record["best"]
        print(
            f"{record['step']} steps in {record['train_seconds']:.0f} s; best validation DSC "
            f"{best['dsc']:.4f} at step {best['step']}: {run.folder.best}"
        )
    return 0


def _with_presets(arguments: Sequence[str]) -> list[str]:
    """`--preset` as the field of the recipe that it stands for."""
    field, option = "--model.architecture", "--preset"
    return [
        field + text.removeprefix(option) if text == option or text.startswith(f"{option}=") else text
        for text in arguments
    ]
