"""Scores a trained model on a split of a dataset by a named protocol.

    python scripts/evaluate_model.py --model outputs/quickstart/best --dataset outputs/quickstart/data/a \\
        --split test --protocol synthetic --output outputs/evaluation_a

writes metrics.json, frames.csv and overlays/ into the output folder, all of it or nothing, and prints a
table. Exit codes: 0 done, 2 an option, the model or the dataset is wrong.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import cv2
import datasets
import torch

from liver_landmark.cli_options import CommandError, positive_int, quiet_libraries
from liver_landmark.curves import PROTOCOLS
from liver_landmark.curves.rasterize import AS_DRAWN
from liver_landmark.data.loading import load_landmark_dataset
from liver_landmark.data.schema import SPLITS
from liver_landmark.evaluation import DEFAULT_RESOLUTION, evaluate_model
from liver_landmark.evaluation.report import MaskStore, format_table, write_report
from liver_landmark.inference import load_model_and_processor
from liver_landmark.utils.atomic_files import new_folder, remove_folder

_PACKAGES = ("liver-landmark", "torch", "transformers", "datasets", "scipy")


def build_parser() -> argparse.ArgumentParser:
    """The options."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", required=True, help="folder of a trained model, or a Hub id")
    parser.add_argument("--dataset", required=True, help="folder or Hub id of a dataset of the schema")
    parser.add_argument("--split", choices=SPLITS, default="test", help="default: %(default)s")
    parser.add_argument(
        "--protocol",
        choices=(*PROTOCOLS, AS_DRAWN),
        help=f"{AS_DRAWN}: the masks of the set's source (default: what the dataset's rows name)",
    )
    parser.add_argument("--output", required=True, type=Path, help="folder for the results")
    parser.add_argument(
        "--device", help="cpu, cuda, cuda:1, mps (default: an accelerator where there is one)"
    )
    parser.add_argument("--batch-size", type=positive_int, default=8, help="default: %(default)s")
    parser.add_argument(
        "--resolution",
        type=positive_int,
        default=DEFAULT_RESOLUTION,
        help="width and height in px at which masks are compared (default: %(default)s, as the papers)",
    )
    parser.add_argument("--max-frames", type=positive_int, help="score the first frames of the split only")
    parser.add_argument("--overwrite", action="store_true", help="replace a former evaluation's folder")
    return parser


def evaluate(arguments: argparse.Namespace) -> None:
    """Runs the evaluation; a CommandError says what is wrong in one line."""
    output = arguments.output.resolve()
    _check_output(output, arguments.overwrite)
    quiet_libraries()
    if not sys.stderr.isatty():
        datasets.disable_progress_bars()
    masks = MaskStore()
    try:
        dataset = load_landmark_dataset(arguments.dataset, split=arguments.split)
        if arguments.max_frames is not None:
            dataset = dataset.select(range(min(arguments.max_frames, len(dataset))))
        model, processor = load_model_and_processor(arguments.model, device=arguments.device)
    except (ValueError, OSError) as error:
        raise CommandError(str(error)) from error
    try:
        evaluation = evaluate_model(
            model,
            processor,
            dataset,
            protocol=arguments.protocol,
            resolution=arguments.resolution,
            batch_size=arguments.batch_size,
            progress=sys.stderr.isatty(),
            on_frame=masks,
        )
    except ValueError as error:
        raise CommandError(f"dataset {arguments.dataset}, split {arguments.split}: {error}") from error
    except torch.OutOfMemoryError as error:
        raise CommandError("the device's memory is full: lower --batch-size, or --device cpu") from error
    provenance = {
        "model": arguments.model,
        "dataset": arguments.dataset,
        "split": arguments.split,
        # OpenCV comes under several distribution names.
        "versions": {**{name: version(name) for name in _PACKAGES}, "opencv": cv2.__version__},
    }
    try:
        # A former evaluation goes only when the new one is complete.
        staged = output.with_name(f"{output.name}.new")
        if staged.exists():
            remove_folder(staged)
        with new_folder(staged) as folder:
            write_report(folder, evaluation, dataset, masks, provenance)
        if output.exists():
            remove_folder(output)
        staged.rename(output)
    except OSError as error:
        raise CommandError(f"output {output} cannot be written: {error}") from error
    print(format_table(evaluation.metrics))
    print(f"results in {arguments.output}")


def _check_output(output: Path, overwrite: bool) -> None:
    """Only an empty folder, or with --overwrite an evaluation's, may be replaced."""
    if not output.exists():
        above = next(folder for folder in output.parents if folder.exists())
        if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
            raise CommandError(f"output {output} cannot be made: {above} is no folder that can be written to")
        return
    if not output.is_dir():
        raise CommandError(f"output {output} exists and is no folder")
    if not any(output.iterdir()):
        return
    if not (output / "metrics.json").is_file() or not (output / "frames.csv").is_file():
        raise CommandError(f"output {output} holds something else than an evaluation: choose another folder")
    if not overwrite:
        raise CommandError(
            f"output {output} holds an evaluation already: pass --overwrite, or choose another"
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    parsed = build_parser().parse_args(arguments)
    try:
        evaluate(parsed)
    except CommandError as error:
        print(f"evaluate_model: error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
