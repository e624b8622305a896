"""A raw set in which two frames cannot be read, builds of small parts, a cache of the tests' own."""

from __future__ import annotations

from collections.abc import Iterator

import datasets
import pytest

from liver_landmark.data import build, dataset_folder
from raw_sets import l3d
from raw_sets.pictures import truncate
from raw_sets.truth import RawSet


@pytest.fixture(scope="module", autouse=True)
def datasets_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """`datasets` caches in a folder of the tests, not in the user's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))
        yield


@pytest.fixture
def small_parts(monkeypatch) -> None:
    """Several shards out of a few frames, and tiles that nobody looks at."""
    monkeypatch.setattr(dataset_folder, "FRAMES_PER_SHARD", 3)
    monkeypatch.setattr(build, "_SHEET_TILE_PX", 64)


@pytest.fixture(scope="module")
def card(repository) -> str:
    return (repository / "hub_configs" / "datasets" / "l3d" / "README.md").read_text(encoding="utf-8")


@pytest.fixture
def raw(tmp_path) -> RawSet:
    """12 frames in 5 shards: 6 train, 2 validation, 4 test; the second and the ninth cannot be read."""
    raw = l3d.write_l3d(tmp_path / "raw", depth_bits=16)
    for place in (1, 9):
        truncate(raw.frames[place].picture)
    return raw
