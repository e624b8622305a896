"""All that a training run leaves on disk: checkpoints, best model, metrics.jsonl, run.json.

    <output_dir>/
        checkpoints/
            step-000400/
            step-000600/
                pretrained_model/           for from_pretrained: model.safetensors, configs, code
                training_state/
                    state.json              step, schedule, best so far, recipe, data fingerprints
                    optimizer.pt            the optimizer's state_dict; read with weights_only=True
                    rng_states.safetensors  torch's generators, CPU and GPU, of every process
                    average.safetensors     the moving average of the weights, if there is one
        last -> checkpoints/step-000600     where the file system has links
        best/                               model, processor, code, README.md, recipe.yaml, run.json
        metrics.jsonl                       one record a line
        run.json                            recipe, data fingerprints, versions, outcome
        tensorboard/                        if that tracker is asked for

Checkpoints and the best model are complete or absent, the links and files old or new, whenever the run is
killed. The order of frames and their augmentation need no state: they are functions of seed and step.

metrics.jsonl:

    {"step": 10, "epoch": 0.03, "loss": 1.21, "lr": 0.0001, "grad_norm": 2.3, "seconds_per_step": 0.46}
    {"step": 200, "validation": {"dsc": 0.41, …}}
"""

from __future__ import annotations

import errno
import json
import math
import os
import platform
import re
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import cv2
import torch
import yaml
from accelerate import Accelerator
from safetensors.torch import load_file, save_file
from torch import nn
from torch.optim.lr_scheduler import LRScheduler
from torch.optim.swa_utils import AveragedModel

from ..utils.atomic_files import (
    new_folder,
    point_link,
    remove_folder,
    remove_leftovers,
    replace_folder,
    write_text,
)
from .recipe import Recipe, is_local

_STEP_NAME = re.compile(r"step-(\d{6,})")
# Of file systems without symbolic links, and of Windows where the user may make none.
_NO_LINKS = {errno.EPERM, errno.EACCES, errno.ENOSYS, errno.ENOTSUP}
MODEL_FOLDER = "pretrained_model"
_STATE_FOLDER = "training_state"


