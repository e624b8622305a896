"""The console command `liver-landmark`.

Exit codes: 0 all is done, 1 something failed (each failure is one line on stderr, the rest is done),
2 the command line or the model is wrong and nothing was written, 130 interrupted (what is there is whole).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from .cli_data import add_data_commands
from .cli_options import CommandError, positive_int

# What takes seconds to import is imported by the command that needs it.


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands; a command sets `run`, called with the parsed arguments."""
    parser = argparse.ArgumentParser(
        prog="liver-landmark",
        description="Finds the ridge, silhouette and falciform ligament of the liver in laparoscopic frames.",
        epilog="Exit codes: 0 all is done; 1 something failed, the rest is done; 2 nothing was done.",
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {version('liver-landmark')}")
    commands = parser.add_subparsers(title="commands", dest="command", required=True)
    _add_predict(commands)
    add_data_commands(commands)
    return parser


def _add_predict(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "predict",
        help="masks and overlays of frames",
        description=(
            "Writes <stem>_mask.png (class ids: 1 ridge, 2 silhouette, 3 ligament) and <stem>_overlay.png at "
            "each frame's own size, predictions.jsonl and run.json."
        ),
        epilog="A file that cannot be read is named with its reason on stderr and in run.json; exit code 1.",
    )
    parser.add_argument("inputs", nargs="+", metavar="INPUT", help="picture files, folders, glob patterns")
    parser.add_argument("--model", required=True, help="folder of a trained model, or a Hub id")
    parser.add_argument("--output", required=True, type=Path, help="folder for the results")
    parser.add_argument(
        "--device", help="cpu, cuda, cuda:1, mps (default: an accelerator where there is one)"
    )
    parser.add_argument(
        "--dtype",
        choices=("float32", "bfloat16", "float16"),
        default="float32",
        help="precision of the forward pass (default: %(default)s)",
    )
    parser.add_argument("--batch-size", type=positive_int, default=1, help="frames in one forward pass")
    parser.add_argument("--recursive", action="store_true", help="take the folders below a folder too")
    parser.add_argument("--overwrite", action="store_true", help="replace results that are there already")
    parser.add_argument(
        "--no-legend", action="store_true", help="overlays without the names of the landmarks"
    )
    parser.set_defaults(run=_predict)


def _predict(arguments: argparse.Namespace) -> int:
    import torch

    from .inference import LandmarkPredictor, ModelLoadError
    from .inference.inputs import collect_inputs
    from .inference.run import PredictionOptions, planned_files, predict_files

    output = arguments.output
    try:
        inputs = collect_inputs(arguments.inputs, recursive=arguments.recursive, output=output)
    except (ValueError, OSError) as error:
        raise CommandError(str(error)) from error
    _check_output(output, planned_files(inputs, output), inputs.files, arguments.overwrite)
    quiet_libraries()
    try:
        predictor = LandmarkPredictor.from_pretrained(
            arguments.model, device=arguments.device, dtype=getattr(torch, arguments.dtype)
        )
    except ModelLoadError as error:
        raise CommandError(str(error)) from error
    options = PredictionOptions(batch_size=arguments.batch_size, legend=not arguments.no_legend)
    try:
        report = predict_files(
            predictor,
            inputs,
            output,
            options,
            model_name=arguments.model,
            on_predicted=lambda row: print(f"{row['file']}: {', '.join(row['present']) or 'nothing found'}"),
            on_failed=lambda reason: print(f"error: {reason}", file=sys.stderr),
        )
    except OSError as error:
        print(f"error: output folder {output} cannot be written: {error}", file=sys.stderr)
        return 1
    except torch.OutOfMemoryError:
        print("error: the device's memory is full: lower --batch-size, or --device cpu", file=sys.stderr)
        return 1
    print(f"{len(report.predictions)} of {len(inputs.files)} frames predicted, results in {output}")
    return 1 if report.failed else 0


def _check_output(output: Path, planned: Sequence[Path], inputs: Sequence[Path], overwrite: bool) -> None:
    """Refuses to write over an input, over anything that is no folder, and over results unasked."""
    if output.exists() and not output.is_dir():
        raise CommandError(f"output {output} exists and is no folder")
    sources = {file.resolve() for file in inputs}
    for path in planned:
        if path.resolve() in sources:
            raise CommandError(f"{path} is an input and would be overwritten: choose another --output")
        if path.exists() and not overwrite:
            raise CommandError(f"{path} is there already: pass --overwrite, or choose another --output")


def quiet_libraries() -> None:
    """Leaves the terminal to the command: no reports that it words itself, no bars off a terminal."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    if not sys.stderr.isatty():
        logging.disable_progress_bar()


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    parsed = build_parser().parse_args(arguments)
    try:
        return parsed.run(parsed)
    except CommandError as error:
        print(f"liver-landmark {parsed.command}: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"liver-landmark {parsed.command}: interrupted", file=sys.stderr)
        return 130  # as shells report it


if __name__ == "__main__":
    sys.exit(main())
