"""benchmarks/augmentation.py on a small frame: what it times, and how it reports."""

from __future__ import annotations

import json

import pytest
import torch

import augmentation


def test_figures_and_table_tell_the_same(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(torch, "set_num_threads", lambda threads: None)
    monkeypatch.setattr(augmentation, "SIZES", ((96, 54),))
    output = tmp_path / "figures.json"
    augmentation.main(["--repeats", "2", "--output", str(output)])
    milliseconds = json.loads(output.read_text(encoding="utf-8"))["ms"]["96×54"]
    assert all(value >= 0 for value in milliseconds.values())
    head, _, *lines = capsys.readouterr().out.splitlines()
    assert "96×54" in head
    for (name, value), line in zip(milliseconds.items(), lines, strict=True):
        decodings = value / milliseconds[augmentation.DECODE]
        assert line == f"| {name} | {value:.1f} | {decodings:.2f} |"


@pytest.mark.parametrize(("name", "expected"), [("blur", 2.0), ("finetune.yaml, on average", 4.0)])
def test_what_varies_from_frame_to_frame_is_averaged(name, expected):
    assert augmentation.central_ms(name, [1.0, 2.0, 9.0]) == expected
