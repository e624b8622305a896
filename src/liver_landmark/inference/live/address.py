"""What `SOURCE` of the live mode names: a camera, a stream on the network, or a video file."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import urlsplit

SCHEMES: tuple[str, ...] = ("rtsp", "rtsps", "http", "https")
_DEVICE = re.compile(r"/dev/video(\d+)")
# OpenCV takes a camera's index as a C int.
_MOST_DIGITS = 9


class SourceError(Exception):
    """A source that cannot be opened, or that broke; the message is one line without credentials."""


@dataclass(frozen=True)
class SourceAddress:
    """Where pictures come from.

    Attributes:
        kind: camera (a device of this machine), network (a stream), or file (played by its time stamps).
        target: Camera index, URL or path, for the one that opens it: a URL's password is in it.
        shown: The same for people: without user, password, query and fragment.
    """

    kind: Literal["camera", "network", "file"]
    target: str = field(repr=False)
    shown: str


def parse_source(text: str) -> SourceAddress:
    """Reads `SOURCE`: a camera index, `/dev/video<N>` or a link to one, a URL, or a video file.

    Raises:
        SourceError: none of these, a URL of another scheme or without a host, or a file that is not there.
    """
    if text.isdecimal() and text.isascii():
        index = _camera_index(text, text)
        return SourceAddress("camera", index, f"camera {index}")
    if text.startswith("/dev/"):
        device = _DEVICE.fullmatch(os.path.realpath(text))
        if device is None:
            raise SourceError(f"{text}: no camera; cameras are /dev/video0, /dev/video1 …, or links to them")
        return SourceAddress("camera", _camera_index(device[1], text), text)
    if "://" in text:
        return SourceAddress("network", text, _without_credentials(text))
    if not os.path.isfile(text):
        raise SourceError(
            f"{text or 'an empty name'}: no such file (a source is a camera index, /dev/video0, "
            f"{'://, '.join(SCHEMES)}://, or a video file)"
        )
    return SourceAddress("file", text, text)


def _camera_index(digits: str, text: str) -> str:
    index = digits.lstrip("0") or "0"
    if len(index) > _MOST_DIGITS:
        raise SourceError(f"{text:.80}: no such camera")
    return index


def _without_credentials(url: str) -> str:
    """Scheme, host, port and path of a URL: what is left may be printed and shown."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        # Its text is not repeated: where the password lies in it cannot be known.
        raise SourceError("the URL of the source cannot be read: expected rtsp://host:port/path") from None
    scheme = parts.scheme.lower()
    if scheme not in SCHEMES:
        known = ", ".join(f"{name}://" for name in SCHEMES)
        raise SourceError(f"a source of the scheme {scheme}:// is not supported: {known}")
    if not host:
        raise SourceError(f"a {scheme}:// source needs a host: {scheme}://host:port/path")
    if any(character.isspace() or not character.isprintable() for character in url):
        raise SourceError("the URL of the source has spaces or control characters: write them as %20 …")
    if "@" in parts.path:
        # A slash within the password: what follows it would be taken for the path, and shown.
        raise SourceError(
            "the URL of the source has an @ in its path: write it %40, and a / in a password %2F"
        )
    name = f"[{host}]" if ":" in host else host
    user = "***@" if "@" in parts.netloc else ""
    query = "?…" if parts.query else ""
    return f"{scheme}://{user}{name}{'' if port is None else f':{port}'}{parts.path}{query}"
