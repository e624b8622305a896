"""The order of frames, and rows of a dataset to batches."""

from __future__ import annotations

from itertools import chain, islice
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from liver_landmark.curves import get_protocol, rasterize_landmarks
from liver_landmark.curves.rasterize import AS_DRAWN
from liver_landmark.data.augmentation import Augmentation, AugmentationConfig
from liver_landmark.data.loading import DrawLabels, RowError, load_landmark_dataset
from liver_landmark.model.landmarks_liver_landmark import LandmarkTable
from liver_landmark.training.training_frames import (
    FrameOrder,
    TrainingFrames,
    balancing_weights,
    build_loader,
)
from tiny_datasets import HEIGHT, WIDTH, make_dataset, polylines, schema_row, tiny_processor

VARIED = AugmentationConfig(horizontal_flip=0.5, rotation=0.7, rotation_degrees=30, brightness=0.3)


@given(frames=st.integers(1, 30), batch=st.integers(1, 9), seed=st.integers(0, 99))
def test_every_epoch_is_a_permutation(frames: int, batch: int, seed: int) -> None:
    batches = list(islice(FrameOrder(frames, batch, seed), 3 * frames))
    assert all(len(entries) == batch for entries in batches)
    flat = [entry for entries in batches for entry in entries][: 3 * frames]
    for epoch in range(3):
        part = flat[epoch * frames : (epoch + 1) * frames]
        assert {number for number, _ in part} == {epoch}
        assert sorted(index for _, index in part) == list(range(frames))


@given(st.integers(1, 30), st.integers(1, 9), st.integers(0, 20))
def test_a_later_start_goes_on_in_the_same_order(frames: int, batch: int, first: int) -> None:
    whole = list(islice(FrameOrder(frames, batch, seed=3), first + 5))
    assert list(islice(FrameOrder(frames, batch, seed=3, first_batch=first), 5)) == whole[first:]


@given(st.integers(1, 30), st.integers(1, 5), st.integers(2, 4))
def test_processes_share_the_batches_of_one(frames: int, batch: int, processes: int) -> None:
    alone = islice(FrameOrder(frames, batch * processes, seed=1), 4)
    together = zip(
        *[
            islice(FrameOrder(frames, batch, seed=1, process_index=p, num_processes=processes), 4)
            for p in range(processes)
        ],
        strict=True,
    )
    assert [list(chain(*parts)) for parts in together] == list(alone)


def test_weighted_frames_come_as_often_as_they_weigh_and_in_an_order_of_the_seed() -> None:
    weights = np.array([1.0, 3.0, 0.0, 4.0])
    order = FrameOrder(4, 4, seed=5, weights=weights)
    drawn = [index for entries in islice(order, 2000) for _, index in entries]
    counts = np.bincount(drawn, minlength=4) / len(drawn)
    np.testing.assert_allclose(counts, weights / weights.sum(), atol=0.02)
    later = FrameOrder(4, 4, seed=5, first_batch=3, weights=weights)
    assert list(islice(later, 3)) == list(islice(order, 6))[3:]


def test_frames_weigh_as_their_rarest_landmark_asks() -> None:
    ridge, ligament = ("silhouette", "ligament"), ("ridge", "silhouette")
    shown = [(), ridge, ridge, ridge, ridge, ridge, ridge, ridge, ligament, ligament]
    rows = make_dataset([schema_row(str(i), polylines(i, without=out)) for i, out in enumerate(shown)])
    # Ridge in 8 of 10, silhouette in 1 (9 to 1, at most 4), ligament in 3 (7 to 3).
    expected = [4.0, *[1.0] * 7, 7 / 3, 7 / 3]
    np.testing.assert_allclose(balancing_weights(rows), expected)
    empty = make_dataset([schema_row("0", []), schema_row("1", None)])
    np.testing.assert_allclose(balancing_weights(empty), [1, 1])


