"""Mutated annotation files: each frame is read as it should be, or left out with a line."""

import io
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from liver_landmark.curves.formats.annotation import MAX_FILE_BYTES, MAX_TEXT_BYTES, MAX_VALUES
from liver_landmark.data.readers import (
    CustomOptions,
    L3dOptions,
    MaskOptions,
    find_custom,
    find_l3d,
    find_masks,
    find_p2ilf,
)
from peak_memory import PEAK_MIB, needs_proc
from raw_sets import cvat, l3d, labelme, llsd, p2ilf, pictures
from raw_sets.fuzzing import PER_SEED, SEEDS, Mutation, check_mutated, fuzz, read_set
from raw_sets.json_mutations import (
    CUSTOM_OPERATORS,
    L3D_OPERATORS,
    P2ILF_JSON_OPERATORS,
    labelme_source,
    p2ilf_json_source,
)
from raw_sets.png_mutations import MASK_OPERATORS, MaskSource
from raw_sets.xml_mutations import (
    CVAT_OPERATORS,
    P2ILF_XML_OPERATORS,
    WHOLE_FILE,
    cvat_source,
    p2ilf_xml_source,
)

CLASS_IDS = {"ridge": 1, "silhouette": 2, "ligament": 3}


# A set without a fault, operators, the source of a frame that they work on, and what finds its frames.
CASES = {
    "l3d": (l3d.write_l3d, L3D_OPERATORS, labelme_source, lambda root: find_l3d(root, L3dOptions())),
    "labelme": (
        labelme.write_labelme,
        CUSTOM_OPERATORS,
        labelme_source,
        lambda root: find_custom(root, CustomOptions("labelme")),
    ),
    "p2ilf xml": (p2ilf.write_p2ilf, P2ILF_XML_OPERATORS, p2ilf_xml_source, find_p2ilf),
    "p2ilf json": (
        lambda root: p2ilf.write_p2ilf(root, annotations=("json",)),
        P2ILF_JSON_OPERATORS,
        p2ilf_json_source,
        find_p2ilf,
    ),
}


@pytest.fixture(scope="module", params=CASES)
def case(request, tmp_path_factory):
    write, *rest = CASES[request.param]
    return write(tmp_path_factory.mktemp("raw")), *rest


@pytest.mark.parametrize("seed", SEEDS)
def test_right_answers(case, seed):
    raw, operators, source_of, find = case
    fuzz(raw, seed, operators, source_of, lambda: find(raw.root))


@pytest.fixture(scope="module")
def cvat_set(tmp_path_factory):
    patients = ("anna", "ben", "carl")
    return cvat.write_cvat(tmp_path_factory.mktemp("cvat"), patients=patients, frames_per_patient=1)


@pytest.mark.parametrize("seed", SEEDS)
def test_right_answers_of_one_file_for_all(cvat_set, seed):
    """Of one image, so that the others stay as they are, or of the file as a whole."""
    rng = np.random.default_rng(seed)
    names = CVAT_OPERATORS.cycle(rng)
    for _ in range(PER_SEED):
        name, place = next(names), int(rng.integers(len(cvat_set.frames)))
        frame = cvat_set.frames[place]
        mutation = CVAT_OPERATORS.apply(name, rng, cvat_source(cvat_set, place), frame.landmarks)
        # All frames share the file: the others' answer stays, or there is none for any of them.
        others = [
            (other, Mutation(name, mutation.data, None if name in WHOLE_FILE.left_out else other.landmarks))
            for other in cvat_set.frames
            if other is not frame
        ]
        find = lambda: find_custom(cvat_set.root, CustomOptions("cvat"))  # noqa: E731
        check_mutated(cvat_set, [(frame, mutation), *others], find)


@pytest.fixture(scope="module")
def mask_set(tmp_path_factory):
    """A set whose truth is what is traced from its unmutated masks, and those masks' class ids."""
    raw = llsd.write_llsd(tmp_path_factory.mktemp("llsd"), frames_per_patient=2, width=96, height=54)
    rows = read_set(lambda: find_masks(raw.root, MaskOptions()), "as_drawn").rows
    for frame in raw.frames:
        row = rows[raw.relative(frame.picture)]
        drawn = llsd.exact_mask(frame.landmarks, frame.width, frame.height, llsd.EXACT)
        expected = np.zeros(drawn.shape[:2], np.uint8)
        for name, color in llsd.EXACT.items():
            expected[(drawn == color).all(-1)] = CLASS_IDS[name]
        np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(row["label"]["bytes"]))), expected)
        frame.landmarks = row["landmarks"]
        assert sorted(curve["category"] for curve in frame.landmarks) == sorted(CLASS_IDS)
    return raw


@pytest.mark.parametrize("seed", SEEDS)
def test_right_answers_of_masks(mask_set, seed):
    pixels = {frame.stem: np.asarray(Image.open(frame.annotation)) for frame in mask_set.frames}
    fuzz(
        mask_set,
        seed,
        MASK_OPERATORS,
        lambda frame: MaskSource(pixels[frame.stem], llsd.EXACT, frame.landmarks),
        lambda: find_masks(mask_set.root, MaskOptions()),
        "as_drawn",
    )


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
