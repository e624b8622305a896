"""`liver-landmark evaluate` from outside."""

from __future__ import annotations

import csv
import inspect
import json

import numpy as np
import pytest
from PIL import Image

from liver_landmark.cli import main
from liver_landmark.cli.evaluate import evaluate
from liver_landmark.curves import get_protocol, rasterize_landmarks
from liver_landmark.evaluation import DEFAULT_RESOLUTION
from tiny_datasets import HEIGHT, WIDTH, polylines, save_dataset, schema_row


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("evaluation")
    rows = [schema_row(f"p/{index}", polylines(index)) for index in range(4)]
    rows.append(schema_row("p/4", polylines(4, without=("ridge", "ligament"))))
    save_dataset(root / "data", rows)
    return root


@pytest.fixture
def run(folders, model):
    def evaluate(output, *options, model=model, dataset="data"):
        arguments = ["--model", model, "--dataset", folders / dataset, "--output", output]
        return main(["evaluate", *map(str, (*arguments, "--resolution", 128, *options))])

    return evaluate


def test_what_it_writes(run, model, tmp_path, capsys):
    output = tmp_path / "new" / "result"
    assert run(output, "--batch-size", 2, "--protocol", "toponet") == 0
    assert sorted(path.name for path in output.parent.iterdir()) == ["result"]
    metrics = json.loads((output / "metrics.json").read_text())
    assert metrics["protocol"] == "toponet"
    assert metrics["frames"] == 5
    assert metrics["split"] == "test"
    assert {"dsc", "iou", "assd_px", "per_class", "definitions", "versions"} <= set(metrics)
    with (output / "frames.csv").open(newline="") as file:
        frames = list(csv.DictReader(file))
    assert [frame["frame_id"] for frame in frames] == [f"p/{index}" for index in range(5)]
    assert metrics["dsc"] == pytest.approx(np.mean([float(frame["dsc"]) for frame in frames]))
    ridge = [float(frame["dsc_ridge"]) for frame in frames if frame["dsc_ridge"]]
    assert len(ridge) == metrics["per_class"]["ridge"]["frames_shown"] == 4
    assert metrics["per_class"]["ridge"]["dsc"] == pytest.approx(np.mean(ridge))
    worst = min(frames, key=lambda frame: float(frame["dsc"]))["frame_id"]
    overlays = sorted(path.name for path in (output / "overlays").iterdir())
    assert len(overlays) == 5
    assert f"worst_1_{worst.replace('/', '_')}.png" in overlays
    for name in overlays:
        assert Image.open(output / "overlays" / name).size == (1920, 36 + 540)
    printed = capsys.readouterr()
    assert printed.err == f"loading model {model} …\n"
    assert f"{metrics['dsc']:.3f}" in printed.out
    assert "5 frames of 5 patients, protocol toponet, 128x128 px" in printed.out


def test_twice_the_same_and_the_datasets_own_protocol(run, tmp_path):
    outputs = [tmp_path / "one", tmp_path / "two"]
    for output in outputs:
        assert run(output, "--max-frames", 2) == 0
    texts = [(output / name).read_text() for output in outputs for name in ("metrics.json", "frames.csv")]
    assert texts[:2] == texts[2:]
    metrics = json.loads(texts[0])
    assert (metrics["protocol"], metrics["frames"]) == ("synthetic", 2)


@pytest.mark.parametrize("protocol", ["as_drawn", "srft_galore"])
def test_masks_of_the_source_are_scored_by_name(run, tmp_path, protocol):
    landmarks = polylines(0)
    mask = rasterize_landmarks(landmarks, WIDTH, HEIGHT, get_protocol("toponet"))
    row = schema_row("h0", landmarks, label=Image.fromarray(mask), protocol="as_drawn")
    save_dataset(tmp_path / "drawn", [row])
    assert run(tmp_path / "out", "--protocol", protocol, dataset=tmp_path / "drawn") == 0
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert (metrics["protocol"], metrics["frames"]) == (protocol, 1)


def test_a_former_evaluation_is_replaced_only_when_asked_and_nothing_else(run, tmp_path, error_line):
    output = tmp_path / "result"
    output.mkdir()
    for options, code, frames in ((("1",), 0, 1), (("2",), 2, 1), (("2", "--overwrite"), 0, 2)):
        assert run(output, "--max-frames", *options) == code
        assert json.loads((output / "metrics.json").read_text())["frames"] == frames
        if code:
            assert "holds an evaluation already: pass --overwrite" in error_line("evaluate")
    assert [path.name for path in tmp_path.iterdir()] == ["result"]
    (tmp_path / "precious.txt").touch()
    assert run(tmp_path, "--overwrite") == 2
    assert "holds something else than an evaluation" in error_line("evaluate")
    assert (tmp_path / "precious.txt").exists()
    assert run(tmp_path / "precious.txt" / "result") == 2
    assert "precious.txt is no folder" in error_line("evaluate")


@pytest.mark.parametrize(
    ("options", "names", "message"),
    [
        ((), {"model": "nowhere"}, "nowhere"),
        ((), {"dataset": "nowhere"}, "nowhere: no"),
        (("--split", "train"), {}, "no split 'train' (there are: test)"),
        (("--device", "nonsense"), {}, "nonsense"),
        (("--protocol", "l3d"), {}, "--protocol"),
        (("--split", "holdout"), {}, "--split"),
        (("--batch-size", "none"), {}, "--batch-size"),
        (("--protocol", "as_drawn"), {}, "its labels are not as their source drew them"),
    ],
)
def test_errors_are_one_line_and_leave_nothing(run, tmp_path, error_line, options, names, message):
    assert run(tmp_path / "result", *options, **names) == 2
    assert message in error_line("evaluate")
    assert not list(tmp_path.iterdir())


NO_PICTURE = {"bytes": b"\xff\xd8 no picture", "path": None}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"image": NO_PICTURE}, "row 1: a picture of it cannot be decoded (of no known format)"),
        ({"image": None}, "frame f1 (row 1): it has no image"),
        ({"protocol": "toponet"}, "protocol column holds synthetic, toponet"),
    ],
)
def test_what_is_wrong_with_a_row_is_one_line(run, tmp_path, error_line, fields, message):
    rows = [schema_row("f0", polylines(0)), schema_row("f1", polylines(1), **fields)]
    save_dataset(tmp_path / "broken", rows)
    assert run(tmp_path / "result", dataset=tmp_path / "broken") == 2
    assert message in error_line("evaluate")
    assert not (tmp_path / "result").exists()
    if "protocol" in fields:
        assert run(tmp_path / "result", "--protocol", "p2ilf", dataset=tmp_path / "broken") == 0


def test_the_default_resolution_is_the_evaluations_own():
    assert inspect.signature(evaluate).parameters["resolution"].default == DEFAULT_RESOLUTION
