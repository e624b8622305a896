"""The live mode: a camera, a stream or a file in, a page in the browser out, with its latency measured."""

from .address import SourceAddress, SourceError, parse_source
from .capture import CaptureOptions
from .model import LiveModel
from .picture import PictureOptions
from .server import LiveServer, is_loopback
from .session import LiveOptions, LiveSession

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
