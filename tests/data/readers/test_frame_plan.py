"""What concerns several frames: one place for each picture, patient and name; splits by patient."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from liver_landmark.data.readers import (
    Found,
    L3dOptions,
    MaskOptions,
    RawFrame,
    find_l3d,
    find_masks,
    finish_plan,
)
from liver_landmark.data.readers.frame_plan import SplitOptions, assign_splits, check_trainable
from raw_sets import l3d, llsd
from raw_sets.pictures import add_jpeg_metadata, picture, write_jpeg


@dataclass(frozen=True)
class NoAnnotation:
    files: tuple[str, ...] = ()


@pytest.fixture
def found(tmp_path):
    return Found(tmp_path)


def add(found, file, patient, split, *, seed=None, frame_id=None):
    """One more frame, with a picture of its own unless a seed says which."""
    number = len(found.frames)
    write_jpeg(found.raw / file, picture(number if seed is None else seed, 32, 24))
    found.frames.append(
        RawFrame(frame_id or PurePosixPath(file).stem, patient, split, "test", file, NoAnnotation())
    )


def split_of(plan):
    return {frame.image: split for split, frames in plan.frames.items() for frame in frames}


def basis(found):
    add(found, "train/a.jpg", "A", "train")
    add(found, "val/b.jpg", "B", "validation")
    add(found, "test/c.jpg", "C", "test")


def problems(plan):
    return {problem.file: problem.reason for problem in plan.problems}


def test_a_patient_in_two_splits_stays_where_testing_is(found):
    basis(found)
    add(found, "train/c2.jpg", "C", "train")
    add(found, "val/c3.jpg", "c", "validation")
    add(found, "train/b2.jpg", "B", "train")
    plan = finish_plan(found, None)
    assert split_of(plan) == {"train/a.jpg": "train", "val/b.jpg": "validation", "test/c.jpg": "test"}
    assert problems(plan).keys() == {"train/c2.jpg", "val/c3.jpg", "train/b2.jpg"}
    assert problems(plan)["train/b2.jpg"] == "is in train, but its patient 'B' is in validation too"


def test_the_same_picture_stays_where_testing_is(found):
    basis(found)
    add(found, "train/leak.jpg", "A", "train", seed=2)
    add_jpeg_metadata(found.raw / "train/leak.jpg")
    add(found, "train/twice.jpg", "A", "train", seed=0)
    plan = finish_plan(found, None, workers=2)
    assert split_of(plan).keys() == {"train/a.jpg", "val/b.jpg", "test/c.jpg"}
    assert problems(plan) == {
        "train/leak.jpg": "is the very picture test/c.jpg, which is in test",
        "train/twice.jpg": "is the very picture train/a.jpg, which is in train",
    }


def test_names_are_unique_without_regard_to_case(found):
    basis(found)
    add(found, "train/x/d.jpg", "A", "train", frame_id="D")
    add(found, "train/y/d.jpg", "A", "train", frame_id="d")
    plan = finish_plan(found, None)
    assert problems(plan) == {"train/y/d.jpg": "gives the frame id 'd', as train/x/d.jpg does"}


def test_frames_outside_of_the_split_folders_are_left_out(found):
    basis(found)
    add(found, "d.jpg", "D", None)
    plan = finish_plan(found, SplitOptions())
    assert "outside of the folders" in problems(plan)["d.jpg"]
    named = SplitOptions(validation_patients=("A",), test_patients=("D",))
    splits = {"train/a.jpg": "validation", "val/b.jpg": "train", "test/c.jpg": "train", "d.jpg": "test"}
    assert split_of(finish_plan(found, named)) == splits


def test_files_that_cannot_be_read_or_named_are_left_out(found):
    basis(found)
    add(found, "train/gone.jpg", "A", "train")
    (found.raw / "train/gone.jpg").unlink()
    add(found, "train/\udcff.jpg", "A", "train")
    add(found, "train/line\nbreak.jpg", "A", "train")
    plan = finish_plan(found, None)
    assert len(split_of(plan)) == 3
    reasons = problems(plan)
    assert "no regular file" in reasons["train/gone.jpg"]
    assert "rename it" in reasons["train/\udcff.jpg"]
    assert "rename it" in reasons["train/line\nbreak.jpg"]
    assert all(str(problem).isprintable() for problem in plan.problems)


def test_the_plan_does_not_depend_on_the_order_of_finding(found):
    basis(found)
    for number in (10, 9, 2):
        add(found, f"train/a{number}.jpg", "A", "train")
    first = finish_plan(found, None)
    found.frames.reverse()
    assert finish_plan(found, None, workers=3) == first
    images = [frame.image for frame in first.frames["train"]]
    assert images == ["train/a.jpg", "train/a2.jpg", "train/a9.jpg", "train/a10.jpg"]
    assert all(frame.pixels == 32 * 24 for frames in first.frames.values() for frame in frames)


def test_no_frames_and_a_missing_split_name_the_folder(found):
    found.problem(found.raw / "a.jpg", "has no label")
    with pytest.raises(ValueError, match=r"no frame with an annotation found; first of 1 problems: a\.jpg"):
        finish_plan(found, None)
    add(found, "train/a.jpg", "A", "train")
    with pytest.raises(ValueError, match="no frame is for validation") as caught:
        finish_plan(found, None)
    assert str(caught.value).startswith(str(found.raw))


def test_masks_count_among_the_pixels_that_are_decoded(tmp_path):
    masks = finish_plan(find_masks(llsd.write_llsd(tmp_path / "llsd").root, MaskOptions()), SplitOptions())
    polylines = finish_plan(find_l3d(l3d.write_l3d(tmp_path / "l3d").root, L3dOptions()), None)
    assert {frame.decoded_pixels for frame in masks.frames["train"]} == {2 * 160 * 90}
    assert {frame.decoded_pixels for frame in polylines.frames["train"]} == {64 * 36}


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
        ({"A": None, "B": None}, {}, r"2 patient\(s\) \(A, B\).*--validation-patients A,B --test-patients C"),
        ({"A": "train"}, {}, "only patient 'A' trains"),
        (
            {"A": None},
            {"test_patients": ("Z",)},
            r"--test-patients names 'Z', who is not there \(there are: A\)",
        ),
    ],
)
def test_impossible_splits_say_the_way_out(folders, options, reason):
    with pytest.raises(ValueError, match=reason):
        assign_splits(folders, SplitOptions(**options))


def test_contradicting_options_are_refused():
    with pytest.raises(ValueError, match="'A' is named for validation and for test"):
        SplitOptions(validation_patients=("A",), test_patients=("B", "A"))
    with pytest.raises(ValueError, match="--test-only"):
        SplitOptions(test_only=True, test_patients=("B",))


@pytest.mark.parametrize(
    ("frames", "lost", "reason"),
    [
        ({}, {"train": 4}, "no frame is left"),
        ({"train": 3, "validation": 1}, {"test": 2}, "no frame of test is left: all 2"),
        ({"train": 3, "test": 1}, {}, "no frame is for validation, which training needs"),
        ({"validation": 3}, {}, "no frame is for train"),
    ],
)
def test_a_set_that_lacks_a_split_is_refused(frames, lost, reason):
    with pytest.raises(ValueError, match=reason):
        check_trainable(frames, frames | lost)


def test_a_set_that_tests_alone_is_one():
    check_trainable({"test": 3}, {"test": 4})
    check_trainable({"train": 3, "validation": 1}, {"train": 3, "validation": 1})
