"""Mutated contours in a P2ILF folder, XML and JSON: read as they should be, or left out with a line."""

import pytest

from liver_landmark.data.readers import find_p2ilf
from raw_sets.fuzzing import SEEDS, fuzz
from raw_sets.p2ilf import write_p2ilf
from raw_sets.p2ilf_json_mutations import json_operators, json_source
from raw_sets.p2ilf_xml_mutations import xml_operators, xml_source


@pytest.fixture(scope="module")
def xml_set(tmp_path_factory):
    return write_p2ilf(tmp_path_factory.mktemp("p2ilf_xml"))


@pytest.fixture(scope="module")
def json_set(tmp_path_factory):
    return write_p2ilf(tmp_path_factory.mktemp("p2ilf_json"), annotations=("json",))


@pytest.mark.parametrize("seed", SEEDS)
def test_right_answers_xml(xml_set, seed):
    fuzz(
        xml_set,
        seed,
        lambda frame: (xml_operators(frame.landmarks, (frame.width, frame.height)), xml_source(frame)),
        lambda: find_p2ilf(xml_set.root),
    )


@pytest.mark.parametrize("seed", SEEDS)
def test_right_answers_json(json_set, seed):
    fuzz(
        json_set,
        seed,
        lambda frame: (json_operators(frame.landmarks, (frame.width, frame.height)), json_source(frame)),
        lambda: find_p2ilf(json_set.root),
    )
