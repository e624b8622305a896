"""The quick start's own steps, and what its script refuses. The whole of it is run by .ci/run."""

from __future__ import annotations

import json
import runpy
import subprocess
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from tiny_datasets import polylines, save_dataset, schema_row


@pytest.fixture(scope="module")
def steps(repository):
    path = repository / "scripts/quickstart_steps.py"
    return SimpleNamespace(**runpy.run_path(str(path), run_name="quickstart_steps"))


def metrics(dsc: float, assd_px: float | None) -> dict:
    """The part of an evaluation's metrics.json that the summary takes, and some that it does not."""
    scores = {"dsc": dsc, "iou": dsc / (2 - dsc), "hd95_px": 9.0}
    per_class = {"ridge": scores, "silhouette": scores, "ligament": scores | {"dsc": None}}
    return scores | {"assd_px": assd_px, "protocol": "synthetic", "per_class": per_class}


def write_results(folder):
    (folder / "run.json").write_text(json.dumps({"train_seconds": 512.3, "status": "finished"}))
    for domain, content in (("a", metrics(0.75, 12.5)), ("b", metrics(0.5, None))):
        (folder / "evaluation" / domain).mkdir(parents=True)
        (folder / "evaluation" / domain / "metrics.json").write_text(json.dumps(content))


def test_summary_holds_what_is_promised(steps, tmp_path, capsys):
    write_results(tmp_path)
    assert steps.main(["summary", str(tmp_path)]) == 0
    per_class = {"ridge": {"dsc": 0.75}, "silhouette": {"dsc": 0.75}, "ligament": {"dsc": None}}
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["train_seconds"] == 512.3
    assert summary["domain_a"] == {"dsc": 0.75, "iou": 0.6, "assd_px": 12.5, "per_class": per_class}
    assert summary["domain_b"]["dsc"] == 0.5
    printed = capsys.readouterr().out
    rows = {line.split()[1]: line.split()[2:] for line in printed.splitlines() if line.startswith("domain")}
    assert rows == {
        "a": ["0.750", "0.600", "12.5", "0.750", "0.750", "-"],
        "b": ["0.500", "0.333", "-", "0.500", "0.500", "-"],
    }


@pytest.mark.parametrize(
    ("command", "missing", "made"),
    [("summary .", "evaluation/b/metrics.json", "summary.json"), ("frame none frames", "none", "frames")],
)
def test_what_is_missing_is_one_line_and_leaves_nothing(
    steps, tmp_path, monkeypatch, capsys, command, missing, made
):
    monkeypatch.chdir(tmp_path)
    write_results(tmp_path)
    (tmp_path / "evaluation/b/metrics.json").unlink()
    assert steps.main(command.split()) == 1
    errors = capsys.readouterr().err
    assert errors.count("\n") == 1
    assert missing in errors
    assert not (tmp_path / made).exists()


def test_the_frame_shows_most_landmarks_and_keeps_its_bytes(steps, tmp_path, capsys):
    jpeg = tmp_path / "frame.jpg"
    noise = np.random.default_rng(0).integers(0, 256, (54, 96, 3), dtype=np.uint8)
    Image.fromarray(noise).save(jpeg, quality=80)
    rows = [
        schema_row("p/1", polylines(0, without=("ligament",))),
        schema_row("p/2", polylines(1), image={"bytes": jpeg.read_bytes(), "path": None}),
        schema_row("p/3", polylines(2)),
    ]
    save_dataset(tmp_path / "data", rows)
    assert steps.main(["frame", str(tmp_path / "data"), str(tmp_path / "frames")]) == 0
    (written,) = (tmp_path / "frames").iterdir()
    assert capsys.readouterr().out.strip() == str(written)
    assert written.name == "p_2.jpg"
    assert written.read_bytes() == jpeg.read_bytes()


@pytest.mark.parametrize("argument", ["--smok", "no-such-frame.jpg"])
def test_wrong_arguments_are_refused_before_anything_is_done(repository, argument):
    done = subprocess.run(
        ["bash", repository / "scripts/quickstart.sh", argument], capture_output=True, text=True
    )
    assert done.returncode == 1
    assert done.stderr.startswith("quickstart.sh: ")
    assert done.stderr.count("\n") == 1
    assert argument in done.stderr
