"""Prediction over files: `predict_files` writes masks, overlays and curves, `iterate_predictions` gives them.

frame_sources   which files, and their frames one by one
predictor       reading, forward pass and the rest in threads side by side
result_files    a frame's files, written by those threads
video_writer    a video's frames put together, made safe segment by segment
run_journal     which inputs are done, should the run be interrupted; predictions.jsonl and run.json
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

from ..utils.atomic_files import write_json
from ..utils.frame_files import FrameError
from .frame_sources import (
    Inputs,
    VideoEnds,
    VideoProgress,
    VideoStarts,
    as_sources,
    collect_inputs,
    source_jobs,
)
from .predictor import FailedFrame, FramePrediction, LandmarkPredictor, SeenFrame, predict_jobs
from .result_files import (
    UNLISTED,
    FrameKey,
    PredictionOptions,
    RunFiles,
    Source,
    WrittenFrame,
    row_line,
    write_frame,
)
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


@dataclass(frozen=True)
class RunListener:
    """Who is told of a run's progress.

    Attributes:
        on_frame: Called with each line of predictions.jsonl as soon as its files are written, and with how
            many frames its video has, if it is one and that is known.
        on_input: Called with each input that is done and the number of its frames.
        on_failed: Called with the one-line reason, which names the file, of each input that failed.
        on_stage: Called with what begins and may take seconds after the last frame.
    """

    on_frame: Callable[[dict[str, Any], int | None], None] = lambda row, frames: None
    on_input: Callable[[Source, int], None] = lambda source, frames: None
    on_failed: Callable[[str], None] = lambda reason: None
    on_stage: Callable[[str], None] = lambda stage: None


def predict_files(
    predictor: LandmarkPredictor,
    inputs: Inputs,
    output: Path,
    options: PredictionOptions,
    *,
    model_name: str,
    resume: bool = False,
    overwrite: bool = False,
    listener: RunListener | None = None,
) -> RunReport:
    """Predicts every input that can be read, and writes what `result_files` says.

    Beside that, predictions.jsonl has a line for each frame that was predicted, in the inputs' order, and
    run.json versions, device, model, options, totals, and what failed and why.

    Args:
        predictor: The model.
        inputs: What `collect_inputs` found; with parts, all of them: each part takes its own.
        output: Folder of the results, made where it is missing.
        options: See `PredictionOptions`.
        model_name: What run.json calls the model.
        resume: Go on with a run that was interrupted, and retry what failed in one that ended.
        overwrite: Replace results that are there, and throw away what an interrupted run left. Without this
            and `resume`, either is an OutputError.
        listener: Who is told of the progress.

    Raises:
        OutputError: an input that would be overwritten, whatever the options; results or remains of another
            run, or one with other settings; an output folder that cannot be made or locked. Nothing was
            written then.
        FileExistsError: another run is writing the folder.
        OSError: a JSON in the output folder cannot be written.
    """
    listener = listener or RunListener()
    files = RunFiles(output, options, predictor.landmarks, with_variance=predictor.views is not None)
    sources = as_sources(inputs.files)
    mine = sources[options.part_id :: options.num_parts]
    settings = result_settings(predictor, options, model_name)
    started = time.perf_counter()
    files.check(mine, inputs.files, overwrite=overwrite, resume=resume)
    recorded = files.recorded()
    with open_journal(files, settings, resume=resume, overwrite=overwrite) as journal:
        names = files.note_planned(mine, recorded)
        files.remove_leftovers(mine)
        run = _Run(predictor, files, journal, listener)
        run.predict(mine)
        report = run.report
        write_predictions(files.predictions, journal, mine)
        totals = Totals.of(files.predictions, files.landmarks)
        report.frames = totals.frames
        if "cvat" in options.curves and options.num_parts == 1:
            listener.on_stage(f"writing {files.cvat.name}")
            run.note(write_cvat(files, totals.frames))
        seconds = time.perf_counter() - started
        record = run_record(
            predictor, settings, options, report, totals, seconds, skipped=inputs.skipped, before=run.before
        )
        record[UNLISTED] = files.unlisted(names)
        write_json(files.run, record)
    if options.num_parts > 1:
        listener.on_stage(f"merging the results of {options.num_parts} parts")
        run.note(merge_parts(files, sources))
    return report


class _Run:
    """One run's way through its inputs."""

    def __init__(
        self, predictor: LandmarkPredictor, files: RunFiles, journal: Journal, listener: RunListener
    ) -> None:
        self.report = RunReport()
        self.before = 0
        self._predictor, self._files, self._journal, self._listener = predictor, files, journal, listener
        self._videos: dict[Source, VideoOutput] = {}
        self._estimated_frames: int | None = None
        self._broken: str | None = None

    def predict(self, sources: Sequence[Source]) -> None:
        self.report.inputs = len(sources)
        missing = [source for source in sources if not self._is_done(source)]
        self.before = self.report.predicted = len(sources) - len(missing)
        options, max_pixels = self._files.options, self._predictor.processor.max_pixels
        jobs = source_jobs(missing, options, max_pixels, self._progress_of)
        write = partial(write_frame, self._files)
        results = predict_jobs(self._predictor, jobs, write, batch_size=options.batch_size)
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
        mask = self._files.file(FrameKey(source, row.get("frame")), "mask")
        return self._files.output / row["mask"] == mask and mask.is_file()

    def _progress_of(self, source: Source) -> VideoProgress:
        self._videos[source] = VideoOutput(self._files, source)
        return self._videos[source].progress

    def _take(self, result: WrittenFrame | FailedFrame | VideoStarts | VideoEnds) -> None:
        if isinstance(result, VideoStarts):
            self._estimated_frames = result.estimated_frames
            self._videos[result.source].start(result)
        elif isinstance(result, VideoEnds):
            self._end_video(result)
        elif result.key.index is not None:
            if self._broken is None:
                self._add_to_video(result)
        elif isinstance(result, FailedFrame):
            self._fail(result.key.source, result.named_reason)
        else:
            self._journal.add(result.key.source, [row_line(result.row)])
            self.report.predicted += 1
            self._listener.on_frame(result.row, None)
            self._listener.on_input(result.key.source, 1)

    def _add_to_video(self, frame: WrittenFrame | FailedFrame) -> None:
        source = frame.key.source
        video = self._videos[source]
        try:
            if isinstance(frame, FailedFrame):
                video.skip(frame)
                return
            row = video.add(frame)
        except OSError as error:
            self._broken = f"{source.file}: its result cannot be written: {error}"
            video.progress.abandoned = True
            return
        self._listener.on_frame(row, self._estimated_frames)

    def _end_video(self, ends: VideoEnds) -> None:
        source, video = ends.source, self._videos.pop(ends.source, None)
        if video is None:
            self._fail(source, ends.reason)
            return
        broken, self._broken = self._broken or ends.reason, None
        reasons, has_overlay = [broken] if broken else [], True
        try:
            video.finish()
        except (OSError, FFmpegError) as error:
            video.abort()
            has_overlay = False
            reasons.append(f"{source.file}: its overlay cannot be written: {error}")
        failures, frames = video.failures(), sum(1 for _ in video.lines())
        if frames:
            self._journal.add(source, video.lines(with_overlay=has_overlay))
        video.remove_work()
        if failures:
            more = f" and {len(failures) - 1} more" if len(failures) > 1 else ""
            reasons.append(f"{failures[0]['failed']} (frame {failures[0]['frame']}{more})")
        if not reasons:
            self.report.predicted += 1
            self._listener.on_input(source, frames)
            return
        which = "frames before that" if broken else "other frames" if failures else "frames"
        kept = f"; the {frames} {which} are predicted" if frames else ""
        self._fail(source, "; ".join(reasons) + kept, frames)

    def _fail(self, source: Source, reason: str, frames: int = 0) -> None:
        # File names may hold line breaks and what no terminal shows.
        reason = "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in reason)
        self.report.failed.append({"file": str(source.file), "reason": reason, "frames": frames})
        self._listener.on_failed(reason)


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
        index = result.key.index
        return result.named_reason + ("" if index is None else f" (frame {index})")
    return result.reason if isinstance(result, VideoEnds) else None
