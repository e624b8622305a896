"""The files of a prediction run: what they are called, which are in the way, and how a frame's are written.

    picture                                  frame 12 of a video
    <name>_mask.png                          <name>_mask/000012.png                   class ids, mode L
    <name>_overlay.png                       in <name>_overlay.mp4
    <name>_probability_<landmark>.png        <name>_probability_<landmark>/000012.png  16 bit, 65535 is 1
    <name>_variance.png                      <name>_variance/000012.png                16 bit, 65535 is 1
    <name>_labelme.json                      <name>_labelme/000012.json
    <name>_p2ilf.json, <name>_p2ilf.xml      <name>_p2ilf/000012.json, .xml
    <name>_svg.svg                           <name>_svg/000012.svg

    predictions.jsonl, run.json, cvat.xml    of the whole run; cvat.xml is the curve format `cvat`
    predictions-2-of-8.jsonl, run-2-of-8.json    of one of several runs that share the inputs
    .unfinished/, .unfinished-2-of-8/        what an interrupted run goes on from (`run_journal.py`)

All at the frame's own size. A name is the file's stem, or more where stems collide (`output_names`). Each
file is complete or absent: it is written beside its place, under `atomic_path`'s name, and renamed. No other
module spells one of these names: `RunFiles` says what a run writes, `FormerResults` what earlier ones wrote.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import shutil
import time
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from PIL import Image

from ..curves import NoisyMaskError, TracedPolyline
from ..curves.formats import FrameAnnotation, check_names_fit, write_landmarks
from ..model.landmarks_liver_landmark import LandmarkTable
from ..utils.atomic_files import atomic_path, is_held, partial_target, write_json, write_png
from ..utils.frame_files import FrameLimits
from .overlay import draw_overlay
from .predictor import FailedFrame, FramePrediction, SeenFrame
from .video_reader import VideoLimits

# A curve format of the command line -> a frame's files: format of `write_landmarks`, suffix. CVAT wants one
# file for many frames.
_CURVE_FILES: dict[str, tuple[tuple[str, str], ...]] = {
    "labelme": (("labelme", ".json"),),
    "cvat": (),
    "p2ilf": (("p2ilf-json", ".json"), ("p2ilf-xml", ".xml")),
    "svg": (("svg", ".svg"),),
}
CURVE_FORMATS: tuple[str, ...] = tuple(_CURVE_FILES)
# A frame of a video, in one of its folders.
_FRAME_FILE = re.compile(r"\d{6,}\.(png|json|xml|svg)")
_PART = r"(-\d+-of-\d+)?"
_RUN_FILE, _PREDICTIONS_FILE = re.compile(rf"run{_PART}\.json"), re.compile(rf"predictions{_PART}\.jsonl")
_CVAT_FILE, _WORK_FOLDER = "cvat.xml", ".unfinished"
# In a work folder: what its run may write; names of folders end with a slash.
_PLANNED_FILE = "planned.json"
# In run.json: results that are there, but in no line of predictions.jsonl (`RunFiles.unlisted`).
UNLISTED = "unlisted_results"
# Without a filter, runs of equal ids stay runs: a third of the time and of the bytes.
_MASK_PNG = [cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_NONE]
_MASK_PNG += [cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE]


class OutputError(ValueError):
    """An output folder that a run cannot begin in or go on with; the message is one line."""


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


Kind = Literal["picture", "video"]


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
    folders = [Path(os.path.abspath(file)).parent.parts[1:] for file in group]
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


class RunFiles:
    """Every file that a run may write: whoever plans, checks, writes, resumes, merges or clears asks here.

    Attributes:
        output: Folder of the results.
        options: The run's.
        landmarks: The model's; without them, the planes of probabilities are not known.
        predictions: A line for each frame; a part's own where several runs share the inputs.
        run: What was asked and what came of it; a part's own as well.
        cvat: The curves of all frames.
        work: Hidden folder of a run that is under way or was interrupted.
        settings: In it: what the results depend on.
        rows: In it: lines of `predictions`, as they come.
    """

    def __init__(
        self,
        output: Path,
        options: PredictionOptions,
        landmarks: LandmarkTable | None = None,
        *,
        with_variance: bool = False,
    ) -> None:
        """`with_variance` says whether views are averaged, so that there is a variance to write."""
        self.output, self.options, self.landmarks = output, options, landmarks
        part = "" if options.num_parts == 1 else f"-{options.part_id}-of-{options.num_parts}"
        self.predictions, self.run = output / f"predictions{part}.jsonl", output / f"run{part}.json"
        self.cvat = output / _CVAT_FILE
        self.work = output / f"{_WORK_FOLDER}{part}"
        self.settings, self.rows = self.work / "settings.json", self.work / "rows.jsonl"
        self._planes = [] if landmarks is None else [f"probability_{name}" for name in landmarks.names]
        self._variance = ["variance"] if with_variance else []

    @property
    def whole(self) -> RunFiles:
        """The files of the run that all parts are together."""
        return RunFiles(self.output, replace(self.options, num_parts=1, part_id=0), self.landmarks)

    @property
    def parts(self) -> list[RunFiles]:
        """The files of each part."""
        options = [replace(self.options, part_id=number) for number in range(self.options.num_parts)]
        return [RunFiles(self.output, part, self.landmarks) for part in options]

    def file(self, key: FrameKey, kind: str, suffix: str = ".png") -> Path:
        """Where one result of a frame goes."""
        name = f"{key.source.name}_{kind}"
        return self.output / (f"{name}{suffix}" if key.index is None else f"{name}/{key.index:06d}{suffix}")

    def overlay(self, source: Source) -> Path:
        """Where an input's overlay goes."""
        return self.output / f"{source.name}_overlay{'.png' if source.kind == 'picture' else '.mp4'}"

    def frame_files(self, key: FrameKey) -> list[Path]:
        """What is written for a frame, but for the overlay."""
        curves = [(kind, suffix) for kind in self.options.curves for _, suffix in _CURVE_FILES[kind]]
        planes = [*self._planes, *self._variance] if self.options.save_probabilities else []
        kinds = [("mask", ".png"), *curves, *((plane, ".png") for plane in planes)]
        return [self.file(key, kind, suffix) for kind, suffix in kinds]

    def video_folders(self, source: Source) -> list[Path]:
        """The folders that a video's results may be in, whatever the options.

        Frames of formats that are not asked for are cleared away: an earlier run's would pass for this one's.
        """
        kinds = ["mask", *(kind for kind, files in _CURVE_FILES.items() if files), *self._planes, "variance"]
        return [self.output / f"{source.name}_{kind}" for kind in kinds]

    def video_work(self, source: Source) -> Path:
        """Folder of a video that is under way."""
        # With something behind it: a name may be "..".
        return self.work / "videos" / f"{source.name}_mask"

    @property
    def records(self) -> list[Path]:
        """What is written for the run itself; for a part, what the merged run is to have as well."""
        runs = [self] if self.options.num_parts == 1 else [self, self.whole]
        cvat = [self.cvat] if "cvat" in self.options.curves else []
        return [*(path for run in runs for path in (run.predictions, run.run)), *cvat]

    def planned(self, sources: Sequence[Source]) -> list[Path]:
        """What a run over these inputs writes; of a video the folders where frames are written or cleared."""
        planned = []
        for source in sources:
            is_picture = source.kind == "picture"
            planned += self.frame_files(FrameKey(source)) if is_picture else self.video_folders(source)
            if self.options.overlay:
                planned.append(self.overlay(source))
        return planned + self.records

    def check(
        self, sources: Sequence[Source], inputs: Sequence[Path], *, overwrite: bool, resume: bool
    ) -> None:
        """Refuses to write over an input, over a result unasked, where no folder can be, what no format has.

        Args:
            sources: What this run predicts.
            inputs: All inputs, those of other parts too.
            overwrite: Whatever is there may be replaced.
            resume: What earlier runs wrote may be replaced.

        Raises:
            OutputError: one of these; nothing was written.
        """
        for kind in self.options.curves if self.landmarks is not None else ():
            try:
                check_names_fit(kind, self.landmarks.names)
            except ValueError as error:
                raise OutputError(f"curves: {error}") from error
        # What is there of the way to it: a file ends it, and so does a link to nothing.
        there = next(path for path in (self.output, *self.output.absolute().parents) if os.path.lexists(path))
        if not there.is_dir():
            what = "exists and" if there == self.output else f"cannot be made: {there}"
            raise OutputError(f"output {self.output} {what} is no folder")
        # An interrupted run's results are not in the way: the journal asks what is to become of them.
        replaces = overwrite or (self.settings.is_file() and not resume)
        planned, places, former = self.planned(sources), _Places(inputs), FormerResults()
        names = Counter(_folded(path.name) for path in planned)
        for path in planned:
            if names[_folded(path.name)] > 1:
                raise OutputError(f"{path} would be the result of two inputs: rename one of them")
            self._check_place(path, places)
            if replaces or not os.path.lexists(path):
                continue
            if not resume:
                raise OutputError(
                    f"{path} is there already: pass --overwrite or --resume, or choose another --output"
                )
            # Whether its own records are there, and whole, the journal sees.
            if path not in (self.predictions, self.run) and path not in former:
                raise OutputError(
                    f"{path} is there, and no run wrote it: pass --overwrite, or choose another --output"
                )
        for path in (self.work, self.work.with_name(f".lock-{self.work.name}")):
            self._check_place(path, places)
        leftovers = self._leftover_targets(sources)
        output = os.path.realpath(self.output)
        for file in inputs:
            if partial_target(file.name) in leftovers and os.path.realpath(file.parent) == output:
                raise OutputError(
                    f"{file} is an input and would be removed as a remainder of an earlier run: rename it"
                )

    def _check_place(self, path: Path, places: _Places) -> None:
        verb = places.verb(path)
        if verb is not None:
            raise OutputError(f"{path} {verb} an input and would be overwritten: choose another --output")

    def note_planned(self, sources: Sequence[Source], recorded: Iterable[str]) -> set[str]:
        """Notes in the work folder what the run may write, for `FormerResults` should it be interrupted.

        Args:
            sources: What this run predicts.
            recorded: `recorded`, before the work folder was cleared.

        Returns:
            All of these names.
        """
        folders = {
            folder for source in sources if source.kind == "video" for folder in self.video_folders(source)
        }
        names = {f"{path.name}/" if path in folders else path.name for path in self.planned(sources)}
        names.update(recorded)
        write_json(self.work / _PLANNED_FILE, {"planned": sorted(names)})
        return names

    def recorded(self) -> set[str]:
        """The results of earlier runs that this run's records tell of, before it replaces them."""
        return {
            *_names_in_run(self.run),
            *_names_in_predictions(self.predictions),
            *_names_in_work(self.work),
        }

    def unlisted(self, names: Iterable[str]) -> list[str]:
        """Those of the names that are there, but neither in the new `predictions` nor a record.

        Such as results of inputs and options that are asked for no more, and of inputs that failed.
        """
        listed = set(_names_in_predictions(self.predictions))
        listed |= {f"{name.rpartition('/')[0]}/" for name in listed}
        return sorted(
            name
            for name in set(names) - listed
            if not any(record.fullmatch(name) for record in (_RUN_FILE, _PREDICTIONS_FILE))
            and name != _CVAT_FILE
            and os.path.lexists(self.output / name)
        )

    def clear_work(self) -> None:
        """Empties the work folder, but for what is nobody's or holds it."""
        for path in self.work.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif path in (self.settings, self.rows, self.work / _PLANNED_FILE):
                path.unlink()

    def clear_frames(self, source: Source) -> None:
        """Removes a video's frames of earlier runs, and the folders that are empty then.

        Other files are somebody's.
        """
        for folder in self.video_folders(source):
            if not folder.is_dir():
                continue
            for path in folder.iterdir():
                if _FRAME_FILE.fullmatch(path.name) and not path.is_dir():
                    path.unlink()
            with suppress(OSError):
                folder.rmdir()

    def remove_leftovers(self, sources: Sequence[Source]) -> None:
        """Removes what a killed run left half-written of this run's own results, whatever its options.

        To be called while the work folder is held: other parts may be writing theirs just now.
        """
        for source in sources:
            for folder in self.video_folders(source) if source.kind == "video" else ():
                for path in _files_in(folder):
                    if _FRAME_FILE.fullmatch(partial_target(path.name) or ""):
                        path.unlink()
        targets = self._leftover_targets(sources)
        for path in _files_in(self.output):
            if partial_target(path.name) in targets:
                path.unlink()

    def _leftover_targets(self, sources: Sequence[Source]) -> set[str]:
        every_option = replace(self.options, curves=CURVE_FORMATS, save_probabilities=True)
        files = RunFiles(self.output, every_option, self.landmarks, with_variance=True)
        targets = {self.predictions.name, self.run.name}
        if self.options.num_parts == 1:
            targets.add(self.cvat.name)
        for source in sources:
            targets.add(self.overlay(source).name)
            if source.kind == "picture":
                targets.update(path.name for path in files.frame_files(FrameKey(source)))
        return targets

    def meets_others(self) -> bool:
        """Whether runs are at work in the output that are neither this one nor parts of the same split.

        They write files of the same names.
        """
        others = set(self.output.glob(f"{_WORK_FOLDER}*")) - {self.work}
        others -= set(self.output.glob(f"{_WORK_FOLDER}-*-of-{self.options.num_parts}"))
        return any(work.is_dir() and is_held(work) for work in others)


