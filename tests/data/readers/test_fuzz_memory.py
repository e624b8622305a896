"""Files that are made to fill the memory: left out or read, within a gibibyte for the whole process."""

import json
import os
import subprocess
import sys

import pytest

from liver_landmark.curves.formats.annotation import MAX_FILE_BYTES, MAX_TEXT_BYTES, MAX_VALUES
from peak_memory import PEAK_MIB, needs_proc
from raw_sets import cvat, l3d, llsd, p2ilf, pictures

# In a process of its own; two threads, so that files meet.
BUILD = (
    PEAK_MIB
    + """
import json, sys
from pathlib import Path
from liver_landmark.data.build import build_raw_set
from liver_landmark.data.build import RawRequest
from liver_landmark.data.readers import CustomOptions, L3dOptions, MaskOptions, SplitOptions

folder, left_out = Path(sys.argv[1]), {}
for name, options in (
    ("l3d", L3dOptions()), ("p2ilf", None), ("llsd", MaskOptions()), ("custom", CustomOptions("cvat"))
):
    protocol = None if name == "llsd" else "p2ilf"
    request = RawRequest(name, folder / name, options, SplitOptions(), protocol)
    left_out[name] = build_raw_set(request, folder / f"{name}_built", "# A set", workers=2).left_out
print(json.dumps([left_out, peak_mib()]))
"""
)
# Elements weigh more than other values.
ELEMENTS = MAX_VALUES // 8 - 1000


def write_hostile_l3d(root):
    """Seven files that are only large, and seven frames to be left out."""
    raw = l3d.write_l3d(root, frames_per_patient=5)
    for frame in raw.frames[:4]:
        # As many values as are let pass, in the form that takes most memory, and a character that widens all
        # others.
        whole = frame.annotation.read_bytes().rstrip()[:-1]
        values = b'{"":0},' * (MAX_VALUES // 3 - 1000)
        note = "🫀".encode() + b" " * (MAX_TEXT_BYTES - len(values) - len(whole) - 100)
        frame.annotation.write_bytes(whole + b', "x": [' + values + b'0], "note": "' + note + b'"}')
    for frame in raw.frames[5:8]:
        whole = frame.annotation.read_bytes()
        picture = b'"imageData": "' + b"A" * (MAX_FILE_BYTES - len(whole) - 100) + b'"'
        frame.annotation.write_bytes(whole.replace(b'"imageData": null', picture))
    for frame in raw.frames[10:13]:
        frame.annotation.write_bytes(b"[" * MAX_FILE_BYTES)
    raw.frames[15].annotation.write_bytes(b" " * (MAX_FILE_BYTES + 1))
    for frame in raw.frames[20:23]:
        frame.picture.write_bytes(pictures.png_bomb())


def write_hostile_p2ilf(root):
    """Elements nested and side by side, numbers without end: large, and nothing that is wrong."""
    raw = p2ilf.write_p2ilf(root, frames_per_patient=5)
    contents = ["<a>" * ELEMENTS + "</a>" * ELEMENTS, "<a b=''/>" * ELEMENTS, "1, " * (MAX_VALUES // 2)]
    for frame, content in zip(raw.frames, [*contents, *contents, "9" * 2**23], strict=False):
        text = frame.annotation.read_text()
        frame.annotation.write_text(text.replace("</contours>", f"<z>{content}</z></contours>"))


def write_hostile_llsd(root):
    """Three masks that claim to be enormous."""
    raw = llsd.write_llsd(root, frames_per_patient=4)
    for frame in raw.frames[:2]:
        frame.annotation.write_bytes(pictures.png_bomb())
    raw.frames[4].annotation.write_bytes(pictures.png_bomb(2**31 - 1, 2**31 - 1))


def write_hostile_cvat(root):
    """A description of many elements."""
    cvat.rewrite(cvat.write_cvat(root), "<meta>", "<meta>" + "<a/>" * (2 * ELEMENTS - 1000))


@needs_proc
@pytest.mark.slow
def test_hostile_files_side_by_side(tmp_path):
    write_hostile_l3d(tmp_path / "l3d")
    write_hostile_p2ilf(tmp_path / "p2ilf")
    write_hostile_llsd(tmp_path / "llsd")
    write_hostile_cvat(tmp_path / "custom")
    result = subprocess.run(
        [sys.executable, "-c", BUILD, str(tmp_path)],
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert result.returncode == 0, result.stderr
    left_out, peak_mib = json.loads(result.stdout.splitlines()[-1])
    # Endless brackets and enormous pictures are left out; what is only large is read.
    assert left_out == {"l3d": 7, "p2ilf": 0, "llsd": 3, "custom": 0}
    assert peak_mib < 1024, peak_mib
