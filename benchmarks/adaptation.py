"""Adapts a trained model to another domain with several optimizers, each at its own best learning rate.

    python benchmarks/adaptation.py --model outputs/wide/best --dataset outputs/quickstart/data/b \\
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
import importlib.util
import json
import math
import os
import re
import shlex
import statistics
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
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

from liver_landmark.cli.options import CommandError, quiet_libraries
from liver_landmark.data.augmentation import Augmentation
from liver_landmark.data.loading import dataset_fingerprint, load_landmark_dataset, spread_frames
from liver_landmark.data.schema import SPLITS
from liver_landmark.evaluation import DEFAULT_RESOLUTION, evaluate_model
from liver_landmark.model.landmarks_liver_landmark import DEFAULT_LANDMARKS
from liver_landmark.optim import SRFTGaLoreAdamW, galore_param_groups
from liver_landmark.training.models import build_model
from liver_landmark.training.optimizers import build_schedule, freeze_all_but, parameter_groups
from liver_landmark.training.recipe import Recipe, parse_recipe, recipe_to_dict
from liver_landmark.training.training_frames import FrameOrder, TrainingFrames, build_loader
from liver_landmark.utils.atomic_files import atomic_path, write_json, write_text
from shared import add_threads, environment, markdown_table, new_parser, positive_int, state_bytes

RECIPE = Path(__file__).resolve().parents[1] / "hub_configs" / "training" / "synthetic_tiny.yaml"
# The model as it came, and the method that the others are compared with.
UNADAPTED, REFERENCE = "unadapted", "svd"
# What of the recipe acts on all runs here, beside AdamW's settings.
_IDENTITY_FIELDS = ("trainable", "augmentation", "schedule", "batch_size", "max_grad_norm", "channels_last")
_MODEL_FILES = ("config.json", "preprocessor_config.json", "model.safetensors")


# The methods that are compared: what trains, by which optimizer, at which rates.

RANK, GAP = 12, 50


@dataclass(frozen=True)
class Method:
    """How the attention weights are trained.

    Attributes:
        lrs: Peak learning rates to choose from.
        kind: `galore`, `adamw`, or `lora`: AdamW on adapters beside the weights.
        keys: Of the projected group: projector, moment transfer …
    """

    lrs: tuple[float, ...]
    kind: str = "galore"
    keys: dict[str, Any] = field(default_factory=dict)


_GALORE_LRS = (1e-3, 3e-3, 1e-2)
METHODS = {
    "srft": Method(_GALORE_LRS),
    "svd": Method(_GALORE_LRS, keys={"proj_type": "svd"}),
    "adamw": Method((3e-4, 1e-3, 3e-3), kind="adamw"),
    "lora": Method((2e-3, 6e-3, 2e-2), kind="lora"),
    "srft_singular": Method(_GALORE_LRS, keys={"singular_basis": True}),
    "srft_rotate": Method(_GALORE_LRS, keys={"moment_transfer": "rotate"}),
    "srft_rotate_singular": Method(_GALORE_LRS, keys={"moment_transfer": "rotate", "singular_basis": True}),
    "srft_power1": Method(_GALORE_LRS, keys={"power_iterations": 1}),
    "srft_oblivious": Method(_GALORE_LRS, keys={"proj_type": "srft_oblivious"}),
    "gaussian": Method(_GALORE_LRS, keys={"proj_type": "gaussian"}),
    "svd_rotate": Method(_GALORE_LRS, keys={"proj_type": "svd", "moment_transfer": "rotate"}),
    "svd_shorter": Method(_GALORE_LRS, keys={"proj_type": "svd", "side": "shorter"}),
}


def check_installed(names: Sequence[str]) -> None:
    """Refuses methods whose package is missing before any run starts."""
    for name in names:
        if name in METHODS and METHODS[name].kind == "lora" and importlib.util.find_spec("peft") is None:
            raise CommandError(f"method {name} needs peft: pip install peft, or leave it out of --methods")


def trained_modules(model: nn.Module) -> str:
    """A pattern of the full names of the layers whose weights train: the same for every method."""
    names = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    return "|".join(re.escape(name.removesuffix(".weight")) for name in names)


def add_lora(model: nn.Module) -> None:
    """Puts adapters of scale 1 beside the layers that train; from then on only the adapters do.

    Their start is drawn from torch's global generator: seed it first.
    """
    import peft

    config = peft.LoraConfig(r=RANK, lora_alpha=RANK, bias="none", target_modules=trained_modules(model))
    peft.inject_adapter_in_model(config, model)


def build_optimizer(method: Method, model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """The method's optimizer over what trains, with the recipe's settings of AdamW."""
    settings = recipe.optimizer
    shared = {"lr": settings.lr, "betas": settings.betas, "eps": settings.eps}
    if method.kind != "galore":
        return torch.optim.AdamW(parameter_groups(model, settings.weight_decay), **shared)
    groups = galore_param_groups(
        model, trained_modules(model), RANK, update_proj_gap=GAP, scale=1.0, **method.keys
    )
    return SRFTGaLoreAdamW(groups, weight_decay=settings.weight_decay, seed=recipe.seed, **shared)


def train(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    batches: Iterable[dict[str, torch.Tensor]],
    recipe: Recipe,
) -> dict[str, Any]:
    """One optimizer step a batch; a loss or gradient that is not finite ends it.

    Returns:
        Mean seconds of a step (frames, forward, backward, optimizer) and milliseconds of the optimizer's
        part, the loss of the last steps, and the step that diverged or None.
    """
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    schedule = build_schedule(optimizer, recipe.schedule, recipe.optimizer.lr, recipe.budget.steps)
    losses, optimizer_seconds, diverged = [], 0.0, None
    model.train()
    start = time.perf_counter()
    for batch in batches:
        images = batch["pixel_values"].to(memory_format=torch.channels_last)
        loss = model(pixel_values=images, labels=batch["labels"]).loss
        loss.backward()
        norm = nn.utils.clip_grad_norm_(parameters, recipe.max_grad_norm or math.inf)
        losses.append(loss.item())
        if not (math.isfinite(losses[-1]) and math.isfinite(norm.item())):
            diverged = len(losses)
            break
        before = time.perf_counter()
        optimizer.step()
        optimizer_seconds += time.perf_counter() - before
        optimizer.zero_grad()
        schedule.step()
    return {
        "steps": len(losses),
        "seconds_per_step": (time.perf_counter() - start) / len(losses),
        "optimizer_ms_per_step": 1000 * optimizer_seconds / len(losses),
        "last_loss": statistics.mean(losses[-10:]) if diverged is None else None,
        "diverged_at_step": diverged,
    }


# The runs and their records on disk.


def where() -> dict[str, Any]:
    """Where a run was computed: {"processor", "threads", "torch"}."""
    found = environment()
    return {"processor": found.pop("machine"), **found}


# (peak learning rate, seed) -> what the run left.
Runs = dict[tuple[float | None, int], dict[str, Any]]


class Records:
    """The lines of runs*.jsonl in a folder; this process appends to one of these files.

    A record is known by (settings, method, lr, seed). Its test scores come in a second line.
    """

    def __init__(self, folder: Path, part: int | None) -> None:
        self.folder = folder
        self.path = folder / ("runs.jsonl" if part is None else f"runs-{part}.jsonl")

    def repair(self) -> None:
        """Drops a last line that was cut off when the run was killed."""
        if self.path.exists():
            text = self.path.read_text(encoding="utf-8")
            write_text(self.path, text[: text.rfind("\n") + 1])

    def append(self, record: dict[str, Any]) -> None:
        """Adds a record, at once and for whoever follows the file."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record, allow_nan=False) + "\n")

    def read(self, settings: str, method: str) -> Runs:
        """{(lr, seed): record} of a method under these settings, from all parts."""
        found: Runs = {}
        for path in sorted(self.folder.glob("runs*.jsonl")):
            for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
                # Another part may be writing its last line.
                record = json.loads(line) if line.endswith("\n") else {"settings": None}
                if record["settings"] == settings and record["method"] == method:
                    key = (record["lr"], record["seed"])
                    if found.get(key, {"test": None})["test"] is None:
                        found[key] = record
        return found


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
            **where(),
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
                start = {"settings": settings, "method": name, "lr": None, "seed": 0, **where()}
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