class _Places:
    """Where inputs lie and the folders around them, by whatever links and spelling they are reached."""

    def __init__(self, inputs: Iterable[Path]) -> None:
        files = {os.path.realpath(file) for file in inputs}
        folders = {Path(folder) for folder in map(os.path.dirname, files)}
        folders |= {parent for folder in folders for parent in folder.parents}
        self._verbs: dict[str | tuple[int, int], str] = {}
        for verb, paths in (("holds", map(str, folders)), ("is", files)):
            for path in paths:
                self._verbs[path] = verb
                with suppress(OSError):
                    self._verbs[_identity(path)] = verb

    def verb(self, path: Path) -> str | None:
        """Whether a path "is" or "holds" an input, or neither."""
        verb = self._verbs.get(os.path.realpath(path))
        if verb is None and os.path.lexists(path):
            with suppress(OSError):
                verb = self._verbs.get(_identity(path))
        return verb


def _identity(path: str | Path) -> tuple[int, int]:
    status = os.stat(path)
    return status.st_dev, status.st_ino


def _files_in(folder: Path) -> list[Path]:
    """The files of a folder; none where there is no such folder."""
    try:
        with os.scandir(folder) as entries:
            return [Path(entry.path) for entry in entries if entry.is_file(follow_symlinks=False)]
    # A name that is too long, for instance: whoever writes there will say so.
    except OSError:
        return []


