"""Which files are taken, and names that never collide."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from liver_landmark.inference.files.inputs import collect_inputs, output_names


@pytest.fixture
def folder(tmp_path):
    for name in ("b.png", "a.JPG", "notes.txt", ".hidden.png", "p1/c.tif", "p1/.cache/d.png", "p2/a.jpg"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path


def relative(inputs, folder):
    return [str(file.relative_to(folder)) for file in inputs.files]


def test_a_folder_gives_its_pictures_by_name(folder):
    inputs = collect_inputs([str(folder)])
    assert relative(inputs, folder) == ["a.JPG", "b.png"]
    assert inputs.skipped == 1


def test_recursive_takes_the_folders_below_without_hidden_ones(folder):
    assert relative(collect_inputs([str(folder)], recursive=True), folder) == [
        "a.JPG",
        "b.png",
        "p1/c.tif",
        "p2/a.jpg",
    ]


def test_patterns_are_resolved_where_the_shell_did_not(folder):
    assert relative(collect_inputs([str(folder / "*.png")]), folder) == ["b.png"]
    assert relative(collect_inputs([str(folder / "**" / "*.jpg")]), folder) == ["p2/a.jpg"]
    assert relative(collect_inputs([str(folder / "p?")]), folder) == ["p1/c.tif", "p2/a.jpg"]


def test_a_name_with_brackets_that_exists_is_a_file(folder):
    path = folder / "frame[1].png"
    path.touch()
    assert collect_inputs([str(path)]).files == [path]


def test_named_files_are_taken_as_they_are_and_once(folder):
    names = [folder / "notes.txt", folder / "b.png", folder / "p1" / ".." / "b.png", folder / "missing.png"]
    inputs = collect_inputs([str(name) for name in names] + [str(folder)])
    assert relative(inputs, folder) == ["notes.txt", "b.png", "missing.png", "a.JPG"]


def test_results_of_a_former_run_are_no_inputs(folder):
    output = folder / "results"
    output.mkdir()
    (output / "a_mask.png").touch()
    assert "results/a_mask.png" not in relative(
        collect_inputs([str(folder)], recursive=True, output=output), folder
    )
    with pytest.raises(ValueError, match="both input and output"):
        collect_inputs([str(output)], output=output)


def test_nothing_found_is_an_error(folder):
    with pytest.raises(ValueError, match=r"\*\.gif' matches no file"):
        collect_inputs([str(folder / "*.gif")])
    (folder / "empty").mkdir()
    with pytest.raises(ValueError, match="holds no picture"):
        collect_inputs([str(folder / "empty")])


@pytest.mark.parametrize(
    ("files", "names"),
    [
        (["/d/a.jpg", "/d/b.jpg"], ["a", "b"]),
        (["/d/a.jpg", "/d/a.png"], ["a_jpg", "a_png"]),
        (["/d/p1/a.jpg", "/d/p2/a.jpg", "/d/p2/b.jpg"], ["p1_a", "p2_a", "b"]),
        (["/x/f/a.jpg", "/y/f/a.jpg"], ["x_f_a", "y_f_a"]),
        (["/d/p1/a.jpg", "/d/p2/a.jpg", "/d/p1_a.jpg"], ["p1_a-2", "p2_a", "p1_a"]),
        (["/d/p1/A.jpg", "/d/p2/a.jpg"], ["p1_A", "p2_a"]),
        (["/a.jpg", "/d/a.jpg"], ["a", "d_a"]),
        (["/d/a b ü.jpg"], ["a b ü"]),
    ],
)
def test_names_follow_the_stems(files, names):
    assert output_names([Path(file) for file in files]) == names


PARTS = st.sampled_from(["a", "A", "b", "a_b", "a_jpg", "a-2", "b_a"])


@given(
    st.lists(
        st.builds(
            lambda folders, stem, suffix: Path("/", *folders, stem + suffix),
            st.lists(PARTS, max_size=3),
            PARTS,
            st.sampled_from([".jpg", ".JPG", ".png", ""]),
        ),
        unique=True,
        min_size=1,
        max_size=12,
    )
)
@settings(max_examples=300, deadline=None)
def test_names_never_collide(files):
    names = output_names(files)
    assert len({name.casefold() for name in names}) == len(files)
    assert all("/" not in name and name for name in names)
    for file, name in zip(files, names, strict=True):
        assert file.stem in name


def test_results_are_no_inputs_by_a_link_either(folder, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(folder, target_is_directory=True)
    (folder / "out").mkdir()
    (folder / "out" / "a_mask.png").touch()
    found = collect_inputs([str(link)], recursive=True, output=folder / "out").files
    assert not [file for file in found if "out" in file.parts]
    with pytest.raises(ValueError, match="both input and output"):
        collect_inputs([str(link)], output=folder)