def test_a_batch_has_curves_and_inverse_depth_where_they_are_asked_for() -> None:
    depth = np.full((HEIGHT, WIDTH), 2000, np.uint16)
    depth[:, : WIDTH // 2] = 500
    depth[:8] = 0
    lines = polylines(1)
    mask = rasterize_landmarks(lines, WIDTH, HEIGHT, get_protocol("synthetic"))
    row = schema_row("0", lines, label=Image.fromarray(mask), depth=Image.fromarray(depth))
    other = schema_row("1", lines, label=Image.fromarray(mask))
    frames = TrainingFrames(
        make_dataset([row, other]), Augmentation(AugmentationConfig(), 0), with_depth=True
    )
    order = FrameOrder(2, 2, seed=0)
    [chosen] = islice(order, 1)
    loader = build_loader(frames, order, tiny_processor(64), 0, False, with_landmarks=True)
    batch = next(iter(loader))
    place = [index for _, index in chosen].index(0)
    inverse = batch["depth_labels"][place]
    assert inverse.shape == batch["labels"][0].shape
    assert set(inverse.unique().tolist()) == {0.0, np.float32(1 / 2000), np.float32(1 / 500)}
    assert not batch["depth_labels"][1 - place].any()
    for found, line in zip(batch["landmarks"][place], lines, strict=True):
        assert found["category"] == 1 + ("ridge", "silhouette", "ligament").index(line["category"])
        expected = (np.array(line["points"]) + 0.5) / (WIDTH, HEIGHT)
        np.testing.assert_allclose(found["points"].numpy(), expected, rtol=1e-6)


def test_epochs_and_seeds_differ_in_order() -> None:
    first, second = islice(FrameOrder(50, 50, seed=0), 2)
    (other,) = islice(FrameOrder(50, 50, seed=1), 1)
    orders = [[index for _, index in entries] for entries in (first, second, other)]
    assert orders[0] != orders[1]
    assert orders[0] != orders[2]


def test_no_frames_are_refused() -> None:
    with pytest.raises(ValueError, match="no frames"):
        FrameOrder(0, 4, seed=0)


def batches_of(rows, workers: int, cache: bool, count: int = 6) -> list[dict[str, torch.Tensor]]:
    frames = TrainingFrames(rows, Augmentation(VARIED, seed=5), cache=cache)
    loader = build_loader(
        frames, FrameOrder(len(frames), 3, seed=5), tiny_processor(64), workers, pin_memory=False
    )
    return list(islice(loader, count))


def test_workers_and_cache_change_nothing_nor_the_global_generator(dataset_folder: Path) -> None:
    rows = load_landmark_dataset(dataset_folder, "train")
    before = torch.get_rng_state()
    plain = batches_of(rows, workers=0, cache=False)
    assert torch.equal(torch.get_rng_state(), before)
    for other in (batches_of(rows, workers=2, cache=False), batches_of(rows, workers=0, cache=True)):
        for ours, theirs in zip(plain, other, strict=True):
            assert torch.equal(ours["pixel_values"], theirs["pixel_values"])
            assert torch.equal(ours["labels"], theirs["labels"])
    assert plain[0]["pixel_values"].shape == (3, 3, 64, 64)
    assert plain[0]["labels"].dtype == torch.int64
    assert set(torch.cat([batch["labels"] for batch in plain]).unique().tolist()) == {0, 1, 2, 3}


@pytest.mark.parametrize("cache", [False, True])
def test_a_frame_comes_with_its_own_label_and_polylines(dataset_folder: Path, cache: bool) -> None:
    rows = load_landmark_dataset(dataset_folder, "train")
    frames = TrainingFrames(rows, Augmentation(AugmentationConfig(), seed=0), cache=cache)
    for _ in range(2):
        frame = frames[0, 7]
        assert np.array_equal(frame.image, np.asarray(rows[7]["image"]))
        assert np.array_equal(frame.mask, np.asarray(rows[7]["label"]))
        assert [(curve["category"], curve["points"].tolist()) for curve in frame.landmarks] == [
            (curve["category"], curve["points"]) for curve in rows[7]["landmarks"]
        ]


def moved_label(protocol: str, landmarks=None) -> tuple[np.ndarray, np.ndarray]:
    """The augmented mask of a row whose label says that `protocol` drew it, and the label rotated."""
    landmarks = polylines(0) if landmarks is None else landmarks
    row = schema_row("frame-1", landmarks, protocol=protocol)
    label = rasterize_landmarks(polylines(0), row["width"], row["height"], get_protocol("synthetic"))
    rows = make_dataset([row | {"label": Image.fromarray(label)}])
    half_turn = AugmentationConfig(horizontal_flip=1.0, vertical_flip=1.0)
    return TrainingFrames(rows, Augmentation(half_turn, seed=0))[0, 0].mask, label[::-1, ::-1]


def test_a_label_is_drawn_anew_by_its_own_protocol() -> None:
    mask, _ = moved_label("slippa")
    turned = [
        curve | {"points": [(WIDTH - 1 - x, HEIGHT - 1 - y) for x, y in np.float32(curve["points"])]}
        for curve in polylines(0)
    ]
    assert np.array_equal(mask, rasterize_landmarks(turned, WIDTH, HEIGHT, get_protocol("slippa")))


@pytest.mark.parametrize(("protocol", "landmarks"), [(AS_DRAWN, None), ("slippa", [])])
def test_a_label_that_cannot_be_drawn_anew_is_moved_itself(protocol: str, landmarks) -> None:
    mask, turned = moved_label(protocol, landmarks)
    assert np.array_equal(mask, turned)


def test_a_landmark_that_the_dataset_lacks_is_refused(dataset_folder: Path) -> None:
    rows = load_landmark_dataset(dataset_folder, "train")
    with pytest.raises(ValueError, match=r"no landmark 'artery' \(there are: ridge, silhouette, ligament\)"):
        TrainingFrames(rows, Augmentation(AugmentationConfig(), seed=0), LandmarkTable.from_names(["artery"]))


def nowhere(x: float) -> list[dict]:
    return [{"category": "ridge", "points": [(x, 3.0), (5.0, 5.0)]}]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"image": {"bytes": b"no picture", "path": None}}, "row 0: a picture of it"),
        ({"image": None}, r"frame-1 \(row 0\): it has no image"),
        ({"landmarks": nowhere(float("nan"))}, "row 0: its label"),
        ({"label": Image.new("RGB", (WIDTH, HEIGHT))}, "frame-1"),
        (
            {"landmarks": nowhere(float("inf")), "label": Image.new("L", (WIDTH, HEIGHT))},
            "frame-1: .*not fin",
        ),
    ],
)
def test_rows_that_cannot_be_used_are_named(fields: dict, message: str) -> None:
    rows = make_dataset([schema_row("frame-1", polylines(0)) | fields])
    if "label" not in fields:
        rows = rows.with_transform(DrawLabels(None))
    frames = TrainingFrames(rows, Augmentation(AugmentationConfig(), seed=0))
    with pytest.raises(RowError, match=message) as error:
        frames[0, 0]
    assert "\n" not in str(error.value)
