"""`liver-landmark calibrate` from outside."""

from __future__ import annotations

import json
import shutil

import pytest
from PIL import Image

from liver_landmark import inference
from liver_landmark.cli import main
from liver_landmark.inference import LandmarkPredictor
from liver_landmark.model.landmarks_liver_landmark import DEFAULT_LANDMARKS
from tiny_datasets import make_dataset, polylines, save_dataset, save_model, schema_row

FRAMES = 12


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("calibration")
    (save_model(root / "model") / "notes.txt").write_text("mine")
    rows = [
        schema_row(f"p/{index}", polylines(index, without=("ligament",) if index % 3 == 0 else ()))
        for index in range(FRAMES)
    ]
    save_dataset(root / "data", rows)
    make_dataset(rows[:10]).to_parquet(root / "data" / "validation-00000-of-00001.parquet")
    return root


@pytest.fixture
def model(folders, tmp_path):
    """A copy of the model, which may be changed."""
    shutil.copytree(folders / "model", tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def run(folders, model):
    def calibrate(output, *options, model=model, dataset="data"):
        arguments = ["--model", model, "--dataset", folders / dataset, "--output", output, "--device", "cpu"]
        return main(["calibrate", *map(str, (*arguments, *options))])

    return calibrate


def config_of(model):
    return json.loads((model / "config.json").read_text())


def test_what_it_writes(run, folders, model, tmp_path, capsys):
    before, weights = config_of(model), (model / "model.safetensors").read_bytes()
    names = sorted(path.name for path in model.iterdir())
    output = tmp_path / "new" / "report"
    assert run(output, "--held-out", folders / "data") == 0
    assert sorted(path.name for path in output.iterdir()) == ["calibration.json", "reliability.png"]
    with Image.open(output / "reliability.png") as plot:
        plot.load()
    report = json.loads((output / "calibration.json").read_text())
    calibration = report["presence_calibration"]
    source = calibration["source"]
    assert len(source["fingerprint"]) == 64
    expected = {"dataset": "data", "split": "validation", "frames": 10, "patients": 10}
    assert source | expected == source
    assert str(tmp_path) not in json.dumps(calibration)
    assert list(report["thresholds"]) == list(DEFAULT_LANDMARKS.names)
    assert calibration["classes"]["ligament"]["threshold"] == 0.5
    assert calibration["classes"]["ridge"]["threshold"] == 0
    fitted = report["calibrated_on"]
    assert set(fitted["pooled"]) == {"uncalibrated", "calibrated", "cross_validated"}
    assert fitted["per_class"]["ligament"]["frames_absent"] == 4
    assert (report["held_out"]["frames"], report["held_out"]["split"]) == (FRAMES, "test")
    printed = capsys.readouterr().out
    assert f"{fitted['pooled']['calibrated']['ece']:.3f}" in printed
    assert "threshold of ligament: 0.500 (absent from 4 frames only: 0.5)" in printed
    # The model's folder has the calibration and is otherwise as it was.
    after = config_of(model)
    assert after.pop("presence_calibration") == calibration
    before.pop("presence_calibration", None)
    assert after == before
    assert sorted(path.name for path in model.iterdir()) == names
    assert (model / "model.safetensors").read_bytes() == weights
    assert LandmarkPredictor.from_pretrained(model).model.config.presence_calibration == calibration


def test_a_copy_and_a_report_only_leave_the_model_alone(run, model, tmp_path, error_line):
    config = (model / "config.json").read_bytes()
    assert run(tmp_path / "report", "--report-only", "--split", "test") == 0
    assert json.loads((tmp_path / "report" / "calibration.json").read_text())["held_out"] is None
    copy = tmp_path / "copies" / "calibrated"
    assert run(tmp_path / "report2", "--output-model", copy) == 0
    assert (model / "config.json").read_bytes() == config
    assert (copy / "notes.txt").read_text() == "mine"
    assert config_of(copy)["presence_calibration"]["classes"]
    assert sorted(path.name for path in copy.parent.iterdir()) == ["calibrated"]
    assert run(tmp_path / "report3", "--output-model", copy) == 2
    assert "exists already" in error_line("calibrate")
    assert not (tmp_path / "report3").exists()


def test_a_model_from_the_hub_is_calibrated_as_a_copy(run, folders, tmp_path, error_line, monkeypatch):
    assert run(tmp_path / "report", model="somebody/model") == 2
    assert "--output-model" in error_line("calibrate")
    # As the Hub's client does: a folder of links into its cache.
    cache = tmp_path / "cache"
    cache.mkdir()
    for path in (folders / "model").iterdir():
        (cache / path.name).symlink_to(path)
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda model_id: str(cache))
    load = inference.load_model_and_processor
    monkeypatch.setattr(inference, "load_model_and_processor", lambda _, device: load(cache, device=device))
    copy = tmp_path / "copy"
    assert run(tmp_path / "report", "--output-model", copy, model="somebody/model") == 0
    assert not any(path.is_symlink() for path in copy.iterdir())
    assert LandmarkPredictor.from_pretrained(copy).model.config.presence_calibration is not None
    assert config_of(folders / "model").get("presence_calibration") is None


def test_a_former_report_is_replaced_only_when_asked(run, tmp_path, error_line):
    output, beside = tmp_path / "report", tmp_path / "report.new" / "notes.txt"
    beside.parent.mkdir()
    beside.write_text("somebody's")
    assert run(output, "--report-only") == 0
    assert run(output, "--report-only") == 2
    assert "pass --overwrite" in error_line("calibrate")
    assert run(output, "--report-only", "--overwrite") == 0
    (output / "precious.txt").touch()
    assert run(output, "--report-only", "--overwrite") == 2
    assert "holds something else" in error_line("calibrate")
    assert beside.read_text() == "somebody's"


@pytest.mark.parametrize(
    ("options", "dataset", "message"),
    [
        ((), "nowhere", "nowhere: no"),
        (("--split", "train"), "data", "no split 'train'"),
        (("--held-out", "nowhere"), "data", "nowhere: no"),
        (("--device", "nonsense"), "data", "nonsense"),
        # A copy goes into no folder that is written or copied.
        (("--output-model", "model/copy"), "data", "--output-model"),
        (("--output-model", "report"), "data", "--output-model"),
        (("--output-model", "report/copy"), "data", "--output-model"),
    ],
)
def test_errors_are_one_line_and_leave_nothing(
    run, model, tmp_path, monkeypatch, error_line, options, dataset, message
):
    monkeypatch.chdir(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert run(tmp_path / "report", *options, dataset=dataset) == 2
    assert message in error_line("calibrate")
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
