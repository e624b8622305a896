"""The results of one video, made safe segment by segment.

While a video is predicted, its work folder holds, for every `SEGMENT_FRAMES` frames that are done,

    00003.mp4           their overlays; missing without overlays
    00003.safetensors   the smoother's state after them; missing without smoothing
    00003.jsonl         their lines of predictions.jsonl, written last: with it the segment is whole

and at the end the overlays are joined, unchanged, to `<name>_overlay.mp4`. Masks and curves lie in their
final places from the start; those beyond the last whole segment are made again.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

from av.error import FFmpegError
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from ...atomic_files import atomic_path, write_json_lines
from ..video.writer import VideoWriter, join_videos, shift_to_zero
from .options import PredictionOptions
from .outputs import FRAME_FILE, WrittenFrame, result_folders
from .sources import SEGMENT_FRAMES, VideoProgress, VideoStarts


def remove_frames(folder: Path) -> None:
    """Removes what a run wrote there, and the folder if it is empty then: other files are somebody's."""
    if not folder.is_dir():
        return
    for path in folder.iterdir():
        if FRAME_FILE.fullmatch(path.name) and not path.is_dir():
            path.unlink()
    with suppress(OSError):
        folder.rmdir()


class VideoOutput:
    """Takes a video's frames in order and leaves its results."""

    def __init__(self, output: Path, work: Path, name: str, options: PredictionOptions) -> None:
        """Looks at what an interrupted run left in `work`, the video's folder there.

        Made before the first frame is predicted: its files are written before it is added.

        Attributes:
            progress: Where to go on from.
        """
        self._output, self._work, self._name, self._options = output, work, name, options
        self._starts: VideoStarts | None = None
        self._rows: list[dict[str, Any]] = []
        self._writer: VideoWriter | None = None
        self._shift: int | None = None
        self.segments = next(number for number in count() if not self._is_whole(number))
        self._work.mkdir(parents=True, exist_ok=True)
        if not self.segments:
            # What an earlier run left there would pass for frames of this one.
            for folder in result_folders(self._name):
                remove_frames(self._output / folder)
        self.progress = VideoProgress(first_frame=self.segments * SEGMENT_FRAMES)
        if self.segments and options.smoothing_s is not None:
            self.progress.smoother_state = load_file(self._file(self.segments - 1, ".safetensors"))

    def _file(self, segment: int, suffix: str) -> Path:
        return self._work / f"{segment:05d}{suffix}"

    def _is_whole(self, segment: int) -> bool:
        suffixes = [".jsonl"]
        if self._options.overlay:
            suffixes.append(".mp4")
        if self._options.smoothing_s is not None:
            suffixes.append(".safetensors")
        if not all(self._file(segment, suffix).is_file() for suffix in suffixes):
            return False
        if self._options.smoothing_s is not None:
            try:
                load_file(self._file(segment, ".safetensors"))
            except (OSError, SafetensorError):
                return False
        # A shorter one is the last of a video that failed, and may have more frames by now.
        return sum(1 for _ in self._file(segment, ".jsonl").open("rb")) == SEGMENT_FRAMES

    def start(self, starts: VideoStarts) -> None:
        """Called before the first frame is added."""
        self._starts = starts
        if self.segments:
            first = json.loads(next(self._file(0, ".jsonl").open(encoding="utf-8")))
            self._shift = shift_to_zero(round(first["time_s"] / starts.time_base))

    def add(self, frame: WrittenFrame) -> dict[str, Any]:
        """Takes the next frame; returns its row.

        Raises:
            OSError: it cannot be written, or encoded.
        """
        if self._options.overlay:
            row = frame.row | {"overlay": f"{self._name}_overlay.mp4"}
            self._encode(frame)
        else:
            row = frame.row
        self._rows.append(row)
        if len(self._rows) == SEGMENT_FRAMES:
            self._finish_segment(frame)
        return row

    def _encode(self, frame: WrittenFrame) -> None:
        if self._shift is None:
            self._shift = shift_to_zero(frame.key.pts)
        if self._writer is None:
            starts = self._starts
            self._writer = VideoWriter(
                self._file(self.segments, ".mp4"),
                starts.width,
                starts.height,
                starts.time_base,
                starts.frame_rate,
                starts.sample_aspect_ratio,
            )
        try:
            self._writer.write(frame.overlay, frame.key.pts + self._shift)
        except (FFmpegError, ValueError) as error:
            raise OSError(f"overlay: {error}") from error

    def _finish_segment(self, last: WrittenFrame | None) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        if last is not None and last.smoother_state is not None:
            with atomic_path(self._file(self.segments, ".safetensors")) as temporary:
                save_file(last.smoother_state, temporary)
        write_json_lines(self._file(self.segments, ".jsonl"), self._rows)
        self._rows = []
        self.segments += 1

    def finish(self) -> int:
        """Joins what there is to the final overlay; returns the number of frames."""
        if self._rows:
            self._finish_segment(None)
        parts = [self._file(number, ".mp4") for number in range(self.segments)]
        if self._options.overlay and parts:
            with atomic_path(self._output / f"{self._name}_overlay.mp4") as temporary:
                join_videos(temporary, parts)
        return sum(1 for _ in self.lines())

    def lines(self) -> Iterator[str]:
        """The video's lines of predictions.jsonl."""
        for number in range(self.segments):
            with self._file(number, ".jsonl").open(encoding="utf-8") as lines:
                yield from lines

    def abort(self) -> None:
        """Closes what is open; whole segments stay for a run that goes on."""
        if self._writer is not None:
            # What it holds is lost anyway.
            with suppress(FFmpegError, OSError):
                self._writer.close()
            self._writer = None

    def remove_work(self) -> None:
        """Removes the work folder of a video whose results are in place."""
        shutil.rmtree(self._work, ignore_errors=True)