# The table that follows from the records.


def best_lr(runs: Runs) -> float | None:
    """Of all learning rates tried on seed 0, the one with the best validation DSC; None: all diverged."""
    scored = {
        lr: run["validation"]["dsc"] for (lr, seed), run in runs.items() if seed == 0 and run["validation"]
    }
    return max(scored, key=scored.__getitem__, default=None)


def summarize(runs: Runs, seeds: int, reference: Runs) -> dict[str, Any]:
    """What a method reached.

    Args:
        runs: The method's.
        seeds: Seeds 0 to seeds - 1 count at the chosen rate.
        reference: The runs of the method to compare with, seed by seed; may be the same or empty.
    """
    lr = best_lr(runs)
    tried = {str(rate): _dsc(run, "validation") for (rate, seed), run in sorted(runs.items()) if seed == 0}
    rates = sorted(rate for rate, seed in runs if seed == 0)
    tested = tested_runs(runs, seeds)
    others = tested_runs(reference, seeds)
    pairs = [_dsc(tested[seed], "test") - _dsc(others[seed], "test") for seed in tested if seed in others]
    return {
        "lr": lr,
        "validation_dsc_by_lr": tried,
        "lr_at_an_edge": lr is not None and len(rates) > 1 and lr in (rates[0], rates[-1]),
        "seeds": sorted(tested),
        "test_dsc": spread([_dsc(run, "test") for run in tested.values()]),
        "test_dsc_per_class": {
            name: spread([run["test"]["per_class"][name] for run in tested.values()])
            for name in DEFAULT_LANDMARKS.names
        },
        "test_dsc_minus_reference": spread(pairs),
        "state_bytes": max((run["state_bytes"] for run in tested.values()), default=None),
        "trained_parameters": max((run["trained_parameters"] for run in tested.values()), default=None),
        **{
            key: statistics.median(run[key] for run in tested.values()) if tested else None
            for key in ("seconds_per_step", "optimizer_ms_per_step")
        },
    }


