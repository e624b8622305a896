"""Import of export is the identity, up to each format's precision; damaged files never surprise."""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Decimal

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from curves.formats.annotations import XML_FILE_NAMES, annotations, damaged
from liver_landmark.curves.formats import (
    L3D_LABELS,
    AnnotationError,
    FrameAnnotation,
    format_cvat,
    format_labelme,
    format_p2ilf_json,
    format_p2ilf_xml,
    parse_cvat,
    parse_labelme,
    parse_p2ilf_json,
    parse_p2ilf_xml,
)

PARSERS = {
    "labelme": lambda data: [parse_labelme(data, "f")],
    "l3d": lambda data: [parse_labelme(data, "f", L3D_LABELS, polygons="open")],
    "cvat": lambda data: parse_cvat(data, "f"),
    "p2ilf-json": lambda data: [parse_p2ilf_json(data, "f")],
    "p2ilf-xml": lambda data: [parse_p2ilf_xml(data, "f")],
}
FRAME = FrameAnnotation(
    "ü 1.png",
    64,
    36,
    [
        {"category": "ridge", "points": [(1.25, 2.0), (30.0, 8.5), (60.75, 9.0)]},
        {"category": "ligament", "points": [(5.0, 30.0), (7.0, -0.5)]},
    ],
)
VALID = {
    "labelme": format_labelme(FRAME),
    "l3d": format_labelme(FRAME).replace("ridge", "rigde"),
    "cvat": format_cvat([FRAME, FrameAnnotation("2.png", 64, 36, [])]),
    "p2ilf-json": format_p2ilf_json(FRAME.landmarks),
    "p2ilf-xml": format_p2ilf_xml(FRAME.landmarks),
}


@given(annotations())
def test_labelme_is_exact(annotation):
    assert parse_labelme(format_labelme(annotation).encode(), "f") == annotation


@given(st.lists(annotations(XML_FILE_NAMES, least_distance=3.0), max_size=3))
def test_cvat_is_exact_to_two_decimals(frames):
    assume(len({frame.file_name for frame in frames}) == len(frames))
    read = parse_cvat(format_cvat(frames).encode(), "f")
    assert [(frame.file_name, frame.width, frame.height) for frame in read] == [
        (frame.file_name, frame.width, frame.height) for frame in frames
    ]
    for before, after in zip(frames, read, strict=True):
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


@pytest.mark.parametrize("name", VALID)
def test_the_files_that_are_damaged_below_are_valid(name):
    landmarks = PARSERS[name](VALID[name].encode())[0].landmarks
    assert [curve["category"] for curve in landmarks] == ["ridge", "ligament"]


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
    for length in range(len(whole)):
        assert isinstance(read_or_refused(name, whole[:length])[0], AnnotationError)
