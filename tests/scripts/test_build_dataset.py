"""scripts/build_dataset.py from outside."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import time

import datasets
import pytest

from raw_sets import cvat, l3d, labelme, llsd, p2ilf
from raw_sets.pictures import truncate

SMALL = ["--patients", "3", "--frames", "3", "--size", "64x64", "--workers", "1"]


@pytest.fixture(scope="module")
def command(repository):
    def run(*arguments) -> subprocess.CompletedProcess:
        line = [sys.executable, str(repository / "scripts" / "build_dataset.py"), *map(str, arguments)]
        return subprocess.run(line, capture_output=True, text=True, timeout=300, check=False)

    return run


def test_it_builds_once_and_is_read_by_plain_load_dataset(command, tmp_path):
    output = tmp_path / "b"
    arguments = ("synthetic", "--domain", "b", *SMALL, "--seed", 4, "--output", output)
    first = command(*arguments)
    assert first.returncode == 0, first.stderr
    assert first.stdout == f"{output}: built\n"
    assert first.stderr == "", "no progress bar off a terminal"
    loaded = datasets.load_dataset(str(output), cache_dir=str(tmp_path / "cache"))
    assert {split: len(rows) for split, rows in loaded.items()} == {"train": 1, "validation": 1, "test": 1}
    before = {path: path.stat().st_mtime_ns for path in output.rglob("*")}
    again = command(*arguments)
    assert again.returncode == 0
    assert "nothing to do" in again.stdout
    assert {path: path.stat().st_mtime_ns for path in output.rglob("*")} == before
    other = command("synthetic", "--domain", "a", *SMALL, "--output", output)
    assert other.returncode == 1
    assert (
        other.stderr
        == f"build_dataset.py: error: {output}: holds another dataset; pass --overwrite to replace it\n"
    )


@pytest.fixture(scope="module")
def script(repository):
    path = repository / "scripts" / "build_dataset.py"
    spec = importlib.util.spec_from_file_location("build_dataset_script", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--domain", "a", "--patients", "2"], "at least 3"),
        (["--domain", "a", "--frames", "1"], "at least one frame each"),
        (["--domain", "a", "--size", "9x9"], "size is 9x9"),
        (["--domain", "a", "--size", "456"], "'456' is not a size"),
        (["--domain", "z"], "invalid choice: 'z'"),
        (["--domain", "a", "--seed", "-3"], "seed is -3"),
        (["--domain", "a", "--workers", "0"], "'0' is no number of workers"),
    ],
)
def test_a_wrong_request_is_one_line(script, capsys, tmp_path, arguments, message):
    code = exit_code(script, ["synthetic", *arguments, "--output", str(tmp_path / "out")])
    out, err = capsys.readouterr()
    assert code != 0
    assert out == ""
    assert message in err.strip().splitlines()[-1]
    assert len(err.strip().splitlines()) == 1 or err.startswith("usage:")
    assert list(tmp_path.iterdir()) == []


def exit_code(script, arguments: list[str]) -> int:
    try:
        return script.main(arguments)
    except SystemExit as stop:  # argparse refuses so
        return stop.code


def test_the_output_is_required(script, capsys):
    assert exit_code(script, ["synthetic", "--domain", "a"]) == 2
    assert "--output" in capsys.readouterr().err


def run(script, capsys, *arguments) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of one call in this process."""
    code = exit_code(script, [str(argument) for argument in arguments])
    return code, *capsys.readouterr()


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
def test_raw_sets_are_built(script, capsys, tmp_path, write, name, options, told):
    raw, output = write(tmp_path / "raw"), tmp_path / "set"
    arguments = (name, raw.root, "--output", output, *options)
    summary = f"{told}; 0 frames left out, 0 problems in report.json"
    assert run(script, capsys, *arguments) == (0, f"{output}: built: {summary}\n", "")
    code, out, _ = run(script, capsys, *arguments)
    assert (code, out) == (0, f"{output}: holds this very dataset already, nothing to do: {summary}\n")


