"""A frame's picture as it goes into a set: checked, upright, without metadata, otherwise byte for byte."""

from __future__ import annotations

import hashlib
import io
import struct
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, JpegImagePlugin

from ...frame_files import FrameError, FrameLimits, decode_picture, read_frame
from .metadata import BarePicture, bare_picture

# Twice a 4K frame, of which as many as are read at once fit into the memory that a build may take.
LIMITS = FrameLimits(max_file_bytes=2**26, max_pixels=2**24)

_ORIENTATION = 0x0112
_UPRIGHT = 1
# EXIF orientation -> what makes the picture upright.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# What Pillow's EXIF reader raises on broken data, as its TIFF reader.
_EXIF_ERRORS = (OSError, SyntaxError, ValueError, TypeError, LookupError, ArithmeticError, struct.error)
# From here on the orientation exchanges width and height.
_FIRST_QUARTER_TURN = 5
# Pixel types that every reader of the set decodes alike; others are stored as plain RGB.
_PLAIN_MODES = ("L", "RGB")
_SAMPLING_444, _SAMPLING_420 = 0, 2


@dataclass(frozen=True)
class Picture:
    """An upright picture.

    Attributes:
        data: The encoded bytes, without metadata.
        suffix: `.jpg` or `.png`.
        width: px, upright.
        height: Likewise.
        orientation: EXIF orientation of the file, 1 to 8: 1 is upright already.
        converted: Stored in another format or pixel type than the file's.
    """

    data: bytes
    suffix: str
    width: int
    height: int
    orientation: int
    converted: bool

    @property
    def stored_size(self) -> tuple[int, int]:
        """(width, height) in px of the file's pixels before they were turned."""
        if self.orientation >= _FIRST_QUARTER_TURN:
            return self.height, self.width
        return self.width, self.height


def read_picture(path: Path) -> Picture:
    """Reads a frame's picture.

    A JPEG that EXIF turns is turned and encoded anew with its own quantisation tables; what is neither JPEG
    nor PNG, or of an unusual pixel type, becomes an RGB PNG. All else stays as it was compressed.

    Raises:
        FrameError: as `read_frame`, by tighter limits.
    """
    data = read_file(path)
    # The one full decoding: what is truncated or corrupt does not get further.
    image = decode_picture(data, path, LIMITS)
    plain = image.mode in _PLAIN_MODES
    is_jpeg = image.format in ("JPEG", "MPO")
    orientation = _orientation(image, path)
    bare = bare_picture(data)
    if is_jpeg and plain and orientation != _UPRIGHT:
        return _turned(image, orientation)
    if bare is not None and plain and orientation == _UPRIGHT:
        suffix = ".jpg" if is_jpeg else ".png"
        return Picture(bare.joined(), suffix, image.width, image.height, orientation, converted=False)
    rgb = read_frame(path, LIMITS)
    height, width = rgb.shape[:2]
    return Picture(_encode_png(rgb, path), ".png", width, height, orientation, converted=True)


def read_file(path: Path) -> bytes:
    """A picture file's bytes; a FrameError where it cannot be read, or is empty or too large."""
    try:
        if not path.is_file():
            raise FrameError(f"{path}: no such file, or not a regular one")
        with path.open("rb") as file:
            data = file.read(LIMITS.max_file_bytes + 1)
    except OSError as error:
        raise FrameError(f"{path}: cannot be read: {error.strerror or error}") from error
    if not data:
        raise FrameError(f"{path}: empty file")
    if len(data) > LIMITS.max_file_bytes:
        raise FrameError(f"{path}: larger than the limit of {LIMITS.max_file_bytes} bytes")
    return data


def _orientation(image: Image.Image, path: Path) -> int:
    try:
        value = image.getexif().get(_ORIENTATION, _UPRIGHT)
    except _EXIF_ERRORS as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise FrameError(
            f"{path}: which side is up is unknown, its EXIF data cannot be read: {reason}"
        ) from error
    return value if value in _TURNS else _UPRIGHT


def _turned(image: JpegImagePlugin.JpegImageFile, orientation: int) -> Picture:
    quarter = orientation >= _FIRST_QUARTER_TURN
    tables = [
        [table[8 * (place % 8) + place // 8] for place in range(64)] if quarter else list(table)
        for table in _tables(image)
    ]
    sampling = JpegImagePlugin.get_sampling(image)
    if sampling < 0 or (quarter and sampling != _SAMPLING_420):
        sampling = _SAMPLING_444  # halved along one side only, or unusually: full chroma loses nothing
    options = {"icc_profile": image.info["icc_profile"]} if "icc_profile" in image.info else {}
    upright, encoded = image.transpose(_TURNS[orientation]), io.BytesIO()
    upright.save(encoded, "JPEG", qtables=tables, subsampling=sampling, exif=b"", **options)
    # Pillow would carry a comment over.
    data = bare_picture(encoded.getvalue()).joined()
    return Picture(data, ".jpg", upright.width, upright.height, orientation, converted=False)


def _tables(image: JpegImagePlugin.JpegImageFile) -> list[list[int]]:
    """The quantisation tables of luma and, where there is colour, of chroma, each row by row."""
    numbers = [component[3] for component in image.layer]
    return [image.quantization[number] for number in numbers[:2]]


def _encode_png(rgb: np.ndarray, path: Path) -> bytes:
    done, encoded = cv2.imencode(".png", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))
    if not done:
        raise FrameError(f"{path}: cannot be encoded as PNG")
    return encoded.tobytes()


@dataclass(frozen=True)
class PictureDigest:
    """What identifies a picture file.

    Attributes:
        file: SHA-256 of the file.
        content: SHA-256 of the file without its metadata; None where the file cannot be a frame.
        pixels: Width × height by its header; None where that was not found.
    """

    file: str
    content: str | None
    pixels: int | None


def digest_picture(path: Path) -> PictureDigest:
    """Hashes a picture file without decoding it.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        if not 0 < path.stat().st_size <= LIMITS.max_file_bytes:
            # Read by the block: it is refused later, and must not fill the memory before.
            return PictureDigest(hashlib.file_digest(file, "sha256").hexdigest(), None, None)
        data = file.read()
    digest = hashlib.sha256(data).hexdigest()
    bare = bare_picture(data)
    if bare is None:
        return PictureDigest(digest, digest, None)
    return PictureDigest(digest, _content_digest(bare, digest), bare.width * bare.height)


def _content_digest(bare: BarePicture, whole: str) -> str:
    if bare.whole:
        return whole
    digest = hashlib.sha256()
    for part in bare.parts:
        digest.update(part)
    return digest.hexdigest()
