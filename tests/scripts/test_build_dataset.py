"""scripts/build_dataset.py from outside."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import datasets
import pytest

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
