"""A frame's picture as it goes into a set: checked, upright, without metadata, otherwise byte for byte."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageOps, JpegImagePlugin

from ...frame_files import FORMATS, FrameError, FrameLimits, read_frame
from .metadata import BarePicture, bare_picture

# Twice a 4K frame's bytes without compression, and an 8K frame's pixels: a frame at this limit still
# decodes in a quarter of a gigabyte.
LIMITS = FrameLimits(max_file_bytes=2**26, max_pixels=2**25)

_ORIENTATION = 0x0112
_UPRIGHT = 1
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
    # The one full decoding: what is truncated or corrupt does not get further.
    rgb = read_frame(path, LIMITS)
    height, width = rgb.shape[:2]
    data = path.read_bytes()
    bare = bare_picture(data)
    with Image.open(io.BytesIO(data), formats=FORMATS) as image:
        plain = image.mode in _PLAIN_MODES
        # Without metadata nothing can turn it; asking a PNG would decode it once more.
        orientation = _UPRIGHT if bare is not None and bare.whole else _orientation(image)
        is_jpeg = image.format in ("JPEG", "MPO")
        if is_jpeg and plain and orientation != _UPRIGHT:
            turned = _encode_turned(image, orientation)
            return Picture(turned, ".jpg", width, height, orientation, converted=False)
    if bare is not None and plain and orientation == _UPRIGHT:
        return Picture(bare.joined(), ".jpg" if is_jpeg else ".png", width, height, orientation, False)
    return Picture(_encode_png(rgb, path), ".png", width, height, orientation, converted=True)


def _orientation(image: Image.Image) -> int:
    value = image.getexif().get(_ORIENTATION, _UPRIGHT)
    return value if value in range(1, 9) else _UPRIGHT


def _encode_turned(image: JpegImagePlugin.JpegImageFile, orientation: int) -> bytes:
    quarter = orientation >= _FIRST_QUARTER_TURN
    tables = [
        [table[8 * (place % 8) + place // 8] for place in range(64)] if quarter else list(table)
        for table in _tables(image)
    ]
    sampling = JpegImagePlugin.get_sampling(image)
    if sampling < 0 or (quarter and sampling != _SAMPLING_420):
        sampling = _SAMPLING_444  # halved along one side only, or unusually: full chroma loses nothing
    encoded = io.BytesIO()
    options = {"icc_profile": image.info["icc_profile"]} if "icc_profile" in image.info else {}
    ImageOps.exif_transpose(image).save(
        encoded, "JPEG", qtables=tables, subsampling=sampling, exif=b"", **options
    )
    bare = bare_picture(encoded.getvalue())
    return encoded.getvalue() if bare is None else bare.joined()


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
