"""The parts of the demo's benchmark that decide what counts as right."""

from __future__ import annotations

import copy
import sys

import numpy as np
import pytest

from liver_landmark.inference import LandmarkPredictor
from tiny_datasets import SeesColours, tiny_processor


@pytest.fixture
def benchmark(repository, monkeypatch):
    monkeypatch.syspath_prepend(str(repository / "scripts"))
    import benchmark_demo

    yield benchmark_demo
    del sys.modules["benchmark_demo"]


def test_each_client_has_a_frame_of_its_own(benchmark):
    frames = [benchmark.make_frame(number, 64, 36) for number in range(3)]
    assert len(set(frames)) == 3
    assert benchmark.make_frame(1, 64, 36) == frames[1]


def test_another_clients_answer_is_wrong(benchmark):
    predictor = LandmarkPredictor(SeesColours().eval(), tiny_processor())
    one, other = (
        benchmark.expected_findings(predictor, benchmark.make_frame(number, 160, 90)) for number in (1, 2)
    )
    assert benchmark.is_right(one, one)
    assert not benchmark.is_right(one, other)
    assert not benchmark.is_right(one[:2], one)
    rounded = copy.deepcopy(one)
    for row in rounded:
        row["presence"] = round(row["presence"], 4)
    assert benchmark.is_right(rounded, one)
    for key, change in (("presence", 0.01), ("confidence", 0.01), ("length_px", 50)):
        changed = copy.deepcopy(one)
        changed[0][key] += change
        assert not benchmark.is_right(changed, one)
    changed = copy.deepcopy(one)
    changed[2]["present"] = not changed[2]["present"]
    assert not benchmark.is_right(changed, one)
    assert np.isfinite([row["length_px"] for row in one]).all()
