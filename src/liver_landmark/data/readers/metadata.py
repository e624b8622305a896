"""The parts of a JPEG or PNG file that its picture needs, without the metadata: names, places, thumbnails.

What is compressed stays byte for byte as it came; see ITU-T T.81 (B.1.1) and the PNG specification (5.3).
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
# What decides the pixels and their colours; all other chunks are text, time, EXIF or private.
_PNG_KEPT = frozenset(
    (
        b"IHDR",
        b"PLTE",
        b"IDAT",
        b"IEND",
        b"tRNS",
        b"cHRM",
        b"gAMA",
        b"iCCP",
        b"sRGB",
        b"cICP",
        b"sBIT",
        b"pHYs",
    )
)
_SOI, _EOI, _SOS = 0xD8, 0xD9, 0xDA
_APP0, _APP2, _APP14, _APP15, _COM = 0xE0, 0xE2, 0xEE, 0xEF, 0xFE
# Start of frame, of any process: baseline, progressive and so on, without DHT, JPG and DAC.
_SOF = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JFIF_BYTES = 14  # after the length, without a thumbnail
# The end of entropy-coded data: a marker that is no stuffed byte, no restart and no fill.
_NEXT_MARKER = re.compile(rb"\xff+[^\x00\xff\xd0-\xd7]")


@dataclass(frozen=True)
class BarePicture:
    """A picture file without its metadata.

    Attributes:
        parts: The file's bytes that are kept, in order.
        width: px as stored, before any EXIF orientation.
        height: Likewise.
        whole: Nothing was left out: the parts together are the file.
    """

    parts: tuple[bytes | memoryview, ...]
    width: int
    height: int
    whole: bool

    def joined(self) -> bytes:
        """The file without its metadata."""
        return b"".join(self.parts)


def bare_picture(data: bytes) -> BarePicture | None:
    """Takes a JPEG or PNG apart; None for other formats and where its structure cannot be followed."""
    if data.startswith(_PNG_SIGNATURE):
        return _bare_png(data)
    if data.startswith(b"\xff\xd8"):
        return _bare_jpeg(data)
    return None


def _bare_png(data: bytes) -> BarePicture | None:
    view, position = memoryview(data), len(_PNG_SIGNATURE)
    parts: list[bytes | memoryview] = [view[:position]]
    size = None
    while position + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        end = position + 12 + length
        if end > len(data):
            return None
        if kind == b"IHDR" and length == 13:
            size = struct.unpack_from(">II", data, position + 8)
        if kind in _PNG_KEPT:
            parts.append(view[position:end])
        position = end
        if kind == b"IEND":
            return None if size is None else _bare(parts, size, len(data))
    return None


def _bare_jpeg(data: bytes) -> BarePicture | None:
    view, position = memoryview(data), 2
    parts: list[bytes | memoryview] = [view[:2]]
    size = None
    while position + 4 <= len(data) or data[position : position + 2] == b"\xff\xd9":
        marker = data[position + 1]
        if data[position] != 0xFF:
            return None
        if marker == 0xFF:  # a fill byte
            position += 1
            continue
        if marker == _EOI:
            parts.append(view[position : position + 2])
            return None if size is None else _bare(parts, size, len(data))
        end = position + 2 + struct.unpack_from(">H", data, position + 2)[0]
        if marker == _SOI or end < position + 4 or end > len(data):
            return None
        if marker in _SOF and end >= position + 9:
            height, width = struct.unpack_from(">HH", data, position + 5)
            size = (width, height)
        if marker == _SOS:
            found = _NEXT_MARKER.search(data, end)
            if found is None:
                return None
            end = found.end() - 2
        parts += _kept_segment(view[position:end], marker)
        position = end
    return None


def _kept_segment(segment: memoryview, marker: int) -> list[bytes | memoryview]:
    if marker == _COM:
        return []
    if not _APP0 <= marker <= _APP15:
        return [segment]
    payload = segment[4:]
    if marker == _APP0 and payload[:5] == b"JFIF\0" and len(payload) >= _JFIF_BYTES:
        if len(payload) == _JFIF_BYTES:
            return [segment]
        # A thumbnail may show what the frame no longer does.
        return [struct.pack(">HH", 0xFFE0, _JFIF_BYTES + 2) + bytes(payload[:12]) + b"\0\0"]
    if marker == _APP2 and payload[:12] == b"ICC_PROFILE\0":
        return [segment]
    # Adobe's segment says how colours are to be decoded.
    return [segment] if marker == _APP14 and payload[:5] == b"Adobe" else []


def _bare(parts: list[bytes | memoryview], size: tuple[int, int], file_bytes: int) -> BarePicture:
    return BarePicture(tuple(parts), *size, whole=sum(map(len, parts)) == file_bytes)
