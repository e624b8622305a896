"""P2ILF's contours: the challenge's XML and JSON, its real pair, and what is refused."""

from __future__ import annotations

import json

import pytest

from curves.formats.annotations import refusal
from liver_landmark.curves.formats import (
    FrameAnnotation,
    check_inside,
    format_p2ilf_json,
    format_p2ilf_xml,
    parse_p2ilf_json,
    parse_p2ilf_xml,
    read_annotation_bytes,
)

XML = """<?xml version='1.0' encoding='utf-8'?>
<contours>
	<numOfContours>2</numOfContours>
	<contour>
		<contourType>Ridge</contourType>
		<imagePoints>
			<numOfPoints>3</numOfPoints>
			<x>5, 6, 7</x>
			<y>925, 924,924</y>
		</imagePoints>
		<modelPoints>
			<numOfPoints>1</numOfPoints>
			<vertices>1227</vertices>
		</modelPoints>
	</contour>
	<contour>
		<contourType> LIGAMENT </contourType>
		<imagePoints>
			<numOfPoints>2</numOfPoints>
			<x>1871.0, 1.5e1</x>
			<y>
				-0.25, +7.
			</y>
		</imagePoints>
	</contour>
</contours>"""
JSON = {
    "numOfContours": 2,
    "contour": [
        {"contourType": "Ridge", "imagePoints": {"x": [5, 6, 7], "y": [925, 924, 924]}},
        {"contourType": "ligament", "imagePoints": {"x": [1871.0, 15], "y": [-0.25, 7], "numOfPoints": 2}},
    ],
}
CURVES = [
    {"category": "ridge", "points": [(5.0, 925.0), (6.0, 924.0), (7.0, 924.0)]},
    {"category": "ligament", "points": [(1871.0, -0.25), (15.0, 7.0)]},
]


def refused_xml(old, new, count=1):
    assert old in XML
    return refusal(parse_p2ilf_xml, XML.replace(old, new, count).encode(), "frame.x")


def refused_json(content):
    return refusal(parse_p2ilf_json, json.dumps(content).encode(), "frame.x")


def contour(**changes):
    points = {"x": [1, 3], "y": [2, 4]}
    return {"numOfContours": 1, "contour": [{"contourType": "Ridge", "imagePoints": points} | changes]}


def points(**changes):
    return contour(imagePoints={"x": [1, 3], "y": [2, 4]} | changes)


def test_xml_and_json_say_the_same():
    expected = FrameAnnotation(None, None, None, CURVES)
    assert parse_p2ilf_xml(XML.encode(), "frame.x") == expected
    assert parse_p2ilf_json(json.dumps(JSON).encode(), "frame.x") == expected


def test_no_contours_are_no_landmarks():
    empty = FrameAnnotation(None, None, None, [])
    assert parse_p2ilf_json(b'{"numOfContours": 0, "contour": []}', "frame.x") == empty
    assert parse_p2ilf_xml(b"<contours><numOfContours>0</numOfContours></contours>", "frame.x") == empty


