"""labelme's JSON: what it writes, what L3D makes of it, and what is refused."""

from __future__ import annotations

import json

import pytest

from curves.formats.annotations import refusal
from liver_landmark.curves.formats import L3D_LABELS, FrameAnnotation, LabelMap, format_labelme, parse_labelme

# As labelme 6.3.1 saves it.
SAVED = b"""{
  "version": "6.3.1",
  "flags": {},
  "shapes": [
    {
      "label": "Ligament",
      "points": [
        [1260.5, 40],
        [1250.25, 133.75],
        [1262, 201]
      ],
      "group_id": null,
      "description": "",
      "shape_type": "linestrip",
      "flags": {},
      "mask": null
    },
    {"label": "ridge", "points": [[-0.5, 700], [600, 812.125]], "group_id": 4, "shape_type": "line"},
    {"label": "ridge", "points": [[700, 812], [900, 790], [900, 790]], "shape_type": "linestrip"}
  ],
  "imagePath": "..\\\\frames\\\\\\u00fc 1.jpg",
  "imageData": "/9j/4AAQSkZJRg==",
  "imageHeight": 1080,
  "imageWidth": 1920.0
}"""
CURVES = [
    {"category": "ligament", "points": [(1260.5, 40.0), (1250.25, 133.75), (1262.0, 201.0)]},
    {"category": "ridge", "points": [(-0.5, 700.0), (600.0, 812.125)]},
    {"category": "ridge", "points": [(700.0, 812.0), (900.0, 790.0), (900.0, 790.0)]},
]


def document(**changes):
    shape = {"label": "ridge", "points": [[1, 2], [3, 4]], "shape_type": "linestrip"} | changes
    return {"shapes": [{key: value for key, value in shape.items() if value is not ...}]}


def parsed(content, **options):
    return parse_labelme(json.dumps(content).encode(), "frame.x", **options)


def refused(content, **options):
    return refusal(parse_labelme, json.dumps(content).encode(), "frame.x", **options)


def test_what_labelme_saves():
    annotation = parse_labelme(SAVED, "frame.x")
    assert annotation == FrameAnnotation("..\\frames\\ü 1.jpg", 1920, 1080, CURVES)
    assert type(annotation.width) is int
    assert {type(v) for curve in annotation.landmarks for point in curve["points"] for v in point} == {float}


def test_what_may_be_missing():
    assert parsed({"shapes": []}) == FrameAnnotation(None, None, None, [])
    assert parsed(document(shape_type=...)) == parsed(document())


def test_l3d_misspells_and_calls_its_open_curves_polygons():
    content = document(label="rigde", shape_type="polygon")
    annotation = parsed(content, labels=L3D_LABELS, polygons="open")
    assert annotation.landmarks == [{"category": "ridge", "points": [(1.0, 2.0), (3.0, 4.0)]}]
    assert annotation.tolerated == ("rigde",)
    assert "shapes[0].shape_type is 'polygon': draw a linestrip" in refused(content, labels=L3D_LABELS)
    assert "shapes[0].label 'rigde' is unknown" in refused(content, polygons="open")


@pytest.mark.parametrize("kind", ["point", "rectangle", "circle", "mask", "points", "Linestrip", "", None, 3])
def test_other_shapes_are_refused_unless_their_label_is_ignored(kind):
    content = document(shape_type=kind)
    assert "shapes[0].shape_type is " in refused(content, polygons="open")
    content["shapes"][0] |= {"label": "tool", "points": None}
    assert parsed(content, labels=LabelMap.parse(["tool=ignore"])).landmarks == []


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"label": ...}, "shapes[0].label is None, expected text"),
        ({"points": ...}, "shapes[0].points is None, expected a list"),
        ({"points": [[1, 2]]}, "shapes[0].points: 1 point, expected at least two"),
        ({"points": [[1, 2], [3]]}, "shapes[0].points[1] is [3], expected [x, y]"),
        ({"points": [[1, 2], [True, 4]]}, "shapes[0].points[1] is True, expected a number"),
        ({"points": [[1, "2"], [3, 4]]}, "shapes[0].points[0] is '2', expected a number"),
        ({"points": [[1, 2], [10**400, 1]]}, "shapes[0].points: point 1 is not finite"),
    ],
)
def test_broken_shapes(change, reason):
    assert refused(document(**change)).startswith(reason)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ([], "is [], expected labelme's JSON object"),
        ({}, "shapes is missing or no list"),
        ({"shapes": [None]}, "shapes[0] is None, expected an object"),
        ({"shapes": [], "imageWidth": 0}, "imageWidth is 0, expected a whole number of at least 1"),
        ({"shapes": [], "imageHeight": 10.5}, "imageHeight is 10.5"),
        ({"shapes": [], "imageHeight": 10**400}, "imageHeight is inf"),
        ({"shapes": [], "imageHeight": "1080"}, "imageHeight is '1080', expected a number"),
        ({"shapes": [], "imagePath": 3}, "imagePath is 3, expected text"),
        ({"shapes": [], "imagePath": ""}, "imagePath is empty"),
        ({"shapes": [], "imagePath": "a\0b"}, "imagePath 'a\\x00b' is no file name"),
        ({"shapes": [], "imagePath": "\ud800"}, "imagePath '\\ud800' is no file name"),
    ],
)
def test_broken_documents(content, reason):
    assert refused(content).startswith(reason)


def test_written_as_labelme_saves_linestrips():
    text = format_labelme(FrameAnnotation("ü 1.jpg", 1920, 1080, CURVES[:1]))
    assert '"ü 1.jpg"' in text
    assert json.loads(text) == {
        "version": "6.3.1",
        "flags": {},
        "shapes": [
            {"label": "ligament", "points": [[1260.5, 40.0], [1250.25, 133.75], [1262.0, 201.0]]}
            | {"group_id": None, "description": "", "shape_type": "linestrip", "flags": {}, "mask": None}
        ],
        "imagePath": "ü 1.jpg",
        "imageData": None,
        "imageHeight": 1080,
        "imageWidth": 1920,
    }


@pytest.mark.parametrize("given", [(None, 3, 4), ("a", None, 4), ("a", 3, None)])
def test_written_only_with_name_and_size(given):
    with pytest.raises(ValueError, match="labelme needs file_name, width and height"):
        format_labelme(FrameAnnotation(*given, CURVES))
