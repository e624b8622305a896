"""Files that are made to fill the memory: left out or read, within a gibibyte for the whole process."""

import json
import os
import subprocess
import sys

import pytest

# In a process of its own, whose peak no other test has raised: two threads, and hostile files side by side.
BUILD = """
import json, resource, sys
from pathlib import Path
from raw_sets import cvat, l3d, llsd, p2ilf, pictures
from raw_sets.building import CARD, NAMED_SPLITS
from liver_landmark.curves.exchange.limits import MAX_FILE_BYTES, MAX_TEXT_BYTES, MAX_VALUES
from liver_landmark.data.build import build_raw_set
from liver_landmark.data.raw_request import RawRequest
from liver_landmark.data.readers import CustomOptions, L3dOptions, MaskOptions, SplitOptions

folder = Path(sys.argv[1])

def build(name, raw, options=None, **fields):
    request = RawRequest(name, raw.root, options, **fields)
    result = build_raw_set(request, folder / f"{name}_built", CARD, workers=2)
    return {"left_out": result.left_out, "of": len(raw.frames)}

answers = {}

# As many values as are let pass, in the form that takes most memory, and a character that widens all others.
raw = l3d.write_l3d(folder / "l3d", frames_per_patient=5)
whole = raw.frames[0].annotation.read_bytes().rstrip()[:-1]
values = b'{"":0},' * (MAX_VALUES // 3 - 1000)
note = "\\U0001fac0".encode() + b" " * (MAX_TEXT_BYTES - len(values) - len(whole) - 100)
for frame in raw.frames[:4]:
    frame.annotation.write_bytes(whole + b', "x": [' + values + b'0], "note": "' + note + b'"}')
picture = b"A" * (MAX_FILE_BYTES - len(whole) - 100)
for frame in raw.frames[5:8]:
    whole = frame.annotation.read_bytes()
    frame.annotation.write_bytes(whole.replace(b'"imageData": null', b'"imageData": "' + picture + b'"'))
for frame in raw.frames[10:13]:
    frame.annotation.write_bytes(b"[" * MAX_FILE_BYTES)
raw.frames[15].annotation.write_bytes(b" " * (MAX_FILE_BYTES + 1))
for frame in raw.frames[20:23]:
    frame.picture.write_bytes(pictures.png_bomb())
answers["l3d"] = build("l3d", raw, L3dOptions(), protocol="p2ilf")

# Elements nested or side by side, numbers without end, entities.
raw = p2ilf.write_p2ilf(folder / "p2ilf", frames_per_patient=5)
elements = MAX_VALUES // 8 - 1000
for frame, inside in zip(
    raw.frames[::3],
    ["<a>" * elements + "</a>" * elements, "<a b=''/>" * elements, "1, " * (MAX_VALUES // 2), "9" * 2**23],
):
    text = frame.annotation.read_text()
    frame.annotation.write_text(text.replace("</contours>", f"<z>{inside}</z></contours>"))
answers["p2ilf"] = build("p2ilf", raw, splits=NAMED_SPLITS["patient"])

raw = llsd.write_llsd(folder / "llsd", frames_per_patient=4)
for frame in raw.frames[:2]:
    frame.annotation.write_bytes(pictures.png_bomb())
raw.frames[4].annotation.write_bytes(pictures.png_bomb(2**31 - 1, 2**31 - 1))
answers["llsd"] = build("llsd", raw, MaskOptions())

raw = cvat.write_cvat(folder / "custom")
cvat.rewrite(raw, "<meta>", "<meta>" + "<a/>" * (2 * elements - 1000))
answers["custom"] = build("custom", raw, CustomOptions("cvat"), splits=SplitOptions(test_only=True))

peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps(answers | {"peak_mib": peak / (2**20 if sys.platform == "darwin" else 2**10)}))
"""


@pytest.mark.slow
def test_hostile_files_side_by_side(tmp_path, repository):
    environment = os.environ | {"PYTHONPATH": str(repository / "tests")}
    result = subprocess.run(
        [sys.executable, "-c", BUILD, str(tmp_path)], capture_output=True, text=True, env=environment
    )
    assert result.returncode == 0, result.stderr
    answers = json.loads(result.stdout.splitlines()[-1])
    # Enormous pictures and endless brackets are left out; what is only large is read.
    assert answers["l3d"] == {"left_out": 7, "of": 30}
    assert answers["p2ilf"] == {"left_out": 0, "of": 20}
    assert answers["llsd"] == {"left_out": 3, "of": 16}
    assert answers["custom"] == {"left_out": 0, "of": 8}
    assert answers["peak_mib"] < 1024
