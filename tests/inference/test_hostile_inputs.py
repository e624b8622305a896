"""Runs over hostile files: the good ones are right, the others are named, and nothing stops."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hostile.picture_bytes import overwritten
from hostile_inputs import HostileInput, Outcome, write_hostile_inputs
from liver_landmark.cli import main
from liver_landmark.inference import LandmarkPredictor
from peak_memory import PEAK_MIB, needs_proc
from tiny_datasets import save_model
from tiny_videos import moving_frames, write_video


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return save_model(tmp_path_factory.mktemp("model"))


def results_of(output: Path) -> tuple[dict[str, list[dict]], dict[str, dict]]:
    """The lines of predictions.jsonl, and what run.json says failed, by file."""
    rows: dict[str, list[dict]] = {}
    for line in (output / "predictions.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        rows.setdefault(row["file"], []).append(row)
    failed = json.loads((output / "run.json").read_text(encoding="utf-8"))["failed"]
    assert len({entry["file"] for entry in failed}) == len(failed)
    return rows, {entry["file"]: entry for entry in failed}


def complaint(
    entry: HostileInput, output: Path, rows: list[dict], failure: dict | None, predictor: LandmarkPredictor
) -> str | None:
    """What is wrong with a run's answer to one file; None if nothing is."""
    if len(rows) > len(entry.frames):
        return f"{len(rows)} frames predicted, {len(entry.frames)} are right"
    for number, (row, frame) in enumerate(zip(rows, entry.frames, strict=False)):
        if entry.is_video != ("frame" in row) or row.get("frame", 0) != number:
            return f"frame {number} is called {row.get('frame')}"
        with Image.open(output / row["mask"]) as image:
            mask = np.asarray(image)
        if not np.array_equal(mask, predictor.predict(frame)[0].mask):
            return f"frame {number} of {len(entry.frames)} has another mask"
    if failure is not None:
        if "\n" in failure["reason"] or len(failure["reason"]) < 5:
            return f"reason {failure['reason']!r}"
        if failure["frames"] != len(rows):
            return f"{failure['frames']} frames are said to be kept, {len(rows)} are"
    match entry.outcome:
        case Outcome.GOOD:
            wrong = failure is not None or len(rows) < len(entry.frames)
        case Outcome.BAD:
            wrong = failure is None or rows
        case Outcome.BROKEN:
            wrong = failure is None or len(rows) < entry.at_least
        case Outcome.DAMAGED:
            wrong = failure is None and len(rows) < len(entry.frames)
    said = failure["reason"] if failure else "no failure"
    return f"not: {entry.outcome.value}: {len(rows)} of {len(entry.frames)} frames, {said}" if wrong else None


def complaints(entries: list[HostileInput], output: Path, model: Path) -> list[str]:
    predictor = LandmarkPredictor.from_pretrained(model, device="cpu")
    rows, failed = results_of(output)
    files = {str(entry.path) for entry in entries}
    found = [f"{file!r}: in the results, and no input" for file in (rows.keys() | failed.keys()) - files]
    for entry in entries:
        file = str(entry.path)
        wrong = complaint(entry, output, rows.get(file, []), failed.get(file), predictor)
        if wrong is not None:
            found.append(f"{entry.path.parent.name}/{entry.path.name!r} ({entry.family}): {wrong}")
    return found


def test_a_folder_of_hostile_files(tmp_path, model, capfd):
    entries = write_hostile_inputs(tmp_path / "in", few=True)
    assert len(entries) > 100
    output = tmp_path / "out"
    command = ["predict", str(tmp_path / "in"), "--recursive", "--model", str(model), "--output", str(output)]
    assert main([*command, "--device", "cpu", "--no-overlay"]) == 1
    assert complaints(entries, output, model) == []
    _, failed = results_of(output)
    errors = [line for line in capfd.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(errors) == len(failed)


READ_ALL = """
import sys
from contextlib import suppress
from pathlib import Path
from liver_landmark.inference import VideoError, open_video
for path in sorted(Path(sys.argv[1]).glob("*.avi")):
    with suppress(VideoError), open_video(path) as video:
        for frame in video:
            pass
"""


def test_damage_does_not_stop_the_decoder_for_ever(tmp_path):
    """Decoding frames side by side waited for references that never came."""
    data = write_video(tmp_path / "whole.avi", moving_frames(30, seed=203)).read_bytes()
    rng = np.random.default_rng(0)
    for number in range(40):
        (tmp_path / f"{number}.avi").write_bytes(overwritten(rng, data, 8, start=0.2))

    # In a process of its own: a decoder that waits may hold the interpreter's lock.
    result = subprocess.run([sys.executable, "-c", READ_ALL, str(tmp_path)], timeout=60, capture_output=True)
    assert result.returncode == 0, result.stderr.decode()


PREDICT = f"""{PEAK_MIB}
import sys
from liver_landmark.cli import main
code = main(sys.argv[1:])
print(peak_mib())
sys.exit(code)
"""


@needs_proc
@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_many_hostile_files_in_bounded_memory(tmp_path, model, seed):
    entries = write_hostile_inputs(tmp_path / "in", seed)
    assert len(entries) >= 500
    output = tmp_path / "out"
    command = [sys.executable, "-c", PREDICT, "predict", "in", "--recursive"]
    command += ["--model", str(model), "--output", str(output), "--device", "cpu"]
    entries = [
        HostileInput(entry.path.relative_to(tmp_path), *list(vars(entry).values())[1:]) for entry in entries
    ]
    result = subprocess.run(
        command, cwd=tmp_path, capture_output=True, timeout=900, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    assert result.returncode == 1, result.stderr.decode(errors="replace")[-2000:]
    assert b"Traceback" not in result.stderr
    assert complaints(entries, output, model) == []
    totals = json.loads((output / "run.json").read_text(encoding="utf-8"))["totals"]
    assert totals["inputs"] == len(entries)
    # Of which the imports of torch and transformers take some 500 MiB; a single 30,000 x 30,000 frame
    # would take 2.5 GiB.
    peak_mib = float(result.stdout.split()[-1])
    assert 400 < peak_mib < 1536, peak_mib