class FormerResults:
    """The files that earlier runs wrote, and the folders of their videos' frames, as their records say.

    They are looked up folder by folder.
    A run that ended leaves run.json and predictions.jsonl, one that was interrupted its work folder.
    """

    def __init__(self) -> None:
        self._folders: dict[Path, Path] = {}
        self._names: dict[Path, set[str]] = {}

    def __contains__(self, file: Path) -> bool:
        if file.parent not in self._folders:
            self._folders[file.parent] = Path(os.path.realpath(file.parent))
        folder = self._folders[file.parent]
        above = self._written(folder.parent)
        return (
            file.name in self._written(folder)
            or f"{folder.name}/{file.name}" in above
            or (f"{folder.name}/" in above and _FRAME_FILE.fullmatch(file.name) is not None)
        )

    def _written(self, folder: Path) -> set[str]:
        if folder not in self._names:
            names = set(_recorded_results(folder))
            self._names[folder] = names | {name.rpartition("/")[0] for name in names}
        return self._names[folder]


def _recorded_results(folder: Path) -> Iterator[str]:
    """Names below the folder that records in it tell of; a folder's frames as its name with a slash."""
    try:
        names = os.listdir(folder)
    # Such as a folder around the inputs' that may not be listed: no record in it can be read either.
    except OSError:
        return
    runs = [name for name in names if _RUN_FILE.fullmatch(name) and _is_run(folder / name)]
    for name in runs:
        yield from _names_in_run(folder / name)
    if runs:
        for name in filter(_PREDICTIONS_FILE.fullmatch, names):
            yield from _names_in_predictions(folder / name)
            yield name
        yield from (name for name in names if name == _CVAT_FILE)
        yield from runs
    for name in names:
        if name.startswith(_WORK_FOLDER):
            yield from _names_in_work(folder / name)


