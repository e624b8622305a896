"""`liver-landmark data …` from outside: what it prints and writes, and how it fails."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from liver_landmark.cli import main
from liver_landmark.curves import get_protocol, rasterize_landmarks
from tiny_datasets import HEIGHT, WIDTH, make_dataset, polylines, schema_row


def write_set(folder: Path, protocol: str = "synthetic") -> Path:
    """Three frames of three patients, labels drawn by `synthetic` whatever the rows say."""
    folder.mkdir(parents=True)
    for split, count in (("train", 2), ("test", 1)):
        rows = []
        for index in range(count):
            label = rasterize_landmarks(polylines(index), WIDTH, HEIGHT, get_protocol("synthetic"))
            row = schema_row(f"{split}-{index}", polylines(index), label=Image.fromarray(label))
            picture = np.asarray(row["image"]).copy()
            picture[0, :2, 0] = len(split), index
            row |= {"image": Image.fromarray(picture), "protocol": protocol, "stroke_width": None}
            rows.append(row | {"patient_id": f"{split} {index}"})
        make_dataset(rows).to_parquet(folder / f"{split}-00000-of-00001.parquet")
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_set(tmp_path_factory.mktemp("sets") / "good")


def run(*arguments: Any) -> int:
    return main(["data", *map(str, arguments)])


def test_show_writes_a_sheet_and_says_where(folder: Path, tmp_path: Path, capsys, error_line) -> None:
    sheet = tmp_path / "deep" / "sheet.png"
    assert run("show", folder, "--output", sheet) == 0
    assert capsys.readouterr().out == f"3 frames in {sheet}\n"
    assert Image.open(sheet).width == 3 * 400
    assert run("show", folder, "--output", sheet) == 2
    assert "is there already: pass --overwrite" in error_line("data show")
    assert run("show", folder, "--output", sheet, "--overwrite", "--patient", "train 1") == 0
    assert capsys.readouterr().out == f"1 frames in {sheet}\n"
    assert Image.open(sheet).width == 400
    assert [path.name for path in sheet.parent.iterdir()] == ["sheet.png"]


def test_show_draws_labels_by_the_protocol_that_is_asked_for(folder: Path, tmp_path: Path) -> None:
    sheets = []
    for protocol in ("synthetic", "toponet"):
        path = tmp_path / f"{protocol}.png"
        assert run("show", folder, "--split", "test", "--protocol", protocol, "--output", path) == 0
        sheets.append(np.asarray(Image.open(path)).astype(int))
    height = 400 * HEIGHT // WIDTH
    assert (sheets[0][:height] == sheets[1][:height]).all()
    # Strokes of 35 px instead of 1.5 cover most of so small a frame.
    assert (np.abs(sheets[0] - sheets[1])[height : 2 * height].sum(axis=2) > 30).mean() > 0.5


@pytest.mark.parametrize(
    ("command", "options", "message"),
    [
        ("show", "--protocol wide", "protocol 'wide' is unknown: choose one of d2gpland"),
        ("show", "--protocol as_drawn", "not stored as their source drew them"),
        ("show", "--patient P9", "patient 'P9' is not there (there are: test 0, train 0, train 1)"),
        ("show", "--split validation", "no split 'validation'"),
        ("show", "--output sheet.jpg", "sheets are PNG files, call it sheet.png"),
        ("check", "nowhere", "nowhere: no such folder"),
        ("export", "--format coco --output coco", "format 'coco' is unknown: choose one of labelme"),
    ],
)
def test_a_wrong_request_is_one_line(
    folder: Path, tmp_path: Path, error_line, monkeypatch, command: str, options: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(command, folder, *options.split()) == 2
    assert message in error_line(f"data {command}")
    assert not list(tmp_path.iterdir())


def test_check_counts_its_problems(folder: Path, tmp_path: Path, capsys) -> None:
    assert run("check", folder, folder) == 0
    assert capsys.readouterr().out == f"{folder}: no problems; frames: 2 train, 1 test; patients: 3\n" * 2
    bad = write_set(tmp_path / "bad", protocol="toponet")
    assert run("check", bad, folder) == 1
    *lines, summary, good = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert all("its label is not what toponet draws" in line for line in lines)
    assert lines[0].startswith(f"{bad}/")
    assert summary.startswith(f"{bad}: 3 problems; ")
    assert good.startswith(f"{folder}: no problems; ")


def test_stats_prints_a_table_and_writes_plots(folder: Path, tmp_path: Path, capsys, error_line) -> None:
    output = tmp_path / "stats"
    assert run("stats", folder, "--output", output) == 0
    printed = capsys.readouterr().out
    assert "frames with ligament" in printed
    assert str(output / "stats.json") in printed
    assert len(list(output.iterdir())) == 4
    assert run("stats", folder, "--output", output) == 2
    assert "is there already: pass --overwrite" in error_line("data stats")
    assert run("stats", folder, "--output", output, "--overwrite", "--json") == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads((output / "stats.json").read_text())
    assert printed["train"]["frames"] == 2


def test_export_writes_what_labelme_reads(folder: Path, tmp_path: Path, capsys, error_line) -> None:
    output = tmp_path / "labelme"
    assert run("export", folder, "--split", "test", "--format", "labelme", "--output", output) == 0
    assert capsys.readouterr().out == f"1 frames in {output}\n"
    [annotation] = output.rglob("*.json")
    shapes = json.loads(annotation.read_text())["shapes"]
    assert [shape["label"] for shape in shapes] == ["ridge", "silhouette", "ligament"]
    assert run("export", folder, "--format", "labelme", "--output", output) == 2
    assert "labelme" in error_line("data export")
    assert [path.name for path in tmp_path.iterdir()] == ["labelme"]


@pytest.mark.parametrize("command", ["show", "check", "stats", "export"])
def test_without_the_extra_it_says_what_to_install(
    folder: Path, tmp_path: Path, error_line, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    options = ["--format", "svg", "--output", tmp_path / "svg"] if command == "export" else []
    # What an import of a module finds that is not there.
    monkeypatch.setitem(sys.modules, "datasets", None)
    assert run(command, folder, *options) == 2
    assert 'datasets is not installed: pip install "liver-landmark[train]"' in error_line(f"data {command}")
