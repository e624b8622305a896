"""A tiny dataset, a tiny architecture and short runs over them, for the tests of training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml
from accelerate.state import AcceleratorState, GradientState
from PIL import Image

from liver_landmark.curves import get_protocol, rasterize_landmarks
from liver_landmark.training.loop import train
from liver_landmark.training.recipe import parse_recipe
from liver_landmark.training.training_run import Run, prepare_run
from tiny_datasets import make_dataset, polylines, schema_row, tiny_processor
from tiny_models import TINY_DEPTH, tiny_config


def write_dataset(folder: Path, train_frames: int = 10) -> Path:
    """Three splits in one folder; the file of the test split is garbage, so that no one may open it."""
    (folder / "data").mkdir(parents=True)
    for split, count in (("train", train_frames), ("validation", 4)):
        rows = []
        for index in range(count):
            # One frame in five shows no ligament.
            landmarks = polylines(index, without=("ligament",) if index % 5 == 4 else ())
            row = schema_row(f"{split}-{index}", landmarks, patient_id=f"{split}{index}")
            mask = rasterize_landmarks(landmarks, row["width"], row["height"], get_protocol("synthetic"))
            rows.append(row | {"label": Image.fromarray(mask)})
        make_dataset(rows).to_parquet(folder / "data" / f"{split}-00000-of-00001.parquet")
    (folder / "data" / "test-00000-of-00001.parquet").write_bytes(b"nobody may read this")
    return folder


def write_architecture(folder: Path) -> Path:
    """A model folder with dropout and drop path on, so that torch's generators matter."""
    depth = TINY_DEPTH | {"drop_path_rate": 0.2, "hidden_dropout_prob": 0.1}
    tiny_config(fusion_dropout=0.1, depth_config=depth).save_pretrained(folder)
    tiny_processor(128).save_pretrained(folder)
    return folder


def recipe_arguments(dataset: Path, architecture: Path, output_dir: Path, **fields: Any) -> list[str]:
    """The command line of a short run; `fields` overrides settings, `__` standing for the dots."""
    settings: dict[str, Any] = {
        "model.architecture": str(architecture),
        "data.path": str(dataset),
        "output_dir": str(output_dir),
        "augmentation.horizontal_flip": 0.5,
        "augmentation.rotation": 0.5,
        "augmentation.rotation_degrees": 20,
        "augmentation.brightness": 0.2,
        "schedule.warmup_fraction": 0.2,
        "budget.steps": 6,
        "batch_size": 2,
        "gradient_accumulation_steps": 2,
        "max_grad_norm": 1.0,
        "validation.every_steps": 3,
        "validation.resolution": 128,
        "checkpoint.every_steps": 2,
        "log_every_steps": 1,
    }
    settings |= {name.replace("__", "."): value for name, value in fields.items()}
    return [f"--{name}={_text(value)}" for name, value in settings.items()]


def _text(value: Any) -> str:
    return (
        value
        if isinstance(value, str)
        else yaml.safe_dump(value, default_flow_style=True, width=10_000).split("\n")[0]
    )


def forget_accelerate() -> None:
    """accelerate's states are singletons of the process; a test's run must not see another's."""
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()


def prepare(arguments: list[str]) -> Run:
    """The run of that command line, ready for its next step."""
    forget_accelerate()
    return prepare_run(*parse_recipe(arguments))


def run(arguments: list[str]) -> dict[str, Any]:
    """The whole run of that command line; gives the content of run.json."""
    return train(prepare(arguments))


def read_metrics(output_dir: Path) -> list[dict[str, Any]]:
    """The records of metrics.jsonl, without what depends on the machine's speed."""
    records = [json.loads(line) for line in (output_dir / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in r.items() if key != "seconds_per_step"} for r in records]
