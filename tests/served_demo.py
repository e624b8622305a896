"""A demo that is served within the test process."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from typing import Any

import httpx

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

    def post(self, route: str, **content: Any) -> httpx.Response:
        """Without the client's checks, as programs may."""
        return httpx.post(f"{self.url}gradio_api/{route}", timeout=20, **content)

    def upload(self, name: str = "frame.png", content: bytes = b"x") -> httpx.Response:
        """A file, as the page sends it."""
        return self.post("upload", files={"files": (name, content)})

    def begin(self, call: str, *values: Any, session: str = "") -> str:
        """The address of the answer to a call, which is given when it is asked for."""
        body = {"data": values, "session_hash": session or token_hex(8)}
        return f"{self.url}gradio_api/call/{call}/{self.post(f'call/{call}', json=body).json()['event_id']}"

    def ask(self, call: str, *values: Any, session: str = "") -> str:
        """What a call is answered with, its words as they are sent."""
        return httpx.get(self.begin(call, *values, session=session), timeout=20).text


def uploaded(path: str) -> dict[str, Any]:
    """A file as calls name it."""
    return {"path": path, "meta": {"_type": "gradio.FileData"}}


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
