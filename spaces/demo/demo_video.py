"""One video in the demo: every frame analyzed, the overlay encoded while that goes on."""

from __future__ import annotations

import csv
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from av.error import FFmpegError
from demo_engine import Engine
from demo_frame import AREAS, CURVES, View, annotate, curves_of, mask_png, safe_name

from liver_landmark.curves.formats import FrameAnnotation, write_landmarks
from liver_landmark.inference.overlay import draw_overlay
from liver_landmark.inference.predictor import FramePrediction, ModelOutput
from liver_landmark.inference.smoothing import CausalSmoother
from liver_landmark.inference.video_reader import VideoError, VideoFrame, VideoLimits, VideoReader, open_video
from liver_landmark.inference.video_writer import VideoWriter, shift_to_zero


@dataclass(frozen=True)
class VideoOptions:
    """What is done with a video.

    Attributes:
        view: How its frames are drawn; no heat map.
        smoothing_s: Time constant of the smoothing over time, s; 0 for none.
        careful: Average each frame with its mirrored view.
    """

    view: View = field(default_factory=View)
    smoothing_s: float = 0.0
    careful: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.smoothing_s, int | float) or not 0 <= self.smoothing_s <= 5:
            raise ValueError("smoothing must lie between 0 and 5 s")


@dataclass(frozen=True)
class FrameRow:
    """A line of the timeline."""

    frame: int
    time_s: float
    presence: dict[str, float]
    scores: dict[str, float]
    present: tuple[str, ...]


@dataclass(frozen=True)
class VideoResult:
    """What became of a video.

    Attributes:
        overlay: MP4 with the landmarks drawn, at the input's times.
        archive: Zip of a mask PNG for each frame and the curves of all in one CVAT file and as labelme's.
        timeline: CSV of presence and confidence for each frame.
        rows: The same.
        stopped_by: Why the rest of the video was left out, in the reader's words; None if it was read whole.
    """

    overlay: Path
    archive: Path
    timeline: Path
    rows: list[FrameRow]
    stopped_by: str | None


@dataclass
class VideoProgress:
    """How far it is: `frames` is an estimate, or None."""

    done: int
    frames: int | None


def analyze_video(
    path: str, folder: Path, engine: Engine, options: VideoOptions, limits: VideoLimits
) -> Iterator[VideoProgress | VideoResult]:
    """Analyses a video, saying after each batch how far it is, and at last what came out.

    Args:
        path: The upload.
        folder: Where results go; it has to be there.
        engine: The model.
        options: What is done.
        limits: What is refused; a video that turns out longer while it is read is stopped there.

    Raises:
        VideoError: no frame can be read; the message is the reason without the file's name.
    """
    try:
        with open_video(path, limits) as reader:
            yield from _analyze(reader, Path(safe_name(path)).stem, folder, engine, options)
    except VideoError as error:
        raise VideoError(str(error).removeprefix(f"{path}: ")) from None
    except FFmpegError as error:
        # The reader names its own; x264 ends at 16384 px a side.
        raise VideoError("the overlay cannot be encoded") from error


