"""Fixtures of the training tests: written once, read by many."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import datasets
import pytest

import training_runs


@pytest.fixture(autouse=True)
def fresh_accelerate() -> Iterator[None]:
    """Every test starts and ends without accelerate's process-wide state."""
    training_runs.forget_accelerate()
    yield
    training_runs.forget_accelerate()


@pytest.fixture(scope="session", autouse=True)
def datasets_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """`datasets` caches in a folder of the tests, not in the user's."""
    folder = tmp_path_factory.mktemp("datasets_cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", folder)
        yield folder


@pytest.fixture(scope="session")
def dataset_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return training_runs.write_dataset(tmp_path_factory.mktemp("dataset") / "tiny")


@pytest.fixture(scope="session")
def architecture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return training_runs.write_architecture(tmp_path_factory.mktemp("architecture"))


@pytest.fixture(scope="session")
def arguments(dataset_folder: Path, architecture: Path):
    """(output_dir, **fields) -> the command line of a short run."""

    def build(output_dir: Path, **fields: object) -> list[str]:
        return training_runs.recipe_arguments(dataset_folder, architecture, output_dir, **fields)

    return build
