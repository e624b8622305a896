"""`liver-landmark evaluate`: a trained model's scores on a split of a dataset, by a named protocol."""

from __future__ import annotations

import sys
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from .options import (
    DATA_PANEL,
    BatchSizeOption,
    DatasetOption,
    DeviceOption,
    ModelOption,
    Split,
    announce,
    check_replaceable,
    full_memory_is_an_error,
    known_protocol,
    one_line_errors,
    quiet_datasets,
    quiet_libraries,
    replaced_folder,
)

_PACKAGES = ("liver-landmark", "torch", "transformers", "datasets", "scipy")


def evaluate(
    model: ModelOption,
    dataset: DatasetOption,
    output: Annotated[Path, typer.Option("--output", metavar="DIR", help="Folder for the results.")],
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an older evaluation in the folder.")
    ] = False,
    split: Annotated[
        Split, typer.Option("--split", help="Split to score.", rich_help_panel=DATA_PANEL)
    ] = "test",
    protocol: Annotated[
        str | None,
        typer.Option(
            "--protocol",
            metavar="P",
            callback=known_protocol,
            help="d2gpland, srft_galore, toponet and so on, or as_drawn: the masks of the set's source. "
            "Default: what the dataset's rows name.",
            rich_help_panel=DATA_PANEL,
        ),
    ] = None,
    resolution: Annotated[
        int,
        typer.Option(
            "--resolution",
            min=1,
            metavar="PX",
            help="Width and height at which masks are compared; 1024 in the papers.",
            rich_help_panel=DATA_PANEL,
        ),
    ] = 1024,
    max_frames: Annotated[
        int | None,
        typer.Option(
            "--max-frames",
            min=1,
            metavar="N",
            help="Score the first frames of the split only.",
            rich_help_panel=DATA_PANEL,
        ),
    ] = None,
    device: DeviceOption = None,
    batch_size: BatchSizeOption = 8,
) -> int:
    """Score a trained model on a split of a dataset.

    Prints a table and writes metrics.json, frames.csv and overlays/ into the output folder, all of it or
    nothing.
    """
    place = output.resolve()
    check_replaceable(place, overwrite, "an evaluation", _is_former)
    announce(f"loading model {model}")
    import cv2

    from ..data.loading import load_landmark_dataset
    from ..evaluation import evaluate_model
    from ..evaluation.report import MaskStore, format_table, write_report
    from ..inference import load_model_and_processor

    quiet_libraries()
    quiet_datasets()
    with one_line_errors():
        rows = load_landmark_dataset(dataset, split=split)
        if max_frames is not None:
            rows = rows.select(range(min(max_frames, len(rows))))
        network, processor = load_model_and_processor(model, device=device)
    masks = MaskStore()
    with one_line_errors(f"dataset {dataset}, split {split}: "), full_memory_is_an_error():
        evaluation = evaluate_model(
            network,
            processor,
            rows,
            protocol=protocol,
            resolution=resolution,
            batch_size=batch_size,
            progress=sys.stderr.isatty(),
            on_frame=masks,
        )
    provenance = {
        "model": model,
        "dataset": dataset,
        "split": split,
        # OpenCV comes under several distribution names.
        "versions": {**{name: version(name) for name in _PACKAGES}, "opencv": cv2.__version__},
    }
    with replaced_folder(place) as folder:
        write_report(folder, evaluation, rows, masks, provenance)
    print(format_table(evaluation.metrics))
    print(f"results in {output}")
    return 0


def _is_former(names: set[str]) -> bool:
    # And nothing besides, which would go with it.
    return {"metrics.json", "frames.csv"} <= names <= {"metrics.json", "frames.csv", "overlays"}
