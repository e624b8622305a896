"""Writing overlays as H.264 in MP4 at the input's own times, made safe segment by segment.

While a video is predicted, its work folder holds, for every `SEGMENT_FRAMES` frames that are done,

    00003.mp4           their overlays; missing without overlays
    00003.safetensors   the smoother's state after them; missing without smoothing
    00003.jsonl         their lines of predictions.jsonl, written last: with it the segment is whole

and at the end the overlays are joined, unchanged, to `<name>_overlay.mp4`. Masks and curves lie in their
final places from the start; those beyond the last whole segment are made again.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from fractions import Fraction
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any

import av
import cv2
import numpy as np
from av.error import FFmpegError
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from ..utils.atomic_files import atomic_path, write_json_lines
from .frame_sources import VideoProgress, VideoStarts
from .predictor import FailedFrame
from .result_files import RunFiles, Source, WrittenFrame, row_line

# A fixed number of threads: x264's output depends on it, and a video is to be the same on every machine.
_OPTIONS = {"preset": "veryfast", "crf": "20", "bf": "0", "threads": "4", "forced-idr": "1"}
# As in the standards that H.264 refers to: colors of HD, the luma of BT.601.
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
    """Puts MP4s of one `VideoWriter` kind behind each other without re-encoding; they keep their times."""
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


# A video's results, segment by segment.

# A video's results are made safe every so many frames: what an interruption costs at most.
SEGMENT_FRAMES = 250
_FAILED = '{"failed": '


class VideoOutput:
    """Takes a video's frames in order and leaves its results.

    Attributes:
        progress: Where to go on from.
    """

    def __init__(self, files: RunFiles, source: Source) -> None:
        """Looks at what an interrupted run left of the video.

        Made before the first frame is predicted: its files are written before it is added.

        Raises:
            OSError: a folder cannot be made or read.
        """
        self._files, self._source, self._options = files, source, files.options
        self._work = files.video_work(source)
        self._starts: VideoStarts | None = None
        self._entries: list[dict[str, Any]] = []
        self._writer: VideoWriter | None = None
        self._shift: int | None = None
        self._segments = next(number for number in count() if not self._is_whole(number))
        self._work.mkdir(parents=True, exist_ok=True)
        # What is left of the segment that was being written would pass for part of the new one.
        for path in self._work.iterdir():
            if path.stem >= self._file(self._segments, "").name:
                path.unlink()
        if not self._segments:
            # What an earlier run left there would pass for frames of this one.
            files.clear_frames(source)
        self.progress = VideoProgress(self._segments * SEGMENT_FRAMES, segment_frames=SEGMENT_FRAMES)
        if self._segments and self._options.smoothing_s is not None:
            self.progress.smoother_state = load_file(self._file(self._segments - 1, ".safetensors"))

    def _file(self, segment: int, suffix: str) -> Path:
        return self._work / f"{segment:05d}{suffix}"

    def _is_whole(self, segment: int) -> bool:
        if not self._file(segment, ".jsonl").is_file():
            return False
        with self._file(segment, ".jsonl").open(encoding="utf-8") as lines:
            failed = [line.startswith(_FAILED) for line in lines]
        if self._options.smoothing_s is not None:
            try:
                load_file(self._file(segment, ".safetensors"))
            except (OSError, SafetensorError):
                return False
        if self._options.overlay and not all(failed) and not self._file(segment, ".mp4").is_file():
            return False
        # A shorter one is the last of a video that failed, and may have more frames by now.
        return len(failed) == SEGMENT_FRAMES

    def start(self, starts: VideoStarts) -> None:
        """Called before the first frame is added."""
        self._starts = starts
        first = next(self.lines(), None)
        if first is not None:
            self._shift = shift_to_zero(round(json.loads(first)["time_s"] / starts.time_base))

    def add(self, frame: WrittenFrame) -> dict[str, Any]:
        """Takes the next frame; returns its row.

        Raises:
            OSError: it cannot be written, or encoded.
        """
        row = frame.row
        if self._options.overlay:
            row = row | {"overlay": self._files.overlay(self._source).name}
            self._encode(frame)
        self._add_entry(row, frame.smoother_state)
        return row

    def skip(self, failed: FailedFrame) -> None:
        """Takes note of the next frame, which has no results; the overlay goes on showing the one before.

        Raises:
            OSError: that cannot be written.
        """
        entry = {"failed": failed.named_reason, "frame": failed.key.index}
        self._add_entry(entry, failed.smoother_state)

    def _add_entry(self, entry: dict[str, Any], state: dict[str, np.ndarray] | None) -> None:
        self._entries.append(entry)
        if len(self._entries) == SEGMENT_FRAMES:
            self._finish_segment(state)

    def _encode(self, frame: WrittenFrame) -> None:
        if self._shift is None:
            self._shift = shift_to_zero(frame.key.pts)
        if self._writer is None:
            starts = self._starts
            self._writer = VideoWriter(
                self._file(self._segments, ".mp4"),
                starts.width,
                starts.height,
                starts.time_base,
                starts.frame_rate,
                starts.sample_aspect_ratio,
            )
        try:
            self._writer.write(frame.overlay, frame.key.pts + self._shift)
        except (FFmpegError, ValueError) as error:
            raise OSError(f"overlay: {error}") from error

    def _finish_segment(self, state: dict[str, np.ndarray] | None) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        if state is not None:
            with atomic_path(self._file(self._segments, ".safetensors")) as temporary:
                save_file(state, temporary)
        write_json_lines(self._file(self._segments, ".jsonl"), self._entries)
        self._entries = []
        self._segments += 1

    def finish(self) -> None:
        """Joins the segments written so far into the final overlay.

        Raises:
            OSError, FFmpegError: that cannot be done; `lines` are there all the same.
        """
        if self._entries:
            self._finish_segment(None)
        parts = [self._file(number, ".mp4") for number in range(self._segments)]
        parts = [part for part in parts if part.is_file()]
        if self._options.overlay and parts:
            with atomic_path(self._files.overlay(self._source)) as temporary:
                join_videos(temporary, parts)

    def lines(self, *, with_overlay: bool = True) -> Iterator[str]:
        """The video's lines of predictions.jsonl; without the overlay where there is none after all."""
        for line in self._all_lines():
            if line.startswith(_FAILED):
                continue
            if with_overlay:
                yield line
            else:
                yield row_line({name: value for name, value in json.loads(line).items() if name != "overlay"})

    def failures(self) -> list[dict[str, Any]]:
        """{"failed": reason, "frame": index} of the frames without results."""
        return [json.loads(line) for line in self._all_lines() if line.startswith(_FAILED)]

    def _all_lines(self) -> Iterator[str]:
        for number in range(self._segments):
            with self._file(number, ".jsonl").open(encoding="utf-8") as lines:
                yield from lines

    def abort(self) -> None:
        """Closes what is open; whole segments stay for a run that goes on."""
        if self._writer is not None:
            # What it holds is lost anyway.
            with suppress(FFmpegError, OSError):
                self._writer.close()
            self._writer = None

    def remove_work(self) -> None:
        """Removes the work folder of a video whose results are in place."""
        shutil.rmtree(self._work, ignore_errors=True)
