"""Mutated CVAT XML: of one image, so that the others stay as they are, or of the file as a whole."""

import numpy as np
import pytest

from liver_landmark.data.readers import CustomOptions, find_custom
from raw_sets.cvat import write_cvat
from raw_sets.cvat_mutations import CVAT_OPERATORS, WHOLE_FILE, cvat_source
from raw_sets.fuzzing import PER_SEED, SEEDS, check_mutated
from raw_sets.mutation import Mutation


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    return write_cvat(tmp_path_factory.mktemp("cvat"), patients=("anna", "ben", "carl"), frames_per_patient=1)


@pytest.mark.parametrize("seed", SEEDS)
def test_right_answers(raw, seed):
    rng = np.random.default_rng(seed)
    names = CVAT_OPERATORS.cycle(rng)
    for _ in range(PER_SEED):
        name, place = next(names), int(rng.integers(len(raw.frames)))
        frame = raw.frames[place]
        mutation = CVAT_OPERATORS.apply(name, rng, cvat_source(raw, place), frame.landmarks)
        # All frames share the file: the others' answer stays, or there is none for any of them.
        others = [
            (other, Mutation(name, mutation.data, None if name in WHOLE_FILE.left_out else other.landmarks))
            for other in raw.frames
            if other is not frame
        ]
        check_mutated(raw, [(frame, mutation), *others], lambda: find_custom(raw.root, CustomOptions("cvat")))
