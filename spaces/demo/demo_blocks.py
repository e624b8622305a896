"""The page as a whole, and the server that shows it."""

from __future__ import annotations

from pathlib import Path

import gradio as gr
from demo_engine import Engine
from demo_examples import example_frames
from demo_guard import GuardedBlocks, NoUnusedRoutes, UploadsThatFit
from demo_handlers import Handlers
from demo_limits import DemoLimits
from demo_page import (
    CSS,
    FRAME_FILES,
    NAME_EXAMPLES,
    NOTICE,
    THEME,
    TITLE,
    VIDEO_FILES,
    header_html,
    notes,
)
from demo_storage import Sweeper
from demo_tabs import frame_tab, video_tab
from starlette.middleware import Middleware

# The page keeps a video that was refused, for "Analyze video" to be pressed again; a frame has no button.
RETRIED = frozenset({"analyze_video"})
# Gradio's own memory of each page; the analyses are in `AnalysisStore`.
_SESSIONS = 100
# A frame, a video, drawings and downloads at once; each thread keeps memory of its own.
_THREADS = 8


def build(handlers: Handlers, limits: DemoLimits, examples: list[Path]) -> GuardedBlocks:
    """The page with its events."""
    # Served from where they are: what is copied to the cache is swept.
    gr.set_static_paths([str(path) for path in examples])
    keep_s = max(1, round(60 * limits.keep_minutes))
    with GuardedBlocks(
        title=TITLE, analytics_enabled=False, delete_cache=(min(60, max(1, keep_s // 5)), keep_s)
    ) as demo:
        gr.HTML(header_html(handlers.landmarks))
        gr.HTML(NOTICE, elem_classes="notice")
        with gr.Tabs():
            with gr.Tab("Still frame", id="frame"):
                frame_tab(handlers, examples)
                gr.Markdown(notes(limits, FRAME_FILES))
            with gr.Tab("Video", id="video"):
                video_tab(handlers)
                length = f", {limits.max_video_seconds:g} s and {limits.max_video_frames} frames"
                gr.Markdown(notes(limits, VIDEO_FILES, length))
        demo.load(None, js=NAME_EXAMPLES)
        demo.unload(handlers.forget)
    demo.uploads = demo.upload_file_set = handlers.uploads
    demo.temp_file_sets[0] = handlers.uploads
    demo.stored, demo.retried = handlers.stored, RETRIED
    return demo


def serve(engine: Engine, limits: DemoLimits, cache: Path) -> None:
    """Serves the page until it is interrupted; GRADIO_SERVER_NAME and GRADIO_SERVER_PORT say where."""
    examples = example_frames()
    handlers = Handlers(engine, limits, cache, examples)
    sweeper = Sweeper(cache, handlers.store, handlers.uploads, 60 * limits.keep_minutes)
    sweeper.start()
    launch(build(handlers, limits, examples), limits)
    sweeper.stop()


def launch(demo: GuardedBlocks, limits: DemoLimits, **options: object) -> None:
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
        app_kwargs={
            "middleware": [
                Middleware(NoUnusedRoutes),
                Middleware(UploadsThatFit, stored=demo.stored, max_bytes=limits.max_upload_bytes),
            ]
        },
        **options,
    )
