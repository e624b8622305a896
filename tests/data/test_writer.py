"""The dataset writer: what plain `load_dataset` reads back, what is refused, what failure leaves behind."""

from __future__ import annotations

import json

import cv2
import datasets
import numpy as np
import pytest

from liver_landmark.data.dataset_folder import (
    BUILD_FILE,
    DatasetWriter,
    dataset_folder,
    is_built,
    write_build,
    write_card,
)
from liver_landmark.data.schema import SPLITS, landmark_features
from liver_landmark.synthetic.dataset import encode_jpeg, encode_png

WIDTH, HEIGHT = 48, 32


def make_row(frame_id: str, patient_id: str, categories: tuple[str, ...] = ("ridge", "ligament")) -> dict:
    rng = np.random.default_rng(len(frame_id))
    return {
        "image": encode_jpeg(rng.integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8), frame_id),
        "label": encode_png(np.full((HEIGHT, WIDTH), 3, dtype=np.uint8), frame_id),
        "landmarks": [{"category": name, "points": [[1.5, 2.25], [3.0, 4.0]]} for name in categories],
        "depth": encode_png(np.arange(HEIGHT * WIDTH, dtype=np.uint16).reshape(HEIGHT, WIDTH) * 40, frame_id),
        "regions": None,
        "camera": None,
        "patient_id": patient_id,
        "frame_id": frame_id,
        "source": "test",
        "width": WIDTH,
        "height": HEIGHT,
        "protocol": "synthetic",
        "stroke_width": 0.75,
    }


def write_all(folder, rows: list[tuple[str, dict]], **options) -> DatasetWriter:
    writer = DatasetWriter(folder, **options)
    for split, row in rows:
        writer.add(split, row)
    writer.close()
    return writer


ROWS = [
    ("train", make_row("f0", "p0")),
    ("train", make_row("f1", "p0", ("silhouette", "ridge", "ridge"))),
    ("train", make_row("f2", "p1", ())),
    ("validation", make_row("f3", "p2")),
    ("test", make_row("f4", "p3") | {"landmarks": None}),
]


