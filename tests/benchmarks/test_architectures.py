"""The benchmark of architectures: its measures against other libraries, its rows, its resuming."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import stats

import architectures
from architectures import (
    GROUPS,
    ROWS,
    DepthProcessor,
    WithDepthChannel,
    curve_f1,
    depth_channel,
    interval,
    report,
)
from liver_landmark.curves import get_protocol, rasterize_landmarks
from tiny_datasets import (
    HEIGHT,
    WIDTH,
    SeesColors,
    make_dataset,
    polylines,
    save_splits,
    schema_row,
    tiny_processor,
)
from tiny_models import tiny_model

LITE = {"vision_config": {"model_type": "efficientnet_lite"}, "use_depth": False, "decoder_type": "unet"}


def rows(count: int = 3, **fields: object):
    entries = []
    for index in range(count):
        lines = polylines(index)
        mask = rasterize_landmarks(lines, WIDTH, HEIGHT, get_protocol("synthetic"))
        entries.append(schema_row(str(index), lines, label=Image.fromarray(mask), **fields))
    return make_dataset(entries)


def test_who_sees_the_truth_has_an_f1_of_one_and_who_is_off_none_within_the_tolerance() -> None:
    processor = tiny_processor(512)
    right = curve_f1(SeesColors(), processor, rows())
    assert right["20"] > 0.97
    assert right["5"] <= right["10"] <= right["20"]
    # The frame is enlarged twenty times: 2 px of its own are 40.
    moved = make_dataset(
        [
            row
            | {
                "landmarks": [
                    line | {"points": [(x, y + 2) for x, y in line["points"]]} for line in row["landmarks"]
                ]
            }
            for row in rows()
        ]
    )
    assert curve_f1(SeesColors(), processor, moved)["20"] < 0.1


def test_points_lie_a_px_apart() -> None:
    points = architectures._dense([np.array([[0, 0], [30, 40]]), np.array([[5, 5], [5, 5.2]])])
    gaps = np.hypot(*np.diff(points[:-2], axis=0).T)
    np.testing.assert_allclose(gaps, gaps[0])
    assert 0.98 < gaps[0] <= 1
    assert architectures._dense([]).shape == (0, 2)


def test_depth_as_a_channel_has_neither_scale_nor_shift() -> None:
    inverse = 0.5 + torch.rand(2, 16, 16, generator=torch.Generator().manual_seed(0))
    inverse[:, :2] = 0
    for kind in ("true", "like_network"):
        a, b = (
            depth_channel(factor * inverse, kind, torch.Generator().manual_seed(1)) for factor in (1.0, 300.0)
        )
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)
    known = depth_channel(inverse, "true", torch.Generator())[:, 0, 2:]
    torch.testing.assert_close(known.mean(dim=(1, 2)), torch.zeros(2), atol=1e-5, rtol=0)
    torch.testing.assert_close(known.std(dim=(1, 2), correction=0), torch.ones(2))


def test_the_processor_of_the_oracle_gives_each_frame_its_own_depth() -> None:
    data = make_dataset(
        [
            row | {"depth": Image.fromarray(np.full((HEIGHT, WIDTH), 100 + 50 * index, np.uint16))}
            for index, row in enumerate(rows())
        ]
    )
    processor = DepthProcessor(tiny_processor(64), data, "true")
    seen = [processor(images=[row["image"]], return_tensors="pt")["pixel_values"] for row in data]
    assert [tuple(pixels.shape) for pixels in seen] == [(1, 4, 64, 64)] * 3
    with pytest.raises(StopIteration):
        processor(images=[data[0]["image"]], return_tensors="pt")


def test_a_channel_of_depth_changes_nothing_until_it_has_learned() -> None:
    model = tiny_model(**LITE, decoder_channels=[8, 8, 8, 8])
    frame = torch.randn(1, 4, 64, 64)
    expected = model(frame[:, :3]).logits
    wrapped = WithDepthChannel(model).eval()
    torch.testing.assert_close(wrapped(frame).logits, expected, rtol=0, atol=0)
    torch.nn.init.ones_(wrapped.stem.weight)
    assert not torch.allclose(wrapped(frame).logits, expected)


@pytest.mark.parametrize("values", [[0.5], [0.5, 0.6], [0.81, 0.82, 0.84], [0.1, 0.2, 0.3, 0.5]])
def test_intervals_are_students(values: list[float]) -> None:
    mean = f"{np.mean(values):.3f}".removeprefix("0")
    if len(values) < 3:
        assert interval(values) == mean
        return
    low, _ = stats.t.interval(0.95, len(values) - 1, np.mean(values), stats.sem(values))
    assert interval(values) == f"{mean} ± {np.mean(values) - low:.3f}".replace(" 0.", " .")


def test_every_row_belongs_to_a_table() -> None:
    assert {row.group for row in ROWS.values()} == set(GROUPS)
    hours = sum(row.seconds * len(row.seeds) for row in ROWS.values()) / 3600
    assert hours < 7.5  # with scoring, eight


def test_rows_run_once_and_are_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = save_splits(tmp_path / "set", train=rows(4), test=rows(2))
    processor = tiny_processor(64)
    monkeypatch.setattr(architectures, "new_processor", lambda: processor)
    built = []

    def build(runs: Path) -> torch.nn.Module:
        built.append(runs)
        return tiny_model(**LITE, decoder_channels=[8, 8, 8, 8])

    row = replace(ROWS["compact"], build=build, seconds=1, seeds=(0, 1))
    monkeypatch.setattr(architectures, "ROWS", {"compact": row})
    output = tmp_path / "out"
    arguments = ["train", "--data-a", str(data), "--data-b", str(data), "--output", str(output)]
    threads = torch.get_num_threads()
    try:
        assert architectures.main([*arguments, "--groups", "networks"]) == 0
        assert architectures.main([*arguments, "--rows", "compact"]) == 0
    finally:
        torch.set_num_threads(threads)
    assert len(built) == 2
    found = json.loads((output / "runs" / "compact-1.json").read_text())
    assert found["steps"] >= 1
    assert found["seconds"] == 1 <= found["cpu_seconds"]
    assert math.isfinite(found["a"]["dsc"])
    text = (output / "report.md").read_text()
    assert text == report(output)
    assert "| **compact** (EfficientNet-Lite0, ImageNet) | 1 |" in text
    assert text.count("2 runs,") == 1
