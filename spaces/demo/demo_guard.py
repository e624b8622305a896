"""Between Gradio and the demo's functions: no file but an upload, no more than fits, no words of a fault."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr
from anyio.to_thread import run_sync
from demo_limits import FAULT, FULL, GONE, TOO_LARGE
from demo_queue import WatchedQueue
from demo_storage import StoredBytes
from demo_uploads import CountedUploads
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

# Gradio would fetch any address for whoever asks, keep what a page holds, convert recordings, and take files
# into memory for components that this page does not have.
_UNUSED_ROUTES = (
    "/file=http:",
    "/file=https:",
    "/gradio_api/deep_link",
    "/gradio_api/process_recording",
    "/gradio_api/component_server",
)
# What a form adds to the file in it.
_FORM_BYTES = 2**16


class Refusal(gr.Error):
    """What the user reads instead of a result; nothing is printed on the server."""

    def __init__(self, message: str) -> None:
        super().__init__(message, title="Not possible", print_exception=False)


class GuardedBlocks(gr.Blocks):
    """A page whose functions get uploads only, and whose faults are logged by kind and place alone.

    Attributes:
        uploads: What may be named as a file: what was uploaded and is not yet deleted.
        stored: What lies in the server's folder; None for any number of bytes.
        retried: Names of the functions that can be asked again for the same upload, because their page still
            shows it and has a button.
    """

    uploads: CountedUploads = CountedUploads()
    stored: StoredBytes | None = None
    retried: frozenset[str] = frozenset()

    def queue(self, *args: Any, **settings: Any) -> gr.Blocks:
        """Gradio's queue, with an eye on uploads whose turn never comes."""
        super().queue(*args, **settings)
        self._queue = WatchedQueue.like(self._queue)
        return self

    def let_go(self, block_fn: Any, inputs: list[Any], *, may_ask_again: bool) -> None:
        """Deletes the uploads of a request that does not run, unless its user can send it once more."""
        if may_ask_again and block_fn.api_name in self.retried:
            return
        # Once each, however often it is named: others may have uploaded the same.
        for path in {path for path in _paths(inputs) if isinstance(path, str)}:
            self.uploads.release(path)

    async def preprocess_data(
        self, block_fn: Any, inputs: list[Any], state: Any, explicit_call: bool = False
    ) -> list[Any]:
        """Refuses other paths before Gradio looks: it passes on what it serves, and fetches addresses.

        A page that is older than the server names an upload of the one before. What only tidies up runs even
        when the server's folder is full.
        """
        if any(not isinstance(path, str) or path not in self.uploads for path in _paths(inputs)):
            self.let_go(block_fn, inputs, may_ask_again=False)
            raise Refusal(GONE)
        if self.stored is not None and block_fn.outputs and await run_sync(self.stored.is_full):
            self.let_go(block_fn, inputs, may_ask_again=True)
            raise Refusal(FULL)
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


class UploadsThatFit:
    """Refuses uploads that are too large, or too many for the server's folder, before they are there.

    What has come in counts, and not what was announced: a request can announce anything and send nothing,
    or more.
    """

    def __init__(self, app: ASGIApp, stored: StoredBytes, max_bytes: int) -> None:
        """Takes what lies in the server's folder, and the size of an upload, in bytes."""
        self._app, self._stored, self._max_bytes = app, stored, max_bytes + _FORM_BYTES
        self._too_large = TOO_LARGE.format(max_upload_mb=max_bytes / 2**20), 413

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http" or not scope["path"].rstrip("/").endswith("/upload"):
            await self._app(scope, receive, send)
            return
        announced = int(Headers(scope=scope).get("content-length", "0"))
        if announced > self._max_bytes:
            await PlainTextResponse(*self._too_large)(scope, receive, send)
            return
        came, refusal = 0, None if await run_sync(self._stored.has_room, announced) else (FULL, 507)

        async def counted() -> Message:
            """The next part of the upload; that it broke off where it does not fit."""
            nonlocal came, refusal
            message = await receive()
            size = len(message.get("body", b""))
            if came + size > self._max_bytes:
                refusal = self._too_large
            elif not await run_sync(self._stored.reserve, size):
                refusal = FULL, 507
            else:
                came += size
                return message
            return {"type": "http.disconnect"}

        try:
            if refusal is None:
                await self._app(scope, counted, send)
        except ClientDisconnect:
            # Somebody closed the page, or it did not fit: no defect to be logged.
            pass
        finally:
            self._stored.unreserve(came)
        if refusal is not None:
            await self._rest_of(receive)
            await PlainTextResponse(*refusal)(scope, receive, send)

    async def _rest_of(self, receive: Receive) -> None:
        """Browsers show an answer when they have sent all."""
        left = self._max_bytes
        while left > 0 and (message := await receive()).get("more_body"):
            left -= len(message["body"])


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
