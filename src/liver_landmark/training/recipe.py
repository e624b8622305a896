"""The recipe: everything that decides a training run, as dataclasses, read from YAML and command line.

One recipe is one YAML file in hub_configs/training/; `parse_recipe` reads it. A field is checked here,
at the border, without anything that takes long to import: a wrong one is answered at once. What it cannot say
by itself (whether a folder is there, whether a choice fits the model) is checked by the module that obeys it:
`data` training_run and training_frames, `model` models, `trainable`, `optimizer` and `schedule` optimizers,
`augmentation` data.augmentation, `validation` and `checkpoint` loop, the rest training_run and loop.
"""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_type_hints

import yaml
from jsonargparse import ActionConfigFile, ArgumentError, ArgumentParser

from ..curves.rasterize import check_label_protocol
from ..data.augmentation_config import AugmentationConfig
from ..model.landmarks_liver_landmark import LandmarkTable
from ..optim.param_groups import check_projected_group
from ..utils.hub_configs import recipe_file


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise ValueError(message)


@dataclass(frozen=True)
class ModelConfig:
    """Which network, and where its weights start.

    Attributes:
        architecture: Name of a folder in hub_configs/models/, or the path of a model folder: its
            config.json and preprocessor_config.json are used. None: those of the folder `init`.
        init: Where weights start: `random`, `encoders` (those of `vision` and `depth`, the rest
            random), or the folder or Hub id of a whole model.
        vision: With `encoders`: Hub id or folder of the SAM 2.1 checkpoint.
        depth: With `encoders`: Hub id or folder of the Depth Anything V2 checkpoint; None where the
            architecture has no depth branch.
        labels: Names of the landmarks that the model is to find, without the background, in the order of
            their ids; each must be among the dataset's. None: those of the architecture or of the folder
            `init`. A landmark that the model of `init` knows already keeps its weights, by name.
        overrides: Fields of the model's configuration to set otherwise, such as `dice_weight`.
    """

    architecture: str | None = None
    init: str = "random"
    vision: str | None = None
    depth: str | None = None
    labels: list[str] | None = None
    overrides: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.labels is not None:
            _require(
                "background" not in self.labels, "model.labels: leave the background out, every model has it"
            )
            try:
                LandmarkTable.from_names(self.labels)
            except ValueError as error:
                raise ValueError(f"model.{error}") from None
        for name in ("id2label", "label2id", "num_labels"):
            _require(name not in self.overrides, f"model.overrides.{name}: set model.labels instead")
        if self.init in ("random", "encoders"):
            _require(
                self.architecture is not None,
                f"model.architecture must be set where model.init is {self.init}: a folder, or a name in "
                "hub_configs/models",
            )
        if self.init == "encoders":
            _require(self.vision is not None, "model.vision must be set where model.init is encoders")
        else:
            _require(
                self.vision is None and self.depth is None,
                f"model.vision and model.depth are only read where model.init is encoders, not {self.init}",
            )


@dataclass(frozen=True)
class TrainableConfig:
    """Which parts of the model train; everything else is frozen.

    Attributes:
        vision: The vision encoder: `all`, `attention` (the weights, not the biases, of the attentions'
            qkv and output projections: what the paper adapts) or `none`.
        depth: The depth encoder, likewise.
        fusion: The projection of the depth features and the cross-attention.
        decoder: The decoder.
    """

    vision: Literal["all", "attention", "none"] = "all"
    depth: Literal["all", "attention", "none"] = "all"
    fusion: bool = True
    decoder: bool = True


