"""Which files are taken, and as what."""

from __future__ import annotations

import numpy as np
import pytest

from liver_landmark.inference.frame_sources import as_sources, collect_inputs, kind_of
from liver_landmark.inference.video_reader import SUFFIXES as VIDEO_SUFFIXES
from liver_landmark.inference.video_reader import open_video
from tiny_videos import moving_frames, read_video, write_video


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


@pytest.fixture
def folder(tmp_path):
    touch(tmp_path, "b.png", "a.JPG", "notes.txt", ".hidden.png", "p1/c.tif", "p1/.cache/d.png", "p2/a.jpg")
    return tmp_path


def relative(inputs, folder):
    return [str(file.relative_to(folder)) for file in inputs.files]


@pytest.mark.parametrize(
    ("names", "recursive", "files"),
    [
        # A folder gives its pictures by name, those below without hidden ones where it is asked.
        ([""], False, ["a.JPG", "b.png"]),
        ([""], True, ["a.JPG", "b.png", "p1/c.tif", "p2/a.jpg"]),
        # Patterns that the shell did not resolve; a name with brackets that exists is no pattern.
        (["*.png"], False, ["b.png"]),
        (["**/*.jpg"], False, ["p2/a.jpg"]),
        (["p?"], False, ["p1/c.tif", "p2/a.jpg"]),
        (["p3/frame[1].png"], False, ["p3/frame[1].png"]),
        # Named files are taken as they are, and once.
        (
            ["notes.txt", "b.png", "p1/../b.png", "missing.png", ""],
            False,
            ["notes.txt", "b.png", "missing.png", "a.JPG"],
        ),
    ],
)
def test_files_are_taken_in_order_and_once(folder, names, recursive, files):
    touch(folder, *(name for name in names if "[1]" in name))
    inputs = collect_inputs([str(folder / name) for name in names], recursive=recursive)
    assert relative(inputs, folder) == files
    assert inputs.skipped == ("" in names)  # the text beside them


def test_nothing_found_is_an_error(folder):
    with pytest.raises(ValueError, match=r"\*\.gif' matches no file"):
        collect_inputs([str(folder / "*.gif")])
    (folder / "empty").mkdir()
    with pytest.raises(ValueError, match="holds no picture"):
        collect_inputs([str(folder / "empty")])


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


@pytest.mark.parametrize("by_a_link", [False, True])
def test_what_lies_in_the_output_is_no_input(folder, by_a_link):
    output, named = folder / "out", folder
    if by_a_link:
        named = folder / "link"
        named.symlink_to(folder, target_is_directory=True)
    touch(output, "a_mask.png")
    found = collect_inputs([str(named)], recursive=True, output=output).files
    assert not [file for file in found if "out" in file.parts]
    assert "a.JPG" in {file.name for file in found}
    with pytest.raises(ValueError, match="both input and output"):
        collect_inputs([str(named)], output=folder)
    # Of a pattern, it is not what is meant.
    found = collect_inputs([str(folder / "[op]*"), str(folder / "b.png")], output=output)
    assert relative(found, folder) == ["p1/c.tif", "p2/a.jpg", "b.png"]


@pytest.fixture
def ended_run(folder):
    """A folder where a run wrote beside its inputs, some of whose results are gone by now."""
    rows = [
        '{"file": "a.JPG", "mask": "a_mask.png", "overlay": "a_overlay.png", "curves": [],'
        ' "probabilities": {"probability_ridge": "a_probability_ridge.png"}}',
        '{"file": "c.mp4", "frame": 0, "mask": "c_mask/000000.png", "overlay": "c_overlay.mp4"}',
        "damaged",
    ]
    (folder / "run.json").write_text('{"command": "predict"}')
    (folder / "predictions.jsonl").write_text("\n".join(rows))
    touch(folder, "a_mask.png", "a_overlay.png", "a_probability_ridge.png", "a_svg.svg", "c_overlay.mp4")
    touch(folder, "c_mask/000000.png", "c_mask/note.png")
    return folder


def test_results_of_earlier_runs_are_left_out_and_counted(ended_run):
    inputs = collect_inputs([str(ended_run)])
    assert relative(inputs, ended_run) == ["a.JPG", "b.png"]
    assert (inputs.left_out, inputs.skipped) == (4, 1)
    inputs = collect_inputs([str(ended_run)], recursive=True)
    assert relative(inputs, ended_run) == ["a.JPG", "b.png", "c_mask/note.png", "p1/c.tif", "p2/a.jpg"]
    assert inputs.left_out == 5
    # A pattern takes files of any suffix, but not the records and curves either. What is no result is taken.
    inputs = collect_inputs([str(ended_run / "*.*")])
    assert relative(inputs, ended_run) == ["a.JPG", "b.png", "notes.txt"]
    assert inputs.left_out == 7
    with pytest.raises(ValueError, match=r"\*_mask\.png holds nothing but results of earlier runs"):
        collect_inputs([str(ended_run / "*_mask.png")])
    with pytest.raises(ValueError, match=r"a_overlay\.png is a result of an earlier run"):
        collect_inputs([str(ended_run / "b.png"), str(ended_run / "a_overlay.png")])


@pytest.mark.parametrize("record", ["", "[]", '{"command": "evaluate"}', "{no JSON"])
def test_records_of_something_else_say_nothing(ended_run, record):
    (ended_run / "run.json").write_text(record, encoding="utf-8")
    inputs = collect_inputs([str(ended_run)])
    assert inputs.left_out == 0
    assert ended_run / "a_mask.png" in inputs.files


def test_an_interrupted_run_names_what_it_may_have_written(folder):
    (folder / ".unfinished-0-of-2").mkdir()
    planned = '{"planned": ["a_mask.png", "c_mask/", "c_overlay.mp4", 3]}'
    (folder / ".unfinished-0-of-2" / "planned.json").write_text(planned)
    touch(folder, "a_mask.png", "c_mask/000007.png", "c_mask/mine.png", "c_overlay.mp4")
    inputs = collect_inputs([str(folder)], recursive=True)
    assert [name for name in relative(inputs, folder) if name.startswith(("a_", "c_"))] == ["c_mask/mine.png"]
    assert inputs.left_out == 3