class RunFolder:
    """The paths of one run; opening it mends what a killed process has left between two renames."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.checkpoints = self.path / "checkpoints"
        self.last = self.path / "last"
        self.best = self.path / "best"
        self._next_best = self.path / ".next-best"
        # What `best` pointed to when it was a link.
        self._former_best = (self.path / ".best-a", self.path / ".best-b")
        self.metrics = self.path / "metrics.jsonl"
        self.run_record = self.path / "run.json"
        self.tensorboard = self.path / "tensorboard"
        self._mend_best()

    def holds_run(self) -> bool:
        """Whether a run has begun here."""
        return any(path.exists() for path in (self.checkpoints, self.metrics, self.run_record))

    def delete_run(self) -> None:
        """Deletes what a run has written here, and nothing else."""
        folders = (self.checkpoints, self.tensorboard, self._next_best, self.best, *self._former_best)
        for folder in folders:
            if folder.is_dir() and not folder.is_symlink():
                shutil.rmtree(folder)
        for file in (self.last, self.best, self.metrics, self.run_record):
            file.unlink(missing_ok=True)

    def remove_leftovers(self) -> None:
        """Deletes what a killed run left behind half-written, or whole and not in its place.

        A `best` that is a link, as the first versions made it, becomes the folder that it points to.
        """
        if self._next_best.exists():
            remove_folder(self._next_best)
        if self.best.is_symlink() and self.best.exists():
            with self.new_best() as folder:
                shutil.copytree(self.best, folder, dirs_exist_ok=True)
        for former in self._former_best:
            if former.exists():
                remove_folder(former)
        for folder in (self.path, self.checkpoints):
            if folder.is_dir():
                remove_leftovers(folder)

    def steps(self) -> dict[int, Path]:
        """Optimizer step -> folder of every complete checkpoint, ascending."""
        found = {}
        if self.checkpoints.is_dir():
            for folder in self.checkpoints.iterdir():
                match = _STEP_NAME.fullmatch(folder.name)
                if match:
                    found[int(match[1])] = folder
        return dict(sorted(found.items()))

    def find_checkpoint(self, resume: str) -> Path | None:
        """The checkpoint to go on from.

        Args:
            resume: `never`, `required`, `auto` or a checkpoint's folder, as in `RunOptions`.

        Raises:
            ValueError: there is none where one is required, or it is no checkpoint of this run.
        """
        if resume == "never":
            return None
        steps = self.steps()
        if resume in ("required", "auto"):
            if self.last.exists():
                return self.checkpoints / self.last.resolve().name
            # Killed between the first checkpoint's rename and its link's, or a file system without links.
            if steps:
                return list(steps.values())[-1]
            if resume == "auto":
                return None
            raise ValueError(f"--resume: {self.path} holds no checkpoint; say --resume auto")
        asked = Path(resume).resolve()
        for folder in steps.values():
            if folder.resolve() == asked:
                return folder
        raise ValueError(
            f"--resume: {resume} is no checkpoint of {self.path}; "
            "to start another run from its weights, set model.init to its pretrained_model folder"
        )

    @contextmanager
    def new_checkpoint(self, step: int, keep_last: int) -> Iterator[Path]:
        """Yields the folder to fill with step's checkpoint; then `last` points to it and old ones go."""
        target = self.checkpoints / f"step-{step:06d}"
        with new_folder(target) as temporary:
            yield temporary
        self._point_last(target)
        for folder in list(self.steps().values())[:-keep_last]:
            remove_folder(folder)

    @contextmanager
    def new_best(self) -> Iterator[Path]:
        """Yields the folder to fill with a better model; then it takes the place of `best`.

        Killed at any moment, `best` is the old or the new one whole once the run's folder is opened again.
        """
        if self._next_best.exists():
            remove_folder(self._next_best)
        with new_folder(self._next_best) as temporary:
            yield temporary
        replace_folder(self._next_best, self.best)

    def _mend_best(self) -> None:
        if self._next_best.exists() and not self.best.exists():
            # Of a run's processes, which all open its folder at once, one is the first.
            with suppress(FileNotFoundError):
                self._next_best.rename(self.best)

    def _point_last(self, checkpoint: Path) -> None:
        try:
            point_link(self.last, checkpoint)
        except OSError as error:
            # Then the last one is that with the most steps, which `find_checkpoint` takes.
            if error.errno not in _NO_LINKS:
                raise

    def go_back_to(self, step: int) -> None:
        """Drops checkpoints of later steps, which the run is about to write again."""
        steps = self.steps()
        self._point_last(steps[step])
        for later, folder in steps.items():
            if later > step:
                remove_folder(folder)


# What a checkpoint holds, saved and restored so that a resumed run equals the uninterrupted one.


@dataclass(frozen=True)
class RunState:
    """What a resumed run has to know besides weights, optimizer and generators.

    Attributes:
        step: Optimizer steps done.
        seconds: Time spent on them, validation included.
        schedule: The schedule's state_dict.
        scaler: The fp16 loss scaler's state_dict; None without one.
        best: {"step", "dsc"} of the best validation so far; None before the first.
        identity: What has to be the same for the run to go on; see `training_run.run_identity`.
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
    average: AveragedModel | None,
    rng_states: dict[str, torch.Tensor],
    state: RunState,
) -> None:
    """Fills the empty `folder` with a checkpoint.

    Args:
        folder: An existing folder; making it appear all at once is the caller's part.
        model: The model itself, not a wrapper of it.
        processor: Its image processor.
        optimizer: The optimizer itself.
        average: The moving average of the weights; None: there is none.
        rng_states: What `gather_rng_states` gave.
        state: Everything else.
    """
    save_model(folder / MODEL_FOLDER, model, processor)
    (folder / _STATE_FOLDER).mkdir()
    torch.save(optimizer.state_dict(), folder / _STATE_FOLDER / "optimizer.pt")
    save_file(rng_states, folder / _STATE_FOLDER / "rng_states.safetensors")
    if average is not None:
        # The file's format takes contiguous tensors that share no memory.
        kept = {
            name: value.clone(memory_format=torch.contiguous_format)
            for name, value in average.state_dict().items()
        }
        save_file(kept, folder / _STATE_FOLDER / "average.safetensors")
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
    average: AveragedModel | None,
    state: RunState,
) -> None:
    """Sets optimizer, schedule, average, loss scaler and generators; the last thing before the first step.

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
    if average is not None:
        average.load_state_dict(load_file(folder / "average.safetensors"))
    if accelerator.scaler is not None and state.scaler is not None:
        accelerator.scaler.load_state_dict(state.scaler)
    restore_rng_states(accelerator, load_file(folder / "rng_states.safetensors"))


