"""Row groups that stay small, pixels that are decoded at once, and work that stays in order."""

from __future__ import annotations

import threading
import time
from contextlib import closing

import numpy as np
import pyarrow.parquet as pq
import pytest

from liver_landmark.data.building import shards
from liver_landmark.data.building.shards import ordered_map, shard_writer


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


def test_what_is_ahead_stays_within_the_budget():
    costs = [*np.random.default_rng(0).integers(1, 90, 60).tolist(), 500, 10]
    started, lock, seen = [], threading.Lock(), []

    def work(cost):
        with lock:
            started.append(cost)
        return cost

    results = []
    with closing(ordered_map(work, costs, workers=6, cost=lambda cost: cost, budget=100)) as outcomes:
        for result in outcomes:
            # A slow taker: all that may be ahead gets there. What it holds itself is not ahead.
            time.sleep(0.002)
            results.append(result)
            with lock:
                seen.append(started[len(results) :])
    assert results == costs
    assert 90 < max(map(sum, seen[:-2])) <= 100
    # What costs more than the budget is alone: nothing beside it before it is taken.
    assert seen[59] == seen[60] == []


def test_without_a_cost_only_the_number_ahead_is_bounded():
    started = []
    with closing(ordered_map(started.append, range(50), workers=4)) as outcomes:
        next(outcomes)
        time.sleep(0.05)
        assert len(started) > 3


@pytest.mark.parametrize("workers", [0, 1, 4, 100])
def test_results_come_in_order_and_not_far_ahead(workers):
    taken = []

    def items():
        for number in range(50):
            taken.append(number)
            yield number

    def work(number):
        time.sleep(0.002 * (number % 3))
        return number * number

    ahead = 0
    with closing(ordered_map(work, items(), workers)) as results:
        for number, result in enumerate(results):
            assert result == number * number
            ahead = max(ahead, len(taken) - number)
    assert taken == list(range(50))
    assert ahead <= min(max(workers, 1), 8) + 2


def test_an_error_ends_the_work():
    done = []

    def work(number):
        done.append(number)
        if number == 3:
            raise KeyError("three")
        return number

    results = ordered_map(work, range(1000), 2)
    with pytest.raises(KeyError, match="three"):
        list(results)
    assert len(done) < 12
