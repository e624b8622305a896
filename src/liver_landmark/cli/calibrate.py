"""`liver-landmark calibrate`: how a trained model tells that a landmark is not in the frame."""

from __future__ import annotations

import json
import shutil
import sys
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .options import (
    DATA_PANEL,
    BatchSizeOption,
    CommandError,
    DatasetOption,
    DeviceOption,
    ModelOption,
    RunError,
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

if TYPE_CHECKING:
    from ..evaluation.calibration import PresenceFrames

REPORT_FILE = "calibration.json"
PLOT_FILE = "reliability.png"


def calibrate(
    model: ModelOption,
    dataset: DatasetOption,
    output: Annotated[Path, typer.Option("--output", metavar="DIR", help="Folder for the report.")],
    output_model: Annotated[
        Path | None,
        typer.Option("--output-model", metavar="DIR", help="Write the calibrated model here, as a copy."),
    ] = None,
    report_only: Annotated[bool, typer.Option("--report-only", help="Leave the model as it is.")] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an older report in the folder.")
    ] = False,
    split: Annotated[
        Split,
        typer.Option(
            "--split",
            help="Frames to calibrate on, of patients that the model was not trained on.",
            rich_help_panel=DATA_PANEL,
        ),
    ] = "validation",
    held_out: Annotated[
        str | None,
        typer.Option(
            "--held-out",
            metavar="DATASET",
            help="Dataset whose test split is scored with the calibration.",
            rich_help_panel=DATA_PANEL,
        ),
    ] = None,
    protocol: Annotated[
        str | None,
        typer.Option(
            "--protocol",
            metavar="P",
            callback=known_protocol,
            help="Default: what the dataset's rows name.",
            rich_help_panel=DATA_PANEL,
        ),
    ] = None,
    device: DeviceOption = None,
    batch_size: BatchSizeOption = 8,
) -> int:
    """Calibrate how a trained model tells that a landmark is not in the frame.

    Fits on the validation split, writes calibration.json (figures before, after and cross-validated by
    patient) and reliability.png into the output folder, all of it or nothing, and then the calibration into
    config.json in the model's folder, where all that loads the model finds it. --output-model writes it into
    a copy of the model instead, which a Hub id needs.
    """
    place = output.resolve()
    check_replaceable(place, overwrite, "a calibration", lambda names: names <= {REPORT_FILE, PLOT_FILE})
    _check_model_target(model, output, output_model, report_only)
    announce(f"loading model {model}")
    from ..data.loading import load_landmark_dataset
    from ..evaluation.calibration import (
        DEFINITIONS,
        apply_calibration,
        collect_presence,
        cross_validate,
        fit_calibration,
        plot_reliability,
        summarize_reliability,
    )
    from ..inference import load_model_and_processor
    from ..utils.atomic_files import write_json

    quiet_libraries()
    quiet_datasets()
    with one_line_errors():
        rows = load_landmark_dataset(dataset, split=split)
        held_out_rows = held_out and load_landmark_dataset(held_out, split="test")
        network, processor = load_model_and_processor(model, device=device)

    def collect(name: str, split: str, rows: Any) -> PresenceFrames:
        with one_line_errors(f"dataset {name}, split {split}: "), full_memory_is_an_error():
            return collect_presence(
                network,
                processor,
                rows,
                protocol=protocol,
                batch_size=batch_size,
                progress=sys.stderr.isatty(),
            )

    frames = collect(dataset, split, rows)
    source = _source(dataset, split, rows, frames)
    calibration, reasons = fit_calibration(frames, source)
    answers = {
        "uncalibrated": apply_calibration(frames, None),
        "calibrated": apply_calibration(frames, calibration),
    }
    crossed = cross_validate(frames)
    if crossed is not None:
        answers["cross_validated"] = crossed
    report = {
        "model": model,
        "presence_calibration": calibration,
        "thresholds": reasons,
        "calibrated_on": summarize_reliability(frames, answers),
        "held_out": None,
        "definitions": dict(DEFINITIONS),
    }
    if held_out_rows:
        report["held_out"] = _score_held_out(held_out, collect(held_out, "test", held_out_rows), calibration)
    size = f"{source['frames']} frames of {source['patients']} patients"
    with replaced_folder(place) as folder:
        write_json(folder / REPORT_FILE, report)
        title = f"Presence of landmarks: {source['dataset']}, {split}, {size}"
        plot_reliability(folder / PLOT_FILE, frames, answers, title)
    print(_format_table(report))
    print(f"report in {output}")
    if not report_only:
        _write_model(model, output_model, calibration)
    return 0