@dataclass(frozen=True)
class DataConfig:
    """The frames to learn from. Training reads the splits `train` and `validation`, never `test`.

    Attributes:
        path: Folder or Hub id of a dataset of the schema; or a list of them: their train and their
            validation splits are joined, and a test patient or picture of one in another's is refused. A
            name that YAML takes for a list or for nothing (`- a`, `# a`, `~`) is written `./- a`.
        balance: `none`: every frame once an epoch; `landmarks`: frames are drawn with replacement, and more
            often where they show a landmark that few frames show.
        protocol: The rasterizing protocol of the labels, `as_drawn` for the masks of a set's source; None:
            as they are stored, which must be one protocol's.
        workers: Processes that prepare frames beside the training; 0: none.
        cache: Decode every training frame once, at the start, and keep it in memory. Not with workers:
            each would hold its own copy.
    """

    path: str | list[str] | None = None
    balance: Literal["none", "landmarks"] = "none"
    protocol: str | None = None
    workers: int = 0
    cache: bool = False

    @property
    def paths(self) -> tuple[str, ...]:
        """`path` as a tuple, of one or of several sets."""
        return (self.path,) if isinstance(self.path, str) else tuple(self.path)

    def __post_init__(self) -> None:
        _require(self.path not in (None, []), "data.path must be set: a dataset folder or Hub id")
        if self.protocol is not None:
            check_label_protocol(self.protocol)
        _require(self.workers >= 0, f"data.workers must be at least 0, got {self.workers}")
        _require(
            not (self.cache and self.workers),
            f"data.cache must be false where data.workers ({self.workers}) is not 0",
        )


@dataclass(frozen=True)
class OptimizerConfig:
    """The optimizer.

    Attributes:
        name: A key of `optimizers.OPTIMIZERS`.
        lr: Learning rate at the peak of the schedule.
        encoder_lr_factor: Factor on it for the encoders of both branches: weights that come trained want
            smaller steps than those that start from nothing.
        weight_decay: Decoupled weight decay of linear and convolution weights; nothing else decays.
        betas: Decay rates of the first and second moment.
        eps: Added to the root of the second moment.
        rank: Of the subspace that holds a projected weight's moments. This and all below: for `srft_galore`
            only; `SRFTGaLoreAdamW` says more of each.
        update_proj_gap: Steps between two refreshes of the same subspace.
        scale: Factor on the projected steps.
        side: Which side of a weight is projected.
        proj_type: How the subspace is found.
        power_iterations: Passes over the gradient that sharpen it.
        singular_basis: Rotate the subspace's basis to singular-like directions.
        moment_transfer: What a refresh does to the moments.
        target_modules: A regular expression of full module names, or names: their weights are projected,
            all others train by AdamW. None: the attentions' linear layers of the branches that train.
    """

    name: Literal["adamw", "srft_galore"] = "adamw"
    lr: float = 1e-3
    encoder_lr_factor: float = 1.0
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    rank: int = 128
    update_proj_gap: int = 50
    scale: float = 1.0
    side: str = "longer"
    proj_type: str = "srft"
    power_iterations: int = 0
    singular_basis: bool = False
    moment_transfer: str = "none"
    target_modules: str | list[str] | None = None

    def __post_init__(self) -> None:
        for name in ("lr", "encoder_lr_factor", "eps"):
            value = getattr(self, name)
            _require(0 < value < math.inf, f"optimizer.{name} must be positive, got {value}")
        _require(
            0 <= self.weight_decay < math.inf,
            f"optimizer.weight_decay must be at least 0, got {self.weight_decay}",
        )
        _require(
            all(0 <= beta < 1 for beta in self.betas),
            f"optimizer.betas must be at least 0 and below 1, got {self.betas}",
        )
        try:
            check_projected_group(self.projection_settings())
        except ValueError as error:
            raise ValueError(f"optimizer.{error}") from error

    def projection_settings(self) -> dict[str, Any]:
        """What `SRFTGaLoreAdamW` calls a group's settings."""
        names = (
            "rank",
            "update_proj_gap",
            "scale",
            "side",
            "proj_type",
            "power_iterations",
            "singular_basis",
            "moment_transfer",
        )
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True)
class ScheduleConfig:
    """The learning rate over the run.

    Attributes:
        name: `cosine` (half a period from the peak down to `min_lr`) or `constant`.
        warmup_fraction: Part of the run over which the rate rises linearly to its peak, 0 to 1.
        min_lr: Where the cosine ends, at the last step; for the encoders, times `encoder_lr_factor`.
    """

    name: Literal["cosine", "constant"] = "cosine"
    warmup_fraction: float = 0.0
    min_lr: float = 0.0

    def __post_init__(self) -> None:
        _require(
            0 <= self.warmup_fraction < 1,
            f"schedule.warmup_fraction must be at least 0 and below 1, got {self.warmup_fraction}",
        )
        _require(self.min_lr >= 0, f"schedule.min_lr must be at least 0, got {self.min_lr}")


