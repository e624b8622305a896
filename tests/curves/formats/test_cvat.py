""" "CVAT for images 1.1": what CVAT exports, what is wrong with one image, what with the file."""

from __future__ import annotations

from xml.dom import minidom

import pytest

from curves.formats.annotations import refusal
from liver_landmark.curves.formats import (
    L3D_LABELS,
    AnnotationError,
    FrameAnnotation,
    LabelMap,
    format_cvat,
    parse_cvat,
)

EXPORTED = """<?xml version="1.0" encoding="utf-8"?>
<annotations>
  <version>1.1</version>
  <meta>
    <task>
      <name>liver</name>
      <labels><label><name>ridge</name><color>#ff0000</color><attributes></attributes></label></labels>
    </task>
    <dumped>2025-01-31 10:00:00.000000+00:00</dumped>
  </meta>
  <image id="0" name="p1/ü &amp; 1.jpg" width="1920" height="1080">
    <polyline label="Ridge" source="manual" occluded="0"
        points="10.00,20.50;30.25,-0.40;31.00,7.00" z_order="3">
      <attribute name="sure">yes</attribute>
    </polyline>
    <polyline label="ligament" source="auto" occluded="1" points="1,2;3,4" z_order="0"/>
  </image>
  <image id="1" name="p1/2.jpg" width="640" height="480">
  </image>
</annotations>
"""
IGNORING = LabelMap.parse(["tool=ignore"])


def image(content="", name="a.png", size='width="64" height="36"'):
    return f'<image id="0" name="{name}" {size}>{content}</image>'


def annotations(*images):
    return f"<annotations>{''.join(images)}</annotations>".encode()


def line(points="1,2;3,4", label="ridge"):
    return f'<polyline label="{label}" points="{points}"/>'


def error_of(xml, **options):
    """The one line that is wrong with the image `xml`, beside which another image is read."""
    good, bad = parse_cvat(annotations(image(line(), "good.png"), xml), "frame.x", **options)
    assert good == FrameAnnotation("good.png", 64, 36, [{"category": "ridge", "points": [(1, 2), (3, 4)]}])
    assert isinstance(bad, AnnotationError)
    assert str(bad) == f"frame.x: {bad.reason}"
    assert str(bad).isprintable()
    return bad


def test_what_cvat_exports():
    ridge = {"category": "ridge", "points": [(10.0, 20.5), (30.25, -0.4), (31.0, 7.0)]}
    ligament = {"category": "ligament", "points": [(1.0, 2.0), (3.0, 4.0)]}
    assert parse_cvat(EXPORTED.encode(), "frame.x") == [
        FrameAnnotation("p1/ü & 1.jpg", 1920, 1080, [ridge, ligament]),
        FrameAnnotation("p1/2.jpg", 640, 480, []),
    ]
    assert parse_cvat(b"<annotations/>", "frame.x") == []


@pytest.mark.parametrize(
    "kind", ["polygon", "points", "box", "ellipse", "mask", "cuboid", "skeleton", "tag", "Polyline"]
)
def test_other_shapes_are_refused_unless_their_label_is_ignored(kind):
    error = error_of(image(f'{line()}<{kind} label="ridge" points="1,2;3,4;5,6"/>'))
    assert (
        error.reason == f"image 'a.png': shape 1 ('{kind}'): draw a polyline, the landmarks are open curves"
    )
    assert error.file_name == "a.png"
    data = annotations(image(f'<{kind} label="Tool" points="1"/>{line()}'))
    assert len(parse_cvat(data, "frame.x", IGNORING)[0].landmarks) == 1


def test_misspelt_labels_that_a_map_tolerates_are_told():
    data = annotations(image(line() + line(label="Rigde")), image(line(), "b.png"))
    first, second = parse_cvat(data, "frame.x", L3D_LABELS)
    assert [curve["category"] for curve in first.landmarks] == ["ridge", "ridge"]
    assert (first.tolerated, second.tolerated) == (("Rigde",), ())


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (line(label="tool"), "shape 0 ('polyline'): label 'tool' is unknown; known are 'ridge'"),
        ('<polyline points="1,2;3,4"/>', "shape 0 ('polyline'): label is missing"),
        ('<polyline label="ridge"/>', "shape 0 ('polyline'): points hold '', expected x,y;x,y;…"),
        (line("1,2"), "shape 0 ('polyline'): points are no curve: 1 point"),
        (line("1,2;1.0,2.00"), "shape 0 ('polyline'): points are no curve: 2 points at the same place"),
        (line("1,2;3,4,5"), "shape 0 ('polyline'): points is '4,5', expected a number"),
        (line("1,2;3,1e400"), "shape 0 ('polyline'): points are no curve: point 1 is not finite"),
        ("<extra/>", "shape 0 ('extra'): label is missing"),
    ],
)
def test_broken_shapes(content, reason):
    assert error_of(image(content)).reason.startswith(f"image 'a.png': {reason}")