def tested_runs(runs: Runs, seeds: int) -> dict[int, dict[str, Any]]:
    """{seed: run} of those runs at the chosen rate that the test split has scored."""
    lr = best_lr(runs)
    chosen = {seed: runs.get((lr, seed)) for seed in range(seeds)}
    return {seed: run for seed, run in chosen.items() if run is not None and run["test"] is not None}


def spread(values: Sequence[float | None]) -> dict[str, float | None]:
    """{"mean", "sd"} with n - 1; the standard deviation of one value is None, and so is all of none."""
    known = [value for value in values if value is not None]
    return {
        "mean": statistics.mean(known) if known else None,
        "sd": statistics.stdev(known) if len(known) > 1 else None,
    }


def _dsc(run: Mapping[str, Any], split: str) -> float | None:
    return run[split]["dsc"] if run[split] else None


def format_table(results: Mapping[str, Any]) -> str:
    """results.json as Markdown; DSC in points, that is times 100."""
    reference = results["reference"]
    titles = ["method", "learning rates: validation DSC", "edge", "test DSC", *DEFAULT_LANDMARKS.names]
    rows = [[*titles, f"minus {reference}, by seed", "state MiB", "s/step", "optimizer ms/step"]]
    start = results["unadapted"]
    if start is not None:
        values = [
            start["test"]["dsc"],
            *(start["test"]["per_class"][name] for name in DEFAULT_LANDMARKS.names),
        ]
        cells = ["not adapted", _points(start["validation"]["dsc"]), "", *map(_points, values)]
        rows.append([*cells, *[""] * 4])
    for name, row in results["methods"].items():
        rows.append(_cells(name, row, is_reference=name == reference))
        if len(row["seeds"]) < results["seeds"]:
            rows[-1][0] += f" ({len(row['seeds'])} of {results['seeds']} seeds)"
    lines = [
        markdown_table(rows),
        "",
        f"Test DSC in points, mean ± standard deviation (n - 1) over {results['seeds']} "
        f"seed{'s' * (results['seeds'] > 1)} at the learning rate in bold, which the validation split chose "
        "on seed 0 (edge: it is the lowest or highest that was tried). Pooled over the landmarks, then "
        "one by one.",
        "",
        "```",
        results["command"],
        "```",
        "",
        f"{results['steps']} steps of {results['batch_size']} frames; rank {results['rank']}, refresh every "
        f"{results['gap']} steps; {'; '.join(results['machines'])}; {results['date']}.",
    ]
    return "\n".join(lines) + "\n"


def _cells(name: str, row: Mapping[str, Any], *, is_reference: bool) -> list[str]:
    rates = []
    for rate, dsc in row["validation_dsc_by_lr"].items():
        bold = "**" if float(rate) == row["lr"] else ""
        rates.append(f"{bold}{rate}: {_points(dsc)}{bold}")
    state = row["state_bytes"]
    return [
        f"`{name}`",
        ", ".join(rates),
        "yes" if row["lr_at_an_edge"] else "",
        _with_spread(row["test_dsc"]),
        *(_with_spread(row["test_dsc_per_class"][landmark]) for landmark in DEFAULT_LANDMARKS.names),
        "" if is_reference else _with_spread(row["test_dsc_minus_reference"], sign="+"),
        "–" if state is None else f"{state / 2**20:.2f}",
        "–" if row["seconds_per_step"] is None else f"{row['seconds_per_step']:.2f}",
        "–" if row["optimizer_ms_per_step"] is None else f"{row['optimizer_ms_per_step']:.1f}",
    ]


def _points(dsc: float | None, sign: str = "") -> str:
    return "–" if dsc is None else f"{100 * dsc:{sign}.1f}"


def _with_spread(value: Mapping[str, float | None], sign: str = "") -> str:
    text = _points(value["mean"], sign)
    return text if value["sd"] is None else f"{text} ± {_points(value['sd'])}"


# The command line.


def build_parser() -> argparse.ArgumentParser:
    """The options."""
    parser = new_parser(__doc__)
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
    add_threads(parser, default=1)
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
        model_sha256 = {
            name: hashlib.sha256((options.model / name).read_bytes()).hexdigest() for name in _MODEL_FILES
        }
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
        command = shlex.join(["python", "benchmarks/adaptation.py", *shown])
        table = write_results(benchmark, list(methods), options.seeds, command)
    except CommandError as error:
        print(f"adaptation.py: error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"adaptation.py: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("adaptation.py: interrupted; the same command goes on", file=sys.stderr)
        return 130
    print(f"{table}\n{table.read_text(encoding='utf-8')}", end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
