"""Models that the commands are run with, and how their one-line errors are read."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import datasets
import pytest

from tiny_datasets import save_model


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The folder of a tiny model that nobody may change."""
    return str(save_model(tmp_path_factory.mktemp("model")))


@pytest.fixture(scope="session", autouse=True)
def datasets_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """`datasets` caches in a folder of the tests, not in the user's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))
        yield
    datasets.enable_progress_bars()


@pytest.fixture
def error_line(capsys: pytest.CaptureFixture[str]) -> Callable[[str], str]:
    """The one line that a failed command says on stderr, apart from what it announced before."""

    def read(command: str) -> str:
        lines = [line for line in capsys.readouterr().err.splitlines() if not line.endswith(" …")]
        assert len(lines) == 1, lines
        assert lines[0].startswith(f"liver-landmark {command}: error: "), lines
        return lines[0]

    return read
