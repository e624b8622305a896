"""What the readers build is what the loader takes and the check finds nothing wrong with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import datasets
import numpy as np
import pytest

from liver_landmark.cli import main
from liver_landmark.data.check import SetCheck
from liver_landmark.data.loading import load_landmark_dataset
from liver_landmark.data.statistics import split_statistics
from raw_sets import l3d, labelme, llsd, p2ilf
from raw_sets.truth import RawSet


@pytest.fixture(scope="module", autouse=True)
def datasets_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """`datasets` caches in a folder of the tests, not in the user's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))
        yield


@pytest.mark.parametrize(
    ("name", "write", "options"),
    [
        ("l3d", l3d.write_l3d, []),
        ("p2ilf", p2ilf.write_p2ilf, []),
        ("llsd", llsd.write_llsd, []),
        ("custom", labelme.write_labelme, ["--format", "labelme"]),
    ],
    ids=["l3d", "p2ilf", "llsd", "custom"],
)
def test_a_built_set_is_without_a_problem(
    tmp_path: Path, name: str, write: Callable[[Path], RawSet], options: list[str]
) -> None:
    raw = write(tmp_path / "raw")
    folder = tmp_path / "built"
    command = ["data", "build", name, str(raw.root), "--output", str(folder), "--workers", "1"]
    assert main([*command, *options]) == 0
    check = SetCheck(folder)
    assert [str(problem) for problem in check.problems()] == []
    assert check.counts.frames.total() == len(raw.frames)
    loaded = load_landmark_dataset(folder)
    assert sum(len(rows) for rows in loaded.values()) == len(raw.frames)
    for split, rows in loaded.items():
        assert split_statistics(rows).summary["frames"] == check.counts.frames[split]
        for row in rows:
            assert np.asarray(row["label"]).any()
