"""From a recipe to a run that is ready for its next step: new, or where it stopped."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import datasets
import torch
from accelerate import Accelerator
from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers
from accelerate.utils import (
    GradientAccumulationPlugin,
    InitProcessGroupKwargs,
    ProjectConfiguration,
    set_seed,
)
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader

from ..data.augmentation import Augmentation
from ..data.loading import dataset_fingerprint, load_landmark_dataset, spread_frames, validate_patients
from ..data.schema import landmarks_of
from ..evaluation.truth import dataset_protocol
from ..utils.atomic_files import write_text
from .models import build_model
from .optimizers import build_optimizer, build_schedule, freeze_all_but
from .recipe import DataConfig, ModelConfig, Recipe, RunOptions, default_fields, recipe_to_dict
from .run_folder import (
    MODEL_FOLDER,
    MetricsLog,
    RunFolder,
    flatten,
    read_run_state,
    restore_training_state,
    run_record,
)
from .training_frames import FrameOrder, TrainingFrames, balancing_weights, build_loader

# One process validates while the others wait; torch's default of ten minutes would end the run.
_PROCESS_TIMEOUT = timedelta(hours=3)
_MIXED_PRECISION = {"launcher": None, "fp32": "no", "bf16": "bf16", "fp16": "fp16"}


@dataclass
class Run:
    """A training run between two steps.

    Attributes:
        recipe: The recipe.
        identity: What the run shares with every run that may go on from its checkpoints.
        accelerator: Device, processes, precision, trackers.
        folder: Where the run writes.
        model: The model itself.
        average: The average of its weights where the recipe asks for one: what is validated and kept.
        wrapped_model: The same model as the accelerator has prepared it; what is trained.
        processor: The model's image processor.
        optimizer: Prepared by the accelerator.
        schedule: The learning rate.
        loader: Endless batches, from the next step's on.
        validation_rows: What is scored to choose the best model.
        num_frames: Training frames.
        frames_per_step: Frames that one optimizer step sees, all processes together.
        total_steps: Optimizer steps of the whole run.
        step: Optimizer steps done.
        seconds: Time spent on them.
        best: {"step", "dsc"} of the best validation so far.
    """

    recipe: Recipe
    identity: dict[str, Any]
    accelerator: Accelerator
    folder: RunFolder
    model: nn.Module
    average: AveragedModel | None
    wrapped_model: nn.Module
    processor: Any
    optimizer: torch.optim.Optimizer
    schedule: LRScheduler
    loader: DataLoader
    validation_rows: datasets.Dataset
    num_frames: int
    frames_per_step: int
    total_steps: int
    step: int = 0
    seconds: float = 0.0
    best: dict[str, Any] | None = None

    @property
    def validated_model(self) -> nn.Module:
        """The model that is scored, and kept when it is the best."""
        return self.model if self.average is None else self.average.module

    def record(self, status: str) -> dict[str, Any]:
        """What run.json holds now."""
        return run_record(
            self.identity,
            self.model,
            self.accelerator.device,
            status,
            step=self.step,
            total_steps=self.total_steps,
            train_seconds=round(self.seconds, 1),
            best=self.best,
        )

    def write_record(self, status: str) -> None:
        """Replaces run.json."""
        write_text(self.folder.run_record, json.dumps(self.record(status), indent=2) + "\n")


def prepare_run(recipe: Recipe, options: RunOptions) -> Run:
    """Builds everything that the next optimizer step needs. Nothing is written before all of it stands.

    Raises:
        ValueError: a field that does not fit the model, the data or the run to be resumed, or an
            output_dir that holds a run already.
        OSError: a file or folder that cannot be read or written.
    """
    folder = RunFolder(recipe.output_dir)
    if folder.path.exists() and not folder.path.is_dir():
        raise ValueError(f"output_dir {folder.path} is a file")
    if folder.holds_run() and options.resume == "never" and not options.overwrite:
        raise ValueError(
            f"output_dir {folder.path} holds a run already: go on with --resume auto, replace it with "
            "--overwrite, or choose another folder"
        )
    checkpoint = folder.find_checkpoint(options.resume)
    state = None if checkpoint is None else read_run_state(checkpoint)

    accelerator = build_accelerator(recipe, folder)
    # Several processes would otherwise convert the same Parquet files at once.
    with accelerator.local_main_process_first():
        splits = load_splits(recipe.data)
    train_rows, validation_rows = splits["train"], splits["validation"]
    identity = run_identity(recipe, splits, accelerator.mixed_precision, accelerator.num_processes)
    if state is not None:
        refuse_other_run(state.identity, identity)

    # The same weights on every process.
    set_seed(recipe.seed)
    start = recipe.model
    if checkpoint is not None:
        start = ModelConfig(init=str(checkpoint / MODEL_FOLDER), labels=recipe.model.labels)
    model, processor = build_model(start, landmarks_of(train_rows.features))
    check_frame_size(model, processor, recipe)
    freeze_all_but(model, recipe.trainable)
    if recipe.channels_last:
        model.to(memory_format=torch.channels_last)
    if recipe.compile:
        # In place: a compiled wrapper would rename the weights.
        model.compile()
    average = None if recipe.ema_decay is None else build_average(model, recipe.ema_decay)
    optimizer = build_optimizer(model, recipe.optimizer, recipe.seed)
    frames_per_step = recipe.batch_size * recipe.gradient_accumulation_steps * accelerator.num_processes
    total_steps = recipe.budget.total_steps(len(train_rows), frames_per_step)
    schedule = build_schedule(optimizer, recipe.schedule, recipe.optimizer.lr, total_steps)
    wrapped_model, optimizer = accelerator.prepare(model, optimizer)
    if average is not None:
        average.to(accelerator.device)

    step = 0 if state is None else state.step
    frames = TrainingFrames(
        train_rows,
        build_augmentation(recipe, total_steps * frames_per_step, len(train_rows)),
        model.config.landmark_table,
        recipe.data.cache,
        with_depth=model.config.depth_target != "none",
    )
    order = FrameOrder(
        len(frames),
        recipe.batch_size,
        recipe.seed,
        first_batch=step * recipe.gradient_accumulation_steps,
        process_index=accelerator.process_index,
        num_processes=accelerator.num_processes,
        weights=balancing_weights(train_rows) if recipe.data.balance == "landmarks" else None,
    )
    loader = build_loader(
        frames,
        order,
        processor,
        recipe.data.workers,
        pin_memory=accelerator.device.type == "cuda",
        with_landmarks=model.decoder.learns_curves,
    )
    run = Run(
        recipe=recipe,
        identity=identity,
        accelerator=accelerator,
        folder=folder,
        model=model,
        average=average,
        wrapped_model=wrapped_model,
        processor=processor,
        optimizer=optimizer,
        schedule=schedule,
        loader=loader,
        validation_rows=spread_frames(validation_rows, recipe.validation.max_frames),
        num_frames=len(frames),
        frames_per_step=frames_per_step,
        total_steps=total_steps,
    )
    _prepare_folder(run, options, step)
    _start_trackers(run, step)
    # Last, so that nothing draws from the generators between here and the first step. Dropout is to
    # differ between processes.
    set_seed(recipe.seed, device_specific=True)
    if state is not None:
        restore_training_state(checkpoint, accelerator, optimizer, schedule, average, state)
        run.step, run.seconds, run.best = state.step, state.seconds, state.best
    return run


def build_augmentation(recipe: Recipe, total_frames: int, num_frames: int) -> Augmentation:
    """The recipe's augmentation over a run that sees `total_frames`, of which an epoch has `num_frames`."""
    if not recipe.calm.fraction:
        return Augmentation(recipe.augmentation, recipe.seed)
    epoch = int((1 - recipe.calm.fraction) * total_frames) // num_frames
    return Augmentation(
        recipe.augmentation, recipe.seed, recipe.augmentation.scaled(recipe.calm.strength), epoch
    )


