"""Which files are taken, and names that never collide."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from liver_landmark.inference.frame_sources import as_sources, collect_inputs, kind_of, output_names
from liver_landmark.inference.video_reader import SUFFIXES as VIDEO_SUFFIXES
from liver_landmark.inference.video_reader import open_video
from tiny_videos import moving_frames, read_video, write_video


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
        # By sha256sum, of p1/a.jpg, Frame.png, …, a.jpg.
        (["/d/p1/a.jpg", "/d/p2/a.jpg", "/d/p1_a.jpg"], ["p1_a-73bc572e", "p2_a", "p1_a"]),
        (["/d/Frame.png", "/d/frame.png"], ["Frame-12167761", "frame-1870aaba"]),
        (["/d/A.jpg", "/d/a.jpg", "/d/a.png", "/d/b.png"], ["A-c88c8fca", "a-509b0d46", "a-7f071235", "b"]),
        # An accent, composed and not.
        (["/d/\u00e9.jpg", "/d/e\u0301.png"], ["\u00e9_jpg", "e\u0301_png"]),
        (["/d/p1/A.jpg", "/d/p2/a.jpg"], ["p1_A", "p2_a"]),
        (["/a.jpg", "/d/a.jpg"], ["a", "d_a"]),
        (["/d/a b ü.jpg"], ["a b ü"]),
    ],
)
def test_names_follow_the_stems(files, names):
    assert output_names([Path(file) for file in files]) == names


# Hashes of a.jpg and A.jpg, as somebody might have named files after an earlier run's results.
PARTS = st.sampled_from(
    ["a", "A", "b", "a_b", "a_jpg", "b_a", "\u00e9", "e\u0301", "a-509b0d46", "A-c88c8fca"]
)


def spelling_apart(name):
    return unicodedata.normalize("NFC", name.upper().lower())


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
    ),
    st.randoms(use_true_random=False),
)
@settings(max_examples=300, deadline=None)
def test_names_never_collide_whatever_the_order(files, random):
    names = output_names(files)
    assert len(set(map(spelling_apart, names))) == len(files)
    assert all("/" not in name and name for name in names)
    for file, name in zip(files, names, strict=True):
        assert file.stem in name
        # A hash, and a folder's name for each folder above the file at most.
        assert len(name) <= len(file.as_posix()) + 9
    shuffled = random.sample(files, len(files))
    assert dict(zip(shuffled, output_names(shuffled), strict=True)) == dict(zip(files, names, strict=True))


def test_names_that_were_made_to_look_like_hashed_ones_do_not_collide():
    digest = hashlib.sha256(b"frame.png").hexdigest()
    stems = ["frame", "Frame", f"frame-{digest[:8]}", f"frame-{digest}"]
    for count in (3, 4):
        files = [Path("/d", f"{stem}.png") for stem in stems[:count]]
        names = output_names(files)
        assert len(set(map(spelling_apart, names))) == count
        assert output_names(files[::-1]) == names[::-1]


@given(st.sets(st.sampled_from([a + b + c for a in "aA" for b in "bB" for c in "cC"]), min_size=1))
def test_files_of_one_folder_are_not_named_after_it(stems):
    names = output_names([Path("/somewhere/deep/down", f"{stem}.png") for stem in sorted(stems)])
    for stem, name in zip(sorted(stems), names, strict=True):
        assert re.fullmatch(rf"{stem}-[0-9a-f]{{8}}" if len(stems) > 1 else stem, name)


# Encoder and container where its suffix does not say them; the kinds of frame that few encoders take.
MAKES = {
    ".divx": ("mpeg4", "avi"), ".mpg": ("mpeg1video", None), ".mpeg": ("mpeg2video", None),
    ".m1v": ("mpeg1video", None), ".m2v": ("mpeg2video", None), ".vob": ("mpeg2video", None),
    ".wmv": ("wmv2", None), ".asf": ("wmv2", None), ".wtv": ("mpeg2video", None), ".flv": ("flv", None),
    ".webm": ("libvpx", None), ".ogv": ("libvpx", "ogg"), ".mxf": ("mpeg2video", None),
    ".dv": ("dvvideo", None), ".mj2": ("jpeg2000", "mov"), ".rm": ("rv20", None), ".nut": ("ffv1", None),
    ".ivf": ("libvpx", None), ".obu": ("libsvtav1", None), ".y4m": ("rawvideo", "yuv4mpegpipe"),
    ".264": ("libx264", "h264"), ".hevc": ("libx265", None), ".h265": ("libx265", "hevc"),
    ".265": ("libx265", "hevc"), ".m4v": ("mpeg4", None), ".mjpeg": ("mjpeg", None),
    ".mjpg": ("mjpeg", "mjpeg"), ".m2ts": ("libx264", "mpegts"), ".mts": ("libx264", "mpegts"),
}  # fmt: skip


@pytest.mark.parametrize("suffix", VIDEO_SUFFIXES)
def test_videos_of_every_suffix_are_found_and_read(tmp_path, suffix):
    codec, container = MAKES.get(suffix, ("libx264", None))
    size = (720, 576) if suffix == ".dv" else (64, 64)
    path = write_video(tmp_path / f"A{suffix.upper()}", moving_frames(5, *size), codec, container=container)
    [source] = as_sources(collect_inputs([str(tmp_path)]).files)
    assert (source.file, source.kind) == (path, "video")
    with open_video(path) as video:
        frames = [frame.pixels for frame in video]
    expected, _ = read_video(path)
    assert len(expected) == 5
    np.testing.assert_array_equal(frames, expected)


@pytest.mark.parametrize("suffix", [".nut", ".ivf", ".y4m", ".rm"])
def test_videos_are_told_by_their_content_too(tmp_path, suffix):
    codec, container = MAKES[suffix]
    path = write_video(tmp_path / f"a{suffix}", moving_frames(2, 64, 64), codec, container=container)
    assert kind_of(path.rename(tmp_path / "a.png")) == "video"


def test_results_are_no_inputs_by_a_link_either(folder, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(folder, target_is_directory=True)
    (folder / "out").mkdir()
    (folder / "out" / "a_mask.png").touch()
    found = collect_inputs([str(link)], recursive=True, output=folder / "out").files
    assert not [file for file in found if "out" in file.parts]
    with pytest.raises(ValueError, match="both input and output"):
        collect_inputs([str(link)], output=folder)