def test_bad_frames_are_named_and_left_out_or_stop_a_strict_build(script, capsys, tmp_path):
    raw, output = l3d.write_l3d(tmp_path / "raw"), tmp_path / "set"
    truncate(raw.frames[0].picture)
    raw.frames[7].annotation.unlink()
    arguments = ("l3d", raw.root, "--output", output)
    code, out, err = run(script, capsys, *arguments, "--strict")
    assert (code, out) == (1, "")
    assert len(err.splitlines()) == 1
    assert err.startswith(f"build_dataset.py: error: {raw.relative(raw.frames[7].picture)}: has no label")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["raw"]
    code, out, err = run(script, capsys, *arguments)
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
        (["l3d", "{raw}/nowhere"], "nowhere: no such folder"),
        (["l3d", "{raw}"], "no split folder found"),
        (["p2ilf", "{raw}"], "no folder patient<number> found"),
        (["llsd", "{raw}", "--masks", "colors"], "give --palette"),
        (["llsd", "{raw}", "--palette", "ridge=red"], "palette 'ridge=red'"),
        (["llsd", "{raw}"], "--frames names another"),
        (["custom", "{raw}"], "--format"),
        (["custom", "{raw}", "--format", "coco"], "invalid choice: 'coco'"),
        (["custom", "{raw}", "--format", "labelme"], "no frame with an annotation"),
        (["custom", "{raw}", "--format", "labelme", "--label-map", "falciform"], "LABEL=CLASS"),
        (["custom", "{raw}", "--format", "labelme", "--workers", "-3"], "'-3' is no number of workers"),
        (["custom", "{raw}", "--format", "cvat"], "no annotations.xml"),
        (["custom", "{raw}", "--format", "labelme", "--patient-pattern", "("], "no regular expression"),
        (["custom", "{raw}", "--format", "labelme", "--source", "a b"], "source 'a b'"),
        (["custom", "{raw}", "--format", "labelme", "--protocol", "thick"], "protocol 'thick' is unknown"),
        (["l3d", "{raw}", "--public"], "--public is for --push-to-hub"),
        (["l3d", "{raw}", "--push-to-hub", "a/b/c"], "--push-to-hub 'a/b/c'"),
        (["p2ilf", "{raw}", "--test-only", "--test-patients", "A"], "--test-only"),
    ],
)
def test_wrong_options_of_raw_sets_are_one_line(script, capsys, tmp_path, arguments, message):
    raw = tmp_path / "raw"
    raw.mkdir()
    line = [argument.format(raw=raw) for argument in arguments]
    code, out, err = run(script, capsys, *line, "--output", tmp_path / "set")
    assert code in (1, 2)
    assert out == ""
    assert message in err.splitlines()[-1]
    assert len(err.splitlines()) == 1 or err.startswith("usage:")
    assert list(tmp_path.iterdir()) == [raw]


def test_an_interrupted_build_says_that_it_goes_on(script, capsys, tmp_path, monkeypatch):
    raw, output = l3d.write_l3d(tmp_path / "raw"), tmp_path / "set"

    def interrupt(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("liver_landmark.data.build.read_row", interrupt)
        code, out, err = run(script, capsys, "l3d", raw.root, "--output", output)
    assert (code, out) == (130, "")
    assert "the same command goes on" in err
    assert (tmp_path / ".set.building").is_dir()
    assert run(script, capsys, "l3d", raw.root, "--output", output)[0] == 0
    assert not (tmp_path / ".set.building").exists()


def test_a_set_is_pushed_when_it_is_built(script, capsys, tmp_path, monkeypatch):
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
    code, out, err = run(script, capsys, *arguments)
    assert (code, err) == (0, "")
    assert out.splitlines()[1] == f"{output}: pushed to https://hub.example/user/set"
    code, out, _ = run(script, capsys, *arguments, "--public")
    assert "nothing to do" in out
    assert calls == [("user/set", True), ("user/set", output), ("user/set", False), ("user/set", output)]


@pytest.mark.slow
def test_a_killed_build_goes_on_where_it_was(repository, command, tmp_path):
    raw, output = tmp_path / "raw", tmp_path / "set"
    l3d.write_l3d(raw, frames_per_patient=60, width=640, height=360)
    work = tmp_path / ".set.building"
    line = [sys.executable, str(repository / "scripts" / "build_dataset.py"), "l3d", str(raw), "--output"]
    process = subprocess.Popen([*line, str(output), "--workers", "1"])
    deadline = time.monotonic() + 120
    while not list(work.glob("[a-z]*.json")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait(timeout=60) == -signal.SIGKILL
    kept = {path.stem: path.with_suffix(".parquet").stat().st_ino for path in work.glob("[a-z]*.json")}
    assert 0 < len(kept) < 4
    assert not output.exists()
    for folder in (output, tmp_path / "whole"):
        done = command("l3d", raw, "--output", folder)
        assert done.returncode == 0, done.stderr
    for name, inode in kept.items():
        [placed] = (output / "data").glob(f"{name}-of-*.parquet")
        assert placed.stat().st_ino == inode, "a finished shard was written again"
    assert contents(output) == contents(tmp_path / "whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["raw", "set", "whole"]


def contents(folder) -> dict[str, bytes]:
    """Relative path -> bytes of all files of a folder."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}
