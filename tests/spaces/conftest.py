"""The demo's modules, a model that knows landmarks by their colors, and a running server."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from liver_landmark.inference import LandmarkPredictor
from served_demo import REPOSITORY, Server, serving
from tiny_datasets import SeesColors, tiny_processor

pytest.importorskip("gradio", reason="the demo needs the extra `demo`")
# The demo's folder first on the path, as when Python runs app.py.
sys.path.insert(0, str(REPOSITORY / "spaces" / "demo"))


@pytest.fixture(scope="session", autouse=True)
def demo_environment() -> Iterator[None]:
    """The environment that app.py sets, and a cache of its own."""
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as cache:
        patch.setenv("GRADIO_TEMP_DIR", str(Path(cache).resolve()))
        patch.setenv("GRADIO_ANALYTICS_ENABLED", "False")
        patch.setenv("GRADIO_ANALYTICS_CACHE_FREQUENCY", str(10**9))
        yield


@pytest.fixture(scope="session")
def engine() -> Any:
    """The demo's engine with `SeesColors`, whose answers are known beforehand."""
    from demo_engine import Engine

    return Engine(LandmarkPredictor(SeesColors().eval(), tiny_processor()))


@pytest.fixture(scope="session")
def cache(demo_environment: None) -> Path:
    """Where Gradio keeps files."""
    from gradio.utils import get_upload_folder

    folder = Path(get_upload_folder())
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def server(engine: Any, cache: Path) -> Iterator[Server]:
    """A server with the limits as they are."""
    with serving(engine, cache) as running:
        yield running
