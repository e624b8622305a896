"""Splits by patient: complete, repeatable, as folders or names say."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from liver_landmark.data.readers.frame_plan import SplitOptions, assign_splits, check_trainable, first_kept

PATIENTS = st.lists(st.text("abcP0123", min_size=1, max_size=6), min_size=3, max_size=60, unique=True)


@given(PATIENTS, st.integers(0, 10))
def test_drawn_splits_have_about_their_shares(patients, seed):
    splits = assign_splits(dict.fromkeys(patients), SplitOptions(seed=seed))
    assert splits.keys() == set(patients)
    counts = {split: list(splits.values()).count(split) for split in ("train", "validation", "test")}
    assert min(counts.values()) >= 1
    assert abs(counts["validation"] - 0.1 * len(patients)) <= 1
    assert abs(counts["test"] - 0.2 * len(patients)) <= 1


@given(PATIENTS, st.integers(0, 10), st.randoms(use_true_random=False))
def test_a_draw_depends_on_names_and_seed_alone(patients, seed, random):
    shuffled = patients.copy()
    random.shuffle(shuffled)
    options = SplitOptions(seed=seed)
    assert assign_splits(dict.fromkeys(patients), options) == assign_splits(dict.fromkeys(shuffled), options)


def test_seeds_differ():
    patients = dict.fromkeys(f"P{number}" for number in range(20))
    draws = [assign_splits(patients, SplitOptions(seed=seed)) for seed in range(4)]
    assert all(draws[0] != other for other in draws[1:])


def test_folders_decide_and_validation_is_drawn_from_training_where_it_is_missing():
    folders = {f"P{number}": "train" for number in range(12)} | {"Q1": "test", "Q2": "test"}
    splits = assign_splits(folders, SplitOptions())
    assert splits["Q1"] == splits["Q2"] == "test"
    drawn = [patient for patient, split in splits.items() if split == "validation"]
    assert len(drawn) == 1
    assert assign_splits(folders | {"V": "validation"}, SplitOptions()) == folders | {"V": "validation"}


def test_named_patients_override_folders():
    folders = {"A": "test", "B": "train", "C": "train", "D": "validation"}
    options = SplitOptions(validation_patients=("B",), test_patients=("C", "D"))
    assert assign_splits(folders, options) == {"A": "train", "B": "validation", "C": "test", "D": "test"}
    assert set(assign_splits(folders, SplitOptions(test_only=True)).values()) == {"test"}


@pytest.mark.parametrize(
    ("folders", "options", "reason"),
    [
        (
            {"A": None, "B": None},
            SplitOptions(),
            r"2 patient\(s\) \(A, B\).*--validation-patients A,B --test-patients C",
        ),
        ({"A": "train"}, SplitOptions(), "only patient 'A' trains"),
        (
            {"A": None},
            SplitOptions(test_patients=("Z",)),
            r"--test-patients names 'Z', who is not there \(there are: A\)",
        ),
    ],
)
def test_impossible_splits_say_the_way_out(folders, options, reason):
    with pytest.raises(ValueError, match=reason):
        assign_splits(folders, options)


def test_contradicting_options_are_refused():
    with pytest.raises(ValueError, match="'A' is named for validation and for test"):
        SplitOptions(validation_patients=("A",), test_patients=("B", "A"))
    with pytest.raises(ValueError, match="--test-only"):
        SplitOptions(test_only=True, test_patients=("B",))


def test_test_comes_before_validation_before_training():
    assert first_kept(["train", "test", "validation"]) == "test"
    assert first_kept(["train", "validation"]) == "validation"


@pytest.mark.parametrize(
    ("frames", "before", "reason"),
    [
        ({}, {"train": 4}, "no frame is left"),
        (
            {"train": 3, "validation": 1},
            {"train": 3, "validation": 1, "test": 2},
            "no frame of test is left: all 2",
        ),
        (
            {"train": 3, "test": 1},
            {"train": 3, "test": 1},
            "no frame is for validation, which training needs",
        ),
        ({"validation": 3}, {"validation": 3}, "no frame is for train"),
    ],
)
def test_a_set_that_lacks_a_split_is_refused(frames, before, reason):
    with pytest.raises(ValueError, match=reason):
        check_trainable(frames, before)


def test_a_set_that_tests_alone_is_one():
    check_trainable({"test": 3}, {"test": 4})
    check_trainable({"train": 3, "validation": 1}, {"train": 3, "validation": 1})
