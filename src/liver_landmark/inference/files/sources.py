"""From files to the frames that the flow predicts."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial

import numpy as np

from ...frame_files import FrameError, FrameLimits, read_frame
from ..smoothing import CausalSmoother
from ..video.limits import VideoLimits
from ..video.reader import VideoFrame, VideoReader, open_video
from .flow import FrameJob
from .inputs import Source
from .options import PredictionOptions

# A video's results are made safe every so many frames: what an interruption costs at most.
SEGMENT_FRAMES = 250


@dataclass(frozen=True)
class FrameKey:
    """Which frame a job is: of which input, and for a video's its place and time.

    Attributes:
        source: The input.
        index: Number of the frame in its video, from 0; None for a picture.
        pts: Time stamp in units of the video's time base.
        time_s: Seconds.
    """

    source: Source
    index: int | None = None
    pts: int = 0
    time_s: float = 0.0


@dataclass(frozen=True)
class VideoStarts:
    """A video was opened; its frames follow.

    Attributes:
        source: The input.
        width: Of a frame, px.
        height: Of a frame, px.
        time_base: Seconds of a unit of pts.
        frame_rate: As the file says, or None.
        sample_aspect_ratio: Width of a pixel by its height.
        estimated_frames: How many frames there will be, or None.
    """

    source: Source
    width: int
    height: int
    time_base: Fraction
    frame_rate: Fraction | None
    sample_aspect_ratio: Fraction
    estimated_frames: int | None


@dataclass(frozen=True)
class VideoEnds:
    """The last frame of a video went before; `reason` says in one line why no more come, None at its end."""

    source: Source
    reason: str | None


@dataclass
class VideoProgress:
    """What a video's reader and the taker of its results tell each other.

    Attributes:
        first_frame: Where to begin: what went before is there already.
        smoother_state: The smoother's, as it was before that frame.
        abandoned: Set where no more frames are wanted.
    """

    first_frame: int = 0
    smoother_state: dict[str, np.ndarray] | None = None
    abandoned: bool = False


def source_jobs(
    sources: Sequence[Source],
    options: PredictionOptions,
    max_pixels: int,
    progress_of: Callable[[Source], VideoProgress] = lambda source: VideoProgress(),
) -> Iterator[FrameJob | VideoStarts | VideoEnds]:
    """The frames of all inputs, in order, a video's between its start and its end.

    Args:
        sources: The inputs.
        options: Their limits, and whether videos are smoothed.
        max_pixels: The model's own limit on a frame's pixels; the stricter one decides.
        progress_of: Asked once for each video, before it is opened.
    """
    limits = replace(options.limits, max_pixels=min(options.limits.max_pixels, max_pixels))
    video_limits = replace(options.video_limits, max_pixels=min(options.video_limits.max_pixels, max_pixels))
    for source in sources:
        if source.kind == "picture":
            yield FrameJob(
                key=FrameKey(source),
                name=str(source.file),
                load=partial(read_frame, source.file, limits),
                pixels=_assumed_pixels(limits),
            )
            continue
        reason = None
        try:
            progress = progress_of(source)
        except OSError as error:
            yield VideoEnds(source, f"{source.file}: its result cannot be written: {error}")
            continue
        try:
            yield from _video_jobs(source, options, video_limits, progress)
        except FrameError as error:
            reason = str(error)
        yield VideoEnds(source, reason)


def _assumed_pixels(limits: FrameLimits) -> int:
    """A picture's size is known when it has been opened; until then it counts as 4K."""
    return min(limits.max_pixels, 2**23)


def _video_jobs(
    source: Source, options: PredictionOptions, limits: VideoLimits, progress: VideoProgress
) -> Iterator[FrameJob | VideoStarts]:
    with open_video(source.file, limits) as reader:
        yield _starts(source, reader)
        smoother = None if options.smoothing_s is None else CausalSmoother(options.smoothing_s)
        if smoother is not None and progress.smoother_state is not None:
            smoother.load_state(progress.smoother_state)
        frames = reader.skip(progress.first_frame)
        start = time.perf_counter()
        for frame in frames:
            read_ms = (time.perf_counter() - start) * 1e3
            yield _video_job(source, frame, smoother, read_ms)
            if progress.abandoned:
                return
            start = time.perf_counter()


def _video_job(
    source: Source, frame: VideoFrame, smoother: CausalSmoother | None, read_ms: float
) -> FrameJob:
    pixels = frame.pixels
    return FrameJob(
        key=FrameKey(source, frame.index, frame.pts, frame.time_s),
        name=str(source.file),
        load=lambda: pixels,
        pixels=pixels.shape[0] * pixels.shape[1],
        time_s=frame.time_s,
        smoother=smoother,
        read_ms=read_ms,
        keep_state=(frame.index + 1) % SEGMENT_FRAMES == 0,
    )


def _starts(source: Source, reader: VideoReader) -> VideoStarts:
    return VideoStarts(
        source,
        reader.width,
        reader.height,
        reader.time_base,
        reader.frame_rate,
        reader.sample_aspect_ratio,
        reader.estimated_frames,
    )
