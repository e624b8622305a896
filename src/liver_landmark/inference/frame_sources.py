"""Which files a prediction runs on, what is asked of it, and the frames that come of them."""

from __future__ import annotations

import glob
import hashlib
import math
import os
import time
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np

from ..utils.frame_files import SUFFIXES as PICTURE_SUFFIXES
from ..utils.frame_files import FrameError, FrameLimits, read_frame
from .predictor import FrameJob
from .smoothing import CausalSmoother
from .video_reader import SUFFIXES as VIDEO_SUFFIXES
from .video_reader import VideoFrame, VideoLimits, VideoReader, open_video

# ----------------------------------------------------------------------------------------------------
# What a prediction over files is asked to do.

# What `--curves` takes: a file a frame for each, but one for the whole run where CVAT is meant.
CURVE_FORMATS: tuple[str, ...] = ("labelme", "cvat", "p2ilf", "svg")


@dataclass(frozen=True)
class PredictionOptions:
    """Options of a run.

    Attributes:
        batch_size: Frames in one forward pass.
        overlay: Write overlays: a PNG for a picture, an MP4 for a video.
        legend: Name the landmarks in the overlays.
        curves: Formats of `CURVE_FORMATS` to write the curves in.
        save_probabilities: Write the probability of each landmark, and the variance where views are averaged.
        smoothing_s: Time constant of the smoothing of videos (`CausalSmoother`), seconds; None for none.
        num_parts: How many runs share the inputs.
        part_id: Which of them this is, from 0.
        limits: What is refused of a picture before it is decoded.
        video_limits: What is refused of a video.
    """

    batch_size: int = 1
    overlay: bool = True
    legend: bool = True
    curves: tuple[str, ...] = ()
    save_probabilities: bool = False
    smoothing_s: float | None = None
    num_parts: int = 1
    part_id: int = 0
    limits: FrameLimits = field(default_factory=FrameLimits)
    video_limits: VideoLimits = field(default_factory=VideoLimits)

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {self.batch_size}")
        for name in self.curves:
            if name not in CURVE_FORMATS:
                raise ValueError(f"curves: {name!r} is unknown: choose among {', '.join(CURVE_FORMATS)}")
        if self.smoothing_s is not None and not (math.isfinite(self.smoothing_s) and self.smoothing_s > 0):
            raise ValueError(f"smoothing_s must be positive, got {self.smoothing_s}")
        if self.num_parts < 1 or not 0 <= self.part_id < self.num_parts:
            raise ValueError(
                f"part_id must be from 0 to num_parts - 1, got part {self.part_id} of {self.num_parts}"
            )


# ----------------------------------------------------------------------------------------------------
# Which files a prediction runs on, what they are, and what their results are called.

Kind = Literal["picture", "video"]

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
class Source:
    """One input.

    Attributes:
        file: The file.
        name: What its results are called.
        kind: Whether it is read as a picture or as a video.
    """

    file: Path
    name: str
    kind: Kind


@dataclass(frozen=True)
class Inputs:
    """Attributes:
    files: Every frame once, in the order of the arguments, a folder's by name.
    skipped: Files of the folders that are neither pictures nor videos by their suffix.
    """

    files: list[Path]
    skipped: int


