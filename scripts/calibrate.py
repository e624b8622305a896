"""Calibrates how a trained model tells that a landmark is not in the frame, and saves that with the model.

    python scripts/calibrate.py --model outputs/quickstart/best --dataset outputs/quickstart/data/a \\
        --output outputs/calibration

fits on the validation split, writes calibration.json (figures before, after and cross-validated by patient)
and reliability.png into the output folder, all of it or nothing, and then the calibration into config.json in
the model's folder, where all that loads the model finds it. --output-model writes it into a copy of the
model instead, which a Hub id needs. Exit codes: 0 done, 2 an option, the model or the dataset is wrong.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import datasets
import torch
from huggingface_hub import snapshot_download

from liver_landmark.cli_options import CommandError, positive_int, quiet_libraries
from liver_landmark.curves import PROTOCOLS
from liver_landmark.curves.rasterize import AS_DRAWN
from liver_landmark.data.loading import dataset_fingerprint, load_landmark_dataset
from liver_landmark.data.schema import SPLITS
from liver_landmark.evaluation.calibration import (
    DEFINITIONS,
    KINDS,
    Answers,
    PresenceFrames,
    apply_calibration,
    collect_presence,
    cross_validate,
    fit_calibration,
    plot_reliability,
    summarize_reliability,
)
from liver_landmark.inference import load_model_and_processor
from liver_landmark.utils.atomic_files import new_folder, remove_folder, write_json

REPORT_FILE = "calibration.json"
PLOT_FILE = "reliability.png"


def build_parser() -> argparse.ArgumentParser:
    """The options."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", required=True, help="folder of a trained model, or a Hub id")
    parser.add_argument("--dataset", required=True, help="folder or Hub id of a dataset of the schema")
    parser.add_argument(
        "--split",
        choices=SPLITS,
        default="validation",
        help="frames to calibrate on, of patients that the model was not trained on (default: %(default)s)",
    )
    parser.add_argument(
        "--held-out", help="dataset whose test split is scored with the calibration (default: none)"
    )
    parser.add_argument(
        "--protocol", choices=(*PROTOCOLS, AS_DRAWN), help="default: what the dataset's rows name"
    )
    parser.add_argument("--output", required=True, type=Path, help="folder for the report")
    target = parser.add_mutually_exclusive_group()
    target.add_argument("--output-model", type=Path, help="write the calibrated model here, as a copy")
    target.add_argument("--report-only", action="store_true", help="leave the model as it is")
    parser.add_argument(
        "--device", help="cpu, cuda, cuda:1, mps (default: an accelerator where there is one)"
    )
    parser.add_argument("--batch-size", type=positive_int, default=8, help="default: %(default)s")
    parser.add_argument("--overwrite", action="store_true", help="replace a former report's folder")
    return parser


def calibrate(arguments: argparse.Namespace) -> None:
    """Runs the calibration; a CommandError says what is wrong in one line."""
    output = arguments.output.resolve()
    _check_output(output, arguments.overwrite)
    _check_model_target(arguments)
    quiet_libraries()
    if not sys.stderr.isatty():
        datasets.disable_progress_bars()
    try:
        dataset = load_landmark_dataset(arguments.dataset, split=arguments.split)
        held_out = arguments.held_out and load_landmark_dataset(arguments.held_out, split="test")
        model, processor = load_model_and_processor(arguments.model, device=arguments.device)
    except (ValueError, OSError) as error:
        raise CommandError(str(error)) from error

    def collect(name: str, split: str, rows: datasets.Dataset) -> PresenceFrames:
        try:
            return collect_presence(
                model,
                processor,
                rows,
                protocol=arguments.protocol,
                batch_size=arguments.batch_size,
                progress=sys.stderr.isatty(),
            )
        except ValueError as error:
            raise CommandError(f"dataset {name}, split {split}: {error}") from error
        except torch.OutOfMemoryError as error:
            raise CommandError("the device's memory is full: lower --batch-size, or --device cpu") from error

    frames = collect(arguments.dataset, arguments.split, dataset)
    source = {
        # The name alone: a model is published, its maker's folders are not.
        "dataset": Path(arguments.dataset).resolve().name
        if Path(arguments.dataset).is_dir()
        else arguments.dataset,
        "fingerprint": dataset_fingerprint(dataset),
        "split": arguments.split,
        "protocol": frames.protocol,
        "frames": len(frames),
        "patients": len(set(frames.patients)),
        "version": version("liver-landmark"),
    }
    calibration, reasons = fit_calibration(frames, source)
    answers = {
        "uncalibrated": apply_calibration(frames, None),
        "calibrated": apply_calibration(frames, calibration),
    }
    crossed = cross_validate(frames)
    if crossed is not None:
        answers["cross_validated"] = crossed
    report = {
        "model": arguments.model,
        "presence_calibration": calibration,
        "thresholds": reasons,
        "calibrated_on": summarize_reliability(frames, answers),
        "held_out": None,
        "definitions": dict(DEFINITIONS),
    }
    if held_out:
        report["held_out"] = _score_held_out(
            arguments.held_out, collect(arguments.held_out, "test", held_out), calibration
        )
    size = f"{source['frames']} frames of {source['patients']} patients"
    title = f"Presence of landmarks: {source['dataset']}, {arguments.split}, {size}"
    _write_report(output, report, frames, answers, title)
    print(_format_table(report))
    print(f"report in {arguments.output}")
    _write_model(arguments, calibration)


