"""Looking around in raw folders: order, case, links; patients, splits and names from where frames lie."""

from __future__ import annotations

import pytest

from liver_landmark.data.readers.raw_folders import (
    Place,
    PlaceError,
    check_raw_folder,
    compile_patient_pattern,
    files_below,
    find_place,
    folders_below,
    folders_named,
    natural_key,
    pictures_in,
    relative,
)


@pytest.fixture
def raw(tmp_path):
    raw = tmp_path / "raw"
    names = "f10.JPG f9.png ._f9.png notes.txt b/x.jpg a/2/y.jpg a/10/z.jpg .git/c.jpg"
    for name in names.split():
        (raw / name).parent.mkdir(parents=True, exist_ok=True)
        (raw / name).touch()
    return raw


def test_pictures_are_known_by_suffix_and_sorted_by_number(raw):
    pictures, others = pictures_in(raw)
    assert [path.name for path in pictures] == ["f9.png", "f10.JPG"]
    assert others == 1


def test_folders_are_named_in_any_case(raw):
    (raw / "Images").mkdir()
    (raw / "images").mkdir()
    assert {path.name for path in folders_named(raw, "IMAGES")} == {"Images", "images"}
    assert folders_named(raw, "f9.png") == []


def test_all_below_but_what_is_hidden(raw):
    files = [relative(raw, path) for path in files_below(raw)]
    assert files == ["a/2/y.jpg", "a/10/z.jpg", "b/x.jpg", "f9.png", "f10.JPG", "notes.txt"]
    assert [relative(raw, path) for path in folders_below(raw)] == [".", "a", "a/2", "a/10", "b"]


def test_links_are_followed_but_not_in_circles(raw, tmp_path):
    (tmp_path / "disk" / "p1").mkdir(parents=True)
    (tmp_path / "disk" / "p1" / "x.jpg").touch()
    (raw / "linked").symlink_to(tmp_path / "disk")
    (raw / "a" / "up").symlink_to(raw)
    files = [relative(raw, path) for path in files_below(raw)]
    assert "linked/p1/x.jpg" in files
    assert len(files) == 7


def test_links_above_the_raw_folder_are_not_followed(raw, tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "secret.jpg").touch()
    (raw / "a" / "out").symlink_to("../..")
    assert [relative(raw, path) for path in folders_below(raw)] == [".", "a", "a/2", "a/10", "b"]


def test_each_folder_is_entered_once_and_by_its_own_name(raw):
    # Followed by every way there is, links between eleven folders would be walked for days.
    names = [f"p{number}" for number in range(11)]
    for name in names:
        (raw / name).mkdir()
        (raw / name / "f.jpg").touch()
        for other in names:
            if other != name:
                (raw / name / f"0{other}").symlink_to(raw / other)
    (raw / "0first").symlink_to(raw / "p3")
    assert [relative(raw, path) for path in folders_below(raw) if path.name[0] != "0"][-11:] == names
    assert len(folders_below(raw)) == 5 + 11


def test_what_is_no_folder_is_named(raw):
    with pytest.raises(FileNotFoundError, match="none: no such folder"):
        check_raw_folder(raw / "none")
    with pytest.raises(NotADirectoryError, match=r"f9\.png: not a folder"):
        check_raw_folder(raw / "f9.png")


def test_numbers_in_names_are_numbers():
    names = ["f10", "f9", "F1", "f2b", "f2", "", "10", "9", "f²"]
    assert sorted(names, key=natural_key) == ["", "9", "10", "F1", "f2", "f2b", "f9", "f10", "f²"]


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
