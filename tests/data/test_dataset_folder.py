"""The folder of a set: rows that plain `datasets` reads, shards that outlive a kill, whole or not there."""

from __future__ import annotations

import datasets
import numpy as np
import pyarrow.parquet as pq
import pytest

from liver_landmark.curves import get_protocol, rasterize_landmarks
from liver_landmark.data import dataset_folder
from liver_landmark.data.dataset_folder import (
    BUILD_FILE,
    DatasetWriter,
    check_output,
    is_built,
    plan_shards,
    write_build,
    write_card,
    write_parquet,
)
from liver_landmark.data.readers import Problem
from liver_landmark.synthetic.dataset import encode_jpeg, encode_png
from tiny_datasets import HEIGHT, WIDTH, polylines, schema_row

CARD = """---
configs:
- config_name: default
  data_files:
$data_files
$dataset_info
---
$frames frames of $patients patients
$splits
$classes
$hashes
"""


@pytest.fixture(autouse=True)
def small_shards(monkeypatch) -> None:
    monkeypatch.setattr(dataset_folder, "FRAMES_PER_SHARD", 2)


def make_row(frame_id: str, patient_id: str = "p0", **values) -> dict:
    image = np.random.default_rng(len(frame_id)).integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    label = rasterize_landmarks(polylines(0), WIDTH, HEIGHT, get_protocol("synthetic"))
    row = schema_row(frame_id, polylines(0), patient_id=patient_id)
    return row | {"image": encode_jpeg(image, frame_id), "label": encode_png(label, frame_id)} | values


ROWS = {
    "train": [make_row("f0"), make_row("f1"), make_row("f2", "p1", landmarks=[])],
    "validation": [make_row("f3", "p2")],
    "test": [make_row("f4", "p3", landmarks=None)],
}


def write_set(
    output, rows=ROWS, request=None, *, overwrite=False, card=CARD, end: BaseException | None = None
):
    """Builds a set of rows and problems, unless it ends when all are written; the ids that were written."""
    request = request or {"seed": 0}
    writer = DatasetWriter(output, request, plan_shards({split: rows.get(split, []) for split in ROWS}))
    written = []

    def rows_of(frames):
        for row in frames:
            written.append(row if isinstance(row, Problem) else row["frame_id"])
            yield row if isinstance(row, Problem) else (row, {"rigde": 1})

    problems = []
    with writer.opened():
        counts = writer.write(rows_of, problems.append)
        if end is not None:
            raise end
        with dataset_folder.dataset_folder(output, overwrite) as folder:
            write_card(folder, card, writer.card_values(counts, writer.place(folder)))
            write_build(folder, request)
    return written, problems


def read(output) -> dict[str, list[dict]]:
    files = sorted((output / "data").iterdir())
    return {path.name: pq.read_table(path).to_pylist() for path in files}


def test_files_are_numbered_and_the_card_tells_their_content(tmp_path):
    write_set(tmp_path / "set")
    files = read(tmp_path / "set")
    assert {name: [row["frame_id"] for row in rows] for name, rows in files.items()} == {
        "train-00000-of-00002.parquet": ["f0", "f1"],
        "train-00001-of-00002.parquet": ["f2"],
        "validation-00000-of-00001.parquet": ["f3"],
        "test-00000-of-00001.parquet": ["f4"],
    }
    assert files["train-00000-of-00002.parquet"][0]["image"] == ROWS["train"][0]["image"]
    assert files["test-00000-of-00001.parquet"][0]["landmarks"] is None
    text = (tmp_path / "set" / "README.md").read_text(encoding="utf-8")
    for line in ("5 frames of 4 patients", "| train | 2 | 3 |", "| ridge | 3 | 60.0% |"):
        assert line in text


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ({"train": [make_row("f0"), make_row("f1"), make_row("f0")]}, "frame_id 'f0' occurs twice"),
        ({"train": [make_row("f0")], "test": [make_row("f1")]}, "patient 'p0' is in train and in test"),
        (
            {"train": [make_row("f0", landmarks=[{"category": "rigde", "points": [[1, 2], [3, 4]]}])]},
            "landmark 'rigde' is unknown: choose one of",
        ),
    ],
)
def test_rows_that_are_no_set_are_refused(tmp_path, rows, reason):
    with pytest.raises(ValueError, match=reason):
        write_set(tmp_path / "set", rows)
    assert list(tmp_path.iterdir()) == []


