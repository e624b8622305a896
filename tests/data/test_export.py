"""Exporting a set, and what comes back when it is rebuilt."""

from __future__ import annotations

import io

import datasets
import numpy as np
import pytest
from PIL import Image

from liver_landmark.curves.formats import read_landmarks
from liver_landmark.data.build import RawRequest, build_raw_set
from liver_landmark.data.export import export_set
from liver_landmark.data.loading import load_landmark_dataset
from liver_landmark.data.readers import CustomOptions
from liver_landmark.model.landmarks_liver_landmark import DEFAULT_LANDMARKS
from tiny_datasets import HEIGHT, WIDTH, make_dataset, polylines, schema_row


@pytest.fixture
def splits() -> dict[str, datasets.Dataset]:
    rows = {}
    for patient, split in enumerate(("train", "validation", "test"), start=1):
        # One frame shows nothing; a second one would be the same picture.
        missing = {1: ((), ()), 2: (("ligament",), ()), 3: (DEFAULT_LANDMARKS.names, ())}[patient]
        rows[split] = make_dataset(
            [
                schema_row(
                    f"patient{patient}/frame {index}",
                    polylines(10 * patient + index, without=missing[index]),
                    patient_id=f"patient{patient}",
                )
                for index in range(2)
            ]
        )
    return rows


@pytest.mark.parametrize(("format", "precision_px"), [("labelme", 0), ("cvat", 0.0051)])
def test_what_was_exported_builds_the_same_set(tmp_path, splits, format, precision_px):
    assert export_set(splits, tmp_path / "out", format) == 6
    request = RawRequest("custom", tmp_path / "out", CustomOptions(format))
    result = build_raw_set(request, tmp_path / "set", "$dataset_info")
    assert (result.left_out, result.problems) == (0, 0)
    again = load_landmark_dataset(tmp_path / "set")
    assert list(again) == ["train", "validation", "test"]
    for split, rows in splits.items():
        bytes_before, bytes_after = (
            [row["image"]["bytes"] for row in part.cast_column("image", datasets.Image(decode=False))]
            for part in (rows, again[split])
        )
        assert bytes_before == bytes_after
        assert again[split]["patient_id"] == rows["patient_id"]
        for before, after in zip(rows["landmarks"], again[split]["landmarks"], strict=True):
            assert [mark["category"] for mark in before] == [mark["category"] for mark in after]
            for one, other in zip(before, after, strict=True):
                assert np.abs(np.array(one["points"]) - other["points"]).max() <= precision_px


@pytest.mark.parametrize(("format", "suffix"), [("p2ilf-xml", ".xml"), ("p2ilf-json", ".json")])
def test_p2ilf_has_contours_beside_the_images_in_whole_px(tmp_path, splits, format, suffix):
    export_set(splits, tmp_path / "out", format)
    patient = tmp_path / "out" / "train" / "patient1"
    assert sorted(path.name for path in (patient / "images").iterdir()) == [
        "patient1_frame_0.png",
        "patient1_frame_1.png",
    ]
    [frame] = read_landmarks(patient / "2D-3D_contours" / f"patient1_frame_0{suffix}", format)
    for mark, stored in zip(frame.landmarks, splits["train"][0]["landmarks"], strict=True):
        assert mark["category"] == DEFAULT_LANDMARKS.names[stored["category"]]
        assert np.abs(np.array(mark["points"]) - stored["points"]).max() <= 0.5
    assert list((tmp_path / "out").rglob(f"*{suffix}"))


def test_svg_lies_beside_its_frame(tmp_path, splits):
    export_set(splits, tmp_path / "out", "svg")
    svg = (tmp_path / "out" / "train" / "patient1" / "patient1_frame_0.svg").read_text()
    assert svg.count("<polyline") == 3


def test_a_failure_leaves_nothing_and_names_the_frame(tmp_path, splits):
    splits["test"] = make_dataset([schema_row("masks only", None)])
    with pytest.raises(ValueError, match="frame masks only: it has no polylines"):
        export_set(splits, tmp_path / "out", "labelme")
    assert list(tmp_path.glob("*out*")) == []
    twins = make_dataset([schema_row(name, polylines(0), patient_id="one") for name in ("a/b", "a_b")])
    with pytest.raises(ValueError, match="frame a_b: another frame of its patient"):
        export_set({"train": twins}, tmp_path / "out", "labelme")
    two = [schema_row(name, polylines(0), patient_id=name) for name in ("p 1", "p_1")]
    with pytest.raises(ValueError, match="frame p_1: its patient 'p_1' and 'p 1' would be one folder"):
        export_set({"train": make_dataset(two)}, tmp_path / "out", "labelme")
    # As JPEG and as PNG they would be two pictures with one annotation file.
    twins = twins.cast_column("image", datasets.Image(decode=False))
    picture = io.BytesIO()
    Image.new("RGB", (WIDTH, HEIGHT)).save(picture, "JPEG")
    rows = twins.to_list()
    rows[1]["image"] = {"bytes": picture.getvalue(), "path": None}
    with pytest.raises(ValueError, match="frame a_b: another frame of its patient"):
        export_set({"train": make_dataset(rows)}, tmp_path / "out", "labelme")
    with pytest.raises(ValueError, match="choose one of labelme"):
        export_set(splits, tmp_path / "out", "yolo")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").touch()
    with pytest.raises(FileExistsError):
        export_set(splits, tmp_path / "full", "labelme")
