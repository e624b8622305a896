"""metrics.jsonl."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from liver_landmark.training.run_folder import MetricsLog, plain_numbers


def test_records_are_lines_of_json(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path / "metrics.jsonl")
    log.append({"step": 1, "loss": 0.1})
    log.append({"step": 2, "validation": {"dsc": float("nan"), "per_class": {"ridge": np.float64(0.5)}}})
    records = [json.loads(line) for line in log.path.read_text().splitlines()]
    assert records[0] == {"step": 1, "loss": 0.1}
    assert records[1] == {"step": 2, "validation": {"dsc": None, "per_class": {"ridge": 0.5}}}


def test_going_back_drops_later_steps_and_a_cut_line(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path / "metrics.jsonl")
    for step in (1, 2, 2, 3):
        log.append({"step": step})
    with log.path.open("a") as file:
        file.write('{"step": 2, "lo')
    log.keep_up_to(2)
    assert log.path.read_text() == '{"step": 1}\n{"step": 2}\n{"step": 2}\n'


def test_no_file_is_no_error(tmp_path: Path) -> None:
    MetricsLog(tmp_path / "none").keep_up_to(3)
    MetricsLog(tmp_path / "none").flush_to_disk()
    assert not (tmp_path / "none").exists()


@given(st.recursive(st.floats() | st.integers() | st.text() | st.none() | st.booleans(), st.lists))
def test_plain_numbers_are_json(value: object) -> None:
    json.loads(json.dumps(plain_numbers(value), allow_nan=False))
