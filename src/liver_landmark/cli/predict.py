"""`liver-landmark predict`: frames and videos in, masks, overlays and curves out."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .options import (
    DEVICE_PANEL,
    OUTPUT_PANEL,
    BatchSizeOption,
    CommandError,
    DeviceOption,
    Dtype,
    DtypeOption,
    Interrupted,
    ModelOption,
    RunError,
    announce,
    comma_separated,
    full_memory_is_an_error,
    one_line_errors,
    positive,
    quiet_libraries,
    say,
)

if TYPE_CHECKING:
    from ..inference.predict_files import RunListener
    from ..inference.predictor import LandmarkPredictor
    from ..inference.result_files import Source
    from ..inference.views import AveragedViews

# As `inference.result_files.CURVE_FORMATS` has them, which takes seconds to import.
CURVE_FORMATS = ("labelme", "cvat", "p2ilf", "svg")
_DOUBT, _LONG_RUNS = "Doubt", "Long runs"


def _curve_formats(text: str | None) -> str | None:
    for name in comma_separated(text or ""):
        if name not in CURVE_FORMATS:
            raise typer.BadParameter(f"{name!r} is unknown: choose among {', '.join(CURVE_FORMATS)}")
    return text


def _numbers(text: str | None) -> str | None:
    try:
        for part in (text or "1").split(","):
            positive(float(part))
    except ValueError:
        raise typer.BadParameter(f"{text!r} are no numbers with commas between them") from None
    return text


def predict(
    inputs: Annotated[
        list[str], typer.Argument(metavar="INPUT", help="Pictures, videos, folders, glob patterns.")
    ],
    model: ModelOption,
    output: Annotated[Path, typer.Option("--output", metavar="DIR", help="Folder for the results.")],
    recursive: Annotated[
        bool, typer.Option("--recursive", help="Take the folders below a folder too.")
    ] = False,
    curves: Annotated[
        str | None,
        typer.Option(
            "--curves",
            metavar="FORMAT,...",
            callback=_curve_formats,
            help="Write the curves too: labelme, cvat, p2ilf, svg, or several of them.",
            rich_help_panel=OUTPUT_PANEL,
        ),
    ] = None,
    save_probabilities: Annotated[
        bool,
        typer.Option(
            "--save-probabilities",
            help="Write each landmark's probability as a 16-bit PNG (65535 is 1), and the views' variance.",
            rich_help_panel=OUTPUT_PANEL,
        ),
    ] = False,
    no_overlay: Annotated[
        bool,
        typer.Option("--no-overlay", help="No overlay pictures and videos.", rich_help_panel=OUTPUT_PANEL),
    ] = False,
    no_legend: Annotated[
        bool,
        typer.Option(
            "--no-legend", help="Overlays without the names of the landmarks.", rich_help_panel=OUTPUT_PANEL
        ),
    ] = False,
    flip: Annotated[
        bool,
        typer.Option(
            "--flip",
            help="Average with the mirrored frame: twice the time, a variance map.",
            rich_help_panel=_DOUBT,
        ),
    ] = False,
    scales: Annotated[
        str | None,
        typer.Option(
            "--scales",
            metavar="S,...",
            callback=_numbers,
            help="Average over these scales of the model's input size, for example 0.75,1,1.25.",
            rich_help_panel=_DOUBT,
        ),
    ] = None,
    smoothing: Annotated[
        float | None,
        typer.Option(
            "--smoothing",
            metavar="SECONDS",
            callback=positive,
            help="Smooth videos over the past with this time constant; run.json states the delay.",
            rich_help_panel=_DOUBT,
        ),
    ] = None,
    device: DeviceOption = None,
    dtype: DtypeOption = "float32",
    batch_size: BatchSizeOption = 1,
    compile: Annotated[
        bool,
        typer.Option(
            "--compile",
            help="torch.compile the model: minutes the first time, then faster.",
            rich_help_panel=DEVICE_PANEL,
        ),
    ] = False,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Go on where an interrupted run stopped; of one that ended, retry what failed and add what "
            "is new.",
            rich_help_panel=_LONG_RUNS,
        ),
    ] = False,
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite", help="Replace results that are there already.", rich_help_panel=_LONG_RUNS
        ),
    ] = False,
    num_parts: Annotated[
        int,
        typer.Option(
            "--num-parts",
            min=1,
            metavar="N",
            help="Share the inputs among N runs.",
            rich_help_panel=_LONG_RUNS,
        ),
    ] = 1,
    part_id: Annotated[
        int | None,
        typer.Option(
            "--part-id",
            metavar="I",
            help="Which of them this is, from 0; the last one to end merges all results.",
            rich_help_panel=_LONG_RUNS,
        ),
    ] = None,
) -> int:
    """Write masks, overlays and curves of frames and videos.

    For a picture: <name>_mask.png (class ids of the model, named in run.json) and <name>_overlay.png.
    For a video: <name>_mask/000000.png and so on, and <name>_overlay.mp4 with the input's time stamps.
    Both at the input's own size; predictions.jsonl with a line for each frame, and run.json.

    An input that cannot be read is named with its reason on stderr and in run.json; the exit code is 1 then.
    Of a video that breaks in the middle, what went before is predicted; a frame that the model fails on is
    left out. Folders and patterns leave out what earlier runs wrote.
    """
    if part_id is None and num_parts > 1:
        raise CommandError(f"--num-parts {num_parts} needs --part-id: which of them this is")
    if not 0 <= (part_id or 0) < num_parts:
        raise CommandError(f"--part-id must be from 0 to --num-parts - 1, got part {part_id} of {num_parts}")
    if "" in inputs:
        raise CommandError("an input is an empty name")  # which Path takes for the current folder
    announce(f"loading model {model}")
    from ..inference.frame_sources import as_sources, collect_inputs
    from ..inference.predict_files import predict_files
    from ..inference.result_files import OutputError, PredictionOptions, RunFiles
    from ..utils.memory import keep_memory_steady

    options = PredictionOptions(
        batch_size=batch_size,
        overlay=not no_overlay,
        legend=not no_legend,
        curves=comma_separated(curves or ""),
        save_probabilities=save_probabilities,
        smoothing_s=smoothing,
        num_parts=num_parts,
        part_id=part_id or 0,
    )
    views = _views(flip, scales)
    with one_line_errors():
        found = collect_inputs(inputs, recursive=recursive, output=output)
    mine = as_sources(found.files)[options.part_id :: options.num_parts]
    with one_line_errors():
        # Again by predict_files, which knows the model's landmarks; here because loading a model takes long.
        RunFiles(output, options).check(mine, found.files, overwrite=overwrite, resume=resume)
    if found.left_out:
        say(f"left out: {found.left_out} files that earlier runs wrote")
    predictor = _predictor(model, device, dtype, views, batch_size if compile else None)
    keep_memory_steady()
    try:
        with full_memory_is_an_error():
            report = predict_files(
                predictor,
                found,
                output,
                options,
                model_name=model,
                resume=resume,
                overwrite=overwrite,
                listener=_listener(mine),
            )
    except (OutputError, FileExistsError) as error:
        raise CommandError(str(error)) from error
    except OSError as error:
        raise RunError(f"output folder {output} cannot be written: {error}") from error
    except KeyboardInterrupt:
        raise Interrupted("--resume goes on from here") from None
    say(
        f"{report.predicted} of {report.inputs} inputs predicted ({report.frames} frames), "
        f"results in {output}"
    )
    return 1 if report.failed else 0


def _views(flip: bool, scales: str | None) -> AveragedViews | None:
    from ..inference.views import AveragedViews

    if not flip and scales is None:
        return None
    with one_line_errors():
        return AveragedViews(flip=flip, scales=tuple(map(float, (scales or "1").split(","))))


def _predictor(
    model: str, device: str | None, dtype: Dtype, views: AveragedViews | None, compiled_batch: int | None
) -> LandmarkPredictor:
    """The model, ready to predict; compiled for batches of `compiled_batch` frames, unless that is None."""
    import torch

    from ..inference import LandmarkPredictor, ModelLoadError

    quiet_libraries()
    try:
        predictor = LandmarkPredictor.from_pretrained(
            model, device=device, dtype=getattr(torch, dtype), views=views, compile=compiled_batch is not None
        )
        if compiled_batch is not None:
            announce("compiling the model")
            predictor.compile_now(compiled_batch)
        return predictor
    except ModelLoadError as error:
        raise CommandError(str(error)) from error
    except ValueError as error:
        raise CommandError(f"model {model}: {error}") from error


def _listener(sources: Sequence[Source]) -> RunListener:
    """Lines for inputs, on a terminal also a bar over a video's frames."""
    from tqdm import tqdm

    from ..inference.predict_files import RunListener

    bar: tqdm | None = None

    def on_frame(row: dict[str, Any], frames: int | None) -> None:
        nonlocal bar
        if "frame" not in row:
            say(f"{row['file']}: {', '.join(row['present']) or 'nothing found'}")
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
            say(f"{source.file}: {frames} frames")

    def on_failed(reason: str) -> None:
        end_bar()
        print(f"error: {reason}", file=sys.stderr)

    return RunListener(on_frame, on_input, on_failed, announce)
