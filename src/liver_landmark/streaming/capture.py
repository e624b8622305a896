"""Live sources (camera, stream or video file): what names them, and their pictures as soon as they are there.

A generator of pictures raises `SourceError` where a source cannot be opened or breaks, and ends where a
recording ends; a camera and a live stream do not end.
"""

from __future__ import annotations

import os
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import av
import cv2
import numpy as np
from av.error import FFmpegError
from av.format import Flags as FormatFlags

from ..inference.video_reader import VideoError, VideoLimits, open_video

SCHEMES: tuple[str, ...] = ("rtsp", "rtsps", "http", "https")
_DEVICE = re.compile(r"/dev/video(\d+)")
# OpenCV takes a camera's index as a C int.
_MOST_DIGITS = 9


class SourceError(Exception):
    """A source that cannot be opened, or that broke; the message is one line without credentials."""


@dataclass(frozen=True)
class SourceAddress:
    """Where pictures come from.

    Attributes:
        kind: camera (a device of this machine), network (a stream), or file (played by its time stamps).
        target: Camera index, URL or path, for the one that opens it: a URL's password is in it.
        shown: The same for people: without user, password, query and fragment.
    """

    kind: Literal["camera", "network", "file"]
    target: str = field(repr=False)
    shown: str


def parse_source(text: str) -> SourceAddress:
    """Reads `SOURCE`: a camera index, `/dev/video<N>` or a link to one, a URL, or a video file.

    Raises:
        SourceError: none of these, a URL of another scheme or without a host, or a file that is not there.
    """
    if text.isdecimal() and text.isascii():
        index = _camera_index(text, text)
        return SourceAddress("camera", index, f"camera {index}")
    if text.startswith("/dev/"):
        device = _DEVICE.fullmatch(os.path.realpath(text))
        if device is None:
            raise SourceError(f"{text}: no camera; cameras are /dev/video0, /dev/video1 …, or links to them")
        return SourceAddress("camera", _camera_index(device[1], text), text)
    if "://" in text:
        return SourceAddress("network", text, _without_credentials(text))
    if not os.path.isfile(text):
        raise SourceError(
            f"{text or 'an empty name'}: no such file (a source is a camera index, /dev/video0, "
            f"{'://, '.join(SCHEMES)}://, or a video file)"
        )
    return SourceAddress("file", text, text)


def _camera_index(digits: str, text: str) -> str:
    index = digits.lstrip("0") or "0"
    if len(index) > _MOST_DIGITS:
        raise SourceError(f"{text:.80}: no such camera")
    return index


def _without_credentials(url: str) -> str:
    """Scheme, host, port and path of a URL: what is left may be printed and shown."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        # Its text is not repeated: where the password lies in it cannot be known.
        raise SourceError("the URL of the source cannot be read: expected rtsp://host:port/path") from None
    scheme = parts.scheme.lower()
    if scheme not in SCHEMES:
        known = ", ".join(f"{name}://" for name in SCHEMES)
        raise SourceError(f"a source of the scheme {scheme}:// is not supported: {known}")
    if not host:
        raise SourceError(f"a {scheme}:// source needs a host: {scheme}://host:port/path")
    if any(character.isspace() or not character.isprintable() for character in url):
        raise SourceError("the URL of the source has spaces or control characters: write them as %20 …")
    if "@" in parts.path:
        # A slash within the password: what follows it would be taken for the path, and shown.
        raise SourceError(
            "the URL of the source has an @ in its path: write it %40, and a / in a password %2F"
        )
    name = f"[{host}]" if ":" in host else host
    user = "***@" if "@" in parts.netloc else ""
    query = "?…" if parts.query else ""
    return f"{scheme}://{user}{name}{'' if port is None else f':{port}'}{parts.path}{query}"


# What a recording may be late by before it plays on from where it is.
_LATEST_S = 0.5
# A longer gap between two time stamps is a seek or a restart of the sender, not the next frame.
_LONGEST_STEP_S = 10.0
# A reader that spends this share of its last second waiting has nothing piled up before it. Less may be
# waiting for other threads.
_WINDOW_S, _WAITING_SHARE = 1.0, 0.25


class PlayClock:
    """When frames of a recording are due, so that it plays at its own speed.

    A recording that cannot be decoded as fast as it was filmed plays slower: of lateness, only what is
    short is made up for.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` gives seconds that never go back."""
        self._clock = clock
        self._base_s: float | None = None
        self._last_s = 0.0

    def wait_s(self, time_s: float | None) -> float:
        """Seconds until a frame of this time stamp is due; 0 where it is due already."""
        if time_s is None:
            return 0.0
        now = self._clock()
        step = time_s - self._last_s
        self._last_s = time_s
        late_s = 0.0 if self._base_s is None else now - self._base_s - time_s
        if self._base_s is None or not 0 <= step <= _LONGEST_STEP_S or late_s > _LATEST_S:
            self._base_s = now - time_s
        return max(0.0, self._base_s + time_s - now)


class StreamLag:
    """How far what is decoded lies behind what is sent, as time stamps and waiting tell.

    A reader that is too slow never waits for data: what it has not read yet piles up before it, and its
    frames come later and later after their time stamps. A reader that waits is not behind, whatever the
    time stamps say: those of some cameras run slow.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` gives seconds that never go back."""
        self._clock = clock
        self._least_s: float | None = None
        self._last_s = 0.0
        self._since, self._waited_s = clock(), 0.0

    def waited(self, seconds: float) -> None:
        """The reader has waited so long for the next data."""
        self._waited_s += seconds

    def behind_s(self, time_s: float | None) -> float:
        """Seconds by which a frame of this time stamp comes later than frames did when there was waiting."""
        if time_s is None:
            return 0.0
        now = self._clock()
        offset = now - time_s
        step = time_s - self._last_s
        self._last_s = time_s
        if self._least_s is None or not 0 <= step <= _LONGEST_STEP_S or offset < self._least_s:
            self._least_s = offset
        if now - self._since >= _WINDOW_S:
            if self._waited_s >= _WAITING_SHARE * (now - self._since):
                self._least_s = offset
            self._since, self._waited_s = now, 0.0
        return offset - self._least_s


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
