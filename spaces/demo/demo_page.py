"""The page's words and looks: nothing of them comes from another server."""

from __future__ import annotations

from collections.abc import Iterable

import gradio as gr
from demo_limits import DemoLimits

from liver_landmark.model.landmarks_liver_landmark import LandmarkTable

TITLE = "liver-landmark"


def header_html(landmarks: LandmarkTable) -> str:
    """What the page is, and what it finds."""
    *names, last = landmarks.names
    found = f"{', '.join(names)} and {last}" if names else last
    return f"""
<h1>Liver landmarks in a laparoscopic frame</h1>
<p>Finds {found} of the liver, in a still frame or a video.
Not for diagnosis, planning or guidance.</p>
"""


# Stays at the window's lower edge.
NOTICE = '<p role="note">Research only, not a medical device</p>'

FRAME_FILES = "JPEG, PNG, BMP, TIFF or WebP"
VIDEO_FILES = "MP4, MOV, MKV, AVI or WebM"

# In words, for those who cannot tell colors apart.
_COLOR_NAMES = {
    (255, 0, 0): "red",
    (0, 255, 0): "green",
    (0, 0, 255): "blue",
    (255, 255, 0): "yellow",
    (255, 0, 255): "magenta",
    (0, 255, 255): "cyan",
    (255, 128, 0): "orange",
    (255, 255, 255): "white",
    (128, 0, 255): "violet",
    (0, 128, 128): "teal",
    (128, 128, 0): "olive",
}
# Darker than the landmarks' own colors: lines on white paper, and on black.
_PLOT_COLORS = {(255, 0, 0): "#e03131", (0, 255, 0): "#2b8a3e", (0, 0, 255): "#4c6ef5"}


def landmark_choices(landmarks: LandmarkTable) -> list[tuple[str, str]]:
    """Label and value of each landmark's switch; its color is said in words."""
    return [
        (f"{landmark.name} ({_COLOR_NAMES.get(landmark.color, _hex(landmark.color))})", landmark.name)
        for landmark in landmarks.landmarks
    ]


def plot_colors(landmarks: LandmarkTable) -> dict[str, str]:
    """Landmark name -> the color of its line."""
    return {
        landmark.name: _PLOT_COLORS.get(landmark.color, _hex(round(0.7 * level) for level in landmark.color))
        for landmark in landmarks.landmarks
    }


def _hex(color: Iterable[int]) -> str:
    return "#" + bytes(color).hex()


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
