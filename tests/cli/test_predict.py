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


@pytest.fixture
def frames(tmp_path):
    folder = tmp_path / "frames"
    folder.mkdir()
    for seed, (name, size) in enumerate({"a.png": (60, 90), "b.jpg": (48, 40), "c.png": (33, 65)}.items()):
        pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / name)
    return folder


@pytest.fixture
def predict(model):
    def run(*inputs, output, model=model, **options):
        words = [word for name, value in options.items() for word in (f"--{name.replace('_', '-')}", value)]
        words = [str(word) for word in (*inputs, "--model", model, "--output", output, *words)]
        return main(["predict", *(word for word in words if word != "True")])

    return run


def files_of(folder):
    return {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}


def read_lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("batch_size", [1, 2])
def test_masks_overlays_and_jsons_of_a_folder(predict, model, frames, tmp_path, capsys, batch_size):
    output, names = tmp_path / "out", ("ridge", "silhouette", "ligament")
    assert predict(frames, output=output, batch_size=batch_size) == 0
    assert set(files_of(output)) == {
        *(f"{stem}_{kind}.png" for stem in "abc" for kind in ("mask", "overlay")),
        *("predictions.jsonl", "run.json"),
    }
    rows = read_lines(output / "predictions.jsonl")
    assert [row["file"] for row in rows] == [str(frames / name) for name in ("a.png", "b.jpg", "c.png")]
    for row in rows:
        pictures = [Image.open(path) for path in (row["file"], output / row["mask"], output / row["overlay"])]
        assert pictures[1].mode == "L"
        assert {picture.size for picture in pictures} == {(row["width"], row["height"])}
        counts = np.bincount(np.asarray(pictures[1]).ravel(), minlength=4)[1:].tolist()
        assert row["pixels"] == dict(zip(names, counts, strict=True))
        assert row["present"] == [name for name in names if row["pixels"][name]]
        assert row["stroke_pixels"] == sum(counts)
        assert all(0 <= row["scores"][name] <= 1 for name in names)
        assert set(row["milliseconds"]) == {"read", "preprocess", "forward", "postprocess", "draw", "write"}
    run = json.loads((output / "run.json").read_text())
    assert run["totals"] | {"seconds": 0} == {
        **{"inputs": 3, "predicted": 3, "predicted_before": 0, "failed": 0, "skipped_in_folders": 0},
        **{"frames": 3, "frames_with": {name: sum(name in row["present"] for row in rows) for name in names}},
        "seconds": 0,
    }
    assert (run["model"], run["failed"], run["versions"]["torch"]) == (model, [], torch.__version__)
    printed = capsys.readouterr()
    assert printed.err == f"loading model {model} …\n"
    assert printed.out.splitlines()[-1] == f"3 of 3 inputs predicted (3 frames), results in {output}"


def test_bad_files_are_named_and_the_good_ones_finished(predict, frames, tmp_path, capsys):
    (frames / "b.jpg").write_bytes((frames / "b.jpg").read_bytes()[:300])
    (frames / "empty.png").touch()
    (frames / "notes.txt").write_text("no picture")
    output, missing = tmp_path / "out", tmp_path / "missing.png"
    assert predict(frames, missing, output=output, batch_size=2) == 1
    good = [row["file"] for row in read_lines(output / "predictions.jsonl")]
    assert good == [str(frames / name) for name in ("a.png", "c.png")]
    run = json.loads((output / "run.json").read_text())
    bad = [str(path) for path in (frames / "b.jpg", frames / "empty.png", missing)]
    assert [failure["file"] for failure in run["failed"]] == bad
    assert (run["totals"]["failed"], run["totals"]["skipped_in_folders"]) == (3, 1)
    lines = capsys.readouterr().err.splitlines()[1:]
    assert lines == [f"error: {failure['reason']}" for failure in run["failed"]]
    assert not (output / "b_mask.png").exists()


def test_results_are_replaced_only_when_asked(predict, frames, tmp_path, error_line):
    output = tmp_path / "out"
    assert predict(frames / "a.png", output=output) == 0
    before = files_of(output)
    assert predict(frames / "a.png", output=output) == 2
    assert files_of(output) == before
    assert error_line("predict") == (
        f"liver-landmark predict: error: {output / 'a_mask.png'} is there already: "
        "pass --overwrite or --resume, or choose another --output"
    )
    assert predict(frames / "a.png", output=output, overwrite=True) == 0
    assert all(time > before[name] for name, time in files_of(output).items())


def test_a_second_run_beside_the_frames_takes_no_result_for_a_frame(predict, frames, capsys, error_line):
    assert predict(frames / "*.png", output=frames) == 0
    assert predict(frames / "*.png", output=frames, overwrite=True) == 0
    printed = capsys.readouterr().out
    assert "left out: 4 files that earlier runs wrote" in printed
    assert printed.count("2 of 2 inputs predicted") == 2
    assert predict(frames, output=frames.parent / "out") == 0
    assert "3 of 3 inputs predicted" in capsys.readouterr().out
    assert predict(frames / "a_overlay.png", output=frames.parent / "other") == 2
    assert "a_overlay.png is a result of an earlier run" in error_line("predict")


