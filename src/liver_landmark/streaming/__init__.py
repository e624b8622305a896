"""The live mode: a camera, a stream or a file in, a page in the browser out, with its latency measured."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..utils import lazy_exports

if TYPE_CHECKING:
    from .capture import CaptureOptions, SourceAddress, SourceError, parse_source
    from .server import LiveServer, PictureOptions, is_loopback
    from .session import LiveModel, LiveOptions, LiveSession

__all__ = [
    "CaptureOptions",
    "LiveModel",
    "LiveOptions",
    "LiveServer",
    "LiveSession",
    "PictureOptions",
    "SourceAddress",
    "SourceError",
    "is_loopback",
    "parse_source",
]
__getattr__, __dir__ = lazy_exports(
    globals(),
    {
        "capture": ["CaptureOptions", "SourceAddress", "SourceError", "parse_source"],
        "server": ["LiveServer", "PictureOptions", "is_loopback"],
        "session": ["LiveModel", "LiveOptions", "LiveSession"],
    },
)