def test_row_groups_are_bounded_by_rows_and_by_bytes(tmp_path, monkeypatch):
    row, large = (make_row("f", image={"bytes": bytes(size), "path": "f"}, label=None) for size in (10, 600))
    monkeypatch.setattr(dataset_folder, "BYTES_PER_GROUP", 1000)
    write_parquet(tmp_path / "a.parquet", [row] * 20 + [large] * 5)
    metadata = pq.read_metadata(tmp_path / "a.parquet")
    groups = [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)]
    assert groups == [16, 6, 2, 1]


@pytest.mark.parametrize("torn", ["parquet", "json", "no parquet", "other json", "another request"])
def test_what_does_not_fit_is_made_again(tmp_path, torn):
    with pytest.raises(KeyboardInterrupt):
        write_set(tmp_path / "set", end=KeyboardInterrupt())
    path = tmp_path / ".set.building" / "train-00000.parquet"
    if torn == "parquet":
        path.write_bytes(b"row")
    elif torn == "no parquet":
        path.unlink()
    elif torn != "another request":
        path.with_suffix(".json").write_text('{"frames": [' if torn == "json" else "{}[]", encoding="utf-8")
    anew = torn == "another request"
    written, _ = write_set(tmp_path / "set", request={"seed": int(anew)})
    assert written == (["f0", "f1", "f2", "f3", "f4"] if anew else ["f0", "f1"])


def test_shards_without_a_row_leave_no_gap(tmp_path):
    broken = [Problem("a.jpg", "broken"), Problem("b.jpg", "broken")]
    _, problems = write_set(tmp_path / "set", ROWS | {"train": [*broken, *ROWS["train"]]})
    assert problems == broken
    assert [name for name in read(tmp_path / "set") if name.startswith("train")] == [
        "train-00000-of-00002.parquet",
        "train-00001-of-00002.parquet",
    ]


def test_two_builds_of_one_output_do_not_meet(tmp_path):
    with DatasetWriter(tmp_path / "set", {"seed": 1}, []).opened():
        with pytest.raises(FileExistsError, match="another build is writing it"):
            write_set(tmp_path / "set")
        assert (tmp_path / ".set.building").is_dir()
    write_set(tmp_path / "set")


def test_a_finished_build_is_known_by_its_request_and_replaced_when_asked(tmp_path):
    output = tmp_path / "set"
    assert not is_built(output, {"seed": 0})
    output.mkdir()  # An empty folder is taken.
    write_set(output)
    assert is_built(output, {"seed": 0})
    assert not is_built(output, {"seed": 1})
    with pytest.raises(FileExistsError, match="--overwrite"):
        check_output(output, overwrite=False)
    write_set(output, {"test": ROWS["test"]}, {"seed": 1}, overwrite=True)
    assert is_built(output, {"seed": 1})
    assert list(read(output)) == ["test-00000-of-00001.parquet"]
    (output / BUILD_FILE).write_text("{", encoding="utf-8")
    with pytest.raises(ValueError, match=r"build\.json: not JSON"):
        is_built(output, {})


def test_what_is_no_dataset_is_never_replaced(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("precious", encoding="utf-8")
    for path, reason in (
        (tmp_path / "mine", "not a built dataset"),
        (tmp_path / "mine" / "thesis.txt", "is a file"),
    ):
        with pytest.raises(FileExistsError, match=reason):
            check_output(path, overwrite=True)
        with pytest.raises(FileExistsError, match=reason):
            write_set(path, overwrite=True)
    assert (tmp_path / "mine" / "thesis.txt").read_text(encoding="utf-8") == "precious"


def test_a_set_built_anew_in_its_place_is_not_read_from_the_cache(tmp_path):
    for seed, patient in enumerate(("first", "another")):
        write_set(tmp_path / "set", {"train": [make_row("frame", patient)]}, {"seed": seed}, overwrite=True)
        rows = datasets.load_dataset(str(tmp_path / "set"), split="train", cache_dir=str(tmp_path / "cache"))
        assert rows[0]["patient_id"] == patient
