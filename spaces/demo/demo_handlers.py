"""What happens when somebody uploads a file or moves a switch."""

from __future__ import annotations

import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gradio as gr
import pandas as pd
from demo_engine import Engine
from demo_frame import (
    Analysis,
    View,
    analyze_frame,
    draw_view,
    findings,
    for_display,
    summary,
    table_html,
    write_downloads,
)
from demo_guard import Refusal
from demo_limits import FULL, NOTHING_LOADED, DemoLimits
from demo_page import progress_html
from demo_storage import AnalysisStore, StoredBytes
from demo_uploads import CountedUploads
from demo_video import VideoOptions, VideoProgress, VideoResult, analyze_video
from PIL import Image

from liver_landmark.inference.video_reader import VideoError
from liver_landmark.model.landmarks_liver_landmark import LandmarkTable
from liver_landmark.utils.frame_files import FrameError

# How often a video's page hears how far it is, s.
_PROGRESS_EVERY_S = 0.5

# An uploaded file as Gradio describes it before any component has looked at it.
Upload = dict[str, Any] | None
FrameResult = tuple[str, str, str, list[dict[str, Any]]]


class Handlers:
    """The demo's functions. Values of controls come as the page, or any program, sent them."""

    def __init__(self, engine: Engine, limits: DemoLimits, cache: Path, examples: list[Path]) -> None:
        """Takes the model, the limits, Gradio's cache folder, where results go too, and example frames."""
        self._engine, self._limits, self._cache, self._examples = engine, limits, cache, examples
        self.landmarks: LandmarkTable = engine.landmarks
        self.store = AnalysisStore(limits.max_kept_mb * 1e6, limits.keep_minutes * 60)
        self.stored = StoredBytes(cache, limits.max_stored_bytes)
        self.uploads = CountedUploads()

    def find(
        self, upload: Upload, careful: Any, landmarks: Any, opacity: Any, shown: Any, heat_map: Any,
        request: gr.Request,
    ) -> FrameResult:  # fmt: skip
        """Analyses an uploaded frame: the picture, and what was found as text, table and data."""
        if not upload:
            raise Refusal("Please choose a frame first.")
        path = upload["path"]
        try:
            view = self._view(landmarks, opacity, shown, heat_map)
            return self._find(path, view, careful, request)
        finally:
            self.uploads.release(path)

    def find_example(
        self, index: Any, careful: Any, landmarks: Any, opacity: Any, shown: Any, heat_map: Any,
        request: gr.Request,
    ) -> FrameResult:  # fmt: skip
        """Analyses the example frame of that number."""
        if not isinstance(index, int) or not 0 <= index < len(self._examples):
            raise Refusal("There is no such example.")
        return self._find(
            str(self._examples[index]), self._view(landmarks, opacity, shown, heat_map), careful, request
        )

    def _find(self, path: str, view: View, careful: Any, request: gr.Request) -> FrameResult:
        try:
            analysis = analyze_frame(
                path, lambda frame: self._engine.predict(frame, bool(careful)), self._limits.frame
            )
        except FrameError as error:
            raise Refusal(self._limits.frame_message(str(error))) from None
        except ValueError:
            raise Refusal(
                "The model cannot analyze this frame: its size or its pixels are unusual."
            ) from None
        self.store.put(_session(request), analysis)
        found = findings(analysis)
        return self._picture(analysis, view), summary(analysis), table_html(found), found

    def draw(
        self, landmarks: Any, opacity: Any, shown: Any, heat_map: Any, request: gr.Request
    ) -> str | None:
        """The last frame, drawn as the controls now say; the model does not run again."""
        view = self._view(landmarks, opacity, shown, heat_map)
        analysis = self.store.get(_session(request))
        return None if analysis is None else self._picture(analysis, view)

    def downloads(
        self, landmarks: Any, opacity: Any, shown: Any, heat_map: Any, request: gr.Request
    ) -> list[str]:
        """Files of the last frame: mask, overlay as the controls now say, curves, and a zip of all."""
        view = self._view(landmarks, opacity, shown, heat_map)
        analysis = self._last(request)
        with self._results_folder() as folder:
            return [str(path) for path in write_downloads(analysis, view, folder)]

    def video(
        self, upload: Upload, careful: Any, smoothing: Any, landmarks: Any, opacity: Any, shown: Any
    ) -> Iterator[tuple[Any, ...]]:  # fmt: skip
        """Analyses an uploaded video: what is being done in words, at last overlay, timeline and files."""
        if not upload:
            raise Refusal("Please choose a video first.")
        path = upload["path"]
        try:
            options = _video_options(self._view(landmarks, opacity, shown, "none"), smoothing, careful)
            with self._results_folder() as folder:
                yield from self._video(path, folder, options)
        except VideoError as error:
            raise Refusal(self._limits.video_message(str(error))) from None
        finally:
            self.uploads.release(path)

    def _video(self, path: str, folder: Path, options: VideoOptions) -> Iterator[tuple[Any, ...]]:
        told_s = -_PROGRESS_EVERY_S
        for step in analyze_video(path, folder, self._engine, options, self._limits.video):
            if isinstance(step, VideoResult):
                files = [str(file) for file in (step.overlay, step.archive, step.timeline)]
                yield progress_html(self._video_summary(step)), files[0], _timeline(step), files
                return
            if self.stored.is_full():
                raise Refusal(FULL)
            if time.monotonic() - told_s >= _PROGRESS_EVERY_S:
                told_s = time.monotonic()
                yield _tell(step), gr.skip(), gr.skip(), gr.skip()

    def _video_summary(self, result: VideoResult) -> str:
        found = {
            name: sum(name in row.present for row in result.rows) / len(result.rows)
            for name in self.landmarks.names
        }
        parts = [
            f"{len(result.rows)} frames analyzed.",
            "In the frames: " + ", ".join(f"{name} {share:.0%}" for name, share in found.items()) + ".",
        ]
        if result.stopped_by is not None:
            parts.append(f"The rest was left out. {self._limits.video_message(result.stopped_by)}")
        return " ".join(parts)

    def forget(self, request: gr.Request) -> None:
        """Drops what is kept of a page that was closed."""
        self.store.drop(_session(request))

    def _last(self, request: gr.Request) -> Analysis:
        analysis = self.store.get(_session(request))
        if analysis is None:
            raise Refusal(NOTHING_LOADED.format(**vars(self._limits)))
        return analysis

    def _picture(self, analysis: Analysis, view: View) -> str:
        # Gradio would name it by its content, and write it anew under those who are being sent the same one.
        with self._results_folder() as folder:
            path = folder / "image.webp"
            Image.fromarray(for_display(draw_view(analysis, view))).save(path)
        return str(path)

    def _view(self, landmarks: Any, opacity: Any, shown: Any, heat_map: Any) -> View:
        try:
            return View.from_controls(landmarks, opacity, shown, heat_map, self.landmarks)
        except ValueError as error:
            raise Refusal(f"{error}.") from None

    @contextmanager
    def _results_folder(self) -> Iterator[Path]:
        """A new folder with a name that nobody can guess; it is swept later, or removed on an error."""
        folder = self._cache / secrets.token_hex(16)
        folder.mkdir()
        try:
            yield folder
        except BaseException:
            shutil.rmtree(folder)
            raise


def _video_options(view: View, smoothing: Any, careful: Any) -> VideoOptions:
    try:
        return VideoOptions(view, smoothing, bool(careful))
    except ValueError as error:
        raise Refusal(f"{error}.") from None


def _session(request: gr.Request) -> str:
    # Each call of a program without a session is one of its own.
    return request.session_hash or secrets.token_hex(16)


def _tell(step: VideoProgress) -> str:
    if step.frames is None:
        return progress_html(f"{step.done} frames analyzed so far.")
    frames = max(step.frames, step.done)
    return progress_html(f"{step.done} of {frames} frames analyzed.", step.done, frames)


def _timeline(result: VideoResult) -> pd.DataFrame:
    """Rows of the plot: a landmark's probability of being in the frame over time."""
    return pd.DataFrame(
        [
            {"time (s)": row.time_s, "probability": row.presence[name], "landmark": name}
            for row in result.rows
            for name in row.presence
        ]
    )
