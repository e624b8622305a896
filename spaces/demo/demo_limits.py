"""What the demo takes, and how it says no: limits, and one plain sentence for each refusal."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, fields

from liver_landmark.inference.video_reader import VideoLimits
from liver_landmark.utils.frame_files import FrameLimits

# Of what may lie on disk; the rest is for results of those who are there already.
UPLOADS_SHARE = 0.75
ENVIRONMENT_PREFIX = "LIVER_LANDMARK_DEMO_"


@dataclass(frozen=True)
class DemoLimits:
    """Limits of one server; each can be set as LIVER_LANDMARK_DEMO_ and its name in capitals.

    Attributes:
        max_upload_mb: Size of an uploaded file in MB (2**20 bytes, as Gradio counts), frame or video.
        max_frame_megapixels: Width × height of a frame in millions, before it is decoded; 4K has 8.3.
        max_video_megapixels: The same of a video's frames; 4K has 8.3.
        max_video_seconds: Length of a video.
        max_video_frames: Frames of a video.
        max_waiting: Requests that wait for the model; further ones are refused.
        keep_minutes: How long results can still be redrawn and downloaded, and any file is kept at most.
        max_kept_mb: Memory for frames that people look at; beyond it the oldest are dropped.
        max_stored_mb: Size of all uploads and results on disk, in MB (2**20 bytes).
    """

    max_upload_mb: float = 200
    max_frame_megapixels: float = 9
    max_video_megapixels: float = 9
    max_video_seconds: float = 60
    max_video_frames: int = 1800
    max_waiting: int = 20
    keep_minutes: float = 10
    max_kept_mb: float = 1024
    max_stored_mb: float = 2048

    def __post_init__(self) -> None:
        for field in fields(self):
            if not 0 < getattr(self, field.name) < math.inf:
                raise ValueError(f"{field.name} must be positive, got {getattr(self, field.name)}")
        if self.max_upload_mb > UPLOADS_SHARE * self.max_stored_mb:
            raise ValueError(
                f"max_upload_mb is {self.max_upload_mb:g}, expected at most {UPLOADS_SHARE:.0%} of "
                f"max_stored_mb, which is {self.max_stored_mb:g}"
            )

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> DemoLimits:
        """The defaults, or what the environment says; a ValueError names a variable that is no number."""
        values: dict[str, float] = {}
        for field in fields(cls):
            name = ENVIRONMENT_PREFIX + field.name.upper()
            if name in environment:
                number = int if field.type == "int" else float
                try:
                    values[field.name] = number(environment[name])
                except ValueError:
                    raise ValueError(f"{name} is {environment[name]!r}, expected a positive number") from None
        return cls(**values)

    @property
    def max_upload_bytes(self) -> int:
        """`max_upload_mb` in bytes."""
        return round(self.max_upload_mb * 2**20)

    @property
    def max_stored_bytes(self) -> int:
        """`max_stored_mb` in bytes."""
        return round(self.max_stored_mb * 2**20)

    @property
    def frame(self) -> FrameLimits:
        """What is refused of a frame before it is decoded."""
        return FrameLimits(self.max_upload_bytes, round(self.max_frame_megapixels * 1e6))

    @property
    def video(self) -> VideoLimits:
        """What is refused of a video before it is decoded."""
        return VideoLimits(
            max_pixels=round(self.max_video_megapixels * 1e6),
            max_frames=self.max_video_frames,
            max_seconds=self.max_video_seconds,
            max_file_bytes=self.max_upload_bytes,
        )

    def frame_message(self, reason: str) -> str:
        """What a user reads instead of `read_frame`'s reason."""
        return _message(_FRAME_MESSAGES, reason, self)

    def video_message(self, reason: str) -> str:
        """What a user reads instead of `open_video`'s reason."""
        return _message(_VIDEO_MESSAGES, reason, self)


GONE = "This upload has been deleted from the server. Please choose the file again."
FAULT = "Something went wrong on the server. Please try again, or try another file."
FULL = "The demo's storage is full. Please try again in some minutes."
TOO_LARGE = "The file is larger than {max_upload_mb:g} MB."
NOTHING_LOADED = (
    "There is no frame to draw: it was deleted after {keep_minutes:g} minutes. Please choose it again."
)

DAMAGED_VIDEO = "The video is damaged. Please export it again."
_FRAME_TOO_LARGE = (
    "The picture is too large: this demo takes up to {max_frame_megapixels:g} million pixels (4K has 8.3). "
    "Please choose a smaller one."
)

# A part of the reader's reason -> what the user is told; the first that fits, the last fits all.
_FRAME_MESSAGES = (
    ("no such file", GONE),
    ("empty file", "The file is empty. Please export the frame again."),
    ("larger than the limit", f"{TOO_LARGE} Please choose a smaller one."),
    ("more than the limit", _FRAME_TOO_LARGE),
    # Pillow's own limit, where that is lower.
    ("exceeds limit", _FRAME_TOO_LARGE),
    (
        "not a readable picture",
        "This file is no picture that the demo can read. Please choose a JPEG, PNG, BMP, TIFF or WebP file; "
        "videos go to the tab “Video”.",
    ),
    ("expected one frame", "This file holds several pictures. Please choose a file of a single frame."),
    ("pixels of type", "This kind of color is not supported. Please save the frame in ordinary color."),
    ("", "The picture is damaged or incomplete. Please export it again."),
)
_VIDEO_MESSAGES = (
    ("no such file", GONE),
    ("empty file", "The file is empty. Please export the video again."),
    ("larger than the limit", f"{TOO_LARGE} Please cut the video shorter."),
    (
        " pixels",
        "The video's frames are too large: this demo takes up to {max_video_megapixels:g} million pixels a "
        "frame (4K has 8.3).",
    ),
    (
        "more than the limit",
        "The video is too long: this demo takes up to {max_video_seconds:g} seconds and {max_video_frames} "
        "frames. Please cut it shorter.",
    ),
    (
        "not a readable video",
        "This file is no video that the demo can read. Please choose an MP4, MOV, MKV, AVI or WebM file; "
        "pictures go to the tab “Still frame”.",
    ),
    ("holds no", "There is no frame to see in this file. Please choose another video."),
    ("cannot be encoded", "Frames of this shape cannot be shown. Please scale the video to a usual size."),
    ("codec is not known", "This video's compression is not supported. Please export it as H.264 MP4."),
    ("", DAMAGED_VIDEO),
)


def _message(table: tuple[tuple[str, str], ...], reason: str, limits: DemoLimits) -> str:
    return next(text for part, text in table if part in reason).format(**vars(limits))
