"""The page's words and looks: nothing of them comes from another server."""

from __future__ import annotations

import gradio as gr
from demo_limits import DemoLimits

from liver_landmark.model.landmarks_liver_landmark import LANDMARKS

TITLE = "liver-landmark"
HEADER = """
<h1>Liver landmarks in a laparoscopic frame</h1>
<p>Finds the ridge, the silhouette and the falciform ligament of the liver, in a still frame or a video.
Not for diagnosis, planning or guidance.</p>
"""
# Stays at the window's lower edge.
NOTICE = '<p role="note">Research only, not a medical device</p>'

FRAME_FILES = "JPEG, PNG, BMP, TIFF or WebP"
VIDEO_FILES = "MP4, MOV, MKV, AVI or WebM"

_COLOR_NAMES = {(255, 0, 0): "red", (0, 255, 0): "green", (0, 0, 255): "blue"}
# Label and value of each landmark's switch; the color is said in words for those who cannot tell it.
LANDMARK_CHOICES = [
    (f"{landmark.name} ({_COLOR_NAMES[landmark.color]})", landmark.name) for landmark in LANDMARKS
]
# Darker than the landmarks' own colors: lines on white paper, and on black.
PLOT_COLORS = {"ridge": "#e03131", "silhouette": "#2b8a3e", "ligament": "#4c6ef5"}


def notes(limits: DemoLimits, files: str, more: str = "") -> str:
    """What is taken, and what becomes of it."""
    return (
        f"{files}, up to {limits.max_upload_mb:g} MB{more}. An upload is deleted from the server as soon as "
        f"it has been analyzed, results after {limits.keep_minutes:g} minutes; nothing is logged. What you "
        "download carries no metadata of the upload."
    )


def progress_html(text: str, done: int = 0, frames: int | None = None) -> str:
    """What is being done in words, and a bar where it is known how far that is."""
    bar = (
        ""
        if frames is None
        else f'<progress value="{done}" max="{frames}" aria-label="Frames analyzed"></progress>'
    )
    return f'<p role="status">{text}</p>{bar}'


# Gradio's own themes may name fonts of other servers; these are the reader's own.
THEME = gr.themes.Default(
    primary_hue="teal",
    secondary_hue="teal",
    neutral_hue="slate",
    font=["system-ui", "-apple-system", "Segoe UI", "DejaVu Sans", "sans-serif"],
    font_mono=["ui-monospace", "Consolas", "DejaVu Sans Mono", "monospace"],
).set(
    # White on it has a contrast of 5.5, on the hues' defaults 2.5.
    button_primary_background_fill="*primary_700",
    button_primary_background_fill_hover="*primary_800",
    button_primary_background_fill_dark="*primary_700",
    button_primary_background_fill_hover_dark="*primary_800",
)

# Screen readers have no name for buttons that are pictures.
NAME_EXAMPLES = """() => document.querySelectorAll('#frame-examples button').forEach(
  (button, index) => button.setAttribute('aria-label', `Example frame ${index + 1}`))"""

CSS = """
.gradio-container { padding-bottom: 3rem !important; }
.notice { position: fixed !important; left: 0; right: 0; bottom: 0; z-index: 1000; padding: 0 !important; }
.notice p { margin: 0 !important; padding: 0.4rem 0.8rem; text-align: center; font-weight: 600;
  color: #ffffff !important; background: #7a2e00; }
/* The accent color is too pale for text on white. */
button[role="tab"][aria-selected="true"] { color: inherit !important; font-weight: 600; }
.found table { width: 100%; border-collapse: collapse; margin: 0; }
.found table, .found thead, .found tr { border: none !important; }
.found th, .found td { padding: 0.35rem 0.4rem !important; text-align: right !important;
  border: none !important; border-bottom: 1px solid #8886 !important; }
.found tr > :first-child { text-align: left !important; }
.found caption { text-align: left; font-size: 0.85rem; caption-side: bottom; padding-top: 0.3rem; }
/* Nothing prepared, nothing to show. */
.files:not(:has(a)) { display: none; }
.progress progress { width: 100%; height: 1rem; accent-color: #0f766e; }
@media (max-width: 640px) {
  .found th, .found td { padding: 0.3rem 0.1rem !important; font-size: 0.75rem; }
}
"""
