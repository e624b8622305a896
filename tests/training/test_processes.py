"""Two processes under `accelerate launch` do what one does; the launch configurations."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from accelerate.commands.config.config_args import load_config_from_file

from tiny_datasets import tiny_processor
from tiny_models import tiny_config
from training_runs import read_metrics, run


def launch(cache: Path, arguments: list[str]) -> None:
    environment = os.environ | {
        # `accelerate launch --cpu --num_processes 2` would silently run one process.
        "ACCELERATE_USE_CPU": "true",
        "HF_DATASETS_CACHE": str(cache),
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
    command += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]
    # Any free port.
    command += ["--main_process_port", "0", "-m", "liver_landmark", "train", *arguments]
    result = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert result.returncode == 0, result.stderr[-3000:]


@pytest.fixture
def still_architecture(tmp_path: Path) -> Path:
    tiny_config().save_pretrained(tmp_path / "still")
    tiny_processor(128).save_pretrained(tmp_path / "still")
    return tmp_path / "still"


def test_two_processes_equal_one(tmp_path, datasets_cache, arguments, still_architecture) -> None:
    settings = {"model__architecture": str(still_architecture), "budget__steps": 4}
    one, two = tmp_path / "one", tmp_path / "two"
    run(arguments(one, batch_size=4, **settings))
    launch(datasets_cache, arguments(two, batch_size=2, **settings))
    record = json.loads((two / "run.json").read_text())
    assert record["num_processes"] == 2
    ours, theirs = read_metrics(one), read_metrics(two)
    assert [r["step"] for r in theirs] == [r["step"] for r in ours]
    for alone, together in zip(ours, theirs, strict=True):
        if "loss" in alone:
            # A scheduler that accelerate had prepared would have been stepped twice.
            assert together["lr"] == alone["lr"]
            assert together["epoch"] == alone["epoch"]
            assert together["loss"] == pytest.approx(alone["loss"], rel=1e-4)
            assert together["grad_norm"] == pytest.approx(alone["grad_norm"], rel=1e-3)


@pytest.mark.slow
def test_two_processes_resume_bit_for_bit(tmp_path: Path, datasets_cache: Path, arguments) -> None:
    whole, part = tmp_path / "whole", tmp_path / "part"
    launch(datasets_cache, arguments(whole, checkpoint__keep_last=3))
    shutil.copytree(whole, part, symlinks=True)
    first = part / "checkpoints" / "step-000002"
    launch(datasets_cache, [*arguments(part, checkpoint__keep_last=3), f"--resume={first}"])
    assert read_metrics(part) == read_metrics(whole)
    for name in ("model.safetensors",):
        ours, theirs = (folder / "last" / "pretrained_model" / name for folder in (part, whole))
        assert ours.read_bytes() == theirs.read_bytes()


FOLDER = Path(__file__).parents[2] / "hub_configs" / "accelerate"
NEEDED = {"cpu", "one_gpu", "one_gpu_bf16", "multi_gpu_bf16"}


@pytest.mark.parametrize("name", sorted({path.stem for path in FOLDER.glob("*.yaml")} | NEEDED))
def test_accelerate_reads_it(name: str) -> None:
    # Unknown keys are errors there.
    config = load_config_from_file(str(FOLDER / f"{name}.yaml"))
    assert config.mixed_precision == ("bf16" if "bf16" in name else "no")
    assert config.use_cpu == ("cpu" in name)
    assert (config.num_processes > 1) == ("multi" in name)
