"""A demo that is served within the test process."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Server:
    """A running demo: its address, its handlers, and the folder where its files are."""

    url: str
    handlers: Any
    cache: Path

    def files(self) -> list[Path]:
        """All files that the server keeps."""
        return [path for path in self.cache.rglob("*") if path.is_file()]


@contextlib.contextmanager
def serving(engine: Any, cache: Path, **limits: Any) -> Iterator[Server]:
    """A server with these limits."""
    from demo_blocks import build, launch
    from demo_examples import example_frames
    from demo_handlers import Handlers
    from demo_limits import DemoLimits

    chosen, examples = DemoLimits(**limits), example_frames()
    handlers = Handlers(engine, chosen, cache, examples)
    demo = build(handlers, chosen, examples)
    launch(demo, chosen, prevent_thread_lock=True, quiet=True, server_name="127.0.0.1")
    try:
        yield Server(demo.local_url, handlers, cache)
    finally:
        demo.close()
