"""Counts of a split against the same counted frame by frame; plots that are pictures."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from liver_landmark.curves import get_protocol, rasterize_landmarks
from liver_landmark.data.loading import RowError, load_landmark_dataset
from liver_landmark.data.statistics import PLOT_FILES, format_statistics, split_statistics, write_statistics
from tiny_datasets import HEIGHT, WIDTH, polylines, save_splits, schema_row

NAMES = ("ridge", "silhouette", "ligament")


def all_rows() -> list[dict]:
    """Frames of two sizes and two patients; one shows nothing, one has two ridges, one ignored pixels."""
    second_ridge = {"category": "ridge", "points": [(1.0, 1.0), (4.0, 5.0), (4.0, 9.0)]}
    mask = rasterize_landmarks(polylines(2), WIDTH, HEIGHT, get_protocol("synthetic"))
    mask[:20] = 255
    return [
        schema_row("f0", [*polylines(0), second_ridge]),
        schema_row("f1", polylines(1, without=("ligament",)), patient_id="patient0"),
        schema_row("f2", polylines(2), label=Image.fromarray(mask)),
        schema_row("f3", []),
        schema_row("f4", [second_ridge], width=40, height=30, image=Image.new("RGB", (40, 30))),
    ]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    test = [schema_row("t0", [], patient_id="t")]
    return save_splits(tmp_path_factory.mktemp("sets") / "whole", train=all_rows(), test=test)


@pytest.fixture(scope="module")
def summary(folder: Path) -> dict:
    return split_statistics(load_landmark_dataset(folder, "train")).summary


def test_frames_and_what_they_show(summary: dict) -> None:
    assert (summary["frames"], summary["patients"]) == (5, 4)
    assert summary["frame_sizes"] == {f"{WIDTH}x{HEIGHT}": 4, "40x30": 1}
    assert (summary["sources"], summary["protocols"]) == ({"test": 5}, {"synthetic": 5})
    assert summary["frames_with"] == {"ridge": 4, "silhouette": 3, "ligament": 2}
    assert summary["combinations"] == {
        "ridge + silhouette + ligament": 2,
        "ridge + silhouette": 1,
        "ridge": 1,
        "none": 1,
    }
    json.dumps(summary, allow_nan=False)


def test_curves_are_measured_as_one_by_one(summary: dict) -> None:
    per_frame, points, lengths, shares = ({name: [] for name in NAMES} for _ in range(4))
    for row in all_rows():
        for name in NAMES:
            curves = [curve["points"] for curve in row["landmarks"] if curve["category"] == name]
            per_frame[name] += [len(curves)] if curves else []
            for curve in curves:
                points[name].append(len(curve))
                # Stored as float32.
                as_stored = [tuple(map(float, np.float32(point))) for point in curve]
                lengths[name].append(sum(itertools.starmap(math.dist, itertools.pairwise(as_stored))))
                shares[name].append(lengths[name][-1] / math.hypot(row["width"], row["height"]))
    for key, values in (
        ("polylines_per_frame", per_frame),
        ("points_per_polyline", points),
        ("stroke_length_px", lengths),
        ("stroke_length_diagonals", shares),
    ):
        for name in NAMES:
            found = summary[key][name]
            assert found["mean"] == pytest.approx(np.mean(values[name])), (key, name)
            assert found["median"] == pytest.approx(np.median(values[name])), (key, name)
            assert (found["min"], found["max"]) == pytest.approx((min(values[name]), max(values[name])))


def test_pixels_are_those_of_the_labels(summary: dict) -> None:
    counts = np.zeros(256)
    for row in all_rows():
        label = row["label"] or rasterize_landmarks(
            row["landmarks"], row["width"], row["height"], get_protocol("synthetic")
        )
        ids, numbers = np.unique(np.asarray(label), return_counts=True)
        counts[ids] += numbers
    shares = dict(zip(("background", *NAMES), counts[:4] / counts[:4].sum(), strict=True))
    assert summary["pixel_share"] == pytest.approx(shares)
    assert summary["ignored_share"] == pytest.approx(counts[255] / counts.sum())


def test_a_split_that_shows_nothing_has_no_lengths(folder: Path) -> None:
    summary = split_statistics(load_landmark_dataset(folder, "test")).summary
    assert summary["stroke_length_px"] == dict.fromkeys(NAMES)
    assert summary["combinations"] == {"none": 1}
    assert summary["pixel_share"]["background"] == 1


def test_a_label_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    rows = [schema_row("f0", []), schema_row("f1", [], label={"bytes": b"no picture", "path": None})]
    folder = save_splits(tmp_path / "set", train=rows)
    with pytest.raises(RowError, match="row 1: its label cannot be read") as error:
        split_statistics(load_landmark_dataset(folder, "train"))
    assert "\n" not in str(error.value)


def test_the_table_holds_every_number_under_its_split(folder: Path) -> None:
    loaded = load_landmark_dataset(folder)
    table = format_statistics({split: split_statistics(loaded[split]) for split in ("train", "test")})
    lines = {line[:40].strip().split("  ")[0]: line.split("  ") for line in table.splitlines()}
    cells = {name: [cell.strip() for cell in line[1:] if cell.strip()] for name, line in lines.items()}
    assert cells["frames"] == ["5", "1"]
    assert cells["frames with ligament"] == ["2 (40.0%)", "0 (0.0%)"]
    assert cells["frames with only ridge"] == ["1 (20.0%)", "0 (0.0%)"]
    assert cells["silhouette: points"] == ["3 (3 to 3)", "-"]
    assert cells["size 40x30"] == ["1", "0"]


def test_results_are_written_alike_twice(folder: Path, tmp_path: Path) -> None:
    loaded = load_landmark_dataset(folder)
    statistics = {split: split_statistics(loaded[split]) for split in ("train", "test")}
    # A formula that matplotlib could not typeset.
    written = [write_statistics(tmp_path / name, statistics, r"a$\wrong$ name") for name in ("one", "two")]
    for first, second in zip(*written, strict=True):
        assert first.read_bytes() == second.read_bytes()
    assert sorted(path.name for path in (tmp_path / "one").iterdir()) == sorted(["stats.json", *PLOT_FILES])
    assert json.loads(written[0][0].read_text())["train"] == statistics["train"].summary
    for path in written[0][1:]:
        pixels = np.asarray(Image.open(path).convert("RGB"))
        assert min(pixels.shape[:2]) > 200
        # Bars or lines of the first split's color.
        assert (pixels == (0x44, 0x77, 0xAA)).all(axis=2).sum() > 100, path.name
