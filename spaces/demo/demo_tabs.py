"""The page's two tabs: what lies where, and which function each control calls."""

from __future__ import annotations

from pathlib import Path

import gradio as gr
from demo_frame import AREAS, CURVES, NO_HEAT_MAP
from demo_handlers import Handlers
from demo_page import landmark_choices, plot_colors, progress_html

from liver_landmark.model.landmarks_liver_landmark import LandmarkTable

# Drawing takes milliseconds: a person who moves a slider does not wait behind those who wait for the model.
_DRAWING_AT_ONCE = 2


def frame_tab(handlers: Handlers, examples: list[Path]) -> None:
    """The tab of one frame, with its events."""
    with gr.Row():
        with gr.Column(scale=1, min_width=300):
            upload = gr.File(
                label="Frame to analyze", file_types=["image"], height=160, elem_id="frame-upload"
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
                buttons=["fullscreen"],
                alt_text="The frame with its landmarks drawn over it; what was found is said below.",
                elem_id="frame-result",
            )
            found = gr.Markdown("No frame yet.", elem_id="frame-summary")
            view = _view_controls("frame", handlers.landmarks)
            heat_map = gr.Radio(
                [("none", NO_HEAT_MAP), *((name, name) for name in handlers.landmarks.names)],
                value=NO_HEAT_MAP,
                label="Map of a landmark's probability",
                elem_id="frame-heat-map",
            )
            table = gr.HTML(elem_id="frame-table", elem_classes="found", padding=False)
            data = gr.JSON(visible=False)
            prepare = gr.Button("Prepare files to download", elem_id="frame-prepare")
            files = _downloads("frame")
    controls = [*view, heat_map]
    outputs = [result, found, table, data]
    finding = upload.upload(
        handlers.find,
        [upload, careful, *controls],
        outputs,
        api_name="find_landmarks",
        preprocess=False,
        show_progress_on=result,
    )
    # The upload is gone from the server, also when it was refused: the page forgets it too, and is ready for
    # the next one, or the same again.
    for done in (finding.success, finding.failure):
        done(None, None, upload, js="() => null")
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


def video_tab(handlers: Handlers) -> None:
    """The tab of a video, with its events."""
    with gr.Row():
        with gr.Column(scale=1, min_width=300):
            upload = gr.File(
                label="Video to analyze", file_types=["video"], height=160, elem_id="video-upload"
            )
            view = _view_controls("video", handlers.landmarks)
            smoothing = gr.Slider(
                0, 2, 0, step=0.1, label="Smoothing over time (s); delays what appears and what goes",
                elem_id="video-smoothing",
            )  # fmt: skip
            careful = gr.Checkbox(
                label="More careful: look at the mirrored frames too (twice as slow)", elem_id="video-careful"
            )
            with gr.Row():
                start = gr.Button("Analyze video", variant="primary", elem_id="video-start")
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
                color_map=plot_colors(handlers.landmarks),
                y_lim=[0, 1],
                label="Probability that a landmark is in the frame",
                buttons=[],
                elem_id="video-timeline",
            )
            files = _downloads("video")
    running = start.click(
        handlers.video,
        [upload, careful, smoothing, *view],
        [status, result, timeline, files],
        api_name="analyze_video",
        preprocess=False,
        show_progress_on=result,
    )
    running.then(None, None, upload, js="() => null")
    stopped = stop.click(
        lambda: progress_html("Stopped."), None, status, cancels=[running], api_visibility="private"
    )
    # What was stopped is deleted too.
    stopped.then(None, None, upload, js="() => null")


def _view_controls(prefix: str, table: LandmarkTable) -> list[gr.components.Component]:
    landmarks = gr.CheckboxGroup(
        landmark_choices(table),
        value=list(table.names),
        label="Landmarks to show",
        elem_id=f"{prefix}-landmarks",
    )
    opacity = gr.Slider(0, 1, 0.4, step=0.05, label="Opacity of the areas", elem_id=f"{prefix}-opacity")
    shown = gr.CheckboxGroup(
        [("areas", AREAS), ("curves", CURVES)], value=[AREAS], label="Draw", elem_id=f"{prefix}-shown"
    )
    return [landmarks, opacity, shown]


def _downloads(prefix: str) -> gr.File:
    return gr.File(
        label="Files",
        file_count="multiple",
        interactive=False,
        elem_id=f"{prefix}-files",
        elem_classes="files",
    )
