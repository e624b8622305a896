"""Annotation files by the name of their format, there and back."""

from __future__ import annotations

import os

import pytest

from liver_landmark.curves.formats import (
    READ_FORMATS,
    WRITE_FORMATS,
    AnnotationError,
    FrameAnnotation,
    LabelMap,
    format_svg,
    read_landmarks,
    write_landmarks,
)

FRAME = FrameAnnotation(
    "ü.png",
    1920,
    1080,
    [{"category": "silhouette", "points": [(1.0, 2.0), (30.0, 8.0)]}],
)


@pytest.mark.parametrize("name", READ_FORMATS)
def test_what_is_written_is_read(tmp_path, name):
    path = tmp_path / "annotation"
    path.write_text("old")
    os.link(path, tmp_path.parent / f"before_{name}")
    write_landmarks(path, [FRAME], name)
    # Another file has taken its place: nobody ever saw half of one.
    assert (tmp_path.parent / f"before_{name}").read_text() == "old"
    (read,) = read_landmarks(str(path), name)
    assert read.landmarks == FRAME.landmarks
    assert read == FRAME or name.startswith("p2ilf")
    assert list(tmp_path.iterdir()) == [path]


def test_cvat_holds_several_frames(tmp_path):
    frames = [FRAME, FrameAnnotation("2.png", 3, 4, [])]
    write_landmarks(tmp_path / "a.xml", frames, "cvat")
    assert read_landmarks(tmp_path / "a.xml", "cvat") == frames


def test_svg_is_written_with_the_protocols_stroke_or_the_callers(tmp_path):
    path = tmp_path / "a.svg"
    write_landmarks(path, [FRAME], "svg")
    assert path.read_text(encoding="utf-8") == format_svg(FRAME, 30)
    write_landmarks(path, [FRAME], "svg", stroke_width_px=2)
    assert path.read_text(encoding="utf-8") == format_svg(FRAME, 2)


def test_labels_are_mapped(tmp_path):
    for name in ("labelme", "cvat"):
        path = tmp_path / name
        write_landmarks(path, [FRAME], name)
        (read,) = read_landmarks(path, name, LabelMap.parse(["silhouette=ridge"]))
        assert [curve["category"] for curve in read.landmarks] == ["ridge"]


def test_the_first_image_that_is_wrong_is_told(tmp_path):
    path = tmp_path / "a.xml"
    path.write_text('<annotations><image name="a" width="1" height="1"/><image name="b"/></annotations>')
    with pytest.raises(AnnotationError, match="image 'b': width is ''"):
        read_landmarks(path, "cvat")


@pytest.mark.parametrize("name", READ_FORMATS)
def test_missing_files_are_told(tmp_path, name):
    with pytest.raises(AnnotationError, match="no such file"):
        read_landmarks(tmp_path / "a", name)


@pytest.mark.parametrize("frames", [[], [FRAME, FRAME]])
@pytest.mark.parametrize("name", [name for name in WRITE_FORMATS if name != "cvat"])
def test_one_frame_a_file(tmp_path, name, frames):
    with pytest.raises(ValueError, match=f"{name} holds one frame a file, got {len(frames)}"):
        write_landmarks(tmp_path / "a", frames, name)
    assert not list(tmp_path.iterdir())


def test_nothing_is_left_of_what_cannot_be_written(tmp_path):
    path = tmp_path / "a"
    path.write_text("old")
    bare = FrameAnnotation(None, None, None, FRAME.landmarks)
    for name in ("labelme", "cvat", "svg"):
        with pytest.raises(ValueError, match="needs"):
            write_landmarks(path, [bare], name)
    with pytest.raises(ValueError, match="stroke_width_px is 0"):
        write_landmarks(path, [FRAME], "svg", stroke_width_px=0)
    with pytest.raises(OSError, match="No such file or directory"):
        write_landmarks(tmp_path / "missing" / "a", [FRAME], "svg")
    assert [entry.read_text() for entry in tmp_path.iterdir()] == ["old"]


def test_unknown_formats_name_the_known_ones(tmp_path):
    with pytest.raises(ValueError, match="format 'svg' is unknown: choose one of labelme, cvat"):
        read_landmarks(tmp_path / "a", "svg")
    with pytest.raises(ValueError, match=r"format 'coco' is unknown: choose one of .*svg"):
        write_landmarks(tmp_path / "a", [FRAME], "coco")
