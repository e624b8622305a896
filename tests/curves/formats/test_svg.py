"""SVG: the frame's size, colors and pixel centers, read back by another parser."""

from __future__ import annotations

from xml.dom import minidom

import pytest

from liver_landmark.curves.formats import FrameAnnotation, format_svg

CURVES = [
    {"category": "ligament", "points": [(0, 0), (63, 35)]},
    {"category": "ridge", "points": [(1.25, 2), (-0.5, 1e6 / 3), (4, 5)]},
    {"category": "silhouette", "points": [(9, 8), (7, 6)]},
]
FRAME = FrameAnnotation('a"<&> ü.png', 64, 36, CURVES)


def elements(text, tag):
    found = minidom.parseString(text).getElementsByTagName(tag)
    return [dict(element.attributes.items()) for element in found]


def test_the_picture_is_the_frame():
    (svg,) = elements(format_svg(FRAME, 3.5), "svg")
    assert svg == {
        "xmlns": "http://www.w3.org/2000/svg",
        "width": "64",
        "height": "36",
        "viewBox": "0 0 64 36",
    }


def test_each_curve_is_a_polyline_in_order():
    lines = elements(format_svg(FRAME, 3.5), "polyline")
    assert [(line["class"], line["stroke"]) for line in lines] == [
        ("ligament", "#0000ff"),
        ("ridge", "#ff0000"),
        ("silhouette", "#00ff00"),
    ]
    assert {(line["fill"], line["stroke-width"], line["stroke-linecap"]) for line in lines} == {
        ("none", "3.5", "round")
    }
    assert lines[1]["points"] == "1.25,2.00 -0.50,333333.33 4.00,5.00"


def test_pixel_centres_stand_where_svg_has_them():
    # The centers of the first and the last pixel: half a px inside of the viewBox's corners.
    document = minidom.parseString(format_svg(FRAME, 1))
    (group,) = document.getElementsByTagName("g")
    shift = group.getAttribute("transform").removeprefix("translate(").removesuffix(")").split()
    points = group.getElementsByTagName("polyline")[0].getAttribute("points").split()
    corners = [[float(s) + float(v) for s, v in zip(shift, p.split(","), strict=True)] for p in points]
    assert corners == [[0.5, 0.5], [63.5, 35.5]]


def test_texts_are_escaped():
    text = format_svg(FRAME, 1, 'x" onload="y()"&.png')
    (title,) = minidom.parseString(text).getElementsByTagName("title")
    assert title.firstChild.data == 'a"<&> ü.png'
    assert elements(text, "image") == [{"href": 'x" onload="y()"&.png', "width": "64", "height": "36"}]
    assert not elements(format_svg(FRAME, 1), "image")
    assert "<title" not in format_svg(FrameAnnotation(None, 64, 36, []), 1)


@pytest.mark.parametrize("width_px", [0, -1, float("nan"), float("inf")])
def test_strokes_have_a_width(width_px):
    with pytest.raises(ValueError, match="stroke_width_px"):
        format_svg(FRAME, width_px)


def test_what_cannot_be_written():
    with pytest.raises(ValueError, match="SVG needs the frame's width and height"):
        format_svg(FrameAnnotation("a", None, 36, CURVES), 1)
    with pytest.raises(ValueError, match=r"title: XML cannot hold 'a\\x1b': rename it"):
        format_svg(FrameAnnotation("a\x1b", 64, 36, CURVES), 1)
