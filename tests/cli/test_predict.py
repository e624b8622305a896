"""`liver-landmark predict` from outside: what it writes, what it says, what it exits with."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from liver_landmark.cli import main
from liver_landmark.cli.predict import CURVE_FORMATS
from liver_landmark.inference import result_files
from tiny_datasets import tiny_processor
from tiny_models import tiny_model


@pytest.fixture
def frames(tmp_path):
    folder = tmp_path / "frames"
    folder.mkdir()
    for seed, (name, size) in enumerate({"a.png": (60, 90), "b.jpg": (48, 40), "c.png": (33, 65)}.items()):
        pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / name)
    return folder


def predict(*arguments):
    return main(["predict", *map(str, arguments)])


def read_lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("batch_size", [1, 2])
def test_masks_overlays_and_jsons_of_a_folder(model, frames, tmp_path, capsys, batch_size):
    output = tmp_path / "out"
    assert predict(frames, "--model", model, "--output", output, "--batch-size", batch_size) == 0
    assert sorted(path.name for path in output.iterdir()) == sorted(
        [f"{stem}_{kind}.png" for stem in "abc" for kind in ("mask", "overlay")]
        + ["predictions.jsonl", "run.json"]
    )
    rows = read_lines(output / "predictions.jsonl")
    assert [row["file"] for row in rows] == [str(frames / name) for name in ("a.png", "b.jpg", "c.png")]
    for row in rows:
        with Image.open(row["file"]) as frame, Image.open(output / row["mask"]) as mask:
            assert mask.mode == "L"
            assert mask.size == frame.size == (row["width"], row["height"])
            assert Image.open(output / row["overlay"]).size == frame.size
            ids = np.asarray(mask)
        for class_id, name in enumerate(("ridge", "silhouette", "ligament"), start=1):
            assert row["pixels"][name] == (ids == class_id).sum()
            assert (name in row["present"]) == (row["pixels"][name] > 0)
            assert 0 <= row["scores"][name] <= 1
        assert row["stroke_pixels"] == (ids > 0).sum()
        assert set(row["milliseconds"]) == {"read", "preprocess", "forward", "postprocess", "draw", "write"}
    run = json.loads((output / "run.json").read_text())
    assert run["totals"] | {"seconds": 0} == {
        "inputs": 3,
        "predicted": 3,
        "predicted_before": 0,
        "failed": 0,
        "frames": 3,
        "frames_with": {
            name: sum(name in row["present"] for row in rows) for name in ("ridge", "silhouette", "ligament")
        },
        "skipped_in_folders": 0,
        "seconds": 0,
    }
    assert run["model"] == model
    assert run["failed"] == []
    assert run["versions"]["torch"] == torch.__version__
    printed = capsys.readouterr()
    assert printed.err == f"loading model {model} …\n"
    assert printed.out.splitlines()[-1] == f"3 of 3 inputs predicted (3 frames), results in {output}"


def test_bad_files_are_named_and_the_good_ones_finished(model, frames, tmp_path, capsys):
    (frames / "b.jpg").write_bytes((frames / "b.jpg").read_bytes()[:300])
    (frames / "empty.png").touch()
    (frames / "notes.txt").write_text("no picture")
    output = tmp_path / "out"
    missing = tmp_path / "missing.png"
    assert predict(frames, missing, "--model", model, "--output", output, "--batch-size", 2) == 1
    assert [row["file"] for row in read_lines(output / "predictions.jsonl")] == [
        str(frames / "a.png"),
        str(frames / "c.png"),
    ]
    run = json.loads((output / "run.json").read_text())
    assert [failure["file"] for failure in run["failed"]] == [
        str(frames / "b.jpg"),
        str(frames / "empty.png"),
        str(missing),
    ]
    assert run["totals"]["failed"] == 3
    assert run["totals"]["skipped_in_folders"] == 1
    lines = capsys.readouterr().err.splitlines()[1:]
    assert lines == [f"error: {failure['reason']}" for failure in run["failed"]]
    assert not (output / "b_mask.png").exists()


def test_frames_of_one_name_do_not_collide(model, frames, tmp_path):
    other = tmp_path / "others"
    other.mkdir()
    Image.new("RGB", (20, 10)).save(other / "a.png")
    output = tmp_path / "out"
    assert predict(frames / "a.png", other / "a.png", "--model", model, "--output", output) == 0
    sizes = [Image.open(output / f"{name}_a_mask.png").size for name in ("frames", "others")]
    assert sizes == [(90, 60), (20, 10)]


def test_results_are_replaced_only_when_asked(model, frames, tmp_path, capsys, error_line):
    output = tmp_path / "out"
    command = (frames / "a.png", "--model", model, "--output", output)
    assert predict(*command) == 0
    before = {path.name: path.stat().st_mtime_ns for path in output.iterdir()}
    capsys.readouterr()
    assert predict(*command) == 2
    assert {path.name: path.stat().st_mtime_ns for path in output.iterdir()} == before
    assert error_line("predict") == (
        f"liver-landmark predict: error: {output / 'a_mask.png'} is there already: "
        "pass --overwrite or --resume, or choose another --output"
    )
    assert predict(*command, "--overwrite") == 0
    assert all(path.stat().st_mtime_ns > before[path.name] for path in output.iterdir())


@pytest.mark.parametrize("kind", ["mask", "probability_ridge", "variance"])
def test_an_input_is_never_overwritten(model, frames, monkeypatch, error_line, kind):
    monkeypatch.chdir(frames)
    shutil.copy("c.png", f"a_{kind}.png")
    before = {path.name: path.read_bytes() for path in frames.iterdir()}
    command = ("a.png", f"a_{kind}.png", "--model", model, "--output", ".", "--save-probabilities", "--flip")
    for options in ((), ("--overwrite",), ("--resume",)):
        assert predict(*command, *options) == 2
        assert f"a_{kind}.png is an input and would be overwritten" in error_line("predict")
        assert {path.name: path.read_bytes() for path in frames.iterdir()} == before


def test_a_second_run_beside_the_frames_takes_no_result_for_a_frame(model, frames, capsys, error_line):
    command = ("--model", model, "--output", frames)
    assert predict(frames / "*.png", *command) == 0
    capsys.readouterr()
    assert predict(frames / "*.png", *command, "--overwrite") == 0
    printed = capsys.readouterr().out
    assert "left out: 4 files that earlier runs wrote" in printed
    assert "2 of 2 inputs predicted" in printed
    assert predict(frames, "--model", model, "--output", frames.parent / "out") == 0
    assert "3 of 3 inputs predicted" in capsys.readouterr().out
    assert predict(frames / "a_overlay.png", "--model", model, "--output", frames.parent / "other") == 2
    assert "a_overlay.png is a result of an earlier run" in error_line("predict")


def test_an_input_in_a_folder_of_a_videos_results_is_never_removed(model, frames, capsys):
    (frames / "a_labelme").mkdir()
    picture = (frames / "a.png").rename(frames / "a_labelme" / "000000.png")
    (frames / "a.mp4").touch()
    command = (frames / "a.mp4", picture, "--model", model, "--output", frames, "--overwrite")
    assert predict(*command) == 2
    assert f"{frames / 'a_labelme'} holds an input and would be overwritten" in capsys.readouterr().err
    assert picture.is_file()


def test_an_empty_name_is_not_the_current_folder(model, frames, monkeypatch, capsys):
    monkeypatch.chdir(frames)
    assert predict("", "--model", model, "--output", "out") == 2
    assert "an input is an empty name" in capsys.readouterr().err


def test_names_that_are_too_long_are_one_line(model, frames, error_line, capsys):
    assert predict(frames / "a.png", "--model", model, "--output", frames / ("x" * 300)) == 2
    assert "File name too long" in error_line("predict")
    (frames / "a.png").rename(frames / f"{'x' * 250}.png")
    output = frames.parent / "out"
    assert predict(frames, "--model", model, "--output", output) == 1
    assert "x.png: its result cannot be written" in capsys.readouterr().err
    assert len(read_lines(output / "predictions.jsonl")) == 2


def test_a_name_that_the_terminal_cannot_show_is_escaped(model, frames, tmp_path, monkeypatch):
    picture = (frames / "a.png").rename(frames / "Über.png")
    shown = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", shown)
    assert predict(picture, "--model", model, "--output", tmp_path / "out") == 0
    shown.flush()
    assert rb"\xdcber.png" in shown.buffer.getvalue()


def test_usage_errors_are_one_line_and_write_nothing(model, frames, tmp_path, error_line):
    output = tmp_path / "out"
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("gone")
    other_type = tmp_path / "other"
    other_type.mkdir()
    (other_type / "config.json").write_text('{"model_type": "segformer"}')
    for arguments, message in [
        ((frames / "*.gif", "--model", model, "--output", output), "matches no file"),
        ((frames, "--model", model, "--output", frames), "both input and output"),
        ((frames, "--model", model, "--output", tmp_path / "file"), "exists and is no folder"),
        (
            (frames, "--model", model, "--output", tmp_path / "file" / "a" / "b"),
            f"b cannot be made: {tmp_path / 'file'} is no folder",
        ),
        ((frames, "--model", model, "--output", tmp_path / "link"), "link exists and is no folder"),
        ((frames, "--model", tmp_path / "nowhere", "--output", output), "nowhere"),
        (
            (frames, "--model", other_type, "--output", output),
            "its type is segformer, expected liver_landmark",
        ),
        ((frames, "--model", model, "--output", output, "--device", "nonsense"), "nonsense"),
        ((frames, "--model", model, "--output", output, "--curves", "svg,coco"), "'coco' is unknown"),
        ((frames, "--model", model, "--output", output, "--scales", "1,x"), "no numbers with commas"),
        ((frames, "--model", model, "--output", output, "--scales", "0"), "not above 0"),
        ((frames, "--model", model, "--output", output, "--smoothing", "nan"), "not above 0"),
        ((frames, "--model", model, "--output", output, "--num-parts", 2), "needs --part-id"),
        ((frames, "--model", model, "--output", output, "--part-id", 1), "part 1 of 1"),
    ]:
        assert predict(*arguments) == 2
        assert message in error_line("predict")
        assert not output.exists()


def test_a_model_that_gives_no_finite_logits_fails_by_name(frames, tmp_path, capsys):
    broken = tiny_model()
    with torch.no_grad():
        next(broken.decoder.parameters()).fill_(float("nan"))
    broken.save_pretrained(tmp_path / "broken")
    tiny_processor().save_pretrained(tmp_path / "broken")
    assert predict(frames / "a.png", "--model", tmp_path / "broken", "--output", tmp_path / "out") == 1
    assert "not all values are finite" in capsys.readouterr().err


def test_a_frame_whose_result_cannot_be_written_is_named(model, frames, tmp_path, capsys):
    output = tmp_path / "out"
    (output / "a_overlay.png").mkdir(parents=True)
    assert predict(frames, "--model", model, "--output", output, "--overwrite") == 1
    assert "a.png: its result cannot be written" in capsys.readouterr().err
    assert len(read_lines(output / "predictions.jsonl")) == 2
    assert not [path for path in output.iterdir() if "partial" in path.name]


def test_an_interruption_is_one_line_and_what_is_there_is_whole(model, frames, tmp_path, capsys, monkeypatch):
    from liver_landmark.inference import result_files as outputs

    def interrupted(path, mask, write=outputs.write_mask):
        if path.name.startswith("b_"):
            raise KeyboardInterrupt
        write(path, mask)

    monkeypatch.setattr(outputs, "write_mask", interrupted)
    output = tmp_path / "out"
    assert predict(frames, "--model", model, "--output", output) == 130
    last = capsys.readouterr().err.splitlines()[-1]
    assert last == "liver-landmark predict: interrupted: --resume goes on from here"
    there = {path.name for path in output.iterdir()}
    assert {".unfinished", "a_mask.png", "a_overlay.png"} <= there
    assert not there & {"b_mask.png", "predictions.jsonl", "run.json"}
    monkeypatch.undo()
    assert predict(frames, "--model", model, "--output", output) == 2
    assert "an interrupted run lies here: --resume goes on with it" in capsys.readouterr().err
    assert predict(frames, "--model", model, "--output", output, "--resume") == 0
    assert [Path(row["file"]).name for row in read_lines(output / "predictions.jsonl")] == [
        "a.png",
        "b.jpg",
        "c.png",
    ]
    assert ".unfinished" not in {path.name for path in output.iterdir()}


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("c++") is None, reason="there is no C++ compiler")
def test_compiled_masks_are_the_same(model, frames, tmp_path):
    """Three frames, two at a time: the last batch is filled up."""
    masks = []
    for name, compiling in (("eager", []), ("compiled", ["--compile"])):
        output = tmp_path / name
        assert predict(frames, "--model", model, "--output", output, "--batch-size", 2, *compiling) == 0
        masks.append([np.asarray(Image.open(path)) for path in sorted(output.glob("*_mask.png"))])
    for eager, compiled in zip(*masks, strict=True):
        # Fused kernels round otherwise: a pixel on the edge of two classes may change.
        assert (eager != compiled).mean() < 0.01


@pytest.mark.slow
def test_without_a_compiler_nothing_is_written_but_a_line(model, frames, tmp_path, repository):
    output = tmp_path / "out"
    command = [sys.executable, "-m", "liver_landmark", "predict", str(frames), "--compile"]
    done = subprocess.run(
        [*command, "--model", model, "--output", str(output)],
        capture_output=True,
        text=True,
        cwd=repository,
        env={**os.environ, "CXX": "no-compiler", "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache")},
    )
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("liver-landmark predict: error: ")
    assert "the model cannot be compiled here, do without: InvalidCxxCompiler: No working" in done.stderr
    assert not output.exists()


def test_the_curve_formats_are_those_that_are_written():
    assert CURVE_FORMATS == result_files.CURVE_FORMATS


def test_the_real_frame_comes_back_at_its_size(model, p2ilf_sample, tmp_path):
    frame = p2ilf_sample / "images" / "patient1_12.jpg"
    assert predict(frame, "--model", model, "--output", tmp_path / "out") == 0
    for kind in ("mask", "overlay"):
        assert Image.open(tmp_path / "out" / f"patient1_12_{kind}.png").size == (1920, 1080)
