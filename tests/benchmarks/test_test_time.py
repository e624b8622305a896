"""benchmarks/test_time.py with a model that sees each pixel alone: mirrored views change nothing."""

from __future__ import annotations

import json

import numpy as np
import pytest

import test_time
from liver_landmark.evaluation import evaluate_model
from tiny_datasets import SeesColors, make_dataset, polylines, save_dataset, schema_row, tiny_processor


def test_figures_and_table(monkeypatch, tmp_path, capsys):
    rows = [schema_row(f"p/{index}", polylines(index)) for index in range(3)]
    save_dataset(tmp_path / "data", rows)
    model, processor = SeesColors(blind_to=("ligament",)), tiny_processor()
    monkeypatch.setattr(test_time, "load_model_and_processor", lambda name: (model, processor))
    output = tmp_path / "figures.json"
    options = ["--model", "m", "--dataset", str(tmp_path / "data"), "--resolution", "128"]
    test_time.main([*options, "--output", str(output)])
    [[name, figures]] = json.loads(output.read_text(encoding="utf-8"))["datasets"].items()
    assert name == str(tmp_path / "data")
    assert (figures["frames"], figures["patients"]) == (3, 3)
    lines = figures["settings"]
    assert list(lines) == list(test_time.SETTINGS)
    expected = evaluate_model(model, processor, make_dataset(rows), resolution=128, distances=False).metrics
    plain = lines[test_time.PLAIN]
    assert plain["dsc"] == pytest.approx(expected["dsc"], abs=1e-6)
    assert plain["dsc_ridge"] == pytest.approx(expected["per_class"]["ridge"]["dsc"], abs=1e-6)
    assert lines["mirrored"]["dsc"] == pytest.approx(plain["dsc"], abs=1e-3)
    assert lines["mirrored"]["difference"] == pytest.approx(0, abs=1e-3)
    assert lines["scales 0.75, 1, 1.25"]["difference"] != 0
    assert 0 < lines["mirrored and scales"]["roc_unlikeliness"] < 1
    table = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in table}) == 1
    assert table[2].startswith(f"| plain | {plain['dsc']:.4f} |")


def test_area_under_roc_counts_pairs():
    random = np.random.default_rng(0)
    doubt, wrong = random.integers(0, 8, 60), random.random(60) < 0.3
    higher = doubt[wrong][:, None] - doubt[~wrong]
    assert test_time.area_under_roc(doubt, wrong) == pytest.approx(
        np.mean((higher > 0) + 0.5 * (higher == 0))
    )
