"""Depth maps: grey PNGs of 8 or 16 bits whose numbers are kept."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from ...frame_files import FrameError, decode_picture
from .metadata import bare_picture
from .pictures import LIMITS, read_file

_WITHOUT = "repair it, or leave depth maps out with --no-depth"


def read_depth(path: Path, width: int, height: int) -> tuple[bytes, bool]:
    """Reads a depth map of a frame of that size in px.

    Returns:
        A 16-bit grey PNG without metadata, and whether the file has 8 bits.

    Raises:
        FrameError: no grey PNG, truncated, or of another size than the frame.
    """
    data = read_file(path)
    image = decode_picture(data, path, LIMITS)
    if image.format != "PNG" or image.mode not in ("L", "I;16"):
        raise FrameError(f"{path}: {image.format} of type {image.mode}, expected a grey PNG; {_WITHOUT}")
    if image.size != (width, height):
        raise FrameError(
            f"{path}: {image.width}×{image.height} px, its frame has {width}×{height} px; {_WITHOUT}"
        )
    bare = bare_picture(data)
    if image.mode == "I;16" and bare is not None:
        return bare.joined(), False
    values = np.asarray(image)
    done, encoded = cv2.imencode(".png", values.astype(np.uint16), [cv2.IMWRITE_PNG_COMPRESSION, 1])
    if not done:
        raise FrameError(f"{path}: cannot be encoded as PNG")
    return encoded.tobytes(), image.mode == "L"
