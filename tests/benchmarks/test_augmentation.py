"""scripts/benchmark_augmentation.py on a small frame: what it times, and how it reports."""

from __future__ import annotations

import importlib
import json
import sys

import pytest
import torch


@pytest.fixture
def script(repository, monkeypatch):
    threads = torch.get_num_threads()
    monkeypatch.syspath_prepend(str(repository / "scripts"))
    yield importlib.import_module("benchmark_augmentation")
    torch.set_num_threads(threads)


def test_figures_and_table_tell_the_same(script, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(script, "SIZES", ((96, 54),))
    output = tmp_path / "figures.json"
    monkeypatch.setattr(sys, "argv", ["benchmark", "--repeats", "2", "--output", str(output)])
    script.main()
    figures = json.loads(output.read_text(encoding="utf-8"))
    milliseconds = figures["ms"]["96×54"]
    assert all(value >= 0 for value in milliseconds.values())
    assert milliseconds[script.EVERYTHING] > milliseconds["blur"]
    head, _, *lines = capsys.readouterr().out.splitlines()
    assert "96×54" in head
    for (name, value), line in zip(milliseconds.items(), lines, strict=True):
        decodings = value / milliseconds[script.DECODE]
        assert line == f"| {name} | {value:.1f} | {decodings:.2f} |"


def test_rounds_are_the_number_asked_for_and_the_first_is_left_out(script):
    called = []
    calls = {"one": lambda: called.append(1), "two": lambda: called.append(2)}
    times_ms = script.measure(calls, repeats=3)
    assert called == [1, 2] * 4
    assert {name: len(times) for name, times in times_ms.items()} == {"one": 3, "two": 3}


def test_what_varies_from_frame_to_frame_is_averaged(script):
    assert script.central_ms("blur", [1.0, 2.0, 9.0]) == 2.0
    assert script.central_ms("finetune.yaml, on average", [1.0, 2.0, 9.0]) == 4.0
