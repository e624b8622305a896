"""The videos that are predicted: a synthetic camera path, enlarged to 1080p."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import closing
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

from liver_landmark.synthetic import build_patient, get_domain
from liver_landmark.synthetic.render import render_path
from liver_landmark.utils.atomic_files import atomic_path, write_json

WIDTH, HEIGHT = 1920, 1080
RATE = Fraction(25)
# What is rendered is this much smaller.
ENLARGED = 4
# No patient of a model's training set: those have the quick start's seeds.
SEED = 4321
# Uneven time stamps: steps in units of 1/90000 s, over and over.
_UNEVEN_BASE, _UNEVEN_STEPS = Fraction(1, 90000), (3600, 3003, 1800, 12345, 3600, 7)


def make_path_video(folder: Path, frames: int, domain: str) -> tuple[Path, list[list[dict]]]:
    """The video and the landmarks of each frame in px of it; what an earlier call made is taken again."""
    video, truth = folder / f"path_{domain}_{frames}.mp4", folder / f"path_{domain}_{frames}.json"
    if not (video.is_file() and truth.is_file()):
        folder.mkdir(parents=True, exist_ok=True)
        landmarks: list[list[dict]] = []
        with atomic_path(video) as temporary:
            write_h264(temporary, _rendered(domain, frames, landmarks), [1] * frames, 1 / RATE)
        write_json(truth, landmarks)
    return video, json.loads(truth.read_text(encoding="utf-8"))


def _rendered(domain: str, frames: int, landmarks: list[list[dict]]) -> Iterator[np.ndarray]:
    patient = build_patient(get_domain(domain), SEED, 0)
    for frame in render_path(patient, frames, WIDTH // ENLARGED, HEIGHT // ENLARGED):
        landmarks.append(
            [
                {
                    "category": mark["category"],
                    "points": ((mark["points"].astype(float) + 0.5) * ENLARGED - 0.5).tolist(),
                }
                for mark in frame.landmarks
            ]
        )
        yield cv2.resize(frame.image, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)


def write_h264(path: Path, frames: Iterator[np.ndarray], steps: Sequence[int], time_base: Fraction) -> None:
    """Writes RGB frames of one size as H.264, `steps` units of `time_base` after each other."""
    with closing(av.open(str(path), "w", format="mp4")) as output:
        stream = output.add_stream("libx264", rate=RATE, options={"preset": "veryfast", "crf": "20"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.codec_context.time_base = stream.time_base = time_base
        pts = 0
        for pixels, step in zip(frames, steps, strict=False):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = pts, time_base
            output.mux(stream.encode(frame))
            pts += step
        output.mux(stream.encode(None))


def make_uneven_video(source: Path, frames: int) -> Path:
    """The first frames of a video with uneven time stamps."""
    path = source.with_name(f"{source.stem}_uneven_{frames}.mp4")
    if not path.is_file():
        steps = [_UNEVEN_STEPS[number % len(_UNEVEN_STEPS)] for number in range(frames)]
        with av.open(str(source)) as video, atomic_path(path) as temporary:
            pictures = (frame.to_ndarray(format="rgb24") for frame in video.decode(video=0))
            write_h264(temporary, pictures, steps, _UNEVEN_BASE)
    return path


def make_repeated_video(source: Path, times: int) -> Path:
    """A video that shows the source so many times over, without encoding it anew."""
    path = source.with_name(f"{source.stem}_times_{times}.mp4")
    if not path.is_file():
        with atomic_path(path) as temporary, closing(av.open(str(temporary), "w", format="mp4")) as output:
            stream, shift = None, 0
            for _ in range(times):
                shift += _copy_packets(source, output, stream, shift)
                stream = output.streams.video[0]
    return path


def _copy_packets(
    source: Path,
    output: av.container.OutputContainer,
    stream: av.video.stream.VideoStream | None,
    shift: int,
) -> int:
    """Appends a video's packets `shift` later; returns its length in units of its time base."""
    with av.open(str(source)) as video:
        original = video.streams.video[0]
        if stream is None:
            stream = output.add_stream_from_template(original)
            stream.time_base = original.time_base
        for packet in video.demux(original):
            if packet.size:
                packet.pts, packet.dts, packet.stream = packet.pts + shift, packet.dts + shift, stream
                packet.time_base = original.time_base
                output.mux(packet)
        return original.duration


def times_of(video: Path) -> list[Fraction]:
    """The time of every frame in seconds, as PyAV decodes them."""
    with av.open(str(video)) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        return [frame.pts * Fraction(frame.time_base) for frame in container.decode(stream)]