def _score_held_out(name: str, frames: PresenceFrames, calibration: dict[str, Any]) -> dict[str, Any]:
    answers = {
        "uncalibrated": apply_calibration(frames, None),
        "calibrated": apply_calibration(frames, calibration),
    }
    return {"dataset": name, "split": "test", **summarize_reliability(frames, answers)}


def _check_output(output: Path, overwrite: bool) -> None:
    """Only an empty folder, or with --overwrite a former report's, may be replaced."""
    if not output.exists():
        above = next(folder for folder in output.parents if folder.exists())
        if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
            raise CommandError(f"output {output} cannot be made: {above} is no folder that can be written to")
        return
    if not output.is_dir():
        raise CommandError(f"output {output} exists and is no folder")
    names = {path.name for path in output.iterdir()}
    if names - {REPORT_FILE, PLOT_FILE}:
        raise CommandError(f"output {output} holds something else than a calibration: choose another folder")
    if names and not overwrite:
        raise CommandError(
            f"output {output} holds a calibration already: pass --overwrite, or choose another"
        )


def _check_model_target(arguments: argparse.Namespace) -> None:
    """Where the calibration goes must be known before an hour has gone into it."""
    if arguments.report_only:
        return
    if arguments.output_model is not None:
        if arguments.output_model.exists():
            raise CommandError(
                f"--output-model {arguments.output_model} exists already: choose another folder"
            )
        model, output = Path(arguments.model).resolve(), arguments.output_model.resolve()
        if model in output.parents:
            raise CommandError(f"--output-model {arguments.output_model} lies in the model's own folder")
        if output == arguments.output.resolve() or arguments.output.resolve() in output.parents:
            raise CommandError(
                f"--output-model {arguments.output_model} lies in the report's folder, --output"
            )
    elif not Path(arguments.model).is_dir():
        raise CommandError(
            f"model {arguments.model} is no folder here: name one for the calibrated model with "
            "--output-model, or pass --report-only"
        )


def _write_report(
    output: Path, report: dict[str, Any], frames: PresenceFrames, answers: Answers, title: str
) -> None:
    try:
        staged = output.with_name(f".incomplete-new-{output.name}")
        if staged.exists():
            remove_folder(staged)
        with new_folder(staged) as folder:
            write_json(folder / REPORT_FILE, report)
            plot_reliability(folder / PLOT_FILE, frames, answers, title)
        if output.exists():
            remove_folder(output)
        staged.rename(output)
    except OSError as error:
        raise CommandError(f"output {output} cannot be written: {error}") from error


def _write_model(arguments: argparse.Namespace, calibration: dict[str, Any]) -> None:
    """Into config.json, everything else in the model's folder as it is."""
    if arguments.report_only:
        return
    try:
        if arguments.output_model is None:
            _write_calibration(Path(arguments.model), calibration)
        else:
            folder = arguments.model if Path(arguments.model).is_dir() else snapshot_download(arguments.model)
            with new_folder(arguments.output_model.resolve()) as copy:
                shutil.copytree(folder, copy, dirs_exist_ok=True)
                _write_calibration(copy, calibration)
    except OSError as error:
        target = arguments.output_model or arguments.model
        raise CommandError(f"model {target}: the calibration cannot be written ({error})") from error
    print(f"calibration in {(arguments.output_model or Path(arguments.model)) / 'config.json'}")


def _write_calibration(folder: Path, calibration: dict[str, Any]) -> None:
    path = folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8")) | {"presence_calibration": calibration}
    # Sorted, as transformers writes it.
    write_json(path, dict(sorted(config.items())))


def _format_table(report: dict[str, Any]) -> str:
    lines = []
    for part in ("calibrated_on", "held_out"):
        if report[part] is None:
            continue
        per_class = report[part]["per_class"]
        lines.append(f"{part.replace('_', ' ')}: {report[part]['frames']} frames")
        lines.append(f"{'':12}{'':18}{'ECE':>8}{'Brier':>8}{'right':>8}{'missed':>8}{'invented':>10}")
        for name, values in (*per_class.items(), ("all", report[part]["pooled"])):
            for kind in KINDS:
                if kind not in values:
                    continue
                found = values[kind]
                counts = f"{found.get('frames_missed', ''):>8}{found.get('frames_invented', ''):>10}"
                lines.append(
                    f"{name:12}{kind:18}{found['ece']:8.3f}{found['brier']:8.3f}{found['accuracy']:8.3f}{counts}"
                )
    for name, reason in report["thresholds"].items():
        threshold = report["presence_calibration"]["classes"][name]["threshold"]
        lines.append(f"threshold of {name}: {threshold:.3f} ({reason})")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    parsed = build_parser().parse_args(arguments)
    try:
        calibrate(parsed)
    except CommandError as error:
        print(f"calibrate: error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