def _analyze(
    reader: VideoReader, name: str, folder: Path, engine: Engine, options: VideoOptions
) -> Iterator[VideoProgress | VideoResult]:
    overlay, archive = folder / f"{name}_overlay.mp4", folder / f"{name}_masks_and_curves.zip"
    rows: list[FrameRow] = []
    annotations: list[FrameAnnotation] = []
    stopped_by: str | None = None
    shift: int | None = None
    smoother = CausalSmoother(options.smoothing_s) if options.smoothing_s else None
    # Chroma is stored for every other pixel, and few browsers show videos in which it is not.
    size = (reader.width + reader.width % 2, reader.height + reader.height % 2)
    frames = iter(reader)
    with (
        zipfile.ZipFile(archive, "w") as zipped,
        VideoWriter(
            overlay, *size, reader.time_base, reader.frame_rate, reader.sample_aspect_ratio
        ) as writer,
    ):
        while stopped_by is None:
            batch, stopped_by = _next_batch(frames, engine.batch_size, str(reader.path))
            if not batch:
                break
            for frame, prediction in zip(batch, _predict(engine, batch, options, smoother), strict=True):
                file_name = f"{name}_{frame.index:06d}.png"
                curves = curves_of(prediction)
                annotations.append(annotate(file_name, prediction, curves))
                zipped.writestr(f"masks/{file_name}", mask_png(prediction.mask))
                drawn = draw_overlay(
                    frame.pixels,
                    prediction.mask if AREAS in options.view.shown else None,
                    alpha=options.view.opacity,
                    landmarks=options.view.landmarks,
                    curves=curves if CURVES in options.view.shown else None,
                    table=prediction.landmarks,
                )
                shift = shift_to_zero(frame.pts) if shift is None else shift
                try:
                    writer.write(_padded(drawn, size), frame.pts + shift)
                except ValueError as error:
                    raise VideoError(f"{reader.path}: {error}") from error
                rows.append(
                    FrameRow(
                        frame.index, frame.time_s, prediction.presence, prediction.scores, prediction.present
                    )
                )
            yield VideoProgress(len(rows), reader.estimated_frames)
        if not rows:
            raise VideoError(f"{reader.path}: {stopped_by or 'holds no frame that can be decoded'}")
        _add_curves(zipped, folder, annotations)
    timeline = _write_timeline(folder / f"{name}_timeline.csv", rows)
    yield VideoResult(overlay, archive, timeline, rows, stopped_by)


def _next_batch(frames: Iterator[VideoFrame], size: int, path: str) -> tuple[list[VideoFrame], str | None]:
    """Up to so many frames, and why there are no more if the video broke off."""
    batch: list[VideoFrame] = []
    try:
        for frame in islice(frames, size):
            batch.append(frame)
    except VideoError as error:
        return batch, str(error).removeprefix(f"{path}: ")
    return batch, None


def _predict(
    engine: Engine, batch: Sequence[VideoFrame], options: VideoOptions, smoother: CausalSmoother | None
) -> list[FramePrediction]:
    def smoothed(outputs: list[ModelOutput]) -> list[ModelOutput]:
        return [
            replace(output, logits=torch.from_numpy(smoother.update(output.logits.numpy(), frame.time_s)))
            for frame, output in zip(batch, outputs, strict=True)
        ]

    frames = [frame.pixels for frame in batch]
    return engine.predict_batch(frames, options.careful, None if smoother is None else smoothed)


def _padded(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The frame at (width, height), its last row and column repeated where it has an odd size."""
    rows, columns = size[1] - pixels.shape[0], size[0] - pixels.shape[1]
    return pixels if rows == columns == 0 else np.pad(pixels, ((0, rows), (0, columns), (0, 0)), "edge")


def _add_curves(zipped: zipfile.ZipFile, folder: Path, annotations: Sequence[FrameAnnotation]) -> None:
    written = folder / "curves"
    write_landmarks(written, annotations, "cvat")
    zipped.write(written, "curves.cvat.xml", zipfile.ZIP_DEFLATED)
    for annotation in annotations:
        write_landmarks(written, [annotation], "labelme")
        stem = Path(annotation.file_name or "").stem
        zipped.write(written, f"labelme/{stem}.json", zipfile.ZIP_DEFLATED)
    written.unlink()


def _write_timeline(path: Path, rows: Sequence[FrameRow]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        names = list(rows[0].presence)
        columns = [f"{name}_{kind}" for name in names for kind in ("present", "probability", "confidence")]
        table.writerow(["frame", "time_s", *columns])
        for row in rows:
            values = [
                value
                for name in names
                for value in (
                    "yes" if name in row.present else "no",
                    round(row.presence[name], 4),
                    round(row.scores[name], 4),
                )
            ]
            table.writerow([row.frame, round(row.time_s, 4), *values])
    return path
