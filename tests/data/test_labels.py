"""Another order of classes: ids of labels and names of categories change together, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import datasets
import numpy as np
import pytest
from PIL import Image

from liver_landmark.curves import get_protocol, rasterize_landmarks
from liver_landmark.data.loading import load_landmark_dataset
from tiny_datasets import HEIGHT, WIDTH, make_dataset, polylines, schema_row

SLIPPA_ORDER = ("silhouette", "ridge", "ligament")


@pytest.fixture(scope="module", autouse=True)
def datasets_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """`datasets` caches in a folder of the tests, not in the user's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stored label with ignored pixels, a frame without label, one that shows nothing, one without list."""
    folder = tmp_path_factory.mktemp("sets") / "whole"
    folder.mkdir()
    mask = rasterize_landmarks(polylines(0), WIDTH, HEIGHT, get_protocol("synthetic"))
    mask[:3] = 255
    rows = [
        schema_row("a-0", polylines(0), label=Image.fromarray(mask)),
        schema_row("a-1", polylines(1, without=("ridge",))),
        schema_row("a-2", []),
        schema_row("a-3", None, label=Image.fromarray(mask)),
    ]
    make_dataset(rows).to_parquet(folder / "train-00000-of-00001.parquet")
    return folder


def expected_ids(label: np.ndarray, order: tuple[str, ...]) -> np.ndarray:
    """Each pixel on its own, by name."""
    ours = {0: 0, 255: 255, 1: "ridge", 2: "silhouette", 3: "ligament"}
    names = [ours[value] for value in label.ravel().tolist()]
    ids = [name if isinstance(name, int) else 1 + order.index(name) for name in names]
    return np.array(ids, np.uint8).reshape(label.shape)


@pytest.mark.parametrize("protocol", [None, "synthetic"])
@pytest.mark.parametrize("order", [SLIPPA_ORDER, ("silhouette", "ligament", "ridge")])
def test_ids_and_names_follow_the_order(folder: Path, order: tuple[str, ...], protocol: str | None) -> None:
    plain = load_landmark_dataset(folder, "train", protocol)
    rows = load_landmark_dataset(folder, "train", protocol, class_order=order)
    names = rows.features["landmarks"].feature["category"].names
    assert names == list(order)
    assert rows.column_names == plain.column_names
    plain_names = plain.features["landmarks"].feature["category"].names
    assert plain_names == ["ridge", "silhouette", "ligament"]
    for row, ours in zip(rows, plain, strict=True):
        np.testing.assert_array_equal(row["label"], expected_ids(np.asarray(ours["label"]), order))
        np.testing.assert_array_equal(row["image"], ours["image"])
        for landmarks, category_names in ((row["landmarks"], names), (ours["landmarks"], plain_names)):
            for landmark in landmarks or ():
                landmark["category"] = category_names[landmark["category"]]
        assert row["landmarks"] == ours["landmarks"]
        assert (row["frame_id"], row["stroke_width"]) == (ours["frame_id"], ours["stroke_width"])


def test_another_protocol_and_another_order_go_together(folder: Path) -> None:
    rows = load_landmark_dataset(folder, "train", "slippa", class_order=SLIPPA_ORDER).select(range(3))
    for row, landmarks in zip(rows, (polylines(0), polylines(1, without=("ridge",)), []), strict=True):
        label = rasterize_landmarks(landmarks, WIDTH, HEIGHT, get_protocol("slippa"))
        if row["frame_id"] == "a-0":
            label[:3] = 255
        np.testing.assert_array_equal(row["label"], expected_ids(label, SLIPPA_ORDER))


def test_ids_that_no_mask_should_hold_are_refused(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    label = Image.new("L", (WIDTH, HEIGHT), 7)
    make_dataset([schema_row("a-0", [], label=label)]).to_parquet(tmp_path / "set" / "train.parquet")
    rows = load_landmark_dataset(tmp_path / "set", "train", class_order=SLIPPA_ORDER)
    with pytest.raises(ValueError, match="the mask holds 7, which is neither a class id"):
        _ = rows[0]


@pytest.mark.parametrize(
    "order",
    ["ridge", ("ridge", "ligament"), ("ridge", "ridge", "ligament"), ("ridge", "silhouette", "liver")],
)
def test_an_order_names_each_landmark_once(folder: Path, order: object) -> None:
    with pytest.raises(ValueError, match=r"class_order is .*: give ridge, silhouette, ligament, each once"):
        load_landmark_dataset(folder, "train", class_order=order)
