"""Pictures of a live source, one after the other, each as soon as it is there.

A generator of pictures raises `SourceError` where a source cannot be opened or breaks, and ends where a
recording ends; a camera and a live stream do not end.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import cv2
import numpy as np
from av.error import FFmpegError
from av.format import Flags as FormatFlags

from ..video.limits import VideoError, VideoLimits
from ..video.reader import open_video
from .address import SourceAddress, SourceError
from .pacing import PlayClock, StreamLag

# Seconds until a stream that does not answer, or that stopped sending, is given up.
_OPEN_TIMEOUT_S, _READ_TIMEOUT_S = 10.0, 5.0
# Beyond this a stream's frames are no longer decoded but for key frames, until it has caught up.
_BEHIND_S, _CAUGHT_UP_S = 1.0, 0.25
# Play lists of recordings come in bursts of seconds, and are shown at their own speed.
_PLAY_LISTS = {"hls", "dash"}
# How long the last frame of a file stands before it starts over: a file of one frame must not spin.
_LOOP_PAUSE_S = 0.04
# What a stream's play list or description may lead to: not to files of this machine.
_NETWORK_PROTOCOLS = "rtp,rtsp,rtsps,udp,tcp,tls,http,https,httpproxy,crypto"


@dataclass(frozen=True)
class Picture:
    """One picture of a source.

    Attributes:
        time_s: Its time stamp, or None where the source gives none.
        pixels: Gives it as (H, W, 3) uint8 RGB; called only for the pictures that are used.
    """

    time_s: float | None
    pixels: Callable[[], np.ndarray]


@dataclass(frozen=True)
class CaptureOptions:
    """How a source is read.

    Attributes:
        loop: Start a file over at its end.
        camera_size: (width, height) px to ask a camera for; None leaves it as it is.
        max_pixels: Width × height that is refused above.
    """

    loop: bool = False
    camera_size: tuple[int, int] | None = None
    max_pixels: int = 2**26


def pictures(address: SourceAddress, options: CaptureOptions, stop: threading.Event) -> Iterator[Picture]:
    """Opens the source and gives its pictures; waiting for one that is not due yet ends with `stop`.

    Raises:
        SourceError: it cannot be opened, or it breaks.
    """
    read = {"camera": _camera, "network": _network, "file": _file}[address.kind]
    return read(address, options, stop)


def _file(address: SourceAddress, options: CaptureOptions, stop: threading.Event) -> Iterator[Picture]:
    clock = PlayClock()
    limits = VideoLimits(max_pixels=options.max_pixels)
    try:
        while True:
            with open_video(Path(address.target), limits) as reader:
                for frame in reader:
                    if stop.wait(clock.wait_s(frame.time_s)):
                        return
                    yield Picture(frame.time_s, lambda pixels=frame.pixels: pixels)
            if not options.loop or stop.wait(_LOOP_PAUSE_S):
                return
    except VideoError as error:
        raise SourceError(str(error)) from error


def _camera(address: SourceAddress, options: CaptureOptions, stop: threading.Event) -> Iterator[Picture]:
    # OpenCV prints its attempts at each backend; what matters is raised.
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    backend = cv2.CAP_V4L2 if sys.platform.startswith("linux") else cv2.CAP_ANY
    camera = cv2.VideoCapture(int(address.target), backend)
    try:
        if not camera.isOpened():
            raise SourceError(f"{address.shown}: no such camera, or another program uses it")
        # One frame in the driver, where it lets itself be told: the newest.
        camera.set(cv2.CAP_PROP_BUFFERSIZE, 1)
        if options.camera_size is not None:
            camera.set(cv2.CAP_PROP_FRAME_WIDTH, options.camera_size[0])
            camera.set(cv2.CAP_PROP_FRAME_HEIGHT, options.camera_size[1])
        while not stop.is_set():
            read, bgr = camera.read()
            if not read:
                raise SourceError(f"{address.shown}: gives no more pictures")
            if bgr.shape[0] * bgr.shape[1] > options.max_pixels:
                raise _too_large(address, bgr.shape[1], bgr.shape[0], options)
            yield Picture(None, lambda bgr=bgr: cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB))
    finally:
        camera.release()


def _network(address: SourceAddress, options: CaptureOptions, stop: threading.Event) -> Iterator[Picture]:
    ffmpeg_options = {"protocol_whitelist": _NETWORK_PROTOCOLS}
    if address.shown.startswith("rtsp"):
        # Over TCP, a lost packet delays pictures; over UDP, it smears the liver's edges. What FFmpeg took to
        # learn of the stream is old by then.
        ffmpeg_options |= {"rtsp_transport": "tcp", "fflags": "nobuffer"}
    try:
        container = av.open(
            address.target,
            timeout=(_OPEN_TIMEOUT_S, _READ_TIMEOUT_S),
            metadata_errors="replace",
            container_options=ffmpeg_options,
        )
    except (FFmpegError, OSError, ValueError) as error:
        raise SourceError(f"{address.shown}: cannot be opened: {_reason(error)}") from error
    try:
        yield from _stream_pictures(container, address, options, stop)
    except (FFmpegError, OSError, ValueError) as error:
        raise SourceError(f"{address.shown}: broke off: {_reason(error)}") from error
    finally:
        container.close()


def _stream_pictures(
    container: av.container.InputContainer,
    address: SourceAddress,
    options: CaptureOptions,
    stop: threading.Event,
) -> Iterator[Picture]:
    if not container.streams.video:
        raise SourceError(f"{address.shown}: holds no pictures (video stream)")
    stream = container.streams.video[0]
    context = stream.codec_context
    if context is None:
        raise SourceError(f"{address.shown}: its video codec is not known here")
    # A thread for each frame would hold as many frames back as there are threads.
    context.thread_type = "SLICE"
    context.flags |= av.codec.context.Flags.low_delay
    names = set(container.format.name.split(","))
    recording = "rtsp" not in names and container.duration is not None
    play_clock = PlayClock() if recording or names & _PLAY_LISTS else None
    # Of formats without time stamps FFmpeg makes some up.
    stamped = not container.format.flags & FormatFlags.no_timestamps.value
    lag = StreamLag() if stamped and play_clock is None else None
    packets = container.demux(stream)
    while (packet := _next(packets, lag)) is not None:
        for frame in packet.decode():
            if frame.width * frame.height > options.max_pixels:
                raise _too_large(address, frame.width, frame.height, options)
            if lag is not None:
                # Left to itself, a decoder that is too slow would show the past, later and later.
                behind_s = lag.behind_s(frame.time)
                if behind_s > _BEHIND_S:
                    context.skip_frame = "NONKEY"
                elif behind_s < _CAUGHT_UP_S:
                    context.skip_frame = "DEFAULT"
            if stop.wait(0.0 if play_clock is None else play_clock.wait_s(frame.time)):
                return
            yield Picture(frame.time, lambda frame=frame: _upright(frame))
    if not recording:
        raise SourceError(f"{address.shown}: the stream ended")


def _next(packets: Iterator[av.Packet], lag: StreamLag | None) -> av.Packet | None:
    asked = time.monotonic()
    packet = next(packets, None)
    if lag is not None:
        lag.waited(time.monotonic() - asked)
    return packet


def _upright(frame: av.VideoFrame) -> np.ndarray:
    turns = round(frame.rotation / 90) % 4
    return np.ascontiguousarray(np.rot90(frame.to_ndarray(format="rgb24"), turns))


def _too_large(address: SourceAddress, width: int, height: int, options: CaptureOptions) -> SourceError:
    return SourceError(
        f"{address.shown}: frames of {width}×{height} px, more than the limit of {options.max_pixels} pixels"
    )


def _reason(error: Exception) -> str:
    """Why, without the error's own text, which repeats the URL with its password."""
    if isinstance(error, av.error.ExitError):
        return "no answer in time"
    return getattr(error, "strerror", None) or type(error).__name__
