"""scripts/benchmark_build.py: what it writes is an L3D set, and what it prints was measured."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest


def run(repository, *arguments) -> subprocess.CompletedProcess:
    line = [sys.executable, str(repository / "scripts" / "benchmark_build.py"), *map(str, arguments)]
    return subprocess.run(line, capture_output=True, text=True, timeout=300, check=False)


@pytest.mark.slow
def test_a_small_set_is_built_and_measured(repository, tmp_path):
    output = tmp_path / "work"
    done = run(
        repository,
        "--frames",
        61,
        "--width",
        64,
        "--height",
        36,
        "--depth",
        "--workers",
        1,
        "--output",
        output,
    )
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


def test_a_folder_that_is_there_is_not_touched(repository, tmp_path):
    done = run(repository, "--output", tmp_path)
    assert done.returncode == 2
    assert "give a new folder" in done.stderr
    assert list(tmp_path.iterdir()) == []
