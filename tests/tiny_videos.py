"""Small videos of every make, and the plainest way to read them, to compare with."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import closing
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

av.logging.set_level(av.logging.PANIC)
# SVT-AV1 reports on stderr otherwise: 1 is errors only.
os.environ.setdefault("SVT_LOG", "1")

# Codec of FFmpeg -> what it needs to be told; frames of 64 x 48 are small enough for all of them.
OPTIONS: dict[str, dict[str, str]] = {
    "libx264": {"preset": "ultrafast", "crf": "20", "threads": "1"},
    "libx265": {"preset": "ultrafast", "x265-params": "log-level=none:pools=none"},
    "libsvtav1": {"preset": "12", "svtav1-params": "lp=1"},
    "libvpx-vp9": {"cpu-used": "8", "deadline": "realtime", "threads": "1"},
    "libvpx": {"cpu-used": "8", "deadline": "realtime", "threads": "1"},
}
PIXEL_FORMATS = {
    "mjpeg": "yuvj420p",
    "ffv1": "bgr0",
    "png": "rgb24",
    "huffyuv": "rgb24",
    "prores_ks": "yuv422p10le",
    "rawvideo": "yuv420p",
}


def moving_frames(count: int, width: int = 64, height: int = 48, seed: int = 0) -> list[np.ndarray]:
    """(H, W, 3) uint8 RGB: smooth colors that drift, and a square that moves and changes its gray."""
    rng = np.random.default_rng(seed)
    x, y = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
    waves, phases = rng.uniform(2, 7, (3, 2)), rng.uniform(0, 6, 3)
    frames = []
    for index in range(count):
        planes = [
            np.sin(a * x + b * y + phase + 0.15 * index) for (a, b), phase in zip(waves, phases, strict=True)
        ]
        frame = np.uint8(128 + 90 * np.stack(planes, axis=-1))
        left = (3 + 5 * index) % max(1, width - width // 6)
        frame[height // 3 : height // 3 + height // 5, left : left + width // 6] = 30 + 20 * (index % 10)
        frames.append(frame)
    return frames


def write_video(
    path: Path,
    frames: Sequence[np.ndarray],
    codec: str = "libx264",
    *,
    container: str | None = None,
    rate: Fraction | int = 25,
    pts: Sequence[int] | None = None,
    time_base: Fraction | None = None,
    pixel_format: str | None = None,
    rotation: int = 0,
    sound: bool = False,
    options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
) -> Path:
    """Writes a video file with PyAV alone.

    Args:
        path: Its suffix says the container, unless `container` does.
        frames: (H, W, 3) uint8 RGB of one size.
        codec: FFmpeg's name of the encoder.
        container: FFmpeg's name of the muxer.
        rate: Frames a second.
        pts: Time stamps of the frames in units of `time_base`; without them `rate` decides.
        time_base: Seconds of one unit of `pts`.
        pixel_format: None takes the codec's usual one.
        rotation: Degrees, counter-clockwise, by which players turn the frames.
        sound: Add a track of silence.
        options: Of the encoder, beside the ones that `OPTIONS` gives it.
        container_options: Of the muxer.
    """
    height, width = frames[0].shape[:2]
    with closing(av.open(str(path), "w", format=container, options=container_options or {})) as output:
        stream = output.add_stream(codec, rate=rate, options=OPTIONS.get(codec, {}) | (options or {}))
        stream.width, stream.height = width, height
        stream.pix_fmt = pixel_format or PIXEL_FORMATS.get(codec, "yuv420p")
        if time_base is not None:
            stream.codec_context.time_base = stream.time_base = time_base
        if rotation:
            stream.set_display_rotation(rotation)
        audio = output.add_stream("aac", rate=16000, layout="mono") if sound else None
        for index, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format=stream.pix_fmt)
            frame.pts = index if pts is None else pts[index]
            frame.time_base = 1 / Fraction(rate) if time_base is None else time_base
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
        if audio is not None:
            output.mux(_silence(audio, len(frames) / float(rate)))
    return path


def write_sound(path: Path, seconds: float = 0.5) -> Path:
    """A file of sound without pictures."""
    with closing(av.open(str(path), "w")) as output:
        audio = output.add_stream("aac", rate=16000, layout="mono")
        output.mux(_silence(audio, seconds))
    return path


def _silence(stream: av.AudioStream, seconds: float) -> list[av.Packet]:
    packets = []
    for start in range(0, int(16000 * seconds), 1024):
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = 16000, start, Fraction(1, 16000)
        packets += stream.encode(frame)
    return packets + stream.encode(None)


def read_video(path: Path, container: str | None = None) -> tuple[list[np.ndarray], list[Fraction | None]]:
    """All frames upright and their times in seconds, as the plainest loop over PyAV gives them.

    Where decoding fails, what came before.
    """
    frames: list[np.ndarray] = []
    times: list[Fraction | None] = []
    try:
        with closing(av.open(str(path), format=container, metadata_errors="replace")) as video:
            stream = video.streams.video[0]
            stream.codec_context.thread_count = 1
            for frame in video.decode(stream):
                turned = np.rot90(frame.to_ndarray(format="rgb24"), round(frame.rotation / 90) % 4)
                frames.append(np.ascontiguousarray(turned))
                times.append(None if frame.pts is None else frame.pts * Fraction(frame.time_base))
    # IndexError: no video stream; AttributeError: its codec is unknown.
    except (av.error.FFmpegError, EOFError, IndexError, AttributeError):
        pass
    return frames, times
