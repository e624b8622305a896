"""Patients, splits and frame names from where frames lie."""

from __future__ import annotations

import pytest

from liver_landmark.data.readers.raw_folders import Place, PlaceError, compile_patient_pattern, find_place


@pytest.mark.parametrize(
    ("file", "place"),
    [
        ("anna/f1.jpg", Place("anna", None, "anna_f1")),
        ("anna/anna_f1.jpg", Place("anna", None, "anna_f1")),
        ("train/anna/f1.jpg", Place("anna", "train", "anna_f1")),
        ("Val/anna/f1.jpg", Place("anna", "validation", "anna_f1")),
        ("anna/TEST/images/f1.png", Place("anna", "test", "anna_f1")),
        ("anna/images/f1.png", Place("anna", None, "anna_f1")),
        ("images/anna/f1.png", Place("anna", None, "anna_f1")),
        ("anna/video2/f1.jpg", Place("anna", None, "anna_video2_f1")),
        ("anna/a/b/test/f1.jpg", Place("anna", None, "anna_a_b_test_f1")),
    ],
)
def test_folders_say_patient_and_split(file, place):
    assert find_place(file, None) == place


@pytest.mark.parametrize("file", ["f1.jpg", "train/f1.jpg", "images/f1.jpg", "test/images/f1.jpg"])
def test_a_folder_of_frames_is_no_patient(file):
    with pytest.raises(PlaceError, match="--patient-pattern"):
        find_place(file, None)


def test_a_pattern_finds_the_patient_in_the_path():
    pattern = compile_patient_pattern(r"(P[0-9]+)_")
    assert find_place("P07_f1.jpg", pattern) == Place("P07", None, "P07_f1")
    assert find_place("val/clips/P07_f1.jpg", pattern) == Place("P07", "validation", "P07_clips_P07_f1")
    with pytest.raises(PlaceError, match="finds no patient"):
        find_place("Q1.jpg", pattern)


@pytest.mark.parametrize(
    ("text", "reason"), [("(", "no regular expression"), ("P[0-9]+", "0 groups"), ("(a)(b)", "2 groups")]
)
def test_patterns_that_cannot_be(text, reason):
    with pytest.raises(ValueError, match=reason):
        compile_patient_pattern(text)
