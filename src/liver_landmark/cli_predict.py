"""`liver-landmark predict`: frames and videos in, masks, overlays and curves out."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .cli_options import CommandError, positive_float, positive_int, quiet_libraries
from .utils.memory import keep_memory_steady

if TYPE_CHECKING:
    from .inference.predict_files import RunListener
    from .inference.predictor import LandmarkPredictor
    from .inference.result_files import PredictionOptions, Source
    from .inference.views import AveragedViews


def add_predict_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds `predict` to the parser of all commands."""
    parser = commands.add_parser(
        "predict",
        help="masks, overlays and curves of frames and videos",
        description=(
            "Writes for a picture <name>_mask.png (class ids: 1 ridge, 2 silhouette, 3 ligament) and "
            "<name>_overlay.png, for a video <name>_mask/000000.png … and <name>_overlay.mp4 "
            "with the input's "
            "time stamps, at the input's own size; predictions.jsonl with a line for each "
            "frame, and run.json."
        ),
        epilog=(
            "An input that cannot be read is named with its reason on stderr and in run.json; exit code 1. "
            "Of a video that breaks in the middle, what went before is predicted."
        ),
    )
    parser.add_argument("inputs", nargs="+", metavar="INPUT", help="pictures, videos, folders, glob patterns")
    parser.add_argument("--model", required=True, help="folder of a trained model, or a Hub id")
    parser.add_argument("--output", required=True, type=Path, help="folder for the results")
    parser.add_argument("--recursive", action="store_true", help="take the folders below a folder too")

    results = parser.add_argument_group("results")
    results.add_argument(
        "--curves",
        type=_names,
        default=(),
        metavar="FORMAT,…",
        help="write the curves too: labelme, cvat, p2ilf, svg, or several of them",
    )
    results.add_argument(
        "--save-probabilities",
        action="store_true",
        help="write each landmark's probability as a 16-bit PNG (65535 is 1), and the views' variance",
    )
    results.add_argument("--no-overlay", action="store_true", help="no overlay pictures and videos")
    results.add_argument(
        "--no-legend", action="store_true", help="overlays without the names of the landmarks"
    )

    doubt = parser.add_argument_group("doubt")
    doubt.add_argument(
        "--flip", action="store_true", help="average with the mirrored frame: twice the time, a variance map"
    )
    doubt.add_argument(
        "--scales",
        type=_numbers,
        metavar="S,…",
        help="average over these scales of the model's input size, e.g. 0.75,1,1.25",
    )
    doubt.add_argument(
        "--smoothing",
        type=positive_float,
        metavar="SECONDS",
        help="smooth videos over the past with this time constant; run.json states the delay",
    )

    speed = parser.add_argument_group("device and speed")
    speed.add_argument("--device", help="cpu, cuda, cuda:1, mps (default: an accelerator where there is one)")
    speed.add_argument(
        "--dtype",
        choices=("float32", "bfloat16", "float16"),
        default="float32",
        help="precision of the forward pass (default: %(default)s)",
    )
    speed.add_argument("--batch-size", type=positive_int, default=1, help="frames in one forward pass")
    speed.add_argument(
        "--compile", action="store_true", help="torch.compile the model: minutes the first time, then faster"
    )

    runs = parser.add_argument_group("long runs")
    runs.add_argument(
        "--resume",
        action="store_true",
        help="go on where an interrupted run stopped; of one that ended, retry what failed and "
        "add what is new",
    )
    runs.add_argument("--overwrite", action="store_true", help="replace results that are there already")
    runs.add_argument(
        "--num-parts", type=positive_int, default=1, metavar="N", help="share the inputs among N runs"
    )
    runs.add_argument(
        "--part-id",
        type=int,
        metavar="I",
        help="which of them this is, from 0; the last one to end merges all results",
    )
    parser.set_defaults(run=_predict)


def _names(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))


def _numbers(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} are no numbers with commas between them") from None