@pytest.mark.parametrize(
    ("size", "reason"),
    [
        ('width="64"', "height is '', expected a number"),
        ('width="0" height="36"', "width is 0, expected a whole number of at least 1"),
        ('width="64" height="36.5"', "height is 36.5"),
        ('width="64px" height="36"', "width is '64px', expected a number"),
    ],
)
def test_broken_sizes(size, reason):
    assert error_of(image(size=size)).reason.startswith(f"image 'a.png': {reason}")


def test_images_without_a_name_are_told_by_their_place():
    error = error_of('<image id="5" width="3" height="4"/>')
    assert (error.reason, error.file_name) == ("image[1]: name is missing", None)
    assert error_of(image(name="")).reason == "image '': name is empty"


def test_one_name_twice_is_wrong_twice():
    first, other, second = parse_cvat(annotations(image(), image(name="b"), image(line())), "frame.x")
    assert isinstance(first, AnnotationError)
    assert str(first) == str(second) == "frame.x: image 'a.png': stands 2 times in this file: which is meant?"
    assert first.file_name == second.file_name == "a.png"
    assert other == FrameAnnotation("b", 64, 36, [])


def test_what_is_no_such_file():
    track = annotations(image(), '<track id="0" label="ridge"/>')
    assert 'export it as "CVAT for images 1.1"' in refusal(parse_cvat, track, "frame.x")
    assert "root element is 'contours'" in refusal(parse_cvat, b"<contours/>", "frame.x")


def test_written_with_what_cvat_wants_of_an_upload():
    curve = {"category": "silhouette", "points": [(1.005, 2), (-0.125, 1e6 / 3)]}
    frames = [FrameAnnotation('a"<&\n.png', 64, 36, [curve, curve]), FrameAnnotation("b", 1, 2, [])]
    root = minidom.parseString(format_cvat(frames)).documentElement
    assert [node.nodeName for node in root.childNodes if node.nodeType == node.ELEMENT_NODE] == [
        *("version", "meta", "image", "image")
    ]
    assert root.getElementsByTagName("version")[0].firstChild.data == "1.1"
    names = [label.getElementsByTagName("name")[0] for label in root.getElementsByTagName("label")]
    assert [name.firstChild.data for name in names] == ["ridge", "silhouette", "ligament"]
    assert [dict(node.attributes.items()) for node in root.getElementsByTagName("image")] == [
        {"id": "0", "name": 'a"<&\n.png', "width": "64", "height": "36"},
        {"id": "1", "name": "b", "width": "1", "height": "2"},
    ]
    first, second = (dict(node.attributes.items()) for node in root.getElementsByTagName("polyline"))
    written = {"label": "silhouette", "points": "1.00,2.00;-0.12,333333.33", "z_order": "0"}
    assert first == written | {"source": "manual", "occluded": "0"}
    assert second == first | {"z_order": "1"}


@pytest.mark.parametrize(
    ("frames", "reason"),
    [
        ([(None, 3, 4, [])], "CVAT needs file_name"),
        ([("a", 3, None, [])], "CVAT needs file_name"),
        ([("a", 3, 4, []), ("a", 3, 4, [])], "two frames are called 'a'"),
        ([("a\ufffe", 3, 4, [])], r"image: XML cannot hold 'a\\ufffe'"),
        ([("a\x01", 3, 4, [])], r"image: XML cannot hold 'a\\x01': rename it"),
        ([("a", 3, 4, [{"category": "ridge", "points": [(1, 2), (1.001, 2)]}])], "no curve at two decimals"),
    ],
)
def test_what_cannot_be_written(frames, reason):
    with pytest.raises(ValueError, match=reason):
        format_cvat([FrameAnnotation(*frame) for frame in frames])
