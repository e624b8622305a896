"""Reading frames that a stranger made: checked before they are decoded, upright RGB afterward."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

# What Pillow may decode here. Its other formats are rare in this field, and some call other programs.
FORMATS: tuple[str, ...] = ("JPEG", "PNG", "BMP", "TIFF", "WEBP")
SUFFIXES: tuple[str, ...] = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")

# What Pillow's decoders raise on broken files: its TIFF reader trusts the types of a header's values.
_DECODING_ERRORS = (
    OSError,
    SyntaxError,
    EOFError,
    ValueError,
    TypeError,
    AttributeError,
    LookupError,
    ArithmeticError,
    RuntimeError,
    MemoryError,
    struct.error,
    zlib.error,
)
# Alpha is dropped, as the image processor does; palettes with transparency get there by way of RGBA.
_TO_RGB = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr")

# The PNG specification (ISO/IEC 15948), 11.2.2 and 8.2: samples of a pixel by color type, and where the
# seven passes of an interlaced picture begin and how far their pixels are apart: x, y, x, y.
_PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
_PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_PNG_PASSES = (
    (0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2),
)  # fmt: skip
_INFLATED_AT_ONCE = 2**16


@dataclass(frozen=True)
class FrameLimits:
    """What is refused before it is decoded.

    Attributes:
        max_file_bytes: Size of a file on disk.
        max_pixels: Width × height; the default is twice an 8K frame.
    """

    max_file_bytes: int = 2**28
    max_pixels: int = 2**26

    def __post_init__(self) -> None:
        if self.max_file_bytes < 1 or self.max_pixels < 1:
            raise ValueError(f"limits must be positive, got {self}")


class FrameError(ValueError):
    """A frame that cannot be read; the message is one line that names the file and the reason."""


def read_frame(path: Path | str, limits: FrameLimits | None = None) -> np.ndarray:
    """Reads a picture file as an upright RGB frame.

    The EXIF orientation is applied. Gray becomes three equal channels, a palette is looked up, alpha is
    dropped, 16-bit gray is scaled to 8 bits, CMYK is converted.

    Args:
        path: A JPEG, PNG, BMP, TIFF or WebP file; its content decides, not its name.
        limits: None takes the defaults.

    Returns:
        (H, W, 3) uint8.

    Raises:
        FrameError: missing, empty, truncated, corrupt, too large, of another format or pixel type, or a
            file of several pictures.
    """
    path, limits = Path(path), limits or FrameLimits()
    data = read_frame_bytes(path, limits)
    with _one_line_errors(path):
        return _as_rgb(ImageOps.exif_transpose(decode_picture(data, path, limits)), path)


def decode_picture(data: bytes, name: Path | str, limits: FrameLimits | None = None) -> Image.Image:
    """Decodes the bytes of a picture file, whatever its pixels mean: colors, class ids, depths.

    Args:
        data: A JPEG, PNG, BMP, TIFF or WebP file.
        name: What errors call it.
        limits: None takes the defaults; the number of pixels is checked before they are decoded.

    Returns:
        The picture in its own mode, as stored: an EXIF orientation is not applied.

    Raises:
        FrameError: as `read_frame`.
    """
    with _one_line_errors(name):
        image = Image.open(io.BytesIO(data), formats=FORMATS)
        _check_header(image, name, limits or FrameLimits())
        if image.format == "PNG":
            # Decoding passes over wrong checksums, to other pixels than were saved.
            image.verify()
            image = Image.open(io.BytesIO(data), formats=FORMATS)
        image.load()
        if image.format == "PNG" and _may_lack_rows(image) and not _holds_every_row(data):
            raise FrameError(f"{name}: truncated or corrupt: its compressed pixels end before the last row")
        return image


def _may_lack_rows(image: Image.Image) -> bool:
    """Whether a PNG's last row is black, as rows are that its stream does not hold; Pillow passes over that.

    Only those are inflated a second time, and interlaced ones, whose last pixels lie elsewhere.
    """
    last_row = image.crop((0, image.height - 1, image.width, image.height))
    return bool(image.info.get("interlace")) or not np.asarray(last_row).any()


def _holds_every_row(data: bytes) -> bool:
    """Whether a PNG, whose chunks are whole, inflates to as many bytes as its size asks for."""
    missing = _inflated_bytes(data)
    inflater = zlib.decompressobj()
    place = len(_PNG_MAGIC)
    while place < len(data) and missing > 0 and not inflater.eof:
        length, kind = struct.unpack_from(">I4s", data, place)
        if kind == b"IDAT":
            packed = memoryview(data)[place + 8 : place + 8 + length]
            while len(packed) and missing > 0 and not inflater.eof:
                missing -= len(inflater.decompress(packed, _INFLATED_AT_ONCE))
                packed = inflater.unconsumed_tail
        place += length + 12
    # What it holds back of input that it has taken.
    return missing <= 0 or missing <= len(inflater.flush())


def _inflated_bytes(data: bytes) -> int:
    """Bytes of a PNG's rows: each begins with its filter, and its last byte may be filled up."""
    width, height, depth, colors, _, _, interlaced = struct.unpack_from(">IIBBBBB", data, 16)
    bits = depth * _PNG_CHANNELS[colors]
    total = 0
    for left, top, step_x, step_y in _PNG_PASSES if interlaced else [(0, 0, 1, 1)]:
        columns = len(range(left, width, step_x))
        rows = len(range(top, height, step_y))
        total += rows * (1 + (columns * bits + 7) // 8) if columns else 0
    return total


@contextmanager
def _one_line_errors(name: Path | str) -> Iterator[None]:
    try:
        with warnings.catch_warnings():
            # Pillow warns at its own pixel count, where ours decides, and of damage that it can read past.
            warnings.simplefilter("ignore")
            yield
    except FrameError:
        raise
    except Image.UnidentifiedImageError:
        raise FrameError(f"{name}: not a readable picture of type {', '.join(FORMATS)}") from None
    except Image.DecompressionBombError as error:
        raise FrameError(f"{name}: {_one_line(error)}") from error
    except _DECODING_ERRORS as error:
        raise FrameError(f"{name}: truncated or corrupt: {_one_line(error)}") from error


def _check_header(image: Image.Image, path: Path | str, limits: FrameLimits) -> None:
    if image.width * image.height > limits.max_pixels:
        raise FrameError(
            f"{path}: {image.width}×{image.height} px, more than the limit of {limits.max_pixels} pixels"
        )
    # A stereo JPEG (MPO) is its first picture; of pages and animations none is meant more than another.
    pictures = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)
    if pictures > 1:
        raise FrameError(f"{path}: holds {pictures} pictures, expected one frame")