# metrics.jsonl: one JSON object a line, so that a curve can be read while the run goes on.


def plain_numbers(value: Any) -> Any:
    """`value` with NaN and infinity, which JSON does not have, as None."""
    if isinstance(value, dict):
        return {str(key): plain_numbers(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [plain_numbers(entry) for entry in value]
    # NumPy's and torch's scalars.
    value = value.item() if hasattr(value, "item") else value
    return None if isinstance(value, float) and not math.isfinite(value) else value


def flatten(tree: dict[str, Any], separator: str = ".") -> dict[str, Any]:
    """Nested dicts as one level of dotted names; what is empty stays."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            flat |= {f"{key}{separator}{name}": leaf for name, leaf in flatten(value, separator).items()}
        else:
            flat[key] = value
    return flat


class MetricsLog:
    """Appends records to a file; one process of a run has one."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, record: dict[str, Any]) -> None:
        """Adds a record, at once and for whoever follows the file."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(plain_numbers(record), allow_nan=False) + "\n")

    def flush_to_disk(self) -> None:
        """Waits until a power cut would leave the records written so far: a checkpoint relies on them."""
        if self.path.exists():
            with self.path.open("rb") as file:
                os.fsync(file.fileno())

    def keep_up_to(self, step: int) -> None:
        """Drops records of later steps, and a last line that was cut off when the run was killed."""
        if not self.path.exists():
            return
        kept = []
        for line in self.path.read_text(encoding="utf-8").splitlines(keepends=True):
            if line.endswith("\n") and json.loads(line)["step"] <= step:
                kept.append(line)
        write_text(self.path, "".join(kept))


# run.json: from what and with what a model was trained, and what came of it.

_PACKAGES = (
    "liver-landmark",
    "torch",
    "transformers",
    "accelerate",
    "datasets",
    "safetensors",
    "numpy",
    "pillow",
)


def package_versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide what training computes."""
    versions = {"python": platform.python_version()} | {name: version(name) for name in _PACKAGES}
    # OpenCV comes as one of several distributions.
    return versions | {"opencv": cv2.__version__}


def device_name(device: torch.device) -> str:
    """What the device is called: a GPU's product name, else the kind of device."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def count_parameters(model: nn.Module) -> dict[str, int]:
    """{"total", "trainable"} numbers of parameters."""
    return {
        "total": sum(parameter.numel() for parameter in model.parameters()),
        "trainable": sum(p.numel() for p in model.parameters() if p.requires_grad),
    }


def run_record(
    identity: dict[str, Any], model: nn.Module, device: torch.device, status: str, **outcome: Any
) -> dict[str, Any]:
    """The content of run.json.

    Args:
        identity: What `training_run.run_identity` gave: recipe, data fingerprints, number of processes.
        model: The model.
        device: What it trains on.
        status: `running`, `finished`, or `best` beside the best model.
        **outcome: Steps, seconds, scores …
    """
    return {
        "status": status,
        **outcome,
        **identity,
        "device": device_name(device),
        "parameters": count_parameters(model),
        "versions": package_versions(),
    }


# What best/ says of itself to whoever it is given to.

_CARD = """---
{front_matter}---

# liver-landmark

One laparoscopic RGB frame in, a class per pixel out. Method: [arXiv
2511.03163](https://arxiv.org/abs/2511.03163). Research software, not a medical device.

| class | name | DSC | IoU |
|---|---|---|---|
{classes}

Scored on {validation_frames} frames of the split `validation`, which chose this model among those of its
run, by the protocol `{protocol}` at {resolution} × {resolution} px: **DSC {dsc}, IoU {iou}** over all
classes. How good it is on other frames, an evaluation on them has to show.

| | |
|---|---|
| input | {width} × {height} px, resized by the image processor |
| parameters | {parameters:.2f} M |
| weights at the start | {start} |
| trained on | {train_frames} frames of {data} |
| step | {step} of {total_steps} |
| software | {software} |

The data are named by the SHA-256 of their content: train `{train_sha256}`, validation `{validation_sha256}`.
`recipe.yaml` holds every setting, `run.json` the exact versions and scores.

## Loading

```python
from transformers import AutoImageProcessor, AutoModel

model = AutoModel.from_pretrained("FOLDER", trust_remote_code=True)
processor = AutoImageProcessor.from_pretrained("FOLDER", trust_remote_code=True)
```

With the package `liver-landmark` installed, `import liver_landmark` takes the place of
`trust_remote_code`, and `liver-landmark predict FRAMES --model FOLDER --output RESULTS` writes masks, curves
and overlays.

## License

Apache-2.0, as the code. Weights that were started from those of others stay under their terms too.
"""


def model_card(
    recipe: Recipe,
    record: dict[str, Any],
    names: Sequence[str],
    size: dict[str, int],
    train_frames: int,
) -> str:
    """README.md of a model that is given away: no path of this machine, and nothing of a patient.

    Args:
        recipe: The recipe.
        record: The content of its run.json, with the validation's metrics.
        names: The classes, by id.
        size: {"height", "width"} of the input, px.
        train_frames: Frames of the train split.
    """
    front_matter = {
        "license": "apache-2.0",
        "library_name": "transformers",
        "pipeline_tag": "image-segmentation",
        "tags": ["medical", "surgery", "laparoscopy", "liver", "landmark-detection"],
        "metrics": ["dice", "iou"],
    }
    scores, versions = record["validation"], record["versions"]

    def public(sources: Iterable[str | None], otherwise: str) -> str:
        return " and ".join(f"`{name}`" for name in sources if name and not is_local(name)) or otherwise

    start = "random"
    if recipe.model.init == "encoders":
        start = (
            public((recipe.model.vision, recipe.model.depth), "encoders") + ", the rest from random numbers"
        )
    elif recipe.model.init != "random":
        start = public([recipe.model.init], "another model of this kind")

    def written(value: float | None) -> str:
        return "–" if value is None else f"{value:.3f}"

    per_class = [scores["per_class"].get(name, {}) for name in names]
    return _CARD.format(
        front_matter=yaml.safe_dump(front_matter, sort_keys=False),
        classes="\n".join(
            f"| {number} | {name} | {written(values.get('dsc'))} | {written(values.get('iou'))} |"
            for number, (name, values) in enumerate(zip(names, per_class, strict=True))
        ),
        validation_frames=scores["frames"],
        protocol=scores["protocol"],
        resolution=scores["resolution"],
        dsc=written(scores["dsc"]),
        iou=written(scores["iou"]),
        **size,
        parameters=record["parameters"]["total"] / 1e6,
        start=start,
        train_frames=train_frames,
        data=public(recipe.data.paths, "a set that is not public"),
        step=record["step"],
        total_steps=record["total_steps"],
        software=", ".join(
            f"{name} {versions[name]}" for name in ("liver-landmark", "torch", "transformers", "python")
        ),
        train_sha256=record["data_sha256"]["train"],
        validation_sha256=record["data_sha256"]["validation"],
    )
