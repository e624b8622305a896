"""What is refused of a stranger's video before it is decoded, and how that is said."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ...frame_files import FrameError


class VideoError(FrameError):
    """A video that cannot be read, or not further; the message is one line that names file and reason."""


@dataclass(frozen=True)
class VideoLimits:
    """What is refused before it is decoded, or where decoding stops.

    Attributes:
        max_pixels: Width × height of a frame; the default is an 8K frame twice over.
        max_frames: Frames in a video; None for any number.
        max_seconds: Time from the first to the last frame; None for any.
        max_file_bytes: Size of the file; None for any.
    """

    max_pixels: int = 2**26
    max_frames: int | None = None
    max_seconds: float | None = None
    max_file_bytes: int | None = None

    def __post_init__(self) -> None:
        if any(limit is not None and limit <= 0 for limit in vars(self).values()):
            raise ValueError(f"limits must be positive, got {self}")


def check_file(path: Path, limits: VideoLimits) -> None:
    """Refuses what is no regular file, empty or too large, with a VideoError."""
    try:
        if path.is_dir():
            raise VideoError(f"{path}: a folder, expected a video file")
        if not path.exists():
            raise VideoError(f"{path}: no such file")
        if not path.is_file():
            raise VideoError(f"{path}: not a regular file")
        size = path.stat().st_size
    except OSError as error:
        raise VideoError(f"{path}: cannot be read: {error.strerror or error}") from error
    if size == 0:
        raise VideoError(f"{path}: empty file")
    if limits.max_file_bytes is not None and size > limits.max_file_bytes:
        raise VideoError(f"{path}: larger than the limit of {limits.max_file_bytes} bytes")


def check_size(path: Path, width: int, height: int, limits: VideoLimits) -> None:
    """Refuses frames of more pixels than the limit, with a VideoError."""
    if width * height > limits.max_pixels:
        raise VideoError(
            f"{path}: frames of {width}×{height} px, more than the limit of {limits.max_pixels} pixels"
        )
