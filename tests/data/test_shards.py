"""Row groups that stay small."""

from __future__ import annotations

import pyarrow.parquet as pq
import pytest

from liver_landmark.data import dataset_folder as shards
from liver_landmark.data.dataset_folder import shard_writer


def row(number: int, picture_bytes: int = 10) -> dict:
    return {
        "image": {"bytes": bytes(picture_bytes), "path": f"{number}.jpg"},
        "label": {"bytes": b"label", "path": f"{number}.png"},
        "landmarks": [{"category": "ligament", "points": [[1.5, 2.0], [3.0, 4.0]]}],
        "depth": None,
        "regions": None,
        "camera": None,
        "patient_id": "P",
        "frame_id": str(number),
        "source": "test",
        "width": 8,
        "height": 8,
        "protocol": "p2ilf",
        "stroke_width": 12.0,
    }


def groups(path) -> list[int]:
    metadata = pq.read_metadata(path)
    return [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)]


def test_row_groups_are_bounded_by_rows_and_by_bytes(tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "BYTES_PER_GROUP", 1000)
    with shard_writer(tmp_path / "a.parquet") as writer:
        for number in range(20):
            writer.add(row(number))
        for number in range(20, 25):
            writer.add(row(number, 600))
    assert groups(tmp_path / "a.parquet") == [16, 6, 2, 1]
    rows = pq.read_table(tmp_path / "a.parquet").to_pylist()
    assert [one["frame_id"] for one in rows] == [str(number) for number in range(25)]
    # The schema's ClassLabel: ridge, silhouette, ligament.
    assert rows[0]["landmarks"] == [{"category": 2, "points": [[1.5, 2.0], [3.0, 4.0]]}]


def test_a_shard_is_complete_or_not_there(tmp_path):
    def break_off():
        with shard_writer(tmp_path / "a.parquet") as writer:
            writer.add(row(0))
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        break_off()
    assert list(tmp_path.iterdir()) == []
