"""benchmarks/build.py: what it writes is an L3D set, and what it prints was measured."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

import build


@pytest.mark.slow
def test_a_small_set_is_built_and_measured(repository, tmp_path):
    output = tmp_path / "work"
    options = ["--frames=61", "--width=64", "--height=36", "--depth", "--workers=1", f"--output={output}"]
    # A process of its own, as it is called: its children's memory is measured against it.
    command = [sys.executable, str(repository / "benchmarks" / "build.py"), *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    built, _, printed = done.stdout.partition("\n")
    assert "1 train, 30 validation, 30 test; 0 frames left out" in built
    result = json.loads(printed)
    assert result["frames"] == 61
    assert 0 < result["decoding_alone_s"] < result["build_s"]
    # Every process that imports torch needs as much; a parent's memory is not counted for its child's.
    assert 100 < result["peak_mib"] < 1024
    report = json.loads((output / "built" / "report.json").read_text())
    assert report["problems"] == []


def test_a_folder_that_is_there_is_not_touched(tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        build.main(["--output", str(tmp_path)])
    assert stopped.value.code == 2
    assert "give a new folder" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