def read_frame_bytes(path: Path, limits: FrameLimits) -> bytes:
    """A picture file's bytes; a FrameError where it cannot be read, or is empty or too large."""
    try:
        if path.is_dir():
            raise FrameError(f"{path}: a folder, expected a picture file")
        if path.exists() and not path.is_file():
            raise FrameError(f"{path}: not a regular file")
        with path.open("rb") as file:
            # One byte more than allowed tells a file that is too large, and one that is still growing.
            data = file.read(limits.max_file_bytes + 1)
    except FileNotFoundError:
        raise FrameError(f"{path}: no such file") from None
    except OSError as error:
        raise FrameError(f"{path}: cannot be read: {error.strerror or _one_line(error)}") from error
    if not data:
        raise FrameError(f"{path}: empty file")
    if len(data) > limits.max_file_bytes:
        raise FrameError(f"{path}: larger than the limit of {limits.max_file_bytes} bytes")
    return data


def _as_rgb(image: Image.Image, path: Path) -> np.ndarray:
    # Pillow reads some 16-bit files as 32-bit integers.
    if image.mode.startswith("I;16") or (image.mode == "I" and _fits_16_bits(image)):
        # 65535 / 257 = 255: white stays white, rounded to the nearest.
        gray = ((np.asarray(image).astype(np.uint32) + 128) // 257).astype(np.uint8)
        return np.repeat(gray[..., None], 3, axis=2)
    if image.mode not in _TO_RGB:
        raise FrameError(f"{path}: pixels of type {image.mode}, expected 8-bit color or gray, or 16-bit gray")
    if image.mode in ("P", "PA"):
        image = image.convert("RGBA")
    return np.array(image.convert("RGB"))


def _fits_16_bits(image: Image.Image) -> bool:
    low, high = image.getextrema()
    return low >= 0 and high <= 65535


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
