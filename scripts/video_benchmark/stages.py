"""Processor time of each stage by itself, one after the other: what there is to share out among the cores."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from liver_landmark.inference import LandmarkPredictor, draw_overlay, open_video
from liver_landmark.inference.result_files import write_mask
from liver_landmark.inference.video_writer import VideoWriter

_Result = TypeVar("_Result")
_WARM_UP = 5


def stage_processor_ms(predictor: LandmarkPredictor, video: Path, frames: int = 40) -> dict[str, float]:
    """Median processor ms a frame of every stage, over the first frames of a video."""
    spent: dict[str, list[float]] = defaultdict(list)

    def timed(stage: str, call: Callable[[], _Result]) -> _Result:
        began = time.process_time()
        result = call()
        spent[stage].append((time.process_time() - began) * 1e3)
        return result

    with tempfile.TemporaryDirectory() as folder, open_video(video) as reader:
        mask, overlay = Path(folder) / "mask.png", Path(folder) / "overlay.mp4"
        size = (reader.width, reader.height)
        with VideoWriter(overlay, *size, reader.time_base, reader.frame_rate) as writer:
            pictures = iter(reader)
            for _ in range(frames):
                frame = timed("read", lambda: next(pictures))
                prepared = timed("prepare", lambda frame=frame: predictor.prepare(frame.pixels))
                seen = timed("forward", lambda prepared=prepared: predictor.forward([prepared])[0])
                prediction = timed("class map", lambda p=prepared, s=seen: predictor.finish(p, s))
                timed("curves", prediction.curves)
                timed("mask file", lambda p=prediction: write_mask(mask, p.mask))
                drawn = timed("draw", lambda f=frame, p=prediction: draw_overlay(f.pixels, p.mask))
                timed("encode", lambda d=drawn, f=frame: writer.write(d, f.pts))
    return {stage: statistics.median(times[_WARM_UP:]) for stage, times in spent.items()}