def _check_model_target(model: str, output: Path, output_model: Path | None, report_only: bool) -> None:
    """Where the calibration goes must be known before an hour has gone into it."""
    if report_only and output_model is not None:
        raise CommandError("--output-model and --report-only exclude each other")
    if report_only:
        return
    if output_model is not None:
        if output_model.exists():
            raise CommandError(f"--output-model {output_model} exists already: choose another folder")
        copy = output_model.resolve()
        if Path(model).resolve() in copy.parents:
            raise CommandError(f"--output-model {output_model} lies in the model's own folder")
        if copy == output.resolve() or output.resolve() in copy.parents:
            raise CommandError(f"--output-model {output_model} lies in the report's folder, --output")
    elif not Path(model).is_dir():
        raise CommandError(
            f"model {model} is no folder here: name one for the calibrated model with --output-model, or "
            "pass --report-only"
        )


def _source(dataset: str, split: str, rows: Any, frames: PresenceFrames) -> dict[str, Any]:
    """What the calibration says of the frames that it was fitted on."""
    from ..data.loading import dataset_fingerprint

    return {
        # The name alone: a model is published, its maker's folders are not.
        "dataset": Path(dataset).resolve().name if Path(dataset).is_dir() else dataset,
        "fingerprint": dataset_fingerprint(rows),
        "split": split,
        "protocol": frames.protocol,
        "frames": len(frames),
        "patients": len(set(frames.patients)),
        "version": version("liver-landmark"),
    }


def _score_held_out(name: str, frames: PresenceFrames, calibration: dict[str, Any]) -> dict[str, Any]:
    from ..evaluation.calibration import apply_calibration, summarize_reliability

    answers = {
        "uncalibrated": apply_calibration(frames, None),
        "calibrated": apply_calibration(frames, calibration),
    }
    return {"dataset": name, "split": "test", **summarize_reliability(frames, answers)}


def _write_model(model: str, output_model: Path | None, calibration: dict[str, Any]) -> None:
    """Into config.json, everything else in the model's folder as it is."""
    from huggingface_hub import snapshot_download

    from ..utils.atomic_files import new_folder

    try:
        if output_model is None:
            write_calibration(Path(model), calibration)
        else:
            folder = model if Path(model).is_dir() else snapshot_download(model)
            with new_folder(output_model.resolve()) as copy:
                shutil.copytree(folder, copy, dirs_exist_ok=True)
                write_calibration(copy, calibration)
    except OSError as error:
        raise RunError(
            f"model {output_model or model}: the calibration cannot be written ({error})"
        ) from error
    print(f"calibration in {(output_model or Path(model)) / 'config.json'}")


def write_calibration(folder: Path, calibration: dict[str, Any]) -> None:
    """Puts the calibration into the config.json of a model's folder."""
    from ..utils.atomic_files import write_json

    path = folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8")) | {"presence_calibration": calibration}
    # Sorted, as transformers writes it.
    write_json(path, dict(sorted(config.items())))


def _format_table(report: dict[str, Any]) -> str:
    from ..evaluation.calibration import KINDS

    lines = []
    for part in ("calibrated_on", "held_out"):
        if report[part] is None:
            continue
        per_class = report[part]["per_class"]
        lines.append(f"{part.replace('_', ' ')}: {report[part]['frames']} frames")
        width = max(12, *(len(name) + 1 for name in per_class))
        lines.append(f"{'':{width}}{'':18}{'ECE':>8}{'Brier':>8}{'right':>8}{'missed':>8}{'invented':>10}")
        for name, values in (*per_class.items(), ("all", report[part]["pooled"])):
            for kind in KINDS:
                if kind not in values:
                    continue
                found = values[kind]
                counts = f"{found.get('frames_missed', ''):>8}{found.get('frames_invented', ''):>10}"
                scores = "".join(f"{found[score]:8.3f}" for score in ("ece", "brier", "accuracy"))
                lines.append(f"{name:{width}}{kind:18}{scores}{counts}")
    for name, reason in report["thresholds"].items():
        threshold = report["presence_calibration"]["classes"][name]["threshold"]
        lines.append(f"threshold of {name}: {threshold:.3f} ({reason})")
    return "\n".join(lines)
