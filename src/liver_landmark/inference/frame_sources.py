"""Which files a prediction runs on, and the frames that come of them."""

from __future__ import annotations

import glob
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from pathlib import Path

import numpy as np

from ..utils.frame_files import SUFFIXES as PICTURE_SUFFIXES
from ..utils.frame_files import FrameError, read_frame
from .predictor import FrameJob
from .result_files import FormerResults, FrameKey, Kind, PredictionOptions, Source, output_names
from .smoothing import CausalSmoother
from .video_reader import SUFFIXES as VIDEO_SUFFIXES
from .video_reader import VideoLimits, open_video

_SUFFIXES = (*PICTURE_SUFFIXES, *VIDEO_SUFFIXES)
# How files of each kind begin, as (offset, bytes).
_PICTURE_BEGINNINGS = (
    (0, b"\xff\xd8\xff"),
    (0, b"\x89PNG"),
    (0, b"BM"),
    (0, b"II*\0"),
    (0, b"MM\0*"),
    (8, b"WEBP"),
)
_VIDEO_BEGINNINGS = (
    (4, b"ftyp"), (4, b"moov"), (4, b"mdat"), (0, b"\x1a\x45\xdf\xa3"), (8, b"AVI "), (0, b"\0\0\1\xba"),
    (0, b"\0\0\1\xb3"), (0, b"FLV"), (0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11"), (0, b"OggS"),
    (0, b"nut/multimedia"), (0, b"DKIF"), (0, b"YUV4MPEG2"), (0, b".RMF"),
)  # fmt: skip
# MPEG transport streams: every packet begins with the same letter.
_TRANSPORT_PACKET = 188
# Pictures in a video's container.
_HEIF_BRANDS = (b"heic", b"heix", b"mif1", b"avif")


@dataclass(frozen=True)
class Inputs:
    """What a run is to predict.

    Attributes:
        files: Every input once, in the order of the arguments, a folder's by name.
        skipped: Files of the folders that are neither pictures nor videos by their suffix.
        left_out: Files of folders and patterns that earlier runs wrote.
    """

    files: list[Path]
    skipped: int
    left_out: int = 0


def collect_inputs(
    arguments: Sequence[str], *, recursive: bool = False, output: Path | None = None
) -> Inputs:
    """Resolves files, glob patterns and folders to files.

    A file that is named is taken whatever its suffix, and even where it does not exist, so that its
    failure has a line of its own. A folder gives its pictures and videos by suffix, without hidden ones.
    Folders and patterns leave out what earlier runs wrote (`FormerResults`).

    Args:
        arguments: Paths and patterns.
        recursive: Take the folders below a folder too.
        output: Where results go: a folder that contains it gives no inputs from it.

    Raises:
        ValueError: a pattern without files, a folder without pictures and videos or one that is the
            output's, or a file that is named and was written by an earlier run.
    """
    files: dict[str, Path] = {}
    left_out: set[str] = set()
    former, skipped = FormerResults(), 0
    for argument in arguments:
        paths, is_pattern = [Path(argument)], False
        if not paths[0].exists() and glob.has_magic(argument):
            paths, is_pattern = [Path(match) for match in sorted(glob.glob(argument, recursive=True))], True
            if not paths:
                raise ValueError(f"pattern {argument!r} matches no file")
        kept, results = [], []
        for path in paths:
            if path.is_dir():
                if output is not None and _is_same(path, output):
                    if is_pattern:
                        continue
                    raise ValueError(f"folder {path} is both input and output: choose another output folder")
                frames, written, others = _sorted_out(_files_below(path, recursive, output), former)
                if not frames and not written:
                    raise ValueError(f"folder {path} holds no picture or video ({', '.join(_SUFFIXES)})")
                kept += frames
                results += [file for file in written if _is_frame(file)]
                skipped += others
            elif path not in former:
                kept.append(path)
            elif is_pattern:
                results.append(path)
            else:
                raise ValueError(
                    f"{path} is a result of an earlier run, as the records beside it say: name frames only "
                    "(a pattern in quotes leaves results out), or copy it elsewhere to predict it"
                )
        if not kept:
            raise ValueError(f"{argument} holds nothing but results of earlier runs: name the frames")
        for file in kept:
            files.setdefault(os.path.abspath(file), file)
        left_out.update(map(os.path.abspath, results))
    return Inputs(list(files.values()), skipped, len(left_out))


def _sorted_out(every: Iterable[Path], former: FormerResults) -> tuple[list[Path], list[Path], int]:
    """A folder's frames, what earlier runs wrote, and the number of other files."""
    frames, written, others = [], [], 0
    for file in every:
        if file in former:
            written.append(file)
        elif _is_frame(file):
            frames.append(file)
        else:
            others += 1
    return frames, written, others


def _is_frame(file: Path) -> bool:
    return file.suffix.lower() in _SUFFIXES


def kind_of(file: Path) -> Kind:
    """What a file is read as: by how it begins, and by its suffix where that says nothing."""
    beginning = b""
    # A pipe would wait for ever; what cannot be opened is reported by who reads it.
    if file.is_file():
        with suppress(OSError), file.open("rb") as opened:
            beginning = opened.read(_TRANSPORT_PACKET + 1)
    by_suffix: Kind = "video" if file.suffix.lower() in VIDEO_SUFFIXES else "picture"
    # A bare stream of JPEGs begins as one of them does.
    if file.suffix.lower() in (".mjpeg", ".mjpg") and beginning.startswith(b"\xff\xd8\xff"):
        return "video"
    if _begins(beginning, _PICTURE_BEGINNINGS) or beginning[4:12] in [b"ftyp" + b for b in _HEIF_BRANDS]:
        return "picture"
    packets = beginning[::_TRANSPORT_PACKET] == b"GG"
    return "video" if packets or _begins(beginning, _VIDEO_BEGINNINGS) else by_suffix


def _begins(data: bytes, beginnings: Sequence[tuple[int, bytes]]) -> bool:
    return any(data[offset : offset + len(mark)] == mark for offset, mark in beginnings)


def as_sources(files: Sequence[Path]) -> list[Source]:
    """The files with their kinds and the names of their results (`output_names`)."""
    named = zip(files, output_names(files), strict=True)
    return [Source(file, name, kind_of(file)) for file, name in named]


def _files_below(folder: Path, recursive: bool, output: Path | None) -> Iterator[Path]:
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(
            name
            for name in folders
            if recursive
            and not name.startswith(".")
            and (output is None or not _is_same(Path(parent, name), output))
        )
        yield from (Path(parent, name) for name in sorted(names) if not name.startswith("."))


def _is_same(folder: Path, other: Path) -> bool:
    """Whether two paths lead to one folder, by whatever links."""
    return os.path.realpath(folder) == os.path.realpath(other)


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
        segment_frames: The smoother's state is kept after every so many frames.
        abandoned: Set where no more frames are wanted.
    """

    first_frame: int = 0
    smoother_state: dict[str, np.ndarray] | None = None
    segment_frames: int = 250
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
            # A picture's size is known when it has been opened; until then it counts as 4K.
            pixels = min(limits.max_pixels, 2**23)
            yield FrameJob(
                FrameKey(source), str(source.file), partial(read_frame, source.file, limits), pixels
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


def _video_jobs(
    source: Source, options: PredictionOptions, limits: VideoLimits, progress: VideoProgress
) -> Iterator[FrameJob | VideoStarts]:
    with open_video(source.file, limits) as reader:
        yield VideoStarts(
            source,
            reader.width,
            reader.height,
            reader.time_base,
            reader.frame_rate,
            reader.sample_aspect_ratio,
            reader.estimated_frames,
        )
        smoother = None if options.smoothing_s is None else CausalSmoother(options.smoothing_s)
        if smoother is not None and progress.smoother_state is not None:
            smoother.load_state(progress.smoother_state)
        start = time.perf_counter()
        for frame in reader.skip(progress.first_frame):
            yield FrameJob(
                key=FrameKey(source, frame.index, frame.pts, frame.time_s),
                name=str(source.file),
                load=lambda pixels=frame.pixels: pixels,
                pixels=reader.width * reader.height,
                time_s=frame.time_s,
                smoother=smoother,
                read_ms=(time.perf_counter() - start) * 1e3,
                keep_state=(frame.index + 1) % progress.segment_frames == 0,
            )
            if progress.abandoned:
                return
            start = time.perf_counter()
