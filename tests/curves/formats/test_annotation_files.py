"""Annotation files by their format, there and back; SVG; damaged files never surprise."""

from __future__ import annotations

import os
from dataclasses import replace
from decimal import ROUND_HALF_EVEN, Decimal
from xml.dom import minidom

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from curves.formats.annotations import XML_FILE_NAMES, annotations, damaged
from liver_landmark.curves.formats import (
    L3D_LABELS,
    READ_FORMATS,
    WRITE_FORMATS,
    AnnotationError,
    FrameAnnotation,
    LabelMap,
    format_cvat,
    format_labelme,
    format_p2ilf_json,
    format_p2ilf_xml,
    format_svg,
    parse_cvat,
    parse_labelme,
    parse_p2ilf_json,
    parse_p2ilf_xml,
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
    with pytest.raises(OSError, match="No such file or directory"):
        write_landmarks(tmp_path / "missing" / "a", [FRAME], "svg")
    assert [entry.read_text() for entry in tmp_path.iterdir()] == ["old"]


def test_unknown_formats_name_the_known_ones(tmp_path):
    with pytest.raises(ValueError, match="format 'svg' is unknown: choose one of labelme, cvat"):
        read_landmarks(tmp_path / "a", "svg")
    with pytest.raises(ValueError, match=r"format 'coco' is unknown: choose one of .*svg"):
        write_landmarks(tmp_path / "a", [FRAME], "coco")


DRAWN_CURVES = [
    {"category": "ligament", "points": [(0, 0), (63, 35)]},
    {"category": "ridge", "points": [(1.25, 2), (-0.5, 1e6 / 3), (4, 5)]},
    {"category": "silhouette", "points": [(9, 8), (7, 6)]},
]
DRAWN = FrameAnnotation('a"<&> ü.png', 64, 36, DRAWN_CURVES)


def elements(text, tag):
    found = minidom.parseString(text).getElementsByTagName(tag)
    return [dict(element.attributes.items()) for element in found]


def test_an_svg_is_the_frame_with_a_polyline_for_each_curve_in_order():
    text = format_svg(DRAWN, 3.5)
    [svg] = elements(text, "svg")
    assert (svg["width"], svg["height"], svg["viewBox"]) == ("64", "36", "0 0 64 36")
    assert svg["xmlns"] == "http://www.w3.org/2000/svg"
    lines = elements(text, "polyline")
    assert [(line["class"], line["stroke"]) for line in lines] == [
        ("ligament", "#0000ff"),
        ("ridge", "#ff0000"),
        ("silhouette", "#00ff00"),
    ]
    styles = {(line["fill"], line["stroke-width"], line["stroke-linecap"]) for line in lines}
    assert styles == {("none", "3.5", "round")}
    assert lines[1]["points"] == "1.25,2.00 -0.50,333333.33 4.00,5.00"
    # The centers of the first and the last pixel lie half a px inside of the viewBox's corners.
    [group] = elements(text, "g")
    assert group["transform"] == "translate(0.5 0.5)"
    assert lines[0]["points"] == "0.00,0.00 63.00,35.00"


def test_texts_are_escaped():
    text = format_svg(DRAWN, 1, 'x" onload="y()"&.png')
    (title,) = minidom.parseString(text).getElementsByTagName("title")
    assert title.firstChild.data == 'a"<&> ü.png'
    assert elements(text, "image") == [{"href": 'x" onload="y()"&.png', "width": "64", "height": "36"}]
    assert not elements(format_svg(DRAWN, 1), "image")
    assert "<title" not in format_svg(FrameAnnotation(None, 64, 36, []), 1)


@pytest.mark.parametrize("width_px", [0, -1, float("nan"), float("inf")])
def test_strokes_have_a_width(width_px):
    with pytest.raises(ValueError, match="stroke_width_px"):
        format_svg(DRAWN, width_px)


def test_what_cannot_be_written():
    with pytest.raises(ValueError, match="SVG needs the frame's width and height"):
        format_svg(FrameAnnotation("a", None, 36, DRAWN_CURVES), 1)
    with pytest.raises(ValueError, match=r"title: XML cannot hold 'a\\x1b': rename it"):
        format_svg(FrameAnnotation("a\x1b", 64, 36, DRAWN_CURVES), 1)


PARSERS = {
    "labelme": lambda data: [parse_labelme(data, "f")],
    "l3d": lambda data: [parse_labelme(data, "f", L3D_LABELS, polygons="open")],
    "cvat": lambda data: parse_cvat(data, "f"),
    "p2ilf-json": lambda data: [parse_p2ilf_json(data, "f")],
    "p2ilf-xml": lambda data: [parse_p2ilf_xml(data, "f")],
}
WHOLE = FrameAnnotation(
    "ü 1.png",
    64,
    36,
    [
        {"category": "ridge", "points": [(1.25, 2.0), (30.0, 8.5), (60.75, 9.0)]},
        {"category": "ligament", "points": [(5.0, 30.0), (7.0, -0.5)]},
    ],
)
VALID = {
    "labelme": format_labelme(WHOLE),
    "l3d": format_labelme(WHOLE).replace("ridge", "rigde"),
    "cvat": format_cvat([WHOLE, FrameAnnotation("2.png", 64, 36, [])]),
    "p2ilf-json": format_p2ilf_json(WHOLE.landmarks),
    "p2ilf-xml": format_p2ilf_xml(WHOLE.landmarks),
}


@given(annotations())
def test_labelme_is_exact(annotation):
    assert parse_labelme(format_labelme(annotation).encode(), "f") == annotation


@given(st.lists(annotations(XML_FILE_NAMES, least_distance=3.0), max_size=3))
def test_cvat_is_exact_to_two_decimals(frames):
    assume(len({frame.file_name for frame in frames}) == len(frames))
    read = parse_cvat(format_cvat(frames).encode(), "f")
    for before, after in zip(frames, read, strict=True):
        assert replace(after, landmarks=[]) == replace(before, landmarks=[])
        assert [c["category"] for c in after.landmarks] == [c["category"] for c in before.landmarks]
        for old, new in zip(before.landmarks, after.landmarks, strict=True):
            # Half of the last decimal, and what float64 leaves of it at 2**24.
            np.testing.assert_allclose(new["points"], old["points"], rtol=0, atol=0.005 + 1e-8)


@given(annotations(least_distance=3.0))
def test_p2ilf_is_exact_to_whole_px(annotation):
    expected = []
    for curve in annotation.landmarks:
        points = []
        for pair in curve["points"]:
            x, y = (int(Decimal(value).quantize(Decimal(1), ROUND_HALF_EVEN)) for value in pair)
            if not points or points[-1] != (x, y):
                points.append((x, y))
        expected.append({"category": curve["category"], "points": points})
    assert parse_p2ilf_json(format_p2ilf_json(annotation.landmarks).encode(), "f").landmarks == expected
    assert parse_p2ilf_xml(format_p2ilf_xml(annotation.landmarks).encode(), "f").landmarks == expected


def read_or_refused(name, data):
    """Whatever the bytes are: frames that are valid, or one line; any other exception fails the test."""
    try:
        frames = PARSERS[name](data)
    except AnnotationError as error:
        frames = [error]
    for frame in frames:
        if isinstance(frame, AnnotationError):
            assert str(frame).startswith("f: ")
            assert str(frame).isprintable()
            assert len(str(frame)) < 400
        else:
            assert FrameAnnotation(frame.file_name, frame.width, frame.height, frame.landmarks) == frame
    return frames


@pytest.mark.parametrize("name", PARSERS)
@given(data=st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode("utf-8", "replace")))
def test_arbitrary_bytes_are_refused(name, data):
    assert isinstance(read_or_refused(name, data)[0], AnnotationError)


@pytest.mark.parametrize("name", PARSERS)
@settings(max_examples=200)
@given(data=st.data())
def test_damaged_files_are_read_or_refused(name, data):
    read_or_refused(name, data.draw(damaged(VALID[name].encode())))


@pytest.mark.parametrize("name", PARSERS)
def test_files_cut_off_anywhere_are_refused(name):
    whole = VALID[name].rstrip().encode()
    assert [curve["category"] for curve in PARSERS[name](whole)[0].landmarks] == ["ridge", "ligament"]
    for length in range(len(whole)):
        assert isinstance(read_or_refused(name, whole[:length])[0], AnnotationError)