def _is_run(file: Path) -> bool:
    return _read_record(file).get("command") == "predict"


def _names_in_run(file: Path) -> Iterator[str]:
    """What a run.json tells of beside the lines of predictions.jsonl."""
    if _is_run(file):
        yield from _texts(_read_record(file).get(UNLISTED))


def _names_in_predictions(file: Path) -> Iterator[str]:
    with suppress(FileNotFoundError), file.open(encoding="utf-8", errors="replace") as lines:
        for row in map(_as_record, lines):
            yield from _files_of_row(row)


def _names_in_work(work: Path) -> Iterator[str]:
    yield from _texts(_read_record(work / _PLANNED_FILE).get("planned"))


def _texts(values: Any) -> Iterator[str]:
    return (value for value in values if isinstance(value, str)) if isinstance(values, list) else iter(())


def _files_of_row(row: dict[str, Any]) -> Iterator[str]:
    mask, probabilities = row.get("mask"), row.get("probabilities")
    for file in (
        mask,
        row.get("overlay"),
        *(probabilities.values() if isinstance(probabilities, dict) else ()),
    ):
        if isinstance(file, str):
            yield file
    if "curves" in row and isinstance(mask, str):
        name, _, frame = mask.rpartition("_mask")
        for kind, files in _CURVE_FILES.items():
            yield from (f"{name}_{kind}{frame.removesuffix('.png')}{suffix}" for _, suffix in files)


