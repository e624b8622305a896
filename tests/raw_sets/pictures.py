"""Pictures of raw sets, good and bad."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

ORIENTATION_TAG = 0x0112
# Where this appears in a built set, a patient's data has been carried along.
SECRET = b"J. Doe, born 1950-01-01"


def picture(seed: int, width: int, height: int) -> np.ndarray:
    """(height, width, 3) uint8: smooth blobs that differ from seed to seed and from corner to corner."""
    rng = np.random.default_rng([seed, 77])
    coarse = rng.integers(30, 226, (5, 7, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def write_jpeg(path: Path, rgb: np.ndarray, **options: object) -> None:
    """A JPEG as a video recorder writes it: 4:2:0, quality 90."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(rgb).save(path, "JPEG", quality=90, subsampling="4:2:0", **options)


def write_png(path: Path, pixels: np.ndarray) -> None:
    """A PNG of (H, W, 3) or (H, W) uint8, or (H, W) uint16."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, "PNG")


def truncate(path: Path, share: float = 0.5) -> None:
    """Cuts a file's end off."""
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])


def turn_by_exif(path: Path, orientation: int) -> None:
    """Stores a JPEG's pixels as a camera that was held otherwise: what is seen upright stays the same.

    Orientation 3 is upside down; 6 needs a quarter turn clockwise to be upright, 8 counter-clockwise.
    """
    stored_turn = {3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}
    with Image.open(path) as image:
        upright = ImageOps.exif_transpose(image).convert("RGB")
    stored = upright.transpose(stored_turn[orientation])
    exif = Image.Exif()
    exif[ORIENTATION_TAG] = orientation
    write_jpeg(path, np.asarray(stored), exif=exif)


def jpeg_segment(marker: int, payload: bytes) -> bytes:
    """One segment with its length."""
    return struct.pack(">BBH", 0xFF, marker, len(payload) + 2) + payload


def add_jpeg_metadata(path: Path) -> None:
    """Puts EXIF with a GPS position, XMP, an IPTC block, a comment and a trailer into a JPEG.

    All of them name `SECRET`; the picture itself stays as it is, byte for byte.
    """
    exif = Image.Exif()
    exif[0x010E] = SECRET.decode()  # ImageDescription
    exif.get_ifd(0x8825)[29] = SECRET.decode()  # GPSDateStamp
    data = path.read_bytes()
    if data[:2] != b"\xff\xd8":
        raise ValueError(f"{path} is no JPEG")
    segments = (
        jpeg_segment(0xE1, b"Exif\x00\x00" + exif.tobytes().removeprefix(b"Exif\x00\x00"))
        + jpeg_segment(0xE1, b"http://ns.adobe.com/xap/1.0/\x00<x:xmpmeta>" + SECRET + b"</x:xmpmeta>")
        + jpeg_segment(0xED, b"Photoshop 3.0\x008BIM\x04\x04\x00\x00" + SECRET)
        + jpeg_segment(0xFE, SECRET)
    )
    # JFIF's own segment has to come first.
    first = 2
    if data[2:4] == b"\xff\xe0":
        first = 4 + struct.unpack(">H", data[4:6])[0]
    path.write_bytes(data[:first] + segments + data[first:] + SECRET)


def png_chunk(kind: bytes, payload: bytes) -> bytes:
    """One chunk with its length and checksum."""
    return struct.pack(">I", len(payload)) + kind + payload + struct.pack(">I", zlib.crc32(kind + payload))


def add_png_metadata(path: Path) -> None:
    """Puts text, EXIF and a time into a PNG, all naming `SECRET` where they can."""
    data = path.read_bytes()
    end_of_header = 8 + 12 + 13
    exif = Image.Exif()
    exif[0x010E] = SECRET.decode()
    chunks = (
        png_chunk(b"tEXt", b"Comment\x00" + SECRET)
        + png_chunk(b"zTXt", b"Comment\x00\x00" + zlib.compress(SECRET))
        + png_chunk(b"iTXt", b"Comment\x00\x00\x00\x00\x00" + SECRET)
        + png_chunk(b"eXIf", exif.tobytes().removeprefix(b"Exif\x00\x00"))
        + png_chunk(b"tIME", struct.pack(">HBBBBB", 1950, 1, 1, 0, 0, 0))
    )
    path.write_bytes(data[:end_of_header] + chunks + data[end_of_header:])


def png_bomb(width: int = 60_000, height: int = 60_000) -> bytes:
    """A few kB that claim to be 10 GB of pixels; what data it has is well-formed."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rows = zlib.compress(bytes(1_000_000))
    return (
        b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + png_chunk(b"IDAT", rows) + png_chunk(b"IEND", b"")
    )