def test_the_challenges_own_pair_agrees(p2ilf_sample):
    folder = p2ilf_sample / "2D_contours"
    from_xml = parse_p2ilf_xml(read_annotation_bytes(folder / "patient2_1.xml"), "frame.x")
    from_json = parse_p2ilf_json(read_annotation_bytes(folder / "patient2_1_2D-contours.json"), "frame.x")
    assert from_xml == from_json
    counts = [(curve["category"], len(curve["points"])) for curve in from_xml.landmarks]
    assert counts == [("ridge", 562), ("silhouette", 578), ("ridge", 653), ("ligament", 340)]
    assert check_inside(from_xml, 1920, 1080, "frame.x") == 0
    # The challenge's JSON has no repeated points, so writing it again gives the very values.
    saved = json.loads((folder / "patient2_1_2D-contours.json").read_text())
    assert json.loads(format_p2ilf_json(from_xml.landmarks)) == saved


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("contours>", "annotations>", "not XML"),
        ("<numOfContours>2</numOfContours>", "", "numOfContours is missing"),
        ("<numOfContours>2", "<numOfContours>3", "numOfContours is 3, but 2 are there: truncated?"),
        ("<numOfContours>2", "<numOfContours>two", "numOfContours is 'two', expected a number"),
        (
            "<numOfContours>",
            "<numOfContours>2</numOfContours><numOfContours>",
            "numOfContours stands 2 times",
        ),
        ("Ridge", "Rigde", "contour[0]: contourType is 'Rigde', expected one of ridge, silhouette, ligament"),
        ("<contourType>Ridge</contourType>", "", "contour[0]: contourType is missing"),
        ("<numOfPoints>3", "<numOfPoints>4", "contour[0]: numOfPoints is 4, but 3 are there"),
        ("<numOfPoints>3</numOfPoints>", "", "contour[0]: numOfPoints is missing"),
        ("924,924", "924", "contour[0]: imagePoints: 3 x but 2 y"),
        ("924,924", "924,924,", "contour[0]: imagePoints.y is '', expected a number"),
        ("5, 6, 7", "5, 0x6, 7", "contour[0]: imagePoints.x is '0x6', expected a number"),
        ("5, 6, 7", "5, <b/>6, 7", "contour[0]: x holds other elements"),
        ("<x>1871.0, 1.5e1</x>", "", "contour[1]: x is missing"),
        ("<x>1871.0, 1.5e1</x>", "<x>1871.0, 1.5e1</x><x>1</x>", "contour[1]: x stands 2 times"),
    ],
)
def test_broken_xml(old, new, reason):
    assert refused_xml(old, new).startswith(reason)


def test_another_root():
    assert refused_xml("contours>", "annotations>", 2).startswith("root element is 'annotations'")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ([], "contour is missing or no list"),
        ({"contour": []}, "numOfContours is None, expected a number"),
        ({"numOfContours": 1, "contour": []}, "numOfContours is 1, but 0 are there"),
        ({"numOfContours": 1, "contour": [[]]}, "contour[0]: is [], expected an object"),
        (contour(contourType=None), "contour[0]: contourType is None"),
        (
            contour(imagePoints=[[1, 2], [3, 4]]),
            "contour[0]: imagePoints is [[1, 2], [3, 4]], expected an object",
        ),
        (points(x="1, 3"), "contour[0]: imagePoints.x is '1, 3', expected a list"),
        (points(x=[1, "3"]), "contour[0]: imagePoints.x is '3', expected a number"),
        (points(x=[1, 2, 3]), "contour[0]: imagePoints: 3 x but 2 y"),
        (points(numOfPoints=3), "contour[0]: numOfPoints is 3, but 2 are there"),
        (points(x=[1], y=[2]), "contour[0]: imagePoints: 1 point"),
        (points(x=[1, 10**400]), "contour[0]: imagePoints: point 1 is not finite"),
    ],
)
def test_broken_json(content, reason):
    assert refused_json(content).startswith(reason)


def test_written_in_whole_px_rounded_to_even_without_repetitions():
    curves = [{"category": "silhouette", "points": [(0.5, 1.5), (0.4, 2.2), (2.5, -0.5), (0.5, 1.5), (7, 8)]}]
    expected = {"x": [0, 2, 0, 7], "y": [2, 0, 2, 8]}
    assert json.loads(format_p2ilf_json(curves)) == {
        "numOfContours": 1,
        "contour": [{"contourType": "Silhouette", "imagePoints": expected}],
    }
    text = format_p2ilf_xml(curves)
    for part in ("<numOfPoints>4</numOfPoints>", "<x>0, 2, 0, 7</x>", "<y>2, 0, 2, 8</y>", ">Silhouette<"):
        assert text.count(part) == 1


@pytest.mark.parametrize("write", [format_p2ilf_json, format_p2ilf_xml])
@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ([(1, 2), (1.4, 2.4), (0.6, 1.9)], r"landmarks\[0\] \(ridge\) is no curve in whole px: 1 point"),
        ([(1, 2)], r"landmarks\[0\].points: 1 point"),
    ],
)
def test_what_cannot_be_written(write, line, reason):
    with pytest.raises(ValueError, match=reason):
        write([{"category": "ridge", "points": line}])
    with pytest.raises(
        ValueError, match=r"landmarks\[0\].category 'artery': P2ILF has ridge, silhouette, lig"
    ):
        write([{"category": "artery", "points": line}])
