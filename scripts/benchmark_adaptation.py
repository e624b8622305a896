"""Adapts a trained model to another domain with several optimizers, each at its own best learning rate.

    python scripts/benchmark_adaptation.py --model outputs/wide/best --dataset outputs/quickstart/data/b \\
        --output outputs/adaptation

Only the weights of the vision attention train. For each method, seed 0 runs at every learning rate; the
DSC on the validation split chooses one; the other seeds run at that one, and only it is scored on the test
split. Batches, augmentation, schedule and AdamW's settings are those of the recipe, for all methods.

Every finished piece is a line of runs.jsonl in the output folder, its trained weights a file in weights/.
A second call goes on from there, and so does one after a hard stop. table.md and results.json come last,
or from what there is with --report-only. Runs are known by model, data and settings, not by the code: after
a change of an optimizer, take another folder.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import math
import os
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from itertools import islice
from pathlib import Path
from typing import Any

# Read when torch is imported. Threads that wait actively collapse when anything else uses a core.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import datasets
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from adaptation_benchmark.methods import (
    GAP,
    METHODS,
    RANK,
    add_lora,
    build_optimizer,
    check_installed,
    state_bytes,
    train,
)
from adaptation_benchmark.report import Records, best_lr, format_table, machine, summarize
from liver_landmark.cli_options import CommandError, positive_int, quiet_libraries
from liver_landmark.data.augmentation import Augmentation
from liver_landmark.data.loading import dataset_fingerprint, load_landmark_dataset, spread_frames
from liver_landmark.data.schema import SPLITS
from liver_landmark.evaluation import DEFAULT_RESOLUTION, evaluate_model
from liver_landmark.model.landmarks_liver_landmark import DEFAULT_LANDMARKS
from liver_landmark.training.models import build_model
from liver_landmark.training.optimizers import freeze_all_but
from liver_landmark.training.recipe import Recipe, parse_recipe, recipe_to_dict
from liver_landmark.training.training_frames import FrameOrder, TrainingFrames, build_loader
from liver_landmark.utils.atomic_files import atomic_path, write_json, write_text

RECIPE = Path(__file__).resolve().parents[1] / "hub_configs" / "training" / "synthetic_tiny.yaml"
# The model as it came, and the method that the others are compared with.
UNADAPTED, REFERENCE = "unadapted", "svd"
# What of the recipe acts on all runs here, beside AdamW's settings.
_IDENTITY_FIELDS = ("trainable", "augmentation", "schedule", "batch_size", "max_grad_norm", "channels_last")
_MODEL_FILES = ("config.json", "preprocessor_config.json", "model.safetensors")


@dataclass
class Benchmark:
    """What all runs share."""

    recipe: Recipe
    rows: dict[str, datasets.Dataset]
    frames: TrainingFrames
    identity: dict[str, Any]
    records: Records

    def settings(self, name: str) -> str:
        """Digest of everything but learning rate and seed that decides a method's result."""
        method = {} if name == UNADAPTED else dataclasses.asdict(METHODS[name]) | {"lrs": None}
        text = json.dumps(self.identity | {"method": method, "rank": RANK, "gap": GAP}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def weights(self, name: str, lr: float, seed: int) -> Path:
        """Where a run leaves what it has trained."""
        return self.records.folder / "weights" / f"{name}-{lr}-{seed}-{self.settings(name)}.safetensors"

    def build(self, name: str, seed: int) -> tuple[nn.Module, Any]:
        """The model with only the method's parameters trainable, and its processor."""
        model, processor = build_model(self.recipe.model)
        freeze_all_but(model, self.recipe.trainable)
        # The start of adapters and dropout are drawn from the global generator.
        torch.manual_seed(seed)
        if name != UNADAPTED and METHODS[name].kind == "lora":
            add_lora(model)
        return model.to(memory_format=torch.channels_last), processor

    def score(self, model: nn.Module, processor: Any, split: str) -> dict[str, Any]:
        """{"dsc", "per_class": {name: DSC}} on a split."""
        validation = self.recipe.validation
        try:
            metrics = evaluate_model(
                model,
                processor,
                self.rows[split],
                resolution=validation.resolution,
                batch_size=validation.batch_size,
                distances=False,
            ).metrics
        except ValueError as error:
            raise CommandError(f"dataset {self.recipe.data.path}, split {split}: {error}") from error
        return {
            "dsc": metrics["dsc"],
            "per_class": {name: metrics["per_class"][name]["dsc"] for name in DEFAULT_LANDMARKS.names},
        }

    def adapt(self, name: str, lr: float, seed: int) -> dict[str, Any]:
        """Trains, scores on the validation split, keeps the weights and records it all."""
        recipe = dataclasses.replace(
            self.recipe, optimizer=dataclasses.replace(self.recipe.optimizer, lr=lr), seed=seed
        )
        model, processor = self.build(name, seed)
        optimizer = build_optimizer(METHODS[name], model, recipe)
        # The frames are decoded once; how they vary hangs on the run's seed.
        self.frames.augmentation = Augmentation(recipe.augmentation, seed)
        order = FrameOrder(len(self.frames), recipe.batch_size, seed)
        loader = build_loader(self.frames, order, processor, workers=0, pin_memory=False)
        times = train(model, optimizer, islice(loader, recipe.budget.steps), recipe)
        trained = {key: value for key, value in model.named_parameters() if value.requires_grad}
        finite = times["diverged_at_step"] is None
        if finite:
            path = self.weights(name, lr, seed)
            path.parent.mkdir(exist_ok=True)
            with atomic_path(path) as temporary:
                save_file({key: value.detach().contiguous() for key, value in trained.items()}, temporary)
        record = {
            "settings": self.settings(name),
            "method": name,
            "lr": lr,
            "seed": seed,
            "validation": self.score(model, processor, "validation") if finite else None,
            "test": None,
            **times,
            "state_bytes": state_bytes(optimizer),
            "trained_parameters": sum(value.numel() for value in trained.values()),
            **machine(),
        }
        self.records.append(record)
        return record

    def test(self, record: dict[str, Any]) -> None:
        """Scores a finished run, or the unadapted model, on the test split and records it."""
        name, lr, seed = record["method"], record["lr"], record["seed"]
        model, processor = self.build(name, seed)
        if name != UNADAPTED:
            path = self.weights(name, lr, seed)
            tensors = load_file(path)
            trained = {key: value for key, value in model.named_parameters() if value.requires_grad}
            if tensors.keys() != trained.keys():
                raise CommandError(f"{path} holds other weights than {name} trains: delete it and its run")
            with torch.no_grad():
                for key, value in trained.items():
                    value.copy_(tensors[key])
        self.records.append(record | {"test": self.score(model, processor, "test")})

    def run_method(self, name: str, lrs: Sequence[float], seeds: int) -> None:
        """Does what is missing of a method."""
        settings = self.settings(name)
        if name == UNADAPTED:
            if not self.records.read(settings, name):
                model, processor = self.build(name, 0)
                start = {"settings": settings, "method": name, "lr": None, "seed": 0, **machine()}
                self.test(start | {"validation": self.score(model, processor, "validation")})
            return
        for lr in lrs:
            if (lr, 0) not in self.records.read(settings, name):
                say(self.adapt(name, lr, 0))
        lr = best_lr(self.records.read(settings, name))
        for seed in range(seeds) if lr is not None else ():
            record = self.records.read(settings, name).get((lr, seed))
            if record is None:
                record = self.adapt(name, lr, seed)
                say(record)
            if record["test"] is None and record["validation"] is not None:
                self.test(record)


def say(record: dict[str, Any]) -> None:
    """One line on the terminal for a run."""
    validation = record["validation"]
    outcome = f"validation DSC {validation['dsc']:.4f}" if validation else "diverged"
    print(
        f"{record['method']} lr {record['lr']:g} seed {record['seed']}: {outcome}, "
        f"{record['seconds_per_step']:.2f} s/step, {record['state_bytes'] / 2**20:.2f} MiB of state",
        flush=True,
    )


def build_parser() -> argparse.ArgumentParser:
    """The options."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", required=True, type=Path, help="folder of the model to adapt")
    parser.add_argument("--dataset", required=True, help="folder or Hub id of the domain to adapt to")
    parser.add_argument("--output", required=True, type=Path, help="folder of runs and results")
    parser.add_argument(
        "--methods", default="srft,svd,adamw,lora", help=f"of {', '.join(METHODS)} (default: %(default)s)"
    )
    parser.add_argument(
        "--lrs",
        action="append",
        default=[],
        metavar="METHOD=A,B,C",
        help="other learning rates to choose from",
    )
    parser.add_argument(
        "--steps", type=positive_int, default=150, help="optimizer steps (default: %(default)s)"
    )
    parser.add_argument("--seeds", type=positive_int, default=3, help="default: %(default)s")
    parser.add_argument(
        "--eval-resolution",
        type=positive_int,
        default=DEFAULT_RESOLUTION,
        help="width and height in px at which masks are compared (default: %(default)s)",
    )
    parser.add_argument(
        "--max-frames", type=positive_int, help="score only this many frames of a split, spread evenly"
    )
    parser.add_argument("--threads", type=positive_int, default=1, help="default: %(default)s")
    parser.add_argument(
        "--part", metavar="I/N", help="do the I-th of N shares of the methods; N processes share a folder"
    )
    parser.add_argument("--report-only", action="store_true", help="only write the table of what there is")
    return parser


def chosen_methods(options: argparse.Namespace) -> dict[str, tuple[float, ...]]:
    """{method: learning rates} as the options say; a CommandError names what is wrong."""
    methods = {}
    for name in options.methods.split(","):
        if name not in METHODS:
            raise CommandError(f"--methods: {name!r} is unknown: choose from {', '.join(METHODS)}")
        methods[name] = METHODS[name].lrs
    for text in options.lrs:
        name, _, values = text.partition("=")
        if name not in methods:
            raise CommandError(f"--lrs {text}: {name!r} is none of the methods {', '.join(methods)}")
        try:
            methods[name] = tuple(float(value) for value in values.split(","))
        except ValueError:
            raise CommandError(f"--lrs {text}: expected METHOD=A,B,C with numbers") from None
        if not all(0 < value < math.inf for value in methods[name]):
            raise CommandError(f"--lrs {text}: learning rates must be positive")
    return methods


def own_share(names: Sequence[str], part: str | None) -> tuple[list[str], int | None]:
    """Every N-th method from the I-th on, and I; all of them without --part."""
    if part is None:
        return list(names), None
    index, _, count = part.partition("/")
    if not (index.isdecimal() and count.isdecimal() and 1 <= int(index) <= int(count)):
        raise CommandError(f"--part {part}: expected I/N with I from 1 to N")
    return list(names[int(index) - 1 :: int(count)]), int(index)


def file_sha256(path: Path) -> str:
    """Digest of a file's content."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def prepare(options: argparse.Namespace, part: int | None) -> Benchmark:
    """Reads recipe and data; whatever is wrong with them is a CommandError."""
    fields = {
        "model.architecture": "null",
        "model.init": options.model,
        "data.path": options.dataset,
        "trainable.vision": "attention",
        "trainable.depth": "none",
        "trainable.fusion": "false",
        "trainable.decoder": "false",
        # Every method's rate falls to the same fraction of its peak, not to the same number.
        "schedule.min_lr": 0,
        "budget.steps": options.steps,
        "validation.resolution": options.eval_resolution,
        "validation.max_frames": options.max_frames or "null",
        "output_dir": options.output,
    }
    arguments = ["--config", RECIPE, *(f"--{name}={value}" for name, value in fields.items())]
    try:
        recipe, _ = parse_recipe([str(argument) for argument in arguments])
        rows = {split: load_landmark_dataset(recipe.data.path, split) for split in SPLITS}
        model_sha256 = {name: file_sha256(options.model / name) for name in _MODEL_FILES}
        frames = TrainingFrames(
            rows["train"], Augmentation(recipe.augmentation, 0), cache=not options.report_only
        )
        options.output.mkdir(parents=True, exist_ok=True)
    except (ValueError, OSError) as error:
        raise CommandError(" ".join(str(error).split())) from error
    settings = recipe_to_dict(recipe)
    identity = {
        "recipe": {name: settings[name] for name in _IDENTITY_FIELDS},
        "optimizer": {name: settings["optimizer"][name] for name in ("weight_decay", "betas", "eps")},
        "steps": recipe.budget.steps,
        "validation": [recipe.validation.resolution, recipe.validation.max_frames],
        "model_sha256": model_sha256,
        "data_sha256": {split: dataset_fingerprint(rows[split]) for split in SPLITS},
    }
    scored = {split: spread_frames(rows[split], recipe.validation.max_frames) for split in SPLITS}
    return Benchmark(recipe, scored, frames, identity, Records(options.output, part))


def write_results(benchmark: Benchmark, names: Sequence[str], seeds: int, command: str) -> Path:
    """table.md and results.json from all records of these settings."""
    folder = benchmark.records.folder
    start, reference, *others = (
        benchmark.records.read(benchmark.settings(name), name) for name in (UNADAPTED, REFERENCE, *names)
    )
    runs = dict(zip(names, others, strict=True))
    if not start and not any(runs.values()):
        raise CommandError(f"output {folder} holds no runs of this model, these data and these settings")
    machines = {
        f"{run['processor']}, threads: {run['threads']}, torch {run['torch']}"
        for found in runs.values()
        for run in found.values()
    }
    results = {
        "command": command,
        "date": date.today().isoformat(),
        "machines": sorted(machines),
        "steps": benchmark.recipe.budget.steps,
        "batch_size": benchmark.recipe.batch_size,
        "rank": RANK,
        "gap": GAP,
        "identity": benchmark.identity,
        "seeds": seeds,
        "reference": REFERENCE,
        "unadapted": start.get((None, 0)),
        "methods": {name: summarize(found, seeds, reference) for name, found in runs.items() if found},
        "runs": [run for found in runs.values() for run in found.values()],
    }
    write_json(folder / "results.json", results)
    write_text(folder / "table.md", format_table(results))
    return folder / "table.md"


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    options = build_parser().parse_args(arguments)
    torch.set_num_threads(options.threads)
    quiet_libraries()
    if not sys.stderr.isatty():
        datasets.disable_progress_bars()
    try:
        methods = chosen_methods(options)
        share, part = own_share([UNADAPTED, *methods], options.part)
        if not options.report_only:
            check_installed(share)
        benchmark = prepare(options, part)
        if not options.report_only:
            benchmark.records.repair()
            for name in share:
                benchmark.run_method(name, methods.get(name, ()), options.seeds)
        shown = [text for text in arguments if text != "--report-only"]
        command = shlex.join(["python", "scripts/benchmark_adaptation.py", *shown])
        table = write_results(benchmark, list(methods), options.seeds, command)
    except CommandError as error:
        print(f"benchmark_adaptation: error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"benchmark_adaptation: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("benchmark_adaptation: interrupted; the same command goes on", file=sys.stderr)
        return 130
    print(f"{table}\n{table.read_text(encoding='utf-8')}", end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
