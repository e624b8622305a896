"""Complete files or none: everything is written beside its place and renamed into it."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yields a temporary path beside `path`; renames it to `path` at the end, or removes it on an error.

    The temporary name keeps the suffix, by which writers choose their format, and starts with a dot.
    """
    temporary = path.with_name(f".{path.stem}.{secrets.token_hex(4)}.partial{path.suffix}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_png(path: Path, pixels: np.ndarray) -> None:
    """Writes (H, W) uint8 as mode L, (H, W, 3) uint8 as RGB."""
    with atomic_path(path) as temporary:
        # Level 1 is several times faster than the default, and a frame's overlay hardly larger for it.
        Image.fromarray(pixels).save(temporary, format="PNG", compress_level=1)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Writes indented JSON; a NaN or an infinity is a ValueError, since JSON has none."""
    _write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def write_json_lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Writes one JSON object a line."""
    lines = [json.dumps(row, allow_nan=False) + "\n" for row in rows]
    _write_text(path, "".join(lines))


# json escapes what is not ASCII: file names that are no UTF-8 get through.
def _write_text(path: Path, text: str) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
