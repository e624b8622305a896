"""scripts/train.py as a user runs it."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import training_runs


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("inputs")
    return (
        training_runs.write_dataset(folder / "data", train_frames=2),
        training_runs.write_architecture(folder / "model"),
    )


@pytest.fixture(scope="module")
def main(repository: Path) -> Callable[[list[str]], int]:
    """The script's main function, called in this process."""
    spec = importlib.util.spec_from_file_location("train_script", repository / "scripts" / "train.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main


def test_overfits_one_batch_quietly(tmp_path: Path, repository: Path, inputs: tuple[Path, Path]) -> None:
    """The two training frames are one batch; a file, not a terminal, gets the output."""
    from transformers import AutoImageProcessor, AutoModel

    from liver_landmark.data.loading import load_landmark_dataset
    from liver_landmark.evaluation import evaluate_model

    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        "optimizer: {lr: 0.005, weight_decay: 0}\n"
        "model: {overrides: {fusion_dropout: 0.0}}\n"
        "budget: {steps: 120}\nbatch_size: 2\ngradient_accumulation_steps: 1\n"
        "validation: {every_steps: 120, resolution: 128}\ncheckpoint: {every_steps: 75}\n"
        "data: {cache: true}\nlog_every_steps: 10\nchannels_last: true\n"
    )
    command = [sys.executable, str(repository / "scripts" / "train.py"), f"--config={recipe}"]
    command += [f"--data.path={inputs[0]}", f"--model.architecture={inputs[1]}", "--output_dir=run"]
    environment = os.environ | {"HF_DATASETS_CACHE": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1"}
    result = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert result.returncode == 0, result.stderr[-2000:]
    assert "\r" not in result.stdout + result.stderr
    assert "it/s" not in result.stderr
    assert len(result.stdout.splitlines()) == 2, result.stdout

    losses = [record["loss"] for record in training_runs.read_metrics(tmp_path / "run") if "loss" in record]
    # A new model guesses evenly, so the first loss is low already; the DSC below is the proof.
    assert losses[-1] < losses[0] / 4
    model = AutoModel.from_pretrained(tmp_path / "run" / "last" / "pretrained_model")
    processor = AutoImageProcessor.from_pretrained(tmp_path / "run" / "best")
    rows = load_landmark_dataset(inputs[0], "train")
    metrics = evaluate_model(model, processor, rows, resolution=128, distances=False).metrics
    assert metrics["dsc"] > 0.7
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "finished"


@pytest.mark.parametrize(
    ("extra", "named"),
    [
        (["--optimizer.lrr=1"], "optimizer.lrr"),
        (["--optimizer.lr=fast"], "optimizer.lr"),
        (["--config=nowhere.yaml"], "nowhere.yaml"),
        (["--data.path=/no/where"], "/no/where"),
        (["--model.architecture=enormous"], "enormous"),
        (["--resume"], "holds no checkpoint"),
        (["--resume=/no/where"], "/no/where"),
    ],
)
def test_what_is_wrong_comes_out_as_one_line(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    main: Callable[[list[str]], int],
    inputs: tuple[Path, Path],
    extra: list[str],
    named: str,
) -> None:
    arguments = training_runs.recipe_arguments(*inputs, tmp_path / "run")
    training_runs.forget_accelerate()
    assert main([*arguments, *extra]) != 0
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("train.py: error: ")
    assert named in lines[0]
    assert not (tmp_path / "run").exists()


def test_help_lists_every_field(capsys: pytest.CaptureFixture[str], main: Callable[[list[str]], int]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["--help"])
    assert end.value.code == 0
    text = capsys.readouterr().out
    for option in ("--config", "--resume", "--overwrite", "--optimizer.lr", "--model.init", "--trackers"):
        assert option in text
