"""Reading videos that a stranger made: limits before decoding, every frame upright RGB, damage named.

PyAV, because it is FFmpeg itself: every codec, exact time stamps, no temporary pictures.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.error import FFmpegError

from ..utils.frame_files import FrameError

# FFmpeg prints what it thinks of a file; what matters is raised.
av.logging.set_level(av.logging.PANIC)
logging.getLogger("libav").setLevel(logging.CRITICAL)

SUFFIXES: tuple[str, ...] = (
    ".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".divx", ".mpg", ".mpeg", ".m1v", ".m2v", ".ts", ".m2ts",
    ".mts", ".vob", ".wmv", ".asf", ".wtv", ".flv", ".f4v", ".ogv", ".mxf", ".dv", ".3gp", ".3g2", ".mj2",
    ".rm", ".nut", ".ivf", ".obu", ".y4m", ".h264", ".264", ".hevc", ".h265", ".265", ".mjpeg", ".mjpg",
)  # fmt: skip
# Containers and bare streams that hold their pictures themselves. Play lists (HLS, concat, SDP) name other
# files and addresses, which a file from a stranger must not reach; pictures have their own reader.
_CONTAINERS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpeg,mpegts,mpegvideo,m4v,h264,hevc,mjpeg,asf,flv,ogg,mxf,"
    "ivf,obu,av1,nut,dv,rm,wtv,y4m,yuv4mpegpipe"
)
# A video whose last frame comes this much earlier than its duration says was cut off.
_CUT_OFF_S = 1.0
# Threads within a frame. Several frames side by side are no choice: where damage ends one of them, those that
# refer to it wait for ever in some of FFmpeg's decoders (H.264).
_DECODING_THREADS = min(4, os.cpu_count() or 1)


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


@dataclass(frozen=True)
class VideoFrame:
    """One frame of a video.

    Attributes:
        index: From 0, in the order of showing.
        pts: Time stamp in units of the video's time base.
        time_s: The same in seconds.
        pixels: (H, W, 3) uint8 RGB, upright.
    """

    index: int
    pts: int
    time_s: float
    pixels: np.ndarray


class _DamageError(VideoError):
    """What the decoder complains of; the message is what follows the number of frames."""


class VideoReader:
    """An open video; iterating it once gives its frames in the order of showing.

    Attributes:
        path: The file.
        width: Of a frame, upright, px.
        height: Of a frame, upright, px.
        frame_rate: Frames a second as the file gives it, or None.
        time_base: Seconds of one unit of `VideoFrame.pts`.
        estimated_frames: How many frames there are, if the file tells or its duration does; else None.
        duration_s: Length as the file gives it, or None.
        sample_aspect_ratio: Width of a pixel by its height.
    """

    def __init__(self, path: Path, container: av.container.InputContainer, limits: VideoLimits) -> None:
        """Takes an open container; `open_video` makes one."""
        self.path, self._container, self._limits = path, container, limits
        if not container.streams.video:
            raise VideoError(f"{path}: holds no pictures (video stream)")
        # A cover picture is a stream too.
        moving = [stream for stream in container.streams.video if not _is_cover(stream)]
        self._stream = (moving or container.streams.video)[0]
        context = self._stream.codec_context
        if context is None:
            raise VideoError(f"{path}: its video codec is not known here")
        if context.width * context.height > limits.max_pixels:
            raise VideoError(
                f"{path}: frames of {context.width}×{context.height} px, more than the limit of "
                f"{limits.max_pixels} pixels"
            )
        context.thread_type, context.thread_count = "SLICE", _DECODING_THREADS
        # Without this, damage is painted over with what lies around it.
        context.options = {"err_detect": "explode"}
        self.time_base = Fraction(self._stream.time_base or Fraction(1, 90000))
        rate = self._stream.average_rate or self._stream.guessed_rate
        self.frame_rate = Fraction(rate) if rate else None
        self.duration_s, self._duration_is_sure = _duration_s(container, self._stream)
        self.estimated_frames = _estimated_frames(self._stream, self.duration_s, self.frame_rate)
        self.sample_aspect_ratio = Fraction(self._stream.sample_aspect_ratio or 1)
        self._check_length(self.estimated_frames or 0, self.duration_s or 0.0, "about ")
        self._decoded = self._decode()
        try:
            self._first: av.VideoFrame | None = next(self._decoded)
        except StopIteration:
            raise VideoError(f"{path}: holds no frame that can be decoded") from None
        except _DamageError as error:
            raise VideoError(f"{path}: damaged from its first frame on{error}") from error
        if self._first.pts is None:
            # Bare streams have no time: the frame rate is all there is.
            self.time_base = 1 / (self.frame_rate or Fraction(25))
        self._counted = self._first.pts is None
        self.height, self.width = _upright_size(self._first)

    def _check_length(self, frames: int, seconds: float, about: str = "") -> None:
        limits = self._limits
        if limits.max_frames is not None and frames > limits.max_frames:
            raise VideoError(
                f"{self.path}: {about}{frames} frames, more than the limit of {limits.max_frames}: "
                "cut it shorter"
            )
        if limits.max_seconds is not None and seconds > limits.max_seconds:
            raise VideoError(
                f"{self.path}: {about}{seconds:.0f} s, more than the limit of {limits.max_seconds:g} s: "
                "cut it shorter"
            )

    def _decode(self) -> Iterator[av.VideoFrame]:
        """Decoded frames; a _DamageError at the first that is damaged, a VideoError if they end too early."""
        index, end_s = 0, 0.0
        try:
            for packet in self._container.demux(self._stream):
                for frame in packet.decode():
                    if frame.is_corrupt:
                        raise _DamageError
                    # Shown until then: in a video of few frames a second the last one is long.
                    end_s = (frame.time or 0.0) + float((frame.duration or 0) * self.time_base)
                    yield frame
                    index += 1
        except (FFmpegError, EOFError) as error:
            raise _DamageError(f": {_reason(error)}") from error
        # Frames are not counted: an edit list hides some of those that the file holds.
        start_s = float((self._stream.start_time or 0) * self.time_base)
        missing_s = start_s + (self.duration_s or 0.0) - end_s
        if index and self._duration_is_sure and missing_s > _CUT_OFF_S:
            raise VideoError(
                f"{self.path}: ends {missing_s:.1f} s early, after {index} frames: it was cut off"
            )

    def __iter__(self) -> Iterator[VideoFrame]:
        """Frames; each is given when the one after it is decoded.

        The one before damage is left out: damage begins where decoders do not notice it yet.

        Raises:
            VideoError: damage, a frame of another size, time that goes back, or more than the limits allow.
        """
        held: VideoFrame | None = None
        end: VideoError | None = None
        try:
            # Held as pixels: into a decoder's own picture, slices that come late are still written.
            for frame in self._converted():
                if held is not None:
                    yield held
                held = frame
        except _DamageError as error:
            kept = 0 if held is None else held.index
            raise VideoError(f"{self.path}: damaged after {kept} frames{error}") from error
        except VideoError as error:
            end = error
        if held is not None:
            yield held
        if end is not None:
            raise end

    def _converted(self) -> Iterator[VideoFrame]:
        """Frames, each converted as soon as it is decoded."""
        index, last_pts, first_pts = 0, None, 0
        while (frame := self._next()) is not None:
            size = _upright_size(frame)
            if size != (self.height, self.width):
                raise VideoError(
                    f"{self.path}: changes from {self.width}×{self.height} to {size[1]}×{size[0]} px "
                    f"at frame {index}: cut it there"
                )
            if not self._counted and frame.pts is None:
                raise VideoError(f"{self.path}: frame {index} has no time stamp")
            pts = index if self._counted else frame.pts
            if last_pts is None:
                first_pts = pts
            elif pts <= last_pts:
                raise VideoError(f"{self.path}: time goes back at frame {index}")
            last_pts = pts
            self._check_length(index + 1, float((pts - first_pts) * self.time_base))
            yield VideoFrame(index, pts, float(pts * self.time_base), self._pixels(frame))
            index += 1

    def _next(self) -> av.VideoFrame | None:
        if self._first is not None:
            frame, self._first = self._first, None
            return frame
        return next(self._decoded, None)

    def _pixels(self, frame: av.VideoFrame) -> np.ndarray:
        try:
            pixels = frame.to_ndarray(format="rgb24")
        except (FFmpegError, ValueError) as error:
            raise VideoError(f"{self.path}: its pixels cannot be converted: {error}") from error
        turns = _quarter_turns(frame)
        return np.ascontiguousarray(np.rot90(pixels, turns)) if turns else pixels

    def close(self) -> None:
        """Lets go of the decoder; `open_video` does it."""
        self._decoded.close()
        self._first = None

    def skip(self, frames: int) -> Iterator[VideoFrame]:
        """The frames from that index on; those before are decoded, which is exact where seeking is not."""
        for frame in self:
            if frame.index >= frames:
                yield frame


@contextmanager
def open_video(path: Path | str, limits: VideoLimits | None = None) -> Iterator[VideoReader]:
    """Opens a video file.

    Args:
        path: Any container and codec that FFmpeg reads; its content decides, not its name.
        limits: None takes the defaults.

    Raises:
        VideoError: missing, empty, no video, too large or too long, or its first frame cannot be decoded.
    """
    path, limits = Path(path), limits or VideoLimits()
    _check_file(path, limits)
    try:
        # The prefix keeps FFmpeg from reading a name such as `http:x` as an address.
        container = av.open(
            f"file:{path}",
            metadata_errors="replace",
            container_options={"format_whitelist": _CONTAINERS, "protocol_whitelist": "file"},
        )
    except (FFmpegError, ValueError) as error:
        raise VideoError(f"{path}: not a readable video: {_reason(error)}") from error
    with closing(container):
        try:
            reader = VideoReader(path, container, limits)
        except FFmpegError as error:
            raise VideoError(f"{path}: not a readable video: {_reason(error)}") from error
        # Left before the end, the decoder would keep its frames until the collector comes.
        with closing(reader):
            yield reader


def _check_file(path: Path, limits: VideoLimits) -> None:
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


def _reason(error: Exception) -> str:
    return " ".join(str(getattr(error, "strerror", None) or error).split())


def _is_cover(stream: av.video.stream.VideoStream) -> bool:
    return bool(stream.disposition & av.stream.Disposition.attached_pic)


def _duration_s(
    container: av.container.InputContainer, stream: av.video.stream.VideoStream
) -> tuple[float | None, bool]:
    """Seconds of video as the file gives them, and whether they are the pictures' own and not the sound's."""
    if stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base), True
    # Matroska's durations are the time of the end: from zero, where the pictures may begin later.
    is_matroska = "matroska" in container.format.name
    start_s = float((stream.start_time or 0) * (stream.time_base or 0)) if is_matroska else 0.0
    # It has none of a stream, but writers add it in words: 00:01:02.345000000.
    if match := re.fullmatch(r"(\d+):(\d+):(\d+\.\d+)", stream.metadata.get("DURATION", "")):
        hours, minutes, seconds = match.groups()
        end_s = 3600 * int(hours) + 60 * int(minutes) + float(seconds)
        return max(0.0, end_s - start_s), True
    if container.duration is None:
        return None, False
    return max(0.0, container.duration / av.time_base - start_s), len(container.streams) == 1


def _estimated_frames(
    stream: av.video.stream.VideoStream, duration_s: float | None, rate: Fraction | None
) -> int | None:
    if stream.frames > 0:
        return stream.frames
    return None if duration_s is None or rate is None else max(1, round(duration_s * rate))


def _quarter_turns(frame: av.VideoFrame) -> int:
    """Counter-clockwise quarter turns that set the frame upright, as players do."""
    return round(frame.rotation / 90) % 4


def _upright_size(frame: av.VideoFrame) -> tuple[int, int]:
    size = (frame.height, frame.width)
    return size[::-1] if _quarter_turns(frame) % 2 else size
