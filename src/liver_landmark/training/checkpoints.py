"""What a checkpoint holds, saved and restored so that a resumed run equals the uninterrupted one.

    step-000400/
        pretrained_model/           for from_pretrained: model.safetensors, configs, code
        training_state/
            state.json              step, schedule, best so far, recipe, data fingerprints
            optimizer.pt            the optimizer's state_dict; read with weights_only=True
            rng_states.safetensors  torch's generators, CPU and GPU, of every process

The order of frames and their augmentation need no state: they are functions of seed and step.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from safetensors.torch import load_file, save_file
from torch.optim.lr_scheduler import LRScheduler

MODEL_FOLDER = "pretrained_model"
_STATE_FOLDER = "training_state"


@dataclass(frozen=True)
class RunState:
    """What a resumed run has to know besides weights, optimizer and generators.

    Attributes:
        step: Optimizer steps done.
        seconds: Time spent on them, validation included.
        schedule: The schedule's state_dict.
        scaler: The fp16 loss scaler's state_dict; None without one.
        best: {"step", "dsc"} of the best validation so far; None before the first.
        identity: What has to be the same for the run to go on; see `resume.py`.
    """

    step: int
    seconds: float
    schedule: dict[str, Any]
    scaler: dict[str, Any] | None
    best: dict[str, Any] | None
    identity: dict[str, Any]


def gather_rng_states(accelerator: Accelerator) -> dict[str, torch.Tensor]:
    """The states of torch's generators of all processes, by name; call it on every process.

    Training draws from no other global generator: augmentation and frame order have their own.
    """
    states = {"cpu": torch.get_rng_state()}
    if accelerator.device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(accelerator.device)
    gathered = {}
    for name, state in states.items():
        everyone = accelerator.gather(state.to(accelerator.device)[None]).cpu()
        gathered |= {f"process_{index}.{name}": row.clone() for index, row in enumerate(everyone)}
    return gathered


def restore_rng_states(accelerator: Accelerator, states: dict[str, torch.Tensor]) -> None:
    """Sets this process's generators to what `gather_rng_states` had seen."""
    prefix = f"process_{accelerator.process_index}."
    torch.set_rng_state(states[prefix + "cpu"])
    if accelerator.device.type == "cuda":
        torch.cuda.set_rng_state(states[prefix + "cuda"], accelerator.device)


def save_checkpoint(
    folder: Path,
    model: Any,
    processor: Any,
    optimizer: torch.optim.Optimizer,
    rng_states: dict[str, torch.Tensor],
    state: RunState,
) -> None:
    """Fills the empty `folder` with a checkpoint.

    Args:
        folder: An existing folder; making it appear all at once is the caller's part.
        model: The model itself, not a wrapper of it.
        processor: Its image processor.
        optimizer: The optimizer itself.
        rng_states: What `gather_rng_states` gave.
        state: Everything else.
    """
    save_model(folder / MODEL_FOLDER, model, processor)
    (folder / _STATE_FOLDER).mkdir()
    torch.save(optimizer.state_dict(), folder / _STATE_FOLDER / "optimizer.pt")
    save_file(rng_states, folder / _STATE_FOLDER / "rng_states.safetensors")
    text = json.dumps(asdict(state), indent=2)
    (folder / _STATE_FOLDER / "state.json").write_text(text, encoding="utf-8")


def save_model(folder: Path, model: Any, processor: Any) -> None:
    """Writes what `AutoModel.from_pretrained` and `AutoImageProcessor.from_pretrained` read."""
    model.save_pretrained(folder)
    processor.save_pretrained(folder)


def read_run_state(checkpoint: Path) -> RunState:
    """The `RunState` of a checkpoint's folder."""
    path = checkpoint / _STATE_FOLDER / "state.json"
    return RunState(**json.loads(path.read_text(encoding="utf-8")))


def restore_training_state(
    checkpoint: Path,
    accelerator: Accelerator,
    optimizer: torch.optim.Optimizer,
    schedule: LRScheduler,
    state: RunState,
) -> None:
    """Sets optimizer, schedule, loss scaler and generators; the last thing before the first step.

    Raises:
        ValueError: the optimizer's state belongs to other parameters or another number of processes.
    """
    folder = checkpoint / _STATE_FOLDER
    saved = torch.load(folder / "optimizer.pt", map_location="cpu", weights_only=True)
    # PyTorch matches states to parameters by position alone.
    for ours, theirs in zip(optimizer.state_dict()["param_groups"], saved["param_groups"], strict=True):
        if ours.get("param_names") != theirs.get("param_names"):
            raise ValueError(f"{folder / 'optimizer.pt'}: its state belongs to other parameters")
    optimizer.load_state_dict(saved)
    schedule.load_state_dict(state.schedule)
    if accelerator.scaler is not None and state.scaler is not None:
        accelerator.scaler.load_state_dict(state.scaler)
    restore_rng_states(accelerator, load_file(folder / "rng_states.safetensors"))
