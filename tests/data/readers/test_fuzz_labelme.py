"""Mutated labelme JSON beside a user's own frames: each is read as it should be, or left out with a line."""

import json

import pytest

from liver_landmark.data.readers import CustomOptions, find_custom
from raw_sets.fuzzing import SEEDS, fuzz
from raw_sets.labelme import write_labelme
from raw_sets.labelme_mutations import CUSTOM_OPERATORS, labelme_source


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    return write_labelme(tmp_path_factory.mktemp("labelme"))


@pytest.mark.parametrize("seed", SEEDS)
def test_right_answers(raw, seed):
    fuzz(
        raw,
        seed,
        lambda frame: (CUSTOM_OPERATORS, labelme_source(frame, json.loads(frame.annotation.read_text()))),
        lambda: find_custom(raw.root, CustomOptions("labelme")),
    )
