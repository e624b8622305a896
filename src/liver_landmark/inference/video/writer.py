"""Writing overlays as H.264 in MP4: every frame at the very time of the input's."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from types import TracebackType

import av
import cv2
import numpy as np

# A fixed number of threads: x264's output depends on it, and a video is to be the same on every machine.
_OPTIONS = {"preset": "veryfast", "crf": "20", "bf": "0", "threads": "4", "forced-idr": "1"}
# As in the standards that H.264 refers to: colours of HD, the luma of BT.601.
_BT709, _BT601 = 1, 6
_KEY_FRAME_INTERVAL = 50
# MP4 has 32 bits for how long a frame is shown.
_LONGEST_STEP_TICKS = 2**31


class VideoWriter:
    """An MP4 that is being written; a context manager, whose end makes the file whole.

    Frames of even size are 4:2:0, which every player shows; 4:2:0 has no odd sizes, so that those are 4:4:4.
    Luma and chroma are BT.601's, as the file says: OpenCV makes them in a fifth of FFmpeg's time.
    """

    def __init__(
        self,
        path: Path,
        width: int,
        height: int,
        time_base: Fraction,
        frame_rate: Fraction | None = None,
        sample_aspect_ratio: Fraction = Fraction(1),
    ) -> None:
        """Opens the file.

        Args:
            path: The MP4, written in place: give a path beside the final one.
            width: Of a frame, px.
            height: Of a frame, px.
            time_base: Seconds of one unit of `write`'s pts; kept exactly.
            frame_rate: What the file says; does not change when a frame is shown. None: 25.
            sample_aspect_ratio: Width of a pixel by its height.
        """
        rate = frame_rate or Fraction(25)
        # The time at which a track starts is in the movie's own time scale, which is coarse by default.
        self._container = av.open(str(path), "w", format="mp4", options=_mp4_options(time_base))
        self._stream = self._container.add_stream("libx264", rate=_storable(rate), options=dict(_OPTIONS))
        self._even = width % 2 == 0 and height % 2 == 0
        context = self._stream.codec_context
        context.width, context.height = width, height
        context.pix_fmt = "yuv420p" if self._even else "yuv444p"
        context.time_base = self._stream.time_base = time_base
        context.gop_size = _KEY_FRAME_INTERVAL
        context.sample_aspect_ratio = sample_aspect_ratio
        context.colorspace = _BT601
        context.color_primaries = context.color_trc = _BT709
        context.color_range = av.video.reformatter.ColorRange.MPEG
        self._size, self._time_base = (height, width), time_base
        self._last_pts: int | None = None
        ticks_of_a_step = _time_scale(time_base) * time_base
        self._longest_step = math.ceil(_LONGEST_STEP_TICKS / ticks_of_a_step)
        self._step = max(1, round(1 / (rate * time_base)))

    def write(self, pixels: np.ndarray, pts: int) -> None:
        """Adds (H, W, 3) uint8 RGB at a time stamp, later than the one before.

        Raises:
            ValueError: another size or type, or a time before zero, not later, or later by more than MP4
                holds (59 hours at usual time bases).
        """
        if pts < 0 or (self._last_pts is not None and not 0 < pts - self._last_pts < self._longest_step):
            raise ValueError(f"time stamp {pts} after {self._last_pts}: MP4 cannot hold that")
        self._last_pts = pts
        if pixels.shape != (*self._size, 3) or pixels.dtype != np.uint8:
            raise ValueError(f"frame must be {(*self._size, 3)} uint8 RGB, got {pixels.shape} {pixels.dtype}")
        if self._even:
            planes = cv2.cvtColor(pixels, cv2.COLOR_RGB2YUV_I420)
            frame = av.VideoFrame.from_ndarray(planes, format="yuv420p")
        else:
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(
                format="yuv444p", dst_colorspace="ITU601", dst_color_range="MPEG"
            )
        frame.pts, frame.time_base, frame.duration = pts, self._time_base, self._step
        self._container.mux(self._stream.encode(frame))

    def close(self) -> None:
        """Writes what is pending and the index."""
        self._container.mux(self._stream.encode(None))
        self._container.close()

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self._container.close()


def join_videos(path: Path, parts: Sequence[Path]) -> None:
    """Puts MP4s of one `VideoWriter` kind behind each other without encoding anew; they keep their times."""
    with av.open(str(parts[0])) as first:
        time_base = Fraction(first.streams.video[0].time_base)
    with av.open(str(path), "w", format="mp4", options=_mp4_options(time_base)) as joined:
        stream = None
        for packet_source in _opened(parts):
            source = packet_source.streams.video[0]
            if stream is None:
                stream = joined.add_stream_from_template(source)
                stream.time_base = source.time_base
            for packet in packet_source.demux(source):
                if packet.size:
                    packet.stream = stream
                    joined.mux(packet)


def _opened(parts: Sequence[Path]) -> Iterable[av.container.InputContainer]:
    for part in parts:
        with av.open(str(part)) as container:
            yield container


def shift_to_zero(first_pts: int) -> int:
    """What to add to a video's time stamps, given its first: MP4 has no time before zero."""
    return max(0, -first_pts)


def _mp4_options(time_base: Fraction) -> dict[str, str]:
    return {"movie_timescale": str(_time_scale(time_base)), "movflags": "+faststart"}


def _time_scale(time_base: Fraction) -> int:
    """Ticks a second: small scales are multiplied, as the muxer does with the track's."""
    scale = time_base.denominator
    while scale < 10_000:
        scale *= 2
    return scale


def _storable(rate: Fraction) -> Fraction:
    return rate.limit_denominator(1001)