def _predict(arguments: argparse.Namespace) -> int:
    from .inference.frame_sources import as_sources, collect_inputs
    from .inference.predict_files import predict_files
    from .inference.result_files import OutputError, RunFiles

    output = arguments.output
    options = _options(arguments)
    views = _views(arguments)
    try:
        if "" in arguments.inputs:
            raise ValueError("an input is an empty name")  # which Path takes for the current folder
        inputs = collect_inputs(arguments.inputs, recursive=arguments.recursive, output=output)
    except (ValueError, OSError) as error:
        raise CommandError(str(error)) from error
    sources = as_sources(inputs.files)
    mine = sources[options.part_id :: options.num_parts]
    if inputs.left_out:
        _say(f"{inputs.left_out} files are results of earlier runs and are left out")
    try:
        # Again by predict_files, which knows the model's landmarks; here because loading it takes long.
        replaces = arguments.overwrite or arguments.resume
        RunFiles(output, options).check(mine, inputs.files, replaces=replaces)
    except OutputError as error:
        raise CommandError(str(error)) from error
    except OSError as error:  # such as a name that is too long
        raise CommandError(f"output {output}: {error}") from error
    predictor = _predictor(arguments, views)
    keep_memory_steady()

    import torch

    listener = _listener(mine)
    try:
        report = predict_files(
            predictor,
            inputs,
            output,
            options,
            model_name=arguments.model,
            resume=arguments.resume,
            overwrite=arguments.overwrite,
            listener=listener,
        )
    except (OutputError, FileExistsError) as error:
        raise CommandError(str(error)) from error
    except OSError as error:
        print(f"error: output folder {output} cannot be written: {error}", file=sys.stderr)
        return 1
    except torch.OutOfMemoryError:
        print("error: the device's memory is full: lower --batch-size, or --device cpu", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("liver-landmark predict: interrupted: --resume goes on from here", file=sys.stderr)
        return 130  # as shells report it
    _say(
        f"{report.predicted} of {report.inputs} inputs predicted ({report.frames} frames), "
        f"results in {output}"
    )
    return 1 if report.failed else 0


def _options(arguments: argparse.Namespace) -> PredictionOptions:
    from .inference.result_files import PredictionOptions

    if arguments.part_id is None and arguments.num_parts > 1:
        raise CommandError(f"--num-parts {arguments.num_parts} needs --part-id: which of them this is")
    try:
        return PredictionOptions(
            batch_size=arguments.batch_size,
            overlay=not arguments.no_overlay,
            legend=not arguments.no_legend,
            curves=arguments.curves,
            save_probabilities=arguments.save_probabilities,
            smoothing_s=arguments.smoothing,
            num_parts=arguments.num_parts,
            part_id=arguments.part_id or 0,
        )
    except ValueError as error:
        raise CommandError(str(error)) from error


def _views(arguments: argparse.Namespace) -> AveragedViews | None:
    from .inference.views import AveragedViews

    if not arguments.flip and arguments.scales is None:
        return None
    try:
        return AveragedViews(flip=arguments.flip, scales=arguments.scales or (1.0,))
    except ValueError as error:
        raise CommandError(str(error)) from error


def _predictor(arguments: argparse.Namespace, views: AveragedViews | None) -> LandmarkPredictor:
    import torch

    from .inference import LandmarkPredictor, ModelLoadError

    quiet_libraries()
    try:
        predictor = LandmarkPredictor.from_pretrained(
            arguments.model,
            device=arguments.device,
            dtype=getattr(torch, arguments.dtype),
            views=views,
            compile=arguments.compile,
        )
        if arguments.compile:
            predictor.compile_now(arguments.batch_size)
        return predictor
    except ModelLoadError as error:
        raise CommandError(str(error)) from error
    except ValueError as error:
        raise CommandError(f"model {arguments.model}: {error}") from error


def _say(line: str) -> None:
    """Prints a line, with escapes for what the terminal's encoding does not hold in a file's name."""
    encoding = sys.stdout.encoding or "utf-8"
    try:
        print(line.encode(encoding, "backslashreplace").decode(encoding))
    except BrokenPipeError:
        # Who read along has had enough; the results are still wanted.
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115


def _listener(sources: Sequence[Source]) -> RunListener:
    """Lines for inputs, on a terminal also a bar over a video's frames."""
    from tqdm import tqdm

    from .inference.predict_files import RunListener

    bar: tqdm | None = None

    def on_frame(row: dict[str, Any], frames: int | None) -> None:
        nonlocal bar
        if "frame" not in row:
            _say(f"{row['file']}: {', '.join(row['present']) or 'nothing found'}")
            return
        if bar is None:
            bar = tqdm(total=frames, initial=row["frame"], unit="frame", disable=None, leave=False)
        bar.update()

    def end_bar() -> None:
        nonlocal bar
        if bar is not None:
            bar.close()
            bar = None

    def on_input(source: Source, frames: int) -> None:
        end_bar()
        if source.kind == "video":
            _say(f"{source.file}: {frames} frames")

    def on_failed(reason: str) -> None:
        end_bar()
        print(f"error: {reason}", file=sys.stderr)

    return RunListener(on_frame, on_input, on_failed)