def check_frame_size(model: nn.Module, processor: Any, recipe: Recipe) -> None:
    """Raises a ValueError where the encoder does not take the frames that it would get."""
    branch = model.vision_branch
    if processor.do_resize:
        try:
            branch.check_size(processor.size["height"], processor.size["width"])
        except ValueError as error:
            raise ValueError(f"the image processor's size: {error}") from error
    if recipe.progressive.fraction and branch.only_size is not None:
        raise ValueError("progressive.fraction must be 0: the vision encoder takes frames of one size alone")


def build_average(model: nn.Module, decay: float) -> AveragedModel:
    """An exponential moving average of a model's weights, which starts as the model is.

    Early on it follows faster than `decay` says, as (1 + steps) / (10 + steps): it would otherwise hold on to
    weights that nothing had been learned by.
    """

    @torch.no_grad()
    def follow(averages: list[Tensor], weights: list[Tensor], steps: Tensor | int) -> None:
        keep = min(decay, (1 + int(steps)) / (10 + int(steps)))
        torch._foreach_lerp_(averages, weights, 1 - keep)

    average = AveragedModel(model, multi_avg_fn=follow, use_buffers=False)
    average.update_parameters(model)  # the first only copies
    return average


def load_splits(data: DataConfig) -> dict[str, datasets.Dataset]:
    """The splits `train` and `validation`; a ValueError names the set and what is wrong with it."""
    names = ", ".join(data.paths)
    if len(data.paths) > 1:
        # Together, because the sets are compared whole.
        loaded = load_landmark_dataset(data.paths, protocol=data.protocol)
        if "validation" not in loaded:
            raise ValueError(f"datasets {names}: none of them has a split 'validation'")
    else:
        # One by one, so that no file of the test split is read.
        loaded = {
            split: load_landmark_dataset(data.paths[0], split, data.protocol)
            for split in ("train", "validation")
        }
        # Each has been looked at by itself only.
        validate_patients(loaded, names)
    splits = {split: loaded[split] for split in ("train", "validation")}
    protocols = {}
    for split, rows in splits.items():
        if len(rows) == 0:
            raise ValueError(f"dataset {names}: the split {split!r} holds no frames")
        # Now, and not at the first validation.
        if data.protocol is None:
            try:
                protocols[split] = dataset_protocol(rows)
            except ValueError as error:
                raise ValueError(f"data.protocol must be set: dataset {names}, {split}: {error}") from error
    train, validation = (landmarks_of(rows.features).names for rows in splits.values())
    if train != validation:
        raise ValueError(
            f"dataset {names}: the landmarks of train are {', '.join(train)}, those of validation "
            f"{', '.join(validation)}: rebuild it"
        )
    if len(set(protocols.values())) > 1:
        # The best model would be chosen by other strokes than it learns.
        stored = " and ".join(f"those of {split} by {name}" for split, name in protocols.items())
        raise ValueError(f"data.protocol must be set: dataset {names}: labels are stored {stored}")
    return splits


