"""Frames to try the demo with: made by make_examples.py, or the one in a checkout's docs."""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).resolve().parent / "examples"
_CHECKOUT = Path(__file__).resolve().parents[2] / "docs" / "images" / "frame.jpg"


def example_frames() -> list[Path]:
    """Rendered frames, JPEG; none where nobody made any."""
    made = sorted(FOLDER.glob("*.jpg"))
    return made or [path for path in (_CHECKOUT,) if path.is_file()]
