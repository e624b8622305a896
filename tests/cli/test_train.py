"""`liver-landmark train` as a user runs it."""

from __future__ import annotations

import json
from pathlib import Path
from unittest.mock import Mock

import pytest

import training_runs
from liver_landmark.cli import main


@pytest.fixture(scope="module")
def inputs(tmp_path_factory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("inputs")
    dataset = training_runs.write_dataset(folder / "data", train_frames=2)
    return dataset, training_runs.write_architecture(folder / "model")


def test_overfits_one_batch_quietly(tmp_path: Path, capfd, inputs: tuple[Path, Path]) -> None:
    """The two training frames are one batch; no terminal gets the output."""
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
    run = tmp_path / "run"
    command = ["train", f"--config={recipe}", f"--data.path={inputs[0]}", f"--preset={inputs[1]}"]
    training_runs.forget_accelerate()
    assert main([*command, f"--output_dir={run}"]) == 0
    out, err = capfd.readouterr()
    assert "\r" not in out + err
    assert "it/s" not in err
    assert len(out.splitlines()) == 2, out
    assert err.splitlines()[0] == "loading data and model …"

    losses = [record["loss"] for record in training_runs.read_metrics(run) if "loss" in record]
    # A new model guesses evenly, so the first loss is low already; the DSC below is the proof.
    assert losses[-1] < losses[0] / 4
    model = AutoModel.from_pretrained(run / "last" / "pretrained_model")
    processor = AutoImageProcessor.from_pretrained(run / "best")
    rows = load_landmark_dataset(inputs[0], "train")
    metrics = evaluate_model(model, processor, rows, resolution=128, distances=False).metrics
    assert metrics["dsc"] > 0.7
    assert json.loads((run / "run.json").read_text())["status"] == "finished"


@pytest.mark.parametrize(
    ("extra", "named"),
    [
        (["--optimizer.lrr=1"], "optimizer.lrr"),
        (["--optimizer.lr=fast"], "optimizer.lr"),
        (["--config=nowhere.yaml"], "nowhere.yaml"),
        (
            ["--config", "fine_tune"],
            "no recipe (there are: finetune, finetune_galore, paper_l3d, synthetic_compact, synthetic_tiny)",
        ),
        (["--preset", "huge"], "no model preset (there are: base-plus,"),
        (["--data.path=/no/where"], "/no/where"),
        (["--model.architecture=enormous"], "enormous"),
        (["--resume"], "holds no checkpoint; say --resume auto"),
        (["--resume=/no/where"], "/no/where"),
    ],
)
def test_what_is_wrong_comes_out_as_one_line(
    tmp_path: Path, error_line, inputs: tuple[Path, Path], extra: list[str], named: str
) -> None:
    arguments = training_runs.recipe_arguments(*inputs, tmp_path / "run")
    training_runs.forget_accelerate()
    assert main(["train", *arguments, *extra]) == 2
    assert named in error_line("train")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("content", [b"model: [1\n", b"- a\n", b"\xff\xfe", b""])
def test_a_recipe_that_is_none_is_named(tmp_path: Path, error_line, content: bytes) -> None:
    recipe = tmp_path / "mine.yaml"
    recipe.write_bytes(content)
    assert main(["train", "--config", str(recipe), "--output_dir", str(tmp_path / "run")]) == 2
    assert f"--config {recipe}: " in error_line("train")


def test_recipes_and_presets_have_names(tmp_path: Path, monkeypatch, inputs: tuple[Path, Path]) -> None:
    """From a folder that is not the repository; the last of two recipes holds."""
    monkeypatch.chdir(tmp_path)
    # A colon is in YAML, and on Windows in paths.
    Path("c:mine.yaml").write_text("optimizer: {lr: 0.25}", encoding="utf-8")
    prepare = Mock(side_effect=ValueError("far enough"))
    monkeypatch.setattr("liver_landmark.training.training_run.prepare_run", prepare)
    for options in (
        "--config synthetic_tiny --optimizer.lr 0.5",
        "--config=synthetic_tiny --preset synthetic-wide",
        "--config=finetune --config synthetic_tiny",
        "--config=synthetic_tiny --config=c:mine.yaml",
    ):
        assert main(["train", *options.split(), "--data.path", str(inputs[0]), "--output_dir", "run"]) == 2
    recipes = [call.args[0] for call in prepare.call_args_list]
    assert [(recipe.model.architecture, recipe.optimizer.lr) for recipe in recipes] == [
        ("synthetic-tiny", 0.5),
        ("synthetic-wide", 1.5e-3),
        ("synthetic-tiny", 1.5e-3),
        ("synthetic-tiny", 0.25),
    ]


def test_help_lists_every_field(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--help"]) == 0
    text = capsys.readouterr().out
    options = ["config", "resume", "overwrite", "optimizer.lr", "model.init", "trackers", "preset"]
    assert [option for option in options if f"--{option}" not in text] == []
