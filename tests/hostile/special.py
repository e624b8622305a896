"""Files whose names, kinds or places are odd, and not their bytes."""

from __future__ import annotations

import os
import socket

import numpy as np

from hostile.collection import Collection, Outcome
from hostile.picture_bytes import encoded, tissue
from tiny_videos import moving_frames, read_video, write_video

NAMES = (
    "-dash.png",
    "--output=x.png",
    "space at end .png",
    " space at start.png",
    "new\nline.png",
    "carriage\rreturn.png",
    "tab\tand \x1b[31mcolor.png",
    "Gallenblase_äöü_胆囊_المرارة.png",
    "right\u202eto left.png",
    "quo'te\"s`and$(date).png",
    "percent%03d%s{}.png",
    "back\\slash.png",
    "glob[ab]*?.png",
    "two.dots.png",
    "UPPER.PNG",
    "same.png",
    "same.jpg",
    "SAME.bmp",
    "same_mask.png",
    "http:example.png",
    "run.json.png",
    "con.png",
    os.fsdecode(b"not\xff\xfeunicode.png"),
)
VIDEO_NAMES = (
    "concat:one.mp4|two.mp4",
    "pipe:0.mp4",
    "file:a.mp4",
    "http:a.mp4",
    "-dash.mp4",
    "new\nline.mp4",
    "percent%03d.mp4",
    "same.mp4",
    os.fsdecode(b"not\xff\xfeunicode.mkv"),
)


def write_special_files(out: Collection, rng: np.random.Generator) -> None:
    """Writes odd names, links, pipes and folders into the collection."""
    for name in NAMES:
        pixels = tissue(rng)
        if out.wants("picture of an odd name") or name in NAMES[:6]:
            (out.folder / name).write_bytes(encoded(pixels, "PNG"))
            out.note(out.folder / name, "picture of an odd name", Outcome.GOOD, [pixels])
    for number, name in enumerate(VIDEO_NAMES):
        if out.wants("video of an odd name") or name in VIDEO_NAMES[:2]:
            container = "matroska" if name.endswith(".mkv") else "mp4"
            _write_video(out, name, container, seed=number)
    pixels = tissue(rng)
    # As long as file systems take; a result's name would be longer.
    longest = out.folder / ("n" * 251 + ".png")
    longest.write_bytes(encoded(pixels, "PNG"))
    out.note(longest, "longest name", Outcome.DAMAGED, [pixels])
    for name in ("new\nline of nothing.png", "new\nline of nothing.mp4"):
        (out.folder / name).write_bytes(b"")
        out.note(out.folder / name, "odd name and empty", Outcome.BAD)
    _write_links(out, rng)
    _write_kinds(out, rng)


def _write_video(out: Collection, name: str, container: str, seed: int) -> None:
    # Written under a plain name: FFmpeg would take some of these for addresses.
    plain = write_video(out.folder / "plain", moving_frames(3, seed=seed), container=container)
    right, _ = read_video(plain)
    path = plain.rename(out.folder / name)
    out.note(path, "video of an odd name", Outcome.GOOD, right, is_video=True)


def _write_links(out: Collection, rng: np.random.Generator) -> None:
    places = {
        "link to itself": ["itself.png", "itself.mp4"],
        "link to nothing": ["gone.png", "gone.mp4"],
        "link to a device": ["/dev/zero", "/dev/full"],
    }
    for family, targets in places.items():
        for target in targets:
            path = out.folder / f"{family} {os.path.basename(target)}{'' if '.' in target else '.png'}"
            path.symlink_to(path if family == "link to itself" else target)
            out.note(path, family, Outcome.BAD)
    first, second = out.folder / "ring one.png", out.folder / "ring two.png"
    first.symlink_to(second)
    second.symlink_to(first)
    out.note(first, "links to each other", Outcome.BAD)
    out.note(second, "links to each other", Outcome.BAD)
    pixels = tissue(rng)
    (out.folder / "elsewhere").mkdir()
    (out.folder / "elsewhere" / ".hidden.png").write_bytes(encoded(pixels, "PNG"))
    (out.folder / "link to a picture.png").symlink_to("elsewhere/.hidden.png")
    out.note(out.folder / "link to a picture.png", "link to a picture", Outcome.GOOD, [pixels])
    # A folder that holds itself gives nothing twice.
    (out.folder / "elsewhere" / "around").symlink_to(out.folder, target_is_directory=True)


def _write_kinds(out: Collection, rng: np.random.Generator) -> None:
    for suffix in (".png", ".mp4", ".h264"):
        pipe = out.folder / f"pipe{suffix}"
        os.mkfifo(pipe)
        # Opening one without a writer waits for ever.
        out.note(pipe, f"pipe named {suffix}", Outcome.BAD)
        folder = out.folder / f"folder{suffix}"
        folder.mkdir()
        pixels = tissue(rng)
        (folder / "inside.png").write_bytes(encoded(pixels, "PNG"))
        out.note(folder / "inside.png", f"in a folder named {suffix}", Outcome.GOOD, [pixels])
    listening = socket.socket(socket.AF_UNIX)
    # The address has 108 characters at most: bound from within the folder.
    handle = os.open(out.folder, os.O_RDONLY)
    try:
        listening.bind(f"/proc/self/fd/{handle}/socket.png")
    finally:
        listening.close()
        os.close(handle)
    out.note(out.folder / "socket.png", "socket", Outcome.BAD)
    locked = out.folder / "locked.png"
    pixels = tissue(rng)
    locked.write_bytes(encoded(pixels, "PNG"))
    locked.chmod(0)
    # Root may read everything.
    readable = os.access(locked, os.R_OK)
    out.note(locked, "not permitted", Outcome.GOOD if readable else Outcome.BAD, [pixels] if readable else [])
    sparse = out.folder / "sparse.png"
    sparse.write_bytes(encoded(pixels, "PNG"))
    os.truncate(sparse, 2**29)
    out.note(sparse, "half a gigabyte of nothing", Outcome.BAD)
