"""kill -9 at any moment of a save, and at any moment at all: the run goes on as if nothing had been."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from liver_landmark.training.run_folder import RunFolder, read_run_state
from training_runs import read_metrics, run

DRIVER = Path(__file__).with_name("killed_runs.py")


@pytest.fixture(scope="module")
def short_run(arguments):
    """Three steps, a checkpoint and a validation after each, so that much is written and deleted."""

    def build(output_dir: Path | None) -> list[str]:
        fields = {
            "checkpoint__every_steps": 1,
            "checkpoint__keep_last": 1,
            "validation__every_steps": 1,
            "validation__resolution": 64,
        }
        command = arguments(
            output_dir or Path("o"), budget__steps=3, batch_size=1, gradient_accumulation_steps=1, **fields
        )
        return [part for part in command if output_dir or not part.startswith("--output_dir")]

    return build


def assert_everything_is_whole(folder: Path) -> None:
    """What bears a checkpoint's or the best model's name can be read, whatever is missing."""
    for checkpoint in (folder / "checkpoints").glob("step-*"):
        state = read_run_state(checkpoint)
        assert checkpoint.name == f"step-{state.step:06d}"
        assert load_file(checkpoint / "pretrained_model" / "model.safetensors")
        assert load_file(checkpoint / "training_state" / "rng_states.safetensors")
        assert torch.load(checkpoint / "training_state" / "optimizer.pt", weights_only=True)["state"]
    assert (folder / "last").exists() or not (folder / "last").is_symlink()
    if RunFolder(folder).best.exists():
        assert load_file(folder / "best" / "model.safetensors")
        assert json.loads((folder / "best" / "run.json").read_text())["validation"]
    assert json.loads((folder / "run.json").read_text())


def test_killed_runs_go_on_to_the_same_end(tmp_path: Path, short_run, datasets_cache: Path) -> None:
    request = {"cache": str(datasets_cache), "arguments": short_run(None), "output": str(tmp_path)}
    result = subprocess.run(
        [sys.executable, str(DRIVER), json.dumps(request)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-2000:]
    ends = json.loads(result.stdout.splitlines()[-1])
    assert ends.pop("whole") == 0
    # Where the machine is fast, this one may have come to its end.
    assert ends.pop("timed") in (0, signal.SIGKILL)
    kinds = ("save", "write_text", "fsync", "rename", "replace", "symlink_to", "rmtree")
    assert set(ends) > {f"in-{kind}" for kind in kinds}
    assert set(ends.values()) == {signal.SIGKILL}

    whole = tmp_path / "whole"
    for name in (*ends, "timed"):
        folder = tmp_path / name
        assert_everything_is_whole(folder)
        run([*short_run(folder), "--resume=auto"])
        assert read_metrics(folder) == read_metrics(whole), name
        for part in ("last/pretrained_model", "best"):
            ours, theirs = (load_file(path / part / "model.safetensors") for path in (folder, whole))
            assert all(torch.equal(tensor, theirs[key]) for key, tensor in ours.items()), (name, part)
        assert not list(folder.rglob(".incomplete-*")), name
        assert not list(folder.glob(".*")), name
        assert [path.name for path in (folder / "checkpoints").iterdir()] == ["step-000003"], name