def _read_record(path: Path) -> dict[str, Any]:
    """A JSON object; empty where there is none, or a stranger's file of that name."""
    try:
        return _as_record(path.read_text(encoding="utf-8", errors="replace"))
    except OSError:
        return {}


def _as_record(text: str) -> dict[str, Any]:
    try:
        record = json.loads(text)
    except ValueError:
        return {}
    return record if isinstance(record, dict) else {}


# The files of one frame, and its line of predictions.jsonl.


@dataclass(frozen=True)
class WrittenFrame:
    """A frame whose files are written.

    Attributes:
        key: Which one.
        row: Its line of predictions.jsonl.
        overlay: (H, W, 3) uint8 RGB for the video's overlay, or None.
        smoother_state: `SeenFrame.smoother_state`.
    """

    key: FrameKey
    row: dict[str, Any]
    overlay: np.ndarray | None
    smoother_state: dict[str, np.ndarray] | None


def write_frame(files: RunFiles, seen: SeenFrame) -> WrittenFrame | FailedFrame:
    """Writes one frame's files, all of them or none.

    Returns:
        What was written, or, where it cannot be, the reason.
    """
    written: list[Path] = []
    try:
        return _write_frame(files, seen, written)
    # ValueError: what an exchange format cannot hold.
    except (OSError, ValueError, MemoryError, cv2.error) as error:
        for path in written:
            path.unlink(missing_ok=True)
        reason = " ".join(str(error).split()) or type(error).__name__
        return FailedFrame(
            seen.job, f"{seen.job.name}: its result cannot be written: {reason}", seen.smoother_state
        )


