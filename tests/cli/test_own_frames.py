"""Own frames in three commands: build, train, predict, as the README has them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import training_runs
from liver_landmark.cli import main
from liver_landmark.data.export import export_set
from tiny_datasets import make_dataset, polylines, schema_row


def write_labelme_folder(folder: Path) -> None:
    """Frames of six patients whose landmarks show in colors that the starting model has never seen."""
    splits = {}
    for split, patients in {"train": (1, 2, 3, 4), "validation": (5,), "test": (6, 7)}.items():
        rows = []
        for patient in patients:
            for index in range(4):
                row = schema_row(f"p{patient}-{index}", polylines(10 * patient + index))
                # Another hospital: red is green there, green blue and blue red.
                frame = np.roll(np.asarray(row["image"]), 1, axis=2)
                rows.append(row | {"image": Image.fromarray(frame), "patient_id": f"p{patient}"})
        splits[split] = make_dataset(rows)
    export_set(splits, folder, "labelme")


@pytest.mark.slow
def test_three_commands_improve_a_model_on_patients_it_has_not_seen(tmp_path: Path) -> None:
    environment = os.environ | {"HF_DATASETS_CACHE": str(tmp_path / "cache"), "ACCELERATE_USE_CPU": "true"}

    def run(program: list[str], command: str) -> None:
        result = subprocess.run(
            [*program, *command.split()], cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        assert result.returncode == 0, result.stderr[-2000:]

    def dsc(model: Path, name: str) -> float:
        command = ["evaluate", "--split", "test", "--protocol", "synthetic", "--device", "cpu"]
        command += ["--model", str(model), "--dataset", str(tmp_path / "own")]
        assert main([*command, "--output", str(tmp_path / name)]) == 0
        return json.loads((tmp_path / name / "metrics.json").read_text())["dsc"]

    source = training_runs.write_dataset(tmp_path / "source")
    architecture = training_runs.write_architecture(tmp_path / "architecture")
    start = tmp_path / "start"
    arguments = training_runs.recipe_arguments(
        source, architecture, start, budget__steps=60, optimizer__lr=5e-3, validation__every_steps=60
    )
    training_runs.run(arguments)

    write_labelme_folder(tmp_path / "frames")
    program = [sys.executable, "-m", "liver_landmark"]
    run(program, "data build custom frames --format labelme --output own")
    launch = [str(Path(sys.executable).parent / "accelerate"), "launch", "--num_processes", "1", "-m"]
    # What is smaller here than in life: frames, model and time.
    smaller = "--data.workers 0 --budget.steps 80 --optimizer.lr 5e-3 --optimizer.rank 4 "
    smaller += "--validation.resolution 128 --validation.every_steps 40"
    command = "train --config finetune --model.init start/best --data.path own --output_dir model"
    run([*launch, "liver_landmark"], f"{command} {smaller}")
    run(program, "predict frames --recursive --model model/best --output predictions --device cpu")
    before, after = dsc(start / "best", "before"), dsc(tmp_path / "model" / "best", "after")
    assert after > before + 0.1, (before, after)
    assert len(list((tmp_path / "predictions").glob("*_overlay.png"))) == 28
