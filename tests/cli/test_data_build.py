"""`liver-landmark data build` from outside."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import Any

import datasets
import pytest

from liver_landmark.cli import main
from raw_sets import cvat, l3d, labelme, llsd, p2ilf
from raw_sets.pictures import truncate

SMALL = ["--patients", "3", "--frames", "3", "--size", "64x64", "--workers", "1"]


def run(capsys: pytest.CaptureFixture[str], *arguments: Any) -> tuple[int, str, str]:
    """Exit code, stdout, and stderr without what is announced, of one build in this process."""
    code = main(["data", "build", *map(str, arguments)])
    out, err = capsys.readouterr()
    return code, out, "".join(line for line in err.splitlines(True) if not line.endswith(" …\n"))


def test_it_builds_once_and_is_read_by_plain_load_dataset(capsys, tmp_path):
    output = tmp_path / "b"
    arguments = ("synthetic", "--domain", "b", *SMALL, "--seed", 4, "--output", output)
    assert run(capsys, *arguments) == (0, f"{output}: built\n", "")  # no progress bar off a terminal
    loaded = datasets.load_dataset(str(output), cache_dir=str(tmp_path / "cache"))
    assert {split: len(rows) for split, rows in loaded.items()} == {"train": 1, "validation": 1, "test": 1}
    before = {path: path.stat().st_mtime_ns for path in output.rglob("*")}
    code, out, _ = run(capsys, *arguments)
    assert code == 0
    assert "nothing to do" in out
    assert {path: path.stat().st_mtime_ns for path in output.rglob("*")} == before
    assert run(capsys, "synthetic", "--domain", "a", *SMALL, "--output", output) == (
        2,
        "",
        f"liver-landmark data build synthetic: error: {output}: holds another dataset; "
        "pass --overwrite to replace it\n",
    )


NAMED = ("--validation-patients", "ben", "--test-patients", "carl,dora")


@pytest.mark.parametrize(
    ("write", "name", "options", "told"),
    [
        (l3d.write_l3d, "l3d", (), "6 train, 2 validation, 4 test"),
        (p2ilf.write_p2ilf, "p2ilf", ("--test-only",), "8 test"),
        (llsd.write_llsd, "llsd", ("--protocol", "slippa"), "2 train, 1 validation, 1 test"),
        (labelme.write_labelme, "custom", ("--format", "labelme", *NAMED), "2 train, 2 validation, 4 test"),
        (cvat.write_cvat, "custom", ("--format", "cvat", *NAMED), "2 train, 2 validation, 4 test"),
    ],
)
def test_raw_sets_are_built(capsys, tmp_path, write, name, options, told):
    raw, output = write(tmp_path / "raw"), tmp_path / "set"
    arguments = (name, raw.root, "--output", output, *options)
    summary = f"{told}; 0 frames left out, 0 problems in report.json"
    assert run(capsys, *arguments) == (0, f"{output}: built: {summary}\n", "")
    code, out, _ = run(capsys, *arguments)
    assert (code, out) == (0, f"{output}: holds this very dataset already, nothing to do: {summary}\n")


def test_bad_frames_are_named_and_left_out_or_stop_a_strict_build(capsys, tmp_path):
    raw, output = l3d.write_l3d(tmp_path / "raw"), tmp_path / "set"
    truncate(raw.frames[0].picture)
    raw.frames[7].annotation.unlink()
    arguments = ("l3d", raw.root, "--output", output)
    code, out, err = run(capsys, *arguments, "--strict")
    assert (code, out) == (1, "")
    assert len(err.splitlines()) == 1
    assert err.startswith(
        f"liver-landmark data build l3d: error: {raw.relative(raw.frames[7].picture)}: has no label"
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["raw"]
    code, out, err = run(capsys, *arguments)
    assert code == 0
    assert out == (
        f"{output}: built: 5 train, 1 validation, 4 test; 2 frames left out, 2 problems in report.json\n"
    )
    lines = err.splitlines()
    assert [line.split(":")[1].strip() for line in lines] == [
        raw.relative(raw.frames[7].picture),
        raw.relative(raw.frames[0].picture),
    ]
    assert all(line.startswith("left out: ") for line in lines)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["synthetic", "--domain", "a", "--patients", "2"], "at least 3"),
        (["synthetic", "--domain", "a", "--frames", "1"], "at least one frame each"),
        (["synthetic", "--domain", "a", "--size", "9x9"], "size is 9x9"),
        (["synthetic", "--domain", "a", "--size", "456"], "'456' is not a size"),
        (["synthetic", "--domain", "z"], "'z' is not one of 'a', 'b'"),
        (["synthetic", "--domain", "a", "--seed", "-3"], "seed is -3"),
        (["synthetic", "--domain", "a", "--workers", "0"], "'--workers'"),
        (["l3d", "{raw}/nowhere"], "nowhere: no such folder"),
        (["l3d", "{raw}"], "no split folder found"),
        (["p2ilf", "{raw}"], "no folder patient<number> found"),
        (["llsd", "{raw}", "--masks", "colours"], "give --palette"),
        (["llsd", "{raw}", "--palette", "ridge=red"], "palette 'ridge=red'"),
        (["llsd", "{raw}"], "--frames names another"),
        (["custom", "{raw}"], "--format"),
        (["custom", "{raw}", "--format", "coco"], "'coco' is not one of 'labelme', 'cvat'"),
        (["custom", "{raw}", "--format", "labelme"], "no frame with an annotation"),
        (["custom", "{raw}", "--format", "labelme", "--label-map", "falciform"], "LABEL=CLASS"),
        (["custom", "{raw}", "--format", "labelme", "--workers", "-3"], "'--workers'"),
        (["custom", "{raw}", "--format", "cvat"], "no annotations.xml"),
        (["custom", "{raw}", "--format", "labelme", "--patient-pattern", "("], "no regular expression"),
        (["custom", "{raw}", "--format", "labelme", "--source", "a b"], "source 'a b'"),
        (["custom", "{raw}", "--format", "labelme", "--protocol", "thick"], "protocol 'thick' is unknown"),
        (["l3d", "{raw}", "--public"], "--public is for --push-to-hub"),
        (["l3d", "{raw}", "--push-to-hub", "a/b/c"], "--push-to-hub 'a/b/c'"),
        (["p2ilf", "{raw}", "--test-only", "--test-patients", "A"], "--test-only"),
    ],
)
def test_a_wrong_request_is_one_line(capsys, tmp_path, arguments, message):
    raw = tmp_path / "raw"
    raw.mkdir()
    line = [argument.format(raw=raw) for argument in arguments]
    code, out, err = run(capsys, *line, "--output", tmp_path / "set")
    assert (code, out) == (2, "")
    (line,) = err.splitlines()
    assert line.startswith(f"liver-landmark data build {arguments[0]}: error: ")
    assert message in line
    assert list(tmp_path.iterdir()) == [raw]


def test_an_interrupted_build_says_that_it_goes_on(capsys, tmp_path, monkeypatch):
    raw, output = l3d.write_l3d(tmp_path / "raw"), tmp_path / "set"

    def interrupt(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("liver_landmark.data.build.read_row", interrupt)
        code, out, err = run(capsys, "l3d", raw.root, "--output", output)
    assert (code, out) == (130, "")
    assert "the same command goes on" in err
    assert (tmp_path / ".set.building").is_dir()
    assert run(capsys, "l3d", raw.root, "--output", output)[0] == 0
    assert not (tmp_path / ".set.building").exists()


def test_a_set_is_pushed_when_it_is_built(capsys, tmp_path, monkeypatch):
    raw, output = l3d.write_l3d(tmp_path / "raw"), tmp_path / "set"
    calls = []

    class HubStandIn:
        def create_repo(self, repo_id, **options):
            calls.append((repo_id, options["private"]))
            return f"https://hub.example/{repo_id}"

        def upload_folder(self, **options):
            calls.append((options["repo_id"], options["folder_path"]))

    monkeypatch.setattr("liver_landmark.data.build.HfApi", HubStandIn)
    arguments = ("l3d", raw.root, "--output", output, "--push-to-hub", "user/set")
    code, out, err = run(capsys, *arguments)
    assert (code, err) == (0, "")
    assert out.splitlines()[1] == f"{output}: pushed to https://hub.example/user/set"
    code, out, _ = run(capsys, *arguments, "--public")
    assert "nothing to do" in out
    assert calls == [("user/set", True), ("user/set", output), ("user/set", False), ("user/set", output)]


@pytest.mark.slow
def test_a_killed_build_goes_on_where_it_was(capsys, tmp_path):
    raw, output = tmp_path / "raw", tmp_path / "set"
    l3d.write_l3d(raw, frames_per_patient=60, width=640, height=360)
    work = tmp_path / ".set.building"
    line = [sys.executable, "-m", "liver_landmark", "data", "build", "l3d", str(raw), "--output", str(output)]
    process = subprocess.Popen([*line, "--workers", "1"])
    deadline = time.monotonic() + 120
    while not list(work.glob("[a-z]*.json")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait(timeout=60) == -signal.SIGKILL
    kept = {path.stem: path.with_suffix(".parquet").stat().st_ino for path in work.glob("[a-z]*.json")}
    assert 0 < len(kept) < 4
    assert not output.exists()
    for folder in (output, tmp_path / "whole"):
        assert run(capsys, "l3d", raw, "--output", folder)[0] == 0
    for name, inode in kept.items():
        [placed] = (output / "data").glob(f"{name}-of-*.parquet")
        assert placed.stat().st_ino == inode, "a finished shard was written again"
    assert contents(output) == contents(tmp_path / "whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["raw", "set", "whole"]


def contents(folder) -> dict[str, bytes]:
    """Relative path -> bytes of all files of a folder."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}
