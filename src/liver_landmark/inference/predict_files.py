"""Prediction over files: masks, overlays and curves on disk, or predictions as they come.

What is written for a frame says `outputs.py`. Beside that:

    <output>/predictions.jsonl     one line for each frame that was predicted, in the inputs' order
    <output>/run.json              versions, device, model, options, totals, and what failed and why
    <output>/cvat.xml              with the curve format `cvat`: all frames in one file

A name is the file's stem, or more where stems collide (`output_names`). Each file is complete or absent: it
is written beside its place and renamed. What an interrupted run goes on from lies in a hidden folder
(`journal.py`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from av.error import FFmpegError

from ..curves.formats import check_names_fit
from ..utils.atomic_files import write_json
from ..utils.frame_files import FrameError
from .frame_sources import (
    Inputs,
    PredictionOptions,
    Source,
    VideoEnds,
    VideoProgress,
    VideoStarts,
    as_sources,
    collect_inputs,
    source_jobs,
)
from .predictor import FailedFrame, FramePrediction, LandmarkPredictor, SeenFrame, predict_jobs
from .result_files import PartNames, WrittenFrame, remove_leftovers, result_folders, row_line, write_frame
from .run_journal import (
    Journal,
    RunReport,
    Totals,
    merge_parts,
    open_journal,
    result_settings,
    run_record,
    write_cvat,
    write_predictions,
)
from .video_writer import VideoOutput

# ----------------------------------------------------------------------------------------------------
# From Python: predictions of files and videos as they come, nothing written.


@dataclass(frozen=True)
class FileFrame:
    """A frame of a file, and what the model sees in it.

    Attributes:
        file: The picture or video.
        index: Number of the frame in its video, from 0; None for a picture.
        time_s: Its time in the video, seconds; 0 for a picture.
        frame: (H, W, 3) uint8 RGB, upright.
        prediction: The prediction.
    """

    file: Path
    index: int | None
    time_s: float
    frame: np.ndarray
    prediction: FramePrediction


def iterate_predictions(
    predictor: LandmarkPredictor,
    inputs: str | Path | Sequence[str | Path],
    *,
    recursive: bool = False,
    options: PredictionOptions | None = None,
    on_failed: Callable[[str], None] | None = None,
) -> Iterator[FileFrame]:
    """Predicts pictures and videos while reading, forward pass and the rest run side by side.

    >>> predictor = LandmarkPredictor.from_pretrained("outputs/quickstart/best")  # doctest: +SKIP
    >>> for seen in iterate_predictions(predictor, "operation.mp4"):  # doctest: +SKIP
    ...     print(seen.time_s, seen.prediction.present)

    Args:
        predictor: The model.
        inputs: Files, folders and glob patterns.
        recursive: Take the folders below a folder too.
        options: Batch size, smoothing and limits; what it says of files is not looked at.
        on_failed: Called with one line for each input that cannot be read, or not to its end, and the rest
            goes on. None: it is raised.

    Yields:
        Frames in the order of the inputs, a video's in the order of showing.

    Raises:
        ValueError: a pattern or a folder without pictures and videos.
        FrameError: an input that cannot be read, without `on_failed`.
    """
    options = options or PredictionOptions()
    named = [inputs] if isinstance(inputs, (str, Path)) else inputs
    sources = as_sources(collect_inputs([str(name) for name in named], recursive=recursive).files)
    jobs = source_jobs(sources, options, predictor.processor.max_pixels)
    results = predict_jobs(predictor, jobs, lambda seen: seen, batch_size=options.batch_size)
    with closing(results):
        for result in results:
            reason = _failure(result)
            if reason is not None:
                if on_failed is None:
                    raise FrameError(reason)
                on_failed(reason)
            elif isinstance(result, SeenFrame):
                key = result.job.key
                yield FileFrame(key.source.file, key.index, key.time_s, result.frame, result.prediction)


def _failure(result: Any) -> str | None:
    if isinstance(result, FailedFrame):
        return result.named_reason
    return result.reason if isinstance(result, VideoEnds) else None


# ----------------------------------------------------------------------------------------------------
# Prediction over files: masks, overlays and curves, and the JSONs beside them.


@dataclass(frozen=True)
class RunListener:
    """Who is told of a run's progress.

    Attributes:
        on_frame: Called with each line of predictions.jsonl as soon as its files are written, and with how
            many frames its video has, if it is one and that is known.
        on_input: Called with each input that is done and the number of its frames.
        on_failed: Called with the one-line reason, which names the file, of each input that failed.
    """

    on_frame: Callable[[dict[str, Any], int | None], None] = lambda row, frames: None
    on_input: Callable[[Source, int], None] = lambda source, frames: None
    on_failed: Callable[[str], None] = lambda reason: None


def planned_files(sources: Sequence[Source], output: Path, options: PredictionOptions) -> list[Path]:
    """What a run over these inputs writes or clears away, so that nothing is lost unasked."""
    names, planned = PartNames(options), []
    for source in sources:
        if source.kind == "picture":
            planned.append(output / f"{source.name}_mask.png")
            kinds = [kind for kind in options.curves if kind != "cvat"]
            planned += [
                output / f"{source.name}_{kind}{suffix}"
                for kind in kinds
                for suffix in (".json", ".xml", ".svg")
            ]
        else:
            # Those of formats that are not asked for as well: an earlier run's would pass for this one's.
            planned += [output / folder for folder in result_folders(source.name)]
        if options.overlay:
            suffix = ".png" if source.kind == "picture" else ".mp4"
            planned.append(output / f"{source.name}_overlay{suffix}")
    if "cvat" in options.curves:
        planned.append(output / "cvat.xml")
    return [*planned, output / names.predictions, output / names.run]


def predict_files(
    predictor: LandmarkPredictor,
    inputs: Inputs,
    output: Path,
    options: PredictionOptions,
    *,
    model_name: str,
    resume: bool = False,
    overwrite: bool = True,
    listener: RunListener | None = None,
) -> RunReport:
    """Predicts every input that can be read, and writes the results as the module's docstring says.

    Args:
        predictor: The model.
        inputs: What `collect_inputs` found; with parts, all of them: each part takes its own.
        output: Folder of the results, made where it is missing; files of a former run are replaced.
        options: See `PredictionOptions`.
        model_name: What run.json calls the model.
        resume: Go on with a run that was interrupted, and retry what failed in one that ended.
        overwrite: Throw away what an interrupted run left in the output; without, a ResumeError.
        listener: Who is told of the progress.

    Raises:
        ResumeError: remains of another run, or of one with other settings, or an output folder that cannot
            be made or locked.
        ValueError: curves in a format that cannot hold the model's landmarks.
        OSError: a JSON in the output folder cannot be written.
    """
    for kind in options.curves:
        check_names_fit(kind, predictor.landmarks.names)
    names = PartNames(options)
    sources = as_sources(inputs.files)
    mine = sources[options.part_id :: options.num_parts]
    settings = result_settings(predictor, options, model_name)
    started = time.perf_counter()
    with open_journal(output, names, settings, resume=resume, overwrite=overwrite) as journal:
        remove_leftovers(output, mine, options)
        run = _Run(predictor, output, options, journal, listener or RunListener())
        run.predict(mine)
        report = run.report
        write_predictions(output / names.predictions, journal, mine)
        totals = Totals.of(output / names.predictions)
        report.frames = totals.frames
        if "cvat" in options.curves and options.num_parts == 1:
            run.note(write_cvat(output / "cvat.xml", output / names.predictions, totals.frames))
        seconds = time.perf_counter() - started
        record = run_record(
            predictor, settings, options, report, totals, seconds, skipped=inputs.skipped, before=run.before
        )
        write_json(output / names.run, record)
    if options.num_parts > 1:
        run.note(merge_parts(output, options, sources))
    return report


class _Run:
    """One run's way through its inputs."""

    def __init__(
        self,
        predictor: LandmarkPredictor,
        output: Path,
        options: PredictionOptions,
        journal: Journal,
        listener: RunListener,
    ) -> None:
        self.report = RunReport()
        self.before = 0
        self._predictor, self._output, self._options = predictor, output, options
        self._journal, self._listener = journal, listener
        self._videos: dict[Source, VideoOutput] = {}
        self._estimated_frames: int | None = None
        self._broken: str | None = None

    def predict(self, sources: Sequence[Source]) -> None:
        self.report.inputs = len(sources)
        missing = [source for source in sources if not self._is_done(source)]
        self.before = self.report.predicted = len(sources) - len(missing)
        jobs = source_jobs(missing, self._options, self._predictor.processor.max_pixels, self._progress_of)
        results = predict_jobs(
            self._predictor,
            jobs,
            partial(write_frame, self._output, options=self._options),
            batch_size=self._options.batch_size,
        )
        try:
            with closing(results):
                for result in results:
                    self._take(result)
        finally:
            for video in self._videos.values():
                video.abort()

    def note(self, failed: Sequence[dict[str, Any]]) -> None:
        """Adds what failed after the frames were predicted."""
        self.report.failed += failed
        for failure in failed:
            self._listener.on_failed(failure["reason"])

    def _is_done(self, source: Source) -> bool:
        """Whether an earlier run has its results, under the name that they have now."""
        row = self._journal.first_row(source)
        if row is None:
            return False
        is_named_so = row["mask"].startswith(f"{source.name}_mask")
        return is_named_so and (self._output / row["mask"]).is_file()

    def _progress_of(self, source: Source) -> VideoProgress:
        # With something behind it: a name may be "..".
        work = self._journal.folder / "videos" / f"{source.name}_mask"
        self._videos[source] = VideoOutput(self._output, work, source.name, self._options)
        return self._videos[source].progress

    def _take(self, result: WrittenFrame | FailedFrame | VideoStarts | VideoEnds) -> None:
        if isinstance(result, VideoStarts):
            self._estimated_frames = result.estimated_frames
            self._videos[result.source].start(result)
        elif isinstance(result, VideoEnds):
            self._end_video(result)
        elif isinstance(result, FailedFrame):
            self._fail_frame(result)
        elif result.key.index is None:
            self._journal.add(result.key.source, [row_line(result.row)])
            self.report.predicted += 1
            self._listener.on_frame(result.row, None)
            self._listener.on_input(result.key.source, 1)
        elif self._broken is None:
            self._add_to_video(result)

    def _add_to_video(self, frame: WrittenFrame) -> None:
        source = frame.key.source
        try:
            row = self._videos[source].add(frame)
        except OSError as error:
            self._break_video(source, f"{source.file}: its result cannot be written: {error}")
            return
        self._listener.on_frame(row, self._estimated_frames)

    def _break_video(self, source: Source, reason: str) -> None:
        if self._broken is None:
            self._broken = reason
            self._videos[source].progress.abandoned = True

    def _fail_frame(self, failed: FailedFrame) -> None:
        key = failed.job.key
        if key.index is None:
            self._fail(key.source, failed.named_reason)
        else:
            self._break_video(key.source, f"{failed.named_reason} (frame {key.index})")

    def _fail(self, source: Source, reason: str, frames: int = 0) -> None:
        # File names may hold line breaks and what no terminal shows.
        reason = "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in reason)
        self.report.failed.append({"file": str(source.file), "reason": reason, "frames": frames})
        self._listener.on_failed(reason)

    def _end_video(self, ends: VideoEnds) -> None:
        reason, self._broken = self._broken or ends.reason, None
        video = self._videos.pop(ends.source, None)
        if video is None:
            self._fail(ends.source, reason)
            return
        try:
            frames = video.finish()
        except (OSError, FFmpegError) as error:
            video.abort()
            self._fail(ends.source, f"{ends.source.file}: its overlay cannot be written: {error}")
            return
        if frames:
            self._journal.add(ends.source, video.lines())
        video.remove_work()
        if reason is not None:
            kept = f"; the {frames} frames before that are predicted" if frames else ""
            self._fail(ends.source, f"{reason}{kept}", frames)
            return
        self.report.predicted += 1
        self._listener.on_input(ends.source, frames)