@dataclass(frozen=True)
class BudgetConfig:
    """How long to train; with both fields set, whichever ends first.

    Attributes:
        steps: Optimizer steps.
        epochs: Passes over the training frames.
    """

    steps: int | None = None
    epochs: float | None = None

    def __post_init__(self) -> None:
        _require(
            self.steps is not None or self.epochs is not None, "budget.steps or budget.epochs must be set"
        )
        _require(self.steps is None or self.steps >= 1, f"budget.steps must be at least 1, got {self.steps}")
        _require(
            self.epochs is None or 0 < self.epochs < math.inf,
            f"budget.epochs must be positive, got {self.epochs}",
        )

    def total_steps(self, num_frames: int, frames_per_step: int) -> int:
        """Optimizer steps of the whole run over `num_frames` training frames."""
        limits = [] if self.steps is None else [self.steps]
        if self.epochs is not None:
            limits.append(max(1, math.ceil(self.epochs * num_frames / frames_per_step)))
        return min(limits)


@dataclass(frozen=True)
class ProgressiveConfig:
    """Small frames first: a step on them costs less, and teaches nearly as much while all is new.

    Attributes:
        fraction: Part of the run, 0 to 1, in which frames are shrunk before they reach the model.
        scale: Factor on their sides, to the nearest size that the model takes.
    """

    fraction: float = 0.0
    scale: float = 0.75

    def __post_init__(self) -> None:
        _require(0 <= self.fraction <= 1, f"progressive.fraction must be 0 to 1, got {self.fraction}")
        _require(0 < self.scale <= 1, f"progressive.scale must be above 0 and at most 1, got {self.scale}")


@dataclass(frozen=True)
class CalmConfig:
    """Less augmentation in the last part of the run: what has been learned is fitted to frames as they are.

    Attributes:
        fraction: Part of the run, 0 to 1; it begins with the epoch that holds its first step.
        strength: Factor on all probabilities and ranges of the augmentation, 0 to 1.
    """

    fraction: float = 0.0
    strength: float = 0.5

    def __post_init__(self) -> None:
        for name in ("fraction", "strength"):
            value = getattr(self, name)
            _require(0 <= value <= 1, f"calm.{name} must be 0 to 1, got {value}")


@dataclass(frozen=True)
class ValidationConfig:
    """How the validation split is scored; its DSC chooses `best`. It is also scored after the last step.

    Attributes:
        every_steps: Optimizer steps between two validations.
        batch_size: Frames per forward pass.
        resolution: Side in px of the square on which frames are scored.
        max_frames: Score this many frames, spread evenly over the split; None: all.
    """

    every_steps: int = 200
    batch_size: int = 8
    resolution: int = 1024
    max_frames: int | None = None

    def __post_init__(self) -> None:
        for name in ("every_steps", "batch_size", "resolution", "max_frames"):
            value = getattr(self, name)
            _require(value is None or value >= 1, f"validation.{name} must be at least 1, got {value}")


@dataclass(frozen=True)
class CheckpointConfig:
    """When the state of the run is saved. It is also saved after the last step.

    Attributes:
        every_steps: Optimizer steps between two checkpoints.
        keep_last: How many checkpoints are kept.
    """

    every_steps: int = 200
    keep_last: int = 2

    def __post_init__(self) -> None:
        for name in ("every_steps", "keep_last"):
            value = getattr(self, name)
            _require(value >= 1, f"checkpoint.{name} must be at least 1, got {value}")