def test_a_name_that_the_terminal_cannot_show_is_escaped(predict, frames, tmp_path, monkeypatch):
    picture = (frames / "a.png").rename(frames / "Über.png")
    shown = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", shown)
    assert predict(picture, output=tmp_path / "out") == 0
    shown.flush()
    assert rb"\xdcber.png" in shown.buffer.getvalue()


@pytest.mark.parametrize(
    ("inputs", "changed", "message"),
    [
        ("frames/*.gif", {}, "matches no file"),
        ("", {}, "an input is an empty name"),
        ("frames", {"output": "frames"}, "both input and output"),
        ("frames", {"output": "file"}, "exists and is no folder"),
        ("frames", {"output": "file/a/b"}, "output file/a/b cannot be made: {here}/file is no folder"),
        ("frames", {"output": "link"}, "link exists and is no folder"),
        ("frames", {"output": "x" * 300}, "File name too long"),
        ("frames", {"model": "nowhere"}, "nowhere"),
        ("frames", {"model": "other"}, "its type is segformer, expected liver_landmark"),
        ("frames", {"device": "nonsense"}, "nonsense"),
        ("frames", {"curves": "svg,coco"}, "'coco' is unknown"),
        ("frames", {"scales": "1,x"}, "no numbers with commas"),
        ("frames", {"scales": "0"}, "not above 0"),
        ("frames", {"smoothing": "nan"}, "not above 0"),
        ("frames", {"num_parts": 2}, "needs --part-id"),
        ("frames", {"part_id": 1}, "part 1 of 1"),
        # No option lets a result take the place of an input.
        ("frames/a.png frames/a_mask.png", {"output": "frames"}, "a_mask.png is an input and would"),
        ("frames/a.png frames/a_mask.png", {"output": "frames", "resume": True}, "is an input and would"),
        (
            "frames/a.png frames/a_variance.png",
            {"output": "frames", "flip": True, "save_probabilities": True, "overwrite": True},
            "a_variance.png is an input and would be overwritten",
        ),
        (
            "frames/a.mp4 frames/a_labelme/1.png",
            {"output": "frames", "overwrite": True},
            "a_labelme holds an input and would be overwritten",
        ),
    ],
)
def test_usage_errors_are_one_line_and_write_nothing(
    predict, frames, tmp_path, monkeypatch, error_line, inputs, changed, message
):
    monkeypatch.chdir(tmp_path)
    (frames / "a_labelme").mkdir()
    for path in ("../file", "a_mask.png", "a_variance.png", "a.mp4", "a_labelme/1.png"):
        (frames / path).touch()
    Path("link").symlink_to("gone")
    Path("other").mkdir()
    Path("other", "config.json").write_text('{"model_type": "segformer"}')
    before = {path: path.lstat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert predict(*(inputs.split() or [""]), **({"output": "out"} | changed)) == 2
    assert message.format(here=tmp_path) in error_line("predict")
    assert {path: path.lstat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_an_interruption_is_one_line_and_what_is_there_is_whole(
    predict, frames, tmp_path, capsys, monkeypatch
):
    def interrupted(path, mask, write=result_files.write_mask):
        if path.name.startswith("b_"):
            raise KeyboardInterrupt
        write(path, mask)

    output = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(result_files, "write_mask", interrupted)
        assert predict(frames, output=output) == 130
    last = capsys.readouterr().err.splitlines()[-1]
    assert last == "liver-landmark predict: interrupted: --resume goes on from here"
    there = set(files_of(output))
    assert {".unfinished", "a_mask.png", "a_overlay.png"} <= there
    assert not there & {"b_mask.png", "predictions.jsonl", "run.json"}
    assert predict(frames, output=output) == 2
    assert "an interrupted run lies here: --resume goes on with it" in capsys.readouterr().err
    assert predict(frames, output=output, resume=True) == 0
    names = [Path(row["file"]).name for row in read_lines(output / "predictions.jsonl")]
    assert names == ["a.png", "b.jpg", "c.png"]
    assert ".unfinished" not in files_of(output)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("c++") is None, reason="there is no C++ compiler")
def test_compiled_masks_are_the_same(predict, frames, tmp_path):
    """Three frames, two at a time: the last batch is filled up."""
    masks = []
    for name, compiling in (("eager", {}), ("compiled", {"compile": True})):
        output = tmp_path / name
        assert predict(frames, output=output, batch_size=2, **compiling) == 0
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


def test_the_real_frame_comes_back_at_its_size(predict, p2ilf_sample, tmp_path):
    assert predict(p2ilf_sample / "images" / "patient1_12.jpg", output=tmp_path / "out") == 0
    for kind in ("mask", "overlay"):
        assert Image.open(tmp_path / "out" / f"patient1_12_{kind}.png").size == (1920, 1080)