def collect_inputs(
    arguments: Sequence[str], *, recursive: bool = False, output: Path | None = None
) -> Inputs:
    """Resolves files, glob patterns and folders to files.

    A file that is named is taken whatever its suffix, and even where it does not exist, so that its
    failure has a line of its own. A folder gives its pictures and videos by suffix, without hidden ones.

    Args:
        arguments: Paths and patterns.
        recursive: Take the folders below a folder too.
        output: Where results go: what lies there is no input of a folder around it.

    Raises:
        ValueError: a pattern without files, a folder without pictures and videos, or a folder that is the
            output's.
    """
    files: dict[str, Path] = {}
    skipped = 0
    for argument in arguments:
        paths = [Path(argument)]
        if not paths[0].exists() and glob.has_magic(argument):
            paths = [Path(match) for match in sorted(glob.glob(argument, recursive=True))]
            if not paths:
                raise ValueError(f"pattern {argument!r} matches no file")
        for path in paths:
            found = [path]
            if path.is_dir():
                if output is not None and _is_same(path, output):
                    raise ValueError(f"folder {path} is both input and output: choose another output folder")
                every = list(_files_below(path, recursive, output))
                found = [file for file in every if file.suffix.lower() in _SUFFIXES]
                skipped += len(every) - len(found)
                if not found:
                    raise ValueError(f"folder {path} holds no picture or video ({', '.join(_SUFFIXES)})")
            for file in found:
                files.setdefault(_absolute(file), file)
    return Inputs(list(files.values()), skipped)


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


def _absolute(path: Path) -> str:
    return os.path.abspath(path)


def output_names(files: Sequence[Path]) -> list[str]:
    """A name for each file's results: its stem, with as much added as keeps all of them apart.

    Files that share a stem get their suffix added (`frame_jpg`), or else the names of their folders in
    front (`patient1_frame`), or both; where that is not enough, as for stems that differ by case alone, the
    beginning of a hash follows (`Frame-12167761`). The names depend on which files there are, not on their
    order, and are told apart as by file systems that ignore case and the spelling of accents.
    """
    groups: dict[str, list[Path]] = defaultdict(list)
    for file in files:
        groups[_folded(file.stem)].append(file)
    wishes: dict[Path, tuple[str, str]] = {}
    for group in groups.values():
        wishes |= zip(group, _names_apart(group), strict=True)
    wanted = Counter(_folded(name) for name, _ in wishes.values())
    # Stems that nobody shares keep their plain name.
    plain = {file for file, (name, _) in wishes.items() if len(groups[_folded(file.stem)]) == 1}
    plain |= {file for file, (name, _) in wishes.items() if wanted[_folded(name)] == 1}
    names = {file: wishes[file][0] for file in plain}
    rest = [file for file in files if file not in plain]
    # The second and third try are for names that were made to collide; with whole hashes all differ.
    for digits, of_files in ((8, rest), (64, rest), (64, files)):
        hashed = {file: f"{wishes[file][0]}-{_digest(wishes[file][1])[:digits]}" for file in of_files}
        if len({_folded(name) for name in (names | hashed).values()}) == len(files):
            break
    return [(names | hashed)[file] for file in files]


def _names_apart(group: Sequence[Path]) -> list[tuple[str, str]]:
    """The first way of naming that tells files of one stem apart, with the end of each path that it names.

    Where there is none, the first for which those ends differ, by case at least.
    """
    folders = [Path(_absolute(file)).parent.parts[1:] for file in group]
    by_case: list[tuple[str, str]] = []
    for depth in range(max(map(len, folders)) + 1):
        fronts = [parts[max(0, len(parts) - depth) :] for parts in folders]
        tails = ["/".join((*front, file.name)) for front, file in zip(fronts, group, strict=True)]
        stems = ["_".join((*front, file.stem)) for front, file in zip(fronts, group, strict=True)]
        for with_suffix in (False, True):
            ends = [f"_{file.suffix[1:]}" if with_suffix else "" for file in group]
            names = [stem + end for stem, end in zip(stems, ends, strict=True)]
            named = list(zip(names, tails, strict=True))
            if len(set(map(_folded, names))) == len(names):
                return named
            if not by_case and len(set(tails)) == len(tails):
                by_case = named
    return by_case


def _folded(name: str) -> str:
    return unicodedata.normalize("NFD", unicodedata.normalize("NFD", name).casefold())


def _digest(tail: str) -> str:
    return hashlib.sha256(os.fsencode(tail)).hexdigest()


# ----------------------------------------------------------------------------------------------------
# From files to the frames that the flow predicts.

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
