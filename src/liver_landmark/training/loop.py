"""The training loop: steps, validations, checkpoints, until the budget is used up."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn
from torch.nn import functional as F
from torch.optim.lr_scheduler import LRScheduler
from tqdm import tqdm

from ..evaluation import evaluate_model
from .recipe import recipe_to_dict, recipe_to_yaml, without_local_paths
from .run_folder import (
    MetricsLog,
    RunState,
    flatten,
    gather_rng_states,
    model_card,
    plain_numbers,
    save_checkpoint,
    save_model,
)
from .training_run import Run


def train(run: Run) -> dict[str, Any]:
    """Runs what is left of the budget.

    Returns:
        The content of run.json.

    Raises:
        FloatingPointError: loss or gradients are no longer finite; the message names the step.
    """
    recipe, accelerator = run.recipe, run.accelerator
    log = MetricsLog(run.folder.metrics)
    batches = iter(run.loader)
    run.wrapped_model.train()
    # disable=None: a bar on a terminal, silence in a file.
    bar = tqdm(
        total=run.total_steps,
        initial=run.step,
        unit="step",
        disable=None if accelerator.is_main_process else True,
    )
    clock = _Clock(run.seconds)
    with bar:
        while run.step < run.total_steps:
            run.step += 1
            result = training_step(
                accelerator,
                run.wrapped_model,
                run.optimizer,
                run.schedule,
                (_to_device(run, batch) for batch in islice(batches, recipe.gradient_accumulation_steps)),
                recipe.max_grad_norm,
                run.step,
            )
            if run.average is not None:
                run.average.update_parameters(run.model)
            bar.update()
            bar.set_postfix(loss=f"{result.loss:.3f}", refresh=False)
            is_last = run.step == run.total_steps
            if run.step % recipe.log_every_steps == 0 or is_last:
                _log_step(run, log, result, clock.seconds_per_step(run.step))
            if run.step % recipe.validation.every_steps == 0 or is_last:
                _validate(run, log)
                clock.restart(run.step)
            run.seconds = clock.total_seconds()
            if run.step % recipe.checkpoint.every_steps == 0 or is_last:
                _save(run, log)
                clock.restart(run.step)
    if accelerator.is_main_process:
        run.write_record("finished")
    # Ends trackers and process group.
    accelerator.end_training()
    return run.record("finished")


class _Clock:
    """Time of the whole run, over resumptions, and of a step, without validations and checkpoints."""

    def __init__(self, seconds_before: float) -> None:
        self.run_start = time.monotonic() - seconds_before
        self.step_start = time.monotonic()
        self.first_step: int | None = None

    def total_seconds(self) -> float:
        return time.monotonic() - self.run_start

    def restart(self, step: int) -> None:
        """Starts to count steps after `step`."""
        self.step_start, self.first_step = time.monotonic(), step

    def seconds_per_step(self, step: int) -> float:
        """Mean time of the steps since the last call or restart."""
        steps = 1 if self.first_step is None else max(1, step - self.first_step)
        seconds = (time.monotonic() - self.step_start) / steps
        self.restart(step)
        return seconds


def _to_device(run: Run, batch: dict[str, Any]) -> dict[str, Any]:
    moved = {
        name: value.to(run.accelerator.device, non_blocking=True) if torch.is_tensor(value) else value
        for name, value in batch.items()
    }
    progressive = run.recipe.progressive
    if run.step <= progressive.fraction * run.total_steps:
        moved["pixel_values"] = shrunk(
            moved["pixel_values"], progressive.scale, run.model.vision_branch.size_multiple
        )
    if run.recipe.channels_last:
        moved["pixel_values"] = moved["pixel_values"].contiguous(memory_format=torch.channels_last)
    return moved


def shrunk(pixel_values: torch.Tensor, scale: float, multiple: int) -> torch.Tensor:
    """Frames (B, 3, H, W) with sides of about `scale` times their own, multiples of `multiple`."""
    size = tuple(max(1, int(side * scale / multiple + 0.5)) * multiple for side in pixel_values.shape[-2:])
    if size == tuple(pixel_values.shape[-2:]):
        return pixel_values
    return F.interpolate(pixel_values, size=size, mode="bilinear", align_corners=False, antialias=True)


def _log_step(run: Run, log: MetricsLog, result: StepResult, seconds_per_step: float) -> None:
    record = {
        "epoch": round(run.step * run.frames_per_step / run.num_frames, 4),
        "loss": result.loss,
        "lr": result.lr,
        "grad_norm": result.grad_norm,
    }
    if result.skipped:
        record["skipped"] = True
    record["seconds_per_step"] = round(seconds_per_step, 4)
    if run.accelerator.is_main_process:
        log.append({"step": run.step} | record)
    # Trackers plot numbers; an fp16 overflow has none.
    run.accelerator.log({f"train/{name}": value for name, value in record.items()}, step=run.step)


def _validate(run: Run, log: MetricsLog) -> None:
    """Scores the validation split on one process; a higher DSC than any before makes this model the best."""
    if run.accelerator.is_main_process:
        settings = run.recipe.validation
        # The average's forward is not one that `prepare` has put autocast around.
        with run.accelerator.autocast():
            evaluation = evaluate_model(
                run.validated_model,
                run.processor,
                run.validation_rows,
                protocol=run.recipe.data.protocol,
                resolution=settings.resolution,
                batch_size=settings.batch_size,
                distances=False,
            )
        metrics = plain_numbers({k: v for k, v in evaluation.metrics.items() if k != "definitions"})
        log.append({"step": run.step, "validation": metrics})
        flat = flatten({"validation": metrics}, "/")
        numbers = {name: value for name, value in flat.items() if isinstance(value, int | float)}
        run.accelerator.log(numbers, step=run.step)
        if run.best is None or metrics["dsc"] > run.best["dsc"]:
            run.best = {"step": run.step, "dsc": metrics["dsc"]}
            _save_best(run, metrics)
        tqdm.write(
            f"step {run.step} of {run.total_steps}: validation DSC {metrics['dsc']:.4f} "
            f"(best {run.best['dsc']:.4f} at step {run.best['step']})"
        )
    run.accelerator.wait_for_everyone()


def _save_best(run: Run, metrics: dict[str, Any]) -> None:
    recipe = without_local_paths(run.recipe)
    record = run.record("best") | {"validation": metrics}
    # What the launcher decided stays; the paths go.
    record["recipe"] = recipe_to_dict(recipe) | {"mixed_precision": record["recipe"]["mixed_precision"]}
    classes = run.model.config.landmark_table.class_names
    with run.folder.new_best() as folder:
        save_model(folder, run.validated_model, run.processor)
        (folder / "recipe.yaml").write_text(recipe_to_yaml(recipe), encoding="utf-8")
        (folder / "run.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
        card = model_card(run.recipe, record, classes, run.processor.size, run.num_frames)
        (folder / "README.md").write_text(card, encoding="utf-8")


def _save(run: Run, log: MetricsLog) -> None:
    """Saves a checkpoint of the step that has just been done."""
    accelerator = run.accelerator
    rng_states = gather_rng_states(accelerator)
    if accelerator.is_main_process:
        log.flush_to_disk()
        state = RunState(
            step=run.step,
            seconds=run.seconds,
            schedule=run.schedule.state_dict(),
            scaler=None if accelerator.scaler is None else accelerator.scaler.state_dict(),
            best=run.best,
            identity=run.identity,
        )
        with run.folder.new_checkpoint(run.step, run.recipe.checkpoint.keep_last) as folder:
            save_checkpoint(folder, run.model, run.processor, run.optimizer, run.average, rng_states, state)
        run.write_record("running")
    accelerator.wait_for_everyone()


# One optimizer step.


@dataclass(frozen=True)
class StepResult:
    """What one optimizer step did.

    Attributes:
        loss: Mean over the step's batches and processes.
        grad_norm: Total norm of the gradients before clipping.
        lr: The (first group's) learning rate that was used.
        skipped: The fp16 loss scale overflowed, so the weights were left as they were.
    """

    loss: float
    grad_norm: float
    lr: float
    skipped: bool


def training_step(
    accelerator: Accelerator,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    schedule: LRScheduler,
    batches: Iterable[dict[str, torch.Tensor]],
    max_grad_norm: float | None,
    step: int,
) -> StepResult:
    """Moves the weights once, by the mean gradient over `batches`.

    Args:
        accelerator: Made with as many accumulation steps as there are batches.
        model: Prepared by the accelerator, in training mode.
        optimizer: Prepared by the accelerator.
        schedule: Not prepared: accelerate's wrapper steps it once for every process.
        batches: The step's batches, on this process's device.
        max_grad_norm: Limit of the gradients' total norm; None: no clipping.
        step: Number of this step, for error messages.

    Raises:
        FloatingPointError: loss or gradients are not finite; the weights have not been touched.
    """
    lr = optimizer.param_groups[0]["lr"]
    losses: list[torch.Tensor] = []
    for batch in batches:
        # Under several processes, gradients are exchanged in the last batch of the step only.
        with accelerator.accumulate(model):
            # `prepare` has put autocast around forward; the loss inside it is computed in float32.
            loss = model(**batch).loss
            losses.append(loss.detach().float())
            # Divides by the number of accumulated batches, and scales under fp16.
            accelerator.backward(loss)

    # A mean over processes, so that all of them come to the same verdict and none waits for the others.
    mean_loss = accelerator.reduce(torch.stack(losses).mean(), reduction="mean").item()
    if not math.isfinite(mean_loss):
        raise FloatingPointError(
            f"step {step}: the loss is {mean_loss}: lower optimizer.lr or set max_grad_norm"
        )
    # Clipping to infinity changes nothing and gives the norm. Under fp16 it unscales the gradients first.
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    limit = math.inf if max_grad_norm is None else max_grad_norm
    grad_norm = accelerator.clip_grad_norm_(parameters, limit).item()
    # Under fp16 an overflow is how the scaler finds its scale: it skips the step by itself.
    if not math.isfinite(grad_norm) and accelerator.mixed_precision != "fp16":
        raise FloatingPointError(
            f"step {step}: the gradients' norm is {grad_norm}: lower optimizer.lr or set max_grad_norm"
        )
    optimizer.step()
    optimizer.zero_grad()
    # Once an optimizer step. Also after one that fp16 skipped: the schedule counts the budget's steps.
    schedule.step()
    return StepResult(mean_loss, grad_norm, lr, skipped=bool(accelerator.optimizer_step_was_skipped))
