"""Mutated mask pictures in an LLSD folder: read as the unmutated, or left out with a line."""

import io

import numpy as np
import pytest
from PIL import Image

from liver_landmark.data.readers import MaskOptions, find_masks
from raw_sets.fuzzing import SEEDS, fuzz, read_set
from raw_sets.llsd import EXACT, exact_mask, write_llsd
from raw_sets.png_mutations import MASK_OPERATORS, MaskSource

CLASS_IDS = {"ridge": 1, "silhouette": 2, "ligament": 3}


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    """A set whose truth is what is traced from its unmutated masks, and those masks' class ids."""
    raw = write_llsd(tmp_path_factory.mktemp("llsd"), frames_per_patient=2, width=96, height=54)
    rows = read_set(lambda: find_masks(raw.root, MaskOptions()), "as_drawn").rows
    for frame in raw.frames:
        row = rows[raw.relative(frame.picture)]
        drawn = exact_mask(frame.landmarks, frame.width, frame.height, EXACT)
        expected = np.zeros(drawn.shape[:2], np.uint8)
        for name, color in EXACT.items():
            expected[(drawn == color).all(-1)] = CLASS_IDS[name]
        np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(row["label"]["bytes"]))), expected)
        frame.landmarks = row["landmarks"]
        assert sorted(curve["category"] for curve in frame.landmarks) == sorted(CLASS_IDS)
    return raw


@pytest.mark.parametrize("seed", SEEDS)
def test_right_answers(raw, seed):
    pixels = {frame.stem: np.asarray(Image.open(frame.annotation)) for frame in raw.frames}
    fuzz(
        raw,
        seed,
        lambda frame: (MASK_OPERATORS, MaskSource(pixels[frame.stem], EXACT, frame.landmarks)),
        lambda: find_masks(raw.root, MaskOptions()),
        "as_drawn",
    )