def build_accelerator(recipe: Recipe, folder: RunFolder) -> Accelerator:
    """The accelerator of the recipe; a ValueError names a tracker that is unknown or not installed."""
    available = {str(name) for name in get_available_trackers()}
    for name in recipe.trackers:
        if name not in LOGGER_TYPE_TO_CLASS:
            raise ValueError(
                f"trackers: {name!r} is unknown: choose from {', '.join(sorted(LOGGER_TYPE_TO_CLASS))}"
            )
        # accelerate would leave it out without a word.
        if name not in available:
            raise ValueError(f"trackers: {name} is not installed: install its package or leave it out")
    return Accelerator(
        mixed_precision=_MIXED_PRECISION[recipe.mixed_precision],
        # As a plugin, because the plain argument yields to what `accelerate launch` was told.
        gradient_accumulation_plugin=GradientAccumulationPlugin(
            num_steps=recipe.gradient_accumulation_steps, sync_with_dataloader=False
        ),
        log_with=list(recipe.trackers) or None,
        project_config=ProjectConfiguration(
            project_dir=str(folder.path), logging_dir=str(folder.tensorboard)
        ),
        kwargs_handlers=[InitProcessGroupKwargs(timeout=_PROCESS_TIMEOUT)],
    )


def _prepare_folder(run: Run, options: RunOptions, step: int) -> None:
    """Makes the folder fit for the step after `step`."""
    folder = run.folder
    # Every process has looked at the folder by now; one may change it.
    run.accelerator.wait_for_everyone()
    if run.accelerator.is_main_process:
        if options.overwrite:
            folder.delete_run()
        folder.path.mkdir(parents=True, exist_ok=True)
        if step == 0:
            # Killed before its first checkpoint, a run starts again.
            folder.metrics.unlink(missing_ok=True)
        else:
            folder.go_back_to(step)
            MetricsLog(folder.metrics).keep_up_to(step)
        folder.remove_leftovers()
        run.write_record("running")
    run.accelerator.wait_for_everyone()


def _start_trackers(run: Run, step: int) -> None:
    if not run.recipe.trackers:
        return
    # TensorBoard is told to hide what the killed run had logged beyond the checkpoint.
    options = {"tensorboard": {"purge_step": step + 1}} if step else {}
    fields = {
        name: value if isinstance(value, int | float | str) else str(value)  # what every tracker takes
        for name, value in flatten(recipe_to_dict(run.recipe)).items()
    }
    run.accelerator.init_trackers("liver-landmark", fields, init_kwargs=options)


# What has to be the same for a run to go on where it stopped.

# Fields that change neither the weights that a run ends with nor which of them are called best.
# `data.path` is among them because the content of the data is compared, not its place. The budget is
# not: the schedule stretches over the whole of it, so another budget is another run.
FREE_FIELDS = frozenset(
    {
        "output_dir",
        "data.path",
        "data.workers",
        "data.cache",
        "checkpoint.every_steps",
        "checkpoint.keep_last",
        "log_every_steps",
        "trackers",
    }
)


def run_identity(
    recipe: Recipe, splits: dict[str, datasets.Dataset], mixed_precision: str, num_processes: int
) -> dict[str, Any]:
    """Everything that two runs must share to come to the same weights and the same best model.

    Args:
        recipe: The recipe.
        splits: The splits that the run reads, by name.
        mixed_precision: What `launcher` has come down to.
        num_processes: Processes that share each step.
    """
    recipe_fields = recipe_to_dict(recipe)
    recipe_fields["mixed_precision"] = mixed_precision
    return {
        "recipe": recipe_fields,
        "data_sha256": {name: dataset_fingerprint(rows) for name, rows in splits.items()},
        "num_processes": num_processes,
    }


def refuse_other_run(saved: dict[str, Any], now: dict[str, Any]) -> None:
    """Raises a ValueError that names the first field by which `now` differs from the `saved` identity."""
    before, after = flatten(saved), flatten(now)
    # Of fields that the run's version did not have yet.
    before = {f"recipe.{name}": value for name, value in default_fields().items()} | before
    for name in sorted(before | after):
        field = name.removeprefix("recipe.")
        if field not in FREE_FIELDS and before.get(name) != after.get(name):
            raise ValueError(
                f"--resume: {field} has changed from {before.get(name)} to {after.get(name)}: set it back, "
                "or start a new run (model.init takes a checkpoint's pretrained_model folder)"
            )
