"""Mutated JSON in an L3D folder: each frame is read as it should be, or left out with a line."""

import json

import pytest

from liver_landmark.data.readers import L3dOptions, find_l3d
from raw_sets.fuzzing import SEEDS, fuzz
from raw_sets.l3d import write_l3d
from raw_sets.labelme_mutations import L3D_OPERATORS, labelme_source


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    return write_l3d(tmp_path_factory.mktemp("l3d"))


@pytest.mark.parametrize("seed", SEEDS)
def test_right_answers(raw, seed):
    fuzz(
        raw,
        seed,
        lambda frame: (L3D_OPERATORS, labelme_source(frame, json.loads(frame.annotation.read_text()))),
        lambda: find_l3d(raw.root, L3dOptions()),
    )
