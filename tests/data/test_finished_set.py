"""What a built set holds: rows that plain `datasets` reads, a card and a report that tell what is there."""

from __future__ import annotations

import hashlib
import json

import datasets
import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml

from liver_landmark.curves import get_protocol, rasterize_landmarks
from liver_landmark.data.build import RawRequest, build_raw_set
from liver_landmark.data.readers import CustomOptions, MaskOptions, SplitOptions
from liver_landmark.data.schema import SPLITS, landmark_features
from raw_sets import l3d, labelme, llsd
from raw_sets.building import content, l3d_request
from raw_sets.pictures import truncate

pytestmark = pytest.mark.usefixtures("small_parts")


def test_plain_load_dataset_gives_the_schema_and_the_labels(tmp_path, raw, card):
    build_raw_set(l3d_request(raw), tmp_path / "set", card)
    loaded = datasets.load_dataset(str(tmp_path / "set"), cache_dir=str(tmp_path / "cache"))
    assert {split: len(rows) for split, rows in loaded.items()} == {"train": 5, "validation": 2, "test": 3}
    streamed = datasets.load_dataset(str(tmp_path / "set"), streaming=True)
    for split in SPLITS:
        assert loaded[split].features == landmark_features()
        assert [row["frame_id"] for row in streamed[split]] == loaded[split]["frame_id"][:]
    names = landmark_features()["landmarks"].feature["category"].names
    for row in loaded["train"]:
        truth = raw.frame(row["frame_id"])
        assert [names[curve["category"]] for curve in row["landmarks"]] == [
            curve["category"] for curve in truth.landmarks
        ]
        drawn = rasterize_landmarks(truth.landmarks, 64, 36, get_protocol("d2gpland"))
        np.testing.assert_array_equal(np.asarray(row["label"]), drawn)
        assert row["label"].mode == "L"
        assert np.asarray(row["depth"]).dtype == np.uint16
        assert (row["protocol"], row["stroke_width"], row["source"]) == ("d2gpland", 30, "l3d")


def test_the_card_and_the_report_tell_what_is_there(tmp_path, raw, card):
    l3d.misspell_ridge(raw.frames[0])
    l3d.edit_json(raw.frames[2], lambda document: document["shapes"].pop())
    build_raw_set(l3d_request(raw), tmp_path / "set", card)
    text = (tmp_path / "set" / "README.md").read_text(encoding="utf-8")
    front = yaml.safe_load(text.split("---\n")[1])
    told = {entry["name"]: entry["num_examples"] for entry in front["dataset_info"][0]["splits"]}
    assert told == {"train": 5, "validation": 2, "test": 3}
    assert [entry["split"] for entry in front["configs"][0]["data_files"]] == list(SPLITS)
    assert "| train | 3 | 5 |" in text
    assert "| ligament | 9 | 90.0% |" in text
    assert "| ridge + silhouette + ligament | 9 |" in text
    assert "| ridge + silhouette | 1 |" in text
    assert "| 64 × 36 | 10 |" in text
    assert "2 pictures of the raw set were left out" in text
    assert "stroke in px of the frame: here 30 px" in text
    assert "rigde 1" in text
    for path in (tmp_path / "set" / "data").iterdir():
        assert f"| `data/{path.name}` | `{hashlib.sha256(path.read_bytes()).hexdigest()}` |" in text
    report = json.loads((tmp_path / "set" / "report.json").read_text())
    assert report["frames"] == {"train": 5, "validation": 2, "test": 3}
    assert report["patients"]["test"] == ["Patient_21", "Patient_51"]
    assert report["tolerated"] == {"rigde": 1}
    assert [problem["file"] for problem in report["problems"]] == sorted(
        raw.relative(raw.frames[place].picture) for place in (1, 9)
    )


def test_no_file_names_a_path_of_this_machine(tmp_path, raw, card):
    build_raw_set(l3d_request(raw), tmp_path / "set", card)
    for name, data in content(tmp_path / "set").items():
        assert str(tmp_path).encode() not in data, name


def test_shards_without_a_frame_leave_no_gap(tmp_path, raw, card):
    for frame in raw.frames[:3]:
        truncate(frame.picture, 0.3)
    build_raw_set(l3d_request(raw), tmp_path / "set", card)
    names = [path.name for path in sorted((tmp_path / "set" / "data").iterdir())]
    assert names == [
        "test-00000-of-00002.parquet",
        "test-00001-of-00002.parquet",
        "train-00000-of-00001.parquet",
        "validation-00000-of-00001.parquet",
    ]
    assert pq.read_table(tmp_path / "set" / "data" / names[2])["frame_id"].to_pylist() == [
        frame.stem for frame in raw.frames[3:6]
    ]


def test_a_set_that_only_tests_names_no_other_files(tmp_path, card):
    raw = llsd.write_llsd(tmp_path / "raw")
    asked = RawRequest("llsd", raw.root, MaskOptions(), SplitOptions(test_only=True))
    assert build_raw_set(asked, tmp_path / "set", card).frames == {"test": 4}
    loaded = datasets.load_dataset(str(tmp_path / "set"), cache_dir=str(tmp_path / "cache"))
    assert set(loaded) == {"test"}
    row = loaded["test"][0]
    truth = llsd.exact_mask(
        raw.frame(row["frame_id"]).landmarks,
        160,
        90,
        {"ridge": (1,) * 3, "silhouette": (2,) * 3, "ligament": (3,) * 3},
    )
    np.testing.assert_array_equal(np.asarray(row["label"]), truth[..., 0])
    assert row["protocol"] == "as_drawn"
    # OpenCV draws wider than it is asked to; the strokes run from left to right.
    drawn_px = np.median((truth[..., 0][:, 40:120] > 0).sum(axis=0)) / 3
    assert abs(row["stroke_width"] - drawn_px) <= 0.5


def test_masks_may_be_drawn_anew_from_what_was_traced(tmp_path, card):
    raw = llsd.write_llsd(tmp_path / "raw")
    asked = RawRequest("llsd", raw.root, MaskOptions(), protocol="p2ilf")
    build_raw_set(asked, tmp_path / "set", card)
    row = datasets.load_dataset(str(tmp_path / "set"), cache_dir=str(tmp_path / "cache"))["test"][0]
    drawn = rasterize_landmarks(row["landmarks"], 160, 90, get_protocol("p2ilf"))
    np.testing.assert_array_equal(np.asarray(row["label"]), drawn)
    assert (row["protocol"], row["stroke_width"]) == ("p2ilf", 12)


def test_own_frames_are_scored_by_the_stroke_of_their_size(tmp_path, card):
    raw = labelme.write_labelme(tmp_path / "raw")
    build_raw_set(RawRequest("custom", raw.root, CustomOptions("labelme")), tmp_path / "set", card)
    row = datasets.load_dataset(str(tmp_path / "set"), cache_dir=str(tmp_path / "cache"))["train"][0]
    assert (row["protocol"], row["stroke_width"]) == ("synthetic", 30 * 64 / 1920)
