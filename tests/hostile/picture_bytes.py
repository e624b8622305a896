"""Picture files made by hand: what Pillow would not write."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from PIL import Image

PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
# How stored pixels are turned upright, by the EXIF standard.
UPRIGHT = {
    1: lambda pixels: pixels,
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.swapaxes(0, 1),
    6: lambda pixels: np.rot90(pixels, -1),
    7: lambda pixels: pixels[::-1, ::-1].swapaxes(0, 1),
    8: lambda pixels: np.rot90(pixels, 1),
}


def chunks(data: bytes) -> list[tuple[int, int]]:
    """(where it starts, length of its content) of every chunk of a PNG."""
    found, place = [], len(PNG_MAGIC)
    while place < len(data):
        (length,) = struct.unpack_from(">I", data, place)
        found.append((place, length))
        place += length + 12
    return found


def bmp_header(width: int, height: int) -> bytes:
    """A BMP of that size, with some of its pixels."""
    info = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, 0, 2835, 2835, 0, 0)
    return struct.pack("<2sIHHI", b"BM", 54 + 9000, 0, 0, 54) + info + bytes(9000)


def top_down_bitmap(pixels: np.ndarray) -> bytes:
    """A BMP whose height is negative: its first row is the top one."""
    height, width = pixels.shape[:2]
    stride = (3 * width + 3) // 4 * 4
    rows = b"".join(row[:, ::-1].tobytes().ljust(stride, b"\0") for row in pixels)
    info = struct.pack("<IiiHHIIiiII", 40, width, -height, 1, 24, 0, len(rows), 2835, 2835, 0, 0)
    return struct.pack("<2sIHHI", b"BM", 54 + len(rows), 0, 0, 54) + info + rows


def tiff_header(width: int, height: int) -> bytes:
    """A TIFF of one strip of that size, with some of its pixels."""
    entries = [(256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1)]
    entries += [(273, 4, 1, 200), (277, 3, 1, 1), (278, 4, 1, height), (279, 4, 1, 9000)]
    directory = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return (b"II*\0\x08\0\0\0" + directory + bytes(4)).ljust(200, b"\0") + bytes(9000)


def jpeg_header(width: int, height: int) -> bytes:
    """A gray JPEG whose frame header says that size, its pixels a small picture's."""
    data = bytearray(encoded(np.full((8, 8), 99, np.uint8), "JPEG"))
    struct.pack_into(">HH", data, data.index(b"\xff\xc0") + 5, height, width)
    return bytes(data)


def webp_header(width: int, height: int) -> bytes:
    """A WebP whose canvas has that size, its one picture a small one."""
    small = encoded(np.full((8, 8, 3), 99, np.uint8), "WEBP")[12:]
    canvas = struct.pack("<I", 0)[:4] + struct.pack("<I", width - 1)[:3] + struct.pack("<I", height - 1)[:3]
    body = b"WEBP" + b"VP8X" + struct.pack("<I", 10) + canvas + small
    return b"RIFF" + struct.pack("<I", len(body)) + body


def tissue(rng: np.random.Generator, width: int = 48, height: int = 36) -> np.ndarray:
    """(H, W, 3) uint8: soft reds with fine noise, another one at each call."""
    coarse = Image.fromarray(rng.integers(40, 215, (4, 5, 3), dtype=np.uint8)).resize((width, height))
    return np.clip(np.asarray(coarse) + rng.integers(-12, 13, (height, width, 3)), 0, 255).astype(np.uint8)


def encoded(pixels: np.ndarray | Image.Image, file_format: str, **options: object) -> bytes:
    """A picture file's bytes."""
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def decoded(data: bytes) -> np.ndarray:
    """(H, W, 3) uint8 as Pillow reads it, in the plainest way."""
    with Image.open(io.BytesIO(data)) as image:
        return np.array(image.convert("RGB"))


def as_pillow_reads(data: bytes) -> list[np.ndarray]:
    """The frame that is decoded without complaint, or none."""
    try:
        return [decoded(data)]
    except (OSError, SyntaxError, ValueError, TypeError, struct.error, zlib.error, MemoryError, LookupError):
        return []


def overwritten(rng: np.random.Generator, data: bytes, count: int, start: float = 0.3) -> bytes:
    """The data with `count` bytes in its later part changed."""
    changed = bytearray(data)
    for place in rng.integers(int(start * len(data)), len(data), count):
        changed[place] ^= int(rng.integers(1, 256))
    return bytes(changed)
