"""Between Gradio and the demo's functions: no file but an upload, no words of a fault in the log."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Container, Iterator
from pathlib import Path
from typing import Any

import gradio as gr
from demo_limits import FAULT, GONE
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

# Gradio would fetch any address for whoever asks, keep what a page holds, and convert recordings.
_UNUSED_ROUTES = ("/file=http:", "/file=https:", "/gradio_api/deep_link", "/gradio_api/process_recording")


class Refusal(gr.Error):
    """What the user reads instead of a result; nothing is printed on the server."""

    def __init__(self, message: str) -> None:
        super().__init__(message, title="Not possible", print_exception=False)


class GuardedBlocks(gr.Blocks):
    """A page whose functions get uploads only, and whose faults are logged by kind and place alone."""

    # What may be named as a file: paths that were uploaded and are not yet deleted.
    known_uploads: Container[str] = ()

    async def preprocess_data(
        self, block_fn: Any, inputs: list[Any], state: Any, explicit_call: bool = False
    ) -> list[Any]:
        """Refuses other paths before Gradio looks: it passes on what it serves, and fetches addresses.

        A page that is older than the server names an upload of the one before.
        """
        if any(not isinstance(path, str) or path not in self.known_uploads for path in _paths(inputs)):
            raise Refusal(GONE)
        return await super().preprocess_data(block_fn, inputs, state, explicit_call)

    async def process_api(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Gradio would print a fault's words, in which names of files can be."""
        try:
            return await super().process_api(*args, **kwargs)
        except gr.Error:
            raise
        except Exception as fault:  # noqa: BLE001 - whatever it is, its words may name a file
            place = traceback.extract_tb(fault.__traceback__)[-1]
            line = f"{Path(place.filename).name}:{place.lineno}, in {place.name}"
            print(f"error: {type(fault).__name__} at {line}", file=sys.stderr)
            raise Refusal(FAULT) from None


class NoUnusedRoutes:
    """Answers 404 on routes of Gradio that this page does not need."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] == "http" and any(route in scope["path"].lower() for route in _UNUSED_ROUTES):
            await PlainTextResponse("Not Found", 404)(scope, receive, send)
        else:
            await self._app(scope, receive, send)


def _paths(value: Any) -> Iterator[Any]:
    """What is named as a file anywhere in the values of controls."""
    if isinstance(value, dict):
        if "path" in value:
            yield value["path"]
        for part in value.values():
            yield from _paths(part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _paths(part)