def _write_frame(files: RunFiles, seen: SeenFrame, written: list[Path]) -> WrittenFrame:
    key, prediction, options = seen.job.key, seen.prediction, files.options
    row: dict[str, Any] = {"file": str(key.source.file)}
    if key.index is not None:
        row |= {"frame": key.index, "time_s": key.time_s}
    pixels = prediction.pixel_counts
    row |= {
        "width": seen.frame.shape[1],
        "height": seen.frame.shape[0],
        "present": list(prediction.present),
        "presence": _rounded(prediction.presence),
        "calibrated": prediction.calibrated,
        "scores": _rounded(prediction.scores),
        "pixels": pixels,
        "stroke_pixels": sum(pixels.values()),
    }
    milliseconds = dict(prediction.milliseconds)

    start = time.perf_counter()
    if options.curves:
        try:
            row["curves"] = [_curve_row(curve) for curve in prediction.curves()]
        except NoisyMaskError as error:
            # One bad frame is no reason to end a video: its mask is what the model says.
            row |= {"curves": [], "curves_refused": str(error)}
        milliseconds["curves"] = (time.perf_counter() - start) * 1e3
    start = time.perf_counter()
    overlay = None
    if options.overlay:
        overlay = draw_overlay(seen.frame, prediction.mask, legend=options.legend, table=prediction.landmarks)
        milliseconds["draw"] = (time.perf_counter() - start) * 1e3

    start = time.perf_counter()

    def write(write_to: Callable[[Path], None], kind: str, suffix: str = ".png") -> str:
        path = files.file(key, kind, suffix)
        if key.index is not None:
            path.parent.mkdir(exist_ok=True)
        write_to(path)
        written.append(path)
        return path.relative_to(files.output).as_posix()

    picture = key.source.file.name if key.index is None else f"{key.source.name}_{key.index:06d}.png"
    for kind in options.curves:
        for format, suffix in _CURVE_FILES[kind]:
            annotation = frame_annotation(row, picture, prediction.landmarks)
            write(partial(write_landmarks, annotations=[annotation], format=format), kind, suffix)
    if options.save_probabilities:
        row["probabilities"] = {
            kind: write(partial(_write_plane, plane=plane), kind)
            for kind, plane in _planes(files, prediction)
        }
    if overlay is not None and key.index is None:
        row["overlay"] = write(partial(write_png, pixels=overlay), "overlay")
    # The mask last: where a mask is, the rest is too.
    row["mask"] = write(partial(write_mask, mask=prediction.mask), "mask")
    milliseconds["write"] = (time.perf_counter() - start) * 1e3
    row["milliseconds"] = {stage: round(value, 3) for stage, value in milliseconds.items()}
    return WrittenFrame(key, row, overlay if key.index is not None else None, seen.smoother_state)


def row_line(row: dict[str, Any]) -> str:
    """A row as a line of predictions.jsonl; file names that are no UTF-8 are escaped."""
    return json.dumps(row, allow_nan=False) + "\n"


def write_mask(path: Path, mask: np.ndarray) -> None:
    """Writes (H, W) uint8 class ids as a PNG of mode L."""
    done, encoded = cv2.imencode(".png", mask, _MASK_PNG)
    if not done:
        raise OSError(f"{path}: cannot be encoded as PNG")
    with atomic_path(path) as temporary:
        temporary.write_bytes(encoded.data)


def frame_annotation(row: dict[str, Any], file_name: str, landmarks: LandmarkTable) -> FrameAnnotation:
    """The curves of a line of predictions.jsonl as an annotation of a picture of that name."""
    curves = [{"category": curve["category"], "points": curve["points"]} for curve in row["curves"]]
    return FrameAnnotation(file_name, row["width"], row["height"], curves, table=landmarks)


def _planes(files: RunFiles, prediction: FramePrediction) -> Iterator[tuple[str, np.ndarray]]:
    """The probability of each landmark and, where views were averaged, their variance: (H, W), 0 to 1."""
    probabilities = prediction.probabilities()
    for landmark in files.landmarks.landmarks:
        yield f"probability_{landmark.name}", probabilities[landmark.id]
    variance = prediction.variance_map()
    if variance is not None:
        yield "variance", variance


def _write_plane(path: Path, plane: np.ndarray) -> None:
    scaled = np.rint(np.clip(plane, 0, 1) * 65535).astype(np.uint16)
    with atomic_path(path) as temporary:
        Image.fromarray(scaled).save(temporary, format="PNG", compress_level=1)


def _curve_row(curve: TracedPolyline) -> dict[str, Any]:
    return {
        "category": curve.category,
        "length_px": round(curve.length_px, 2),
        "stroke_width_px": round(curve.stroke_width_px, 2),
        "points": np.round(curve.points.astype(np.float64), 2).tolist(),
    }


def _rounded(values: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 6) for name, value in values.items()}