@dataclass(frozen=True)
class Recipe:
    """A training run. The fields you will actually change: `data.path`, `output_dir`, `budget`,
    `optimizer.lr`, `batch_size` and `model`.

    Attributes:
        model: Which network, and where its weights start.
        data: The frames to learn from.
        budget: How long to train.
        output_dir: The folder that the run writes.
        trainable: Which parts train.
        augmentation: How frames vary.
        optimizer: The optimizer.
        schedule: The learning rate over the run.
        progressive: Smaller frames in the first part of the run.
        calm: Less augmentation in the last part of the run.
        validation: How and when the validation split is scored.
        checkpoint: When the state is saved.
        batch_size: Frames per process and forward pass.
        gradient_accumulation_steps: Forward passes per optimizer step. A step sees batch_size x this x
            processes frames.
        max_grad_norm: Gradients of a larger total norm are scaled down to it; None: never.
        ema_decay: Validate and keep an exponential moving average of the weights, of which each step
            leaves this share, below 1; None: the weights themselves.
        mixed_precision: `fp32`, `bf16`, `fp16`, or `launcher`: what `accelerate launch` was told, fp32
            under plain python. Weights are float32 in every case.
        channels_last: Keep images and filters in channels-last order, faster for some convolutions.
        compile: Compile the model with `torch.compile`; worth its minutes in long runs on a GPU.
        seed: Of weights, order of frames, augmentation, dropout and random projections.
        log_every_steps: Optimizer steps between two training records.
        trackers: Trackers beside metrics.jsonl, by accelerate's names: `tensorboard`, `wandb`, …
    """

    model: ModelConfig
    data: DataConfig
    budget: BudgetConfig
    output_dir: str
    trainable: TrainableConfig = field(default_factory=TrainableConfig)
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    progressive: ProgressiveConfig = field(default_factory=ProgressiveConfig)
    calm: CalmConfig = field(default_factory=CalmConfig)
    validation: ValidationConfig = field(default_factory=ValidationConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    batch_size: int = 4
    gradient_accumulation_steps: int = 1
    max_grad_norm: float | None = None
    ema_decay: float | None = None
    mixed_precision: Literal["launcher", "fp32", "bf16", "fp16"] = "launcher"
    channels_last: bool = False
    compile: bool = False
    seed: int = 0
    log_every_steps: int = 10
    trackers: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        for name in ("batch_size", "gradient_accumulation_steps", "log_every_steps"):
            _require(getattr(self, name) >= 1, f"{name} must be at least 1, got {getattr(self, name)}")
        _require(
            self.max_grad_norm is None or self.max_grad_norm > 0,
            f"max_grad_norm must be positive, or null for no clipping, got {self.max_grad_norm}",
        )
        _require(
            self.ema_decay is None or 0 < self.ema_decay < 1,
            f"ema_decay must be between 0 and 1, or null for none, got {self.ema_decay}",
        )
        # NumPy's generators, the global ones included, take no more.
        _require(0 <= self.seed < 2**32, f"seed must be 0 to 2**32 - 1, got {self.seed}")
        _require(
            self.schedule.min_lr <= self.optimizer.lr,
            f"schedule.min_lr ({self.schedule.min_lr}) must not exceed optimizer.lr ({self.optimizer.lr})",
        )


# Recipe files and command lines to a `Recipe`, and back.


@dataclass(frozen=True)
class RunOptions:
    """Options of one call of the command that are not part of the recipe.

    Attributes:
        resume: `never`; `required`: go on from `last`; `auto`: go on from `last` if there is one; or
            the folder of a checkpoint of the same run.
        overwrite: Delete the run that output_dir holds and start over.
    """

    resume: str = "never"
    overwrite: bool = False


class _RecipeFile(ActionConfigFile):
    """A recipe by its path or by the name of one that comes with the package."""

    def __call__(self, parser: Any, cfg: Any, values: Any, option_string: str | None = None) -> None:
        # A colon makes it YAML, which jsonargparse takes as well, unless there is a file of that name.
        is_yaml = ":" in values and not os.path.isfile(values)
        try:
            path = values if is_yaml else str(recipe_file(values))
        except ValueError as error:
            raise ValueError(f"--config: {error}") from error
        try:
            super().__call__(parser, cfg, path, option_string)
        except (ArgumentError, TypeError, ValueError) as error:
            name = "" if is_yaml else f" {values}"
            raise ValueError(f"--config{name}: {' '.join(str(error).split())}") from error


def build_parser() -> ArgumentParser:
    """The parser of `liver-landmark train`: every field of the recipe is an option."""
    parser = ArgumentParser(
        prog="liver-landmark train",
        exit_on_error=False,
        # An abbreviated field name in a saved command would change its meaning with a new field.
        allow_abbrev=False,
        description="Trains a liver landmark model by a recipe; every field of it can be set here too.",
    )
    parser.add_argument(
        "--config", action=_RecipeFile, help="a recipe: a YAML file, or a name such as synthetic_tiny"
    )
    parser.add_class_arguments(Recipe)
    parser.add_argument(
        "--resume",
        nargs="?",
        const="true",
        default="false",
        metavar="true|auto|FOLDER",
        help="go on from the last checkpoint (auto: if there is one), or from that checkpoint's folder",
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="delete the run that output_dir holds and start over"
    )
    return parser


_RESUME_WORDS = {"true": "required", "false": "never", "auto": "auto"}


def parse_recipe(arguments: Sequence[str]) -> tuple[Recipe, RunOptions]:
    """Reads a command line, and the recipe files that it names, later ones over earlier ones.

    Raises:
        ValueError: in one line that names the field: unknown, of the wrong type, missing, or with a
            value that cannot be.
    """
    parser = build_parser()
    try:
        parsed = parser.parse_args(list(arguments))
        built = parser.instantiate(parsed)
    except ArgumentError as error:
        raise ValueError(" ".join(str(error).split())) from error
    fields = {field.name: built[field.name] for field in dataclasses.fields(Recipe)}
    options = RunOptions(_RESUME_WORDS.get(built.resume, built.resume), built.overwrite)
    if options.overwrite and options.resume != "never":
        raise ValueError("--overwrite and --resume exclude each other")
    return Recipe(**fields), options


def recipe_to_dict(recipe: Recipe) -> dict[str, Any]:
    """The recipe as plain dicts, lists, numbers and strings, as YAML and JSON hold them."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(entry) for key, entry in value.items()}
        return [plain(entry) for entry in value] if isinstance(value, list | tuple) else value

    return plain(dataclasses.asdict(recipe))


def default_fields() -> dict[str, Any]:
    """Dotted name -> default of every field that a recipe may leave out, as `recipe_to_dict` gives them."""
    found: dict[str, Any] = {}
    sections = {"": Recipe} | {
        f"{section.name}.": get_type_hints(Recipe)[section.name]
        for section in dataclasses.fields(Recipe)
        if dataclasses.is_dataclass(get_type_hints(Recipe)[section.name])
    }
    for prefix, section in sections.items():
        for entry in dataclasses.fields(section):
            if entry.default is not dataclasses.MISSING:
                value = entry.default
                found[prefix + entry.name] = list(value) if isinstance(value, tuple) else value
    return found


def is_local(source: str) -> bool:
    """Whether a field that names a folder or a Hub id names a folder of this machine."""
    return Path(source).is_absolute() or Path(source).exists()


def without_local_paths(recipe: Recipe) -> Recipe:
    """The recipe with the last names of folders in place of their paths, for whoever is given the model."""

    def public(source: Any) -> Any:
        if isinstance(source, list):
            return [public(part) for part in source]
        return Path(source).name if isinstance(source, str) and is_local(source) else source

    model = recipe.model
    folders = {name: public(getattr(model, name)) for name in ("architecture", "init", "vision", "depth")}
    return dataclasses.replace(
        recipe,
        model=dataclasses.replace(model, **folders),
        data=dataclasses.replace(recipe.data, path=public(recipe.data.path)),
        output_dir=Path(recipe.output_dir).name,
    )


def recipe_to_yaml(recipe: Recipe) -> str:
    """The recipe as a file that `--config` reads back to an equal recipe."""
    return yaml.safe_dump(recipe_to_dict(recipe), sort_keys=False)
