"""Depth maps: grey PNGs of 8 or 16 bits whose numbers are kept."""

from __future__ import annotations

import io
import zlib
from pathlib import Path
from struct import error as struct_error

import cv2
import numpy as np
from PIL import Image

from ...frame_files import FrameError
from .metadata import bare_picture
from .pictures import LIMITS

_WITHOUT = "repair it, or leave depth maps out with --no-depth"


def read_depth(path: Path, width: int, height: int) -> tuple[bytes, bool]:
    """Reads a depth map of a frame of that size in px.

    Returns:
        A 16-bit grey PNG without metadata, and whether the file has 8 bits.

    Raises:
        FrameError: no grey PNG, truncated, or of another size than the frame.
    """
    if not path.is_file():
        raise FrameError(f"{path}: not a regular file")
    if path.stat().st_size > LIMITS.max_file_bytes:
        raise FrameError(f"{path}: larger than the limit of {LIMITS.max_file_bytes} bytes")
    data = path.read_bytes()
    bare = bare_picture(data) if data.startswith(b"\x89PNG") else None
    if bare is None:
        raise FrameError(f"{path}: no whole PNG; {_WITHOUT}")
    if (bare.width, bare.height) != (width, height):
        raise FrameError(
            f"{path}: {bare.width}×{bare.height} px, its frame has {width}×{height} px; {_WITHOUT}"
        )
    try:
        with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
            if image.mode not in ("L", "I;16"):
                raise FrameError(f"{path}: pixels of type {image.mode}, expected grey; {_WITHOUT}")
            values = np.asarray(image)
    except FrameError:
        raise
    # What Pillow's PNG decoder raises on broken files.
    except (OSError, SyntaxError, EOFError, ValueError, zlib.error, struct_error) as error:
        raise FrameError(
            f"{path}: truncated or corrupt: {' '.join(str(error).split())}; {_WITHOUT}"
        ) from error
    if values.dtype == np.uint16:
        return bare.joined(), False
    done, encoded = cv2.imencode(".png", values.astype(np.uint16), [cv2.IMWRITE_PNG_COMPRESSION, 1])
    if not done:
        raise FrameError(f"{path}: cannot be encoded as PNG")
    return encoded.tobytes(), True
