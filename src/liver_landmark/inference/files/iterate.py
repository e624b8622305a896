"""From Python: predictions of files and videos as they come, nothing written."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...frame_files import FrameError
from ..prediction import FramePrediction
from ..predictor import LandmarkPredictor
from .flow import FailedFrame, SeenFrame, predict_jobs
from .inputs import as_sources, collect_inputs
from .options import PredictionOptions
from .sources import VideoEnds, source_jobs


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
