"""The page: what lies where, and which function each control calls."""

from __future__ import annotations

from pathlib import Path

import gradio as gr
from demo_engine import Engine
from demo_examples import example_frames
from demo_frame import AREAS, CURVES, NO_HEAT_MAP
from demo_guard import GuardedBlocks, NoUnusedRoutes
from demo_handlers import Handlers
from demo_limits import DemoLimits
from demo_page import (
    CSS,
    FRAME_FILES,
    HEADER,
    LANDMARK_CHOICES,
    NAME_EXAMPLES,
    NOTICE,
    PLOT_COLOURS,
    THEME,
    TITLE,
    VIDEO_FILES,
    notes,
    progress_html,
)
from demo_storage import Sweeper
from starlette.middleware import Middleware

from liver_landmark.model.landmarks_liver_landmark import LANDMARK_NAMES

# Drawing takes milliseconds: a person who moves a slider does not wait behind those who wait for the model.
_DRAWING_AT_ONCE = 2
# Gradio's own memory of each page; the analyses are in `AnalysisStore`.
_SESSIONS = 100
# A frame, a video, drawings and downloads at once; each thread keeps memory of its own.
_THREADS = 8


def build(handlers: Handlers, limits: DemoLimits, examples: list[Path]) -> gr.Blocks:
    """The page with its events."""
    # Served from where they are: what is copied to the cache is swept.
    gr.set_static_paths([str(path) for path in examples])
    keep_s = max(1, round(60 * limits.keep_minutes))
    with GuardedBlocks(
        title=TITLE, analytics_enabled=False, delete_cache=(min(60, max(1, keep_s // 5)), keep_s)
    ) as demo:
        gr.HTML(HEADER)
        gr.HTML(NOTICE, elem_classes="notice")
        with gr.Tabs():
            with gr.Tab("Still frame", id="frame"):
                _frame_tab(handlers, examples)
                gr.Markdown(notes(limits, FRAME_FILES))
            with gr.Tab("Video", id="video"):
                _video_tab(handlers)
                length = f", {limits.max_video_seconds:g} s and {limits.max_video_frames} frames"
                gr.Markdown(notes(limits, VIDEO_FILES, length))
        demo.load(None, js=NAME_EXAMPLES)
        demo.unload(handlers.forget)
    demo.known_uploads = demo.upload_file_set = handlers.uploads
    demo.temp_file_sets[0] = handlers.uploads
    return demo


def serve(engine: Engine, limits: DemoLimits, cache: Path) -> None:
    """Serves the page until it is interrupted; GRADIO_SERVER_NAME and GRADIO_SERVER_PORT say where."""
    examples = example_frames()
    handlers = Handlers(engine, limits, cache, examples)
    sweeper = Sweeper(cache, handlers.store, handlers.uploads, 60 * limits.keep_minutes)
    sweeper.start()
    launch(build(handlers, limits, examples), limits)
    sweeper.stop()


def launch(demo: gr.Blocks, limits: DemoLimits, **options: object) -> None:
    """Starts the server with everything off that keeps, sends or shows more than is needed."""
    demo.queue(max_size=limits.max_waiting, default_concurrency_limit=1)
    demo.launch(
        theme=THEME,
        css=CSS,
        max_file_size=limits.max_upload_bytes,
        state_session_capacity=_SESSIONS,
        max_threads=_THREADS,
        # It would keep people's frames in their browsers.
        run_history=False,
        enable_monitoring=False,
        footer_links=["api"],
        ssr_mode=False,
        app_kwargs={"middleware": [Middleware(NoUnusedRoutes)]},
        **options,
    )


def _frame_tab(handlers: Handlers, examples: list[Path]) -> None:
    with gr.Row():
        with gr.Column(scale=1, min_width=300):
            upload = gr.File(
                label="Frame to analyse", file_types=["image"], height=160, elem_id="frame-upload"
            )
            careful = gr.Checkbox(
                label="More careful: look at the mirrored frame too (twice as slow)", elem_id="frame-careful"
            )
            chosen = None
            if examples:
                chosen = gr.Dataset(
                    label="Or one of these rendered example frames",
                    components=[gr.Image(visible=False)],
                    samples=[[str(path)] for path in examples],
                    type="index",
                    elem_id="frame-examples",
                )
        with gr.Column(scale=2, min_width=320):
            result = gr.Image(
                label="Frame with landmarks",
                # It would cover the names in the picture's corner.
                show_label=False,
                interactive=False,
                format="webp",
                buttons=["fullscreen"],
                alt_text="The frame with its landmarks drawn over it; what was found is said below.",
                elem_id="frame-result",
            )
            found = gr.Markdown("No frame yet.", elem_id="frame-summary")
            view = _view_controls("frame")
            heat_map = gr.Radio(
                [("none", NO_HEAT_MAP), *((name, name) for name in LANDMARK_NAMES)],
                value=NO_HEAT_MAP,
                label="Map of a landmark's probability",
                elem_id="frame-heat-map",
            )
            table = gr.HTML(elem_id="frame-table", elem_classes="found", padding=False)
            data = gr.JSON(visible=False)
            prepare = gr.Button("Prepare files to download", elem_id="frame-prepare")
            files = gr.File(
                label="Files",
                file_count="multiple",
                interactive=False,
                elem_id="frame-files",
                elem_classes="files",
            )
    controls = [*view, heat_map]
    outputs = [result, found, table, data]
    # The upload is gone from the server: the page forgets it too, and is ready for the next one.
    upload.upload(
        handlers.find,
        [upload, careful, *controls],
        outputs,
        api_name="find_landmarks",
        preprocess=False,
        show_progress_on=result,
    ).then(None, None, upload, js="() => null")
    if chosen is not None:
        chosen.click(
            handlers.find_example,
            [chosen, careful, *controls],
            outputs,
            api_name="find_landmarks_in_example",
            preprocess=False,
            concurrency_id="frame",
            show_progress_on=result,
        )
    gr.on(
        [control.change for control in controls],
        handlers.draw,
        controls,
        result,
        api_name="draw",
        preprocess=False,
        concurrency_limit=_DRAWING_AT_ONCE,
        trigger_mode="always_last",
        show_progress="hidden",
    )
    # What was prepared shows the frame as it was then.
    gr.on([result.change], None, None, files, js="() => null")
    prepare.click(
        handlers.downloads,
        controls,
        files,
        api_name="downloads",
        preprocess=False,
        concurrency_limit=_DRAWING_AT_ONCE,
    )


def _video_tab(handlers: Handlers) -> None:
    with gr.Row():
        with gr.Column(scale=1, min_width=300):
            upload = gr.File(
                label="Video to analyse", file_types=["video"], height=160, elem_id="video-upload"
            )
            view = _view_controls("video")
            smoothing = gr.Slider(
                0, 2, 0, step=0.1, label="Smoothing over time (s); delays what appears and what goes",
                elem_id="video-smoothing",
            )  # fmt: skip
            careful = gr.Checkbox(
                label="More careful: look at the mirrored frames too (twice as slow)", elem_id="video-careful"
            )
            with gr.Row():
                start = gr.Button("Analyse video", variant="primary", elem_id="video-start")
                stop = gr.Button("Stop", elem_id="video-stop")
        with gr.Column(scale=2, min_width=320):
            status = gr.HTML(
                progress_html("No video yet."),
                elem_id="video-summary",
                elem_classes="progress",
                padding=False,
            )
            result = gr.Video(
                label="Video with landmarks",
                show_label=False,
                interactive=False,
                buttons=[],
                elem_id="video-result",
            )
            timeline = gr.LinePlot(
                x="time (s)",
                y="probability",
                color="landmark",
                color_map=PLOT_COLOURS,
                y_lim=[0, 1],
                label="Probability that a landmark is in the frame",
                buttons=[],
                elem_id="video-timeline",
            )
            files = gr.File(
                label="Files",
                file_count="multiple",
                interactive=False,
                elem_id="video-files",
                elem_classes="files",
            )
    running = start.click(
        handlers.video,
        [upload, careful, smoothing, *view],
        [status, result, timeline, files],
        api_name="analyse_video",
        preprocess=False,
        show_progress_on=result,
    )
    running.then(None, None, upload, js="() => null")
    stopped = stop.click(
        lambda: progress_html("Stopped."), None, status, cancels=[running], api_visibility="private"
    )
    # What was stopped is deleted too.
    stopped.then(None, None, upload, js="() => null")


def _view_controls(prefix: str) -> list[gr.components.Component]:
    landmarks = gr.CheckboxGroup(
        LANDMARK_CHOICES, value=list(LANDMARK_NAMES), label="Landmarks to show", elem_id=f"{prefix}-landmarks"
    )
    opacity = gr.Slider(0, 1, 0.4, step=0.05, label="Opacity of the areas", elem_id=f"{prefix}-opacity")
    shown = gr.CheckboxGroup(
        [("areas", AREAS), ("curves", CURVES)], value=[AREAS], label="Draw", elem_id=f"{prefix}-shown"
    )
    return [landmarks, opacity, shown]