def test_load_dataset_reads_back_what_was_written(tmp_path):
    write_all(tmp_path, ROWS)
    loaded = datasets.load_dataset(
        "parquet", data_dir=str(tmp_path / "data"), cache_dir=str(tmp_path / "cache")
    )
    assert set(loaded) == set(SPLITS)
    assert loaded["train"].features == landmark_features()
    assert loaded["train"]["frame_id"][:] == ["f0", "f1", "f2"]
    row, source = loaded["train"][1], ROWS[1][1]
    names = loaded["train"].features["landmarks"].feature["category"].names
    assert [names[landmark["category"]] for landmark in row["landmarks"]] == ["silhouette", "ridge", "ridge"]
    assert row["landmarks"][0]["points"] == [[1.5, 2.25], [3.0, 4.0]]
    assert loaded["train"][2]["landmarks"] == []
    assert row["regions"] is None
    assert loaded["test"][0]["landmarks"] is None
    np.testing.assert_array_equal(
        np.array(row["depth"]), np.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH) * 40
    )
    assert np.array(row["depth"]).dtype == np.uint16
    assert row["label"].mode == "L"
    decoded = cv2.imdecode(np.frombuffer(source["image"]["bytes"], np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    assert np.abs(np.array(row["image"]).astype(int) - decoded).max() <= 3


def test_shards_are_named_by_their_number(tmp_path):
    write_all(tmp_path, ROWS, rows_per_shard=2)
    names = sorted(path.name for path in (tmp_path / "data").iterdir())
    assert names == [
        "test-00000-of-00001.parquet",
        "train-00000-of-00002.parquet",
        "train-00001-of-00002.parquet",
        "validation-00000-of-00001.parquet",
    ]


def test_the_same_rows_give_the_same_bytes(tmp_path):
    for name in ("one", "two"):
        write_all(tmp_path / name, ROWS)
    for path in sorted((tmp_path / "one" / "data").iterdir()):
        assert path.read_bytes() == (tmp_path / "two" / "data" / path.name).read_bytes()


def test_a_frame_id_cannot_occur_twice(tmp_path):
    writer = write_all(tmp_path, ROWS)
    with pytest.raises(ValueError, match="frame_id 'f1' occurs twice"):
        writer.add("train", make_row("f1", "p0"))


def test_a_patient_cannot_be_in_two_splits(tmp_path):
    writer = write_all(tmp_path, ROWS)
    with pytest.raises(ValueError, match="patient 'p0' is in train and in test"):
        writer.add("test", make_row("f9", "p0"))


def test_unknown_splits_and_landmarks_are_refused(tmp_path):
    writer = DatasetWriter(tmp_path)
    with pytest.raises(ValueError, match="split 'dev' is unknown"):
        writer.add("dev", make_row("f0", "p0"))
    with pytest.raises(ValueError, match="landmark 'rigde' is unknown"):
        writer.add("train", make_row("f0", "p0", ("rigde",)))


def test_the_summary_counts_frames_and_not_polylines(tmp_path):
    summary = write_all(tmp_path, ROWS).summary()
    assert summary["frames"] == "5"
    assert summary["patients"] == "4"
    assert "| train | 2 | 3 |" in summary["splits"]
    assert "| ridge | 3 | 60.0% |" in summary["classes"]
    assert "| silhouette | 1 | 20.0% |" in summary["classes"]


def test_a_card_with_a_missing_value_is_an_error(tmp_path):
    write_card(tmp_path, "$frames frames, ${width}x2", {"frames": "5", "width": "3"})
    assert (tmp_path / "README.md").read_text() == "5 frames, 3x2"
    with pytest.raises(KeyError, match="seed"):
        write_card(tmp_path, "$seed", {"frames": "5"})


def build(output, request: dict, text: str, overwrite: bool = False) -> None:
    with dataset_folder(output, overwrite) as folder:
        (folder / "text").write_text(text)
        write_build(folder, request)


def test_a_finished_build_is_known_by_its_request(tmp_path):
    output = tmp_path / "set"
    assert not is_built(output, {"seed": 0})
    build(output, {"seed": 0}, "old")
    assert is_built(output, {"seed": 0})
    assert not is_built(output, {"seed": 1})
    assert json.loads((output / BUILD_FILE).read_text())["request"] == {"seed": 0}


def test_another_dataset_is_replaced_only_when_asked(tmp_path):
    output = tmp_path / "set"
    build(output, {"seed": 0}, "old")
    with pytest.raises(FileExistsError, match="--overwrite"):
        build(output, {"seed": 1}, "new")
    assert (output / "text").read_text() == "old"
    build(output, {"seed": 1}, "new", overwrite=True)
    assert (output / "text").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_what_is_no_dataset_is_never_replaced(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("precious")
    with pytest.raises(FileExistsError, match="not a built dataset"):
        build(tmp_path / "mine", {}, "new", overwrite=True)
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "precious"
    with pytest.raises(FileExistsError, match="is a file"):
        build(tmp_path / "mine" / "thesis.txt", {}, "new", overwrite=True)


def test_an_empty_folder_is_taken(tmp_path):
    (tmp_path / "set").mkdir()
    build(tmp_path / "set", {}, "new")
    assert (tmp_path / "set" / "text").read_text() == "new"


def build_with_bad_card(output, overwrite: bool) -> None:
    with dataset_folder(output, overwrite) as folder:
        (folder / "half").write_text("half")
        write_card(folder, "$seed", {})


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_failure_leaves_things_as_they_were(tmp_path, overwrite):
    output = tmp_path / "deep" / "set"
    if overwrite:
        build(output, {"seed": 0}, "old")
    with pytest.raises(KeyError, match="seed"):
        build_with_bad_card(output, overwrite)
    assert [path.name for path in output.parent.iterdir()] == (["set"] if overwrite else [])
    if overwrite:
        assert (output / "text").read_text() == "old"


def test_a_damaged_build_file_is_named(tmp_path):
    build(tmp_path / "set", {}, "old")
    (tmp_path / "set" / BUILD_FILE).write_text("{")
    with pytest.raises(ValueError, match=r"build\.json: not JSON"):
        is_built(tmp_path / "set", {})


def test_a_set_built_anew_in_its_place_is_not_read_from_the_cache(tmp_path):
    card = (
        "---\nconfigs:\n- config_name: default\n  data_files:\n  - split: train\n"
        "    path: data/train-*.parquet\n$dataset_info\n---\n"
    )
    folder = tmp_path / "set"
    for patient in ("first", "another"):
        writer = write_all(folder, [("train", make_row("frame", patient))])
        write_card(folder, card, writer.summary())
        rows = datasets.load_dataset(str(folder), split="train", cache_dir=str(tmp_path / "cache"))
        assert rows[0]["patient_id"] == patient
