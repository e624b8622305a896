"""What a frame, a polyline and a label are; hostile files are refused in one line, at once."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curves.formats.annotations import refusal
from liver_landmark.curves.formats import (
    DEFAULT_LABELS,
    L3D_LABELS,
    AnnotationError,
    FrameAnnotation,
    LabelMap,
    check_inside,
    read_annotation_bytes,
)
from liver_landmark.curves.formats import annotation as limits
from liver_landmark.curves.formats.annotation import parse_json, parse_xml
from peak_memory import PEAK_MIB, needs_proc

LINE = {"category": "ridge", "points": [(1.0, 2.0), (3.0, 4.0)]}


def test_an_error_is_one_line_that_names_the_file():
    error = AnnotationError("a\nb.json", "label 'x\ty' is\u2028unknown", "c.png")
    assert str(error) == "a\\nb.json: label 'x\\ty' is\\u2028unknown"
    assert (error.file, error.file_name) == ("a\nb.json", "c.png")
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301 - errors of worker processes travel so
    assert (str(copy), copy.file, copy.file_name) == (str(error), error.file, error.file_name)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        (("", 1, 1, []), "file_name"),
        (("a\0b.png", 1, 1, []), "file_name"),
        (("a\ud800.png", 1, 1, []), "file_name"),
        ((None, 0, 5, []), "expected a positive number of px"),
        ((None, 5, -1, []), "expected a positive number of px"),
        (
            (None, None, None, [LINE, LINE | {"category": "rigde"}]),
            r"landmarks\[1\]\.category 'rigde' is unknown",
        ),
    ],
)
def test_what_is_no_frame(fields, reason):
    with pytest.raises(ValueError, match=reason):
        FrameAnnotation(*fields)


@pytest.mark.parametrize(
    ("points", "reason"),
    [
        ([], "0 point"),
        ([(1, 2)], "1 point"),
        ([(1, 2)] * 3, "3 points at the same place"),
        # One float32: 2**24 and its neighbor, and what differs in the 30th bit.
        ([(1, 2), (1, 2 + 2**-30)], "2 points at the same place"),
        ([(1, 2), (float("nan"), 2)], "point 1 is not finite"),
        ([(float("-inf"), 2), (1, 2)], "point 0 is not finite"),
        ([(1, 2), (2, 3), (1, 2**24 + 1)], "point 2 is beyond ± 16777216 px"),
        ([(1, 2, 3), (4, 5, 6)], r"expected \(x, y\) pairs"),
    ],
)
def test_what_is_no_polyline(points, reason):
    with pytest.raises(ValueError, match=rf"^landmarks\[0\]\.points: {reason}"):
        FrameAnnotation(None, None, None, [{"category": "ridge", "points": points}])


@pytest.mark.parametrize("points", [[(1, 2), (1, 2), (1, 2.001)], [(-(2**24), 2**24), (0, 0)], np.eye(2)])
def test_what_is_a_polyline(points):
    FrameAnnotation(None, None, None, [{"category": "ligament", "points": points}])


def test_what_was_tolerated_is_not_compared():
    assert FrameAnnotation("a", 1, 1, [LINE], ("rigde",)) == FrameAnnotation("a", 1, 1, [LINE])
    assert FrameAnnotation("a", 1, 1, [LINE]) != FrameAnnotation("a", 1, 1, [LINE, LINE])


def framed(*points):
    curve = {"category": "ligament", "points": list(points)}
    return FrameAnnotation("a.png", None, None, [LINE, curve, LINE])


@pytest.mark.parametrize("point", [(-1.01, 2), (10.01, 2), (2, -1.01), (2, 5.01), (1e6, -3)])
def test_more_than_a_px_outside_is_refused(point):
    reason = refusal(check_inside, framed((1, 1), point), 10, 5, "frame.x")
    assert reason.startswith(f"landmarks[1] (ligament): point 1 ({point[0]:g}, {point[1]:g}) lies outside")
    assert "10×5" in reason


@given(
    st.lists(st.tuples(st.integers(-8, 48), st.integers(-8, 28)), min_size=2, max_size=6).filter(
        lambda points: len(set(points)) > 1
    )
)
def test_inside_is_what_a_loop_over_the_points_says(quarters):
    points = [(x / 4, y / 4) for x, y in quarters]
    far = [(x, y) for x, y in points if x < -1 or x > 10 or y < -1 or y > 5]
    near = [(x, y) for x, y in points if x < 0 or x > 9 or y < 0 or y > 4]
    if far:
        refusal(check_inside, framed(*points), 10, 5, "frame.x")
    else:
        assert check_inside(framed(*points), 10, 5, "frame.x") == len(near)


@pytest.mark.parametrize("label", ["rigde", "", " ridge", "ignore", "ridge\n" * 99, "\ud800"])
def test_unknown_labels_are_refused_and_the_known_ones_named(label):
    reason = refusal(DEFAULT_LABELS.category, label, "frame.x", "shapes[3].label")
    assert reason.startswith("shapes[3].label '")
    assert "'ridge', 'silhouette', 'ligament'" in reason


def test_l3ds_misspelling_is_tolerated_and_can_be_counted():
    assert L3D_LABELS.category("Rigde", "frame.x") == "ridge"
    assert L3D_LABELS.is_tolerated("Rigde")
    assert not L3D_LABELS.is_tolerated("ridge")
    assert not LabelMap({"rigde": "ridge"}, tolerated={"rigde": "ridge"}).is_tolerated("rigde")
    refusal(L3D_LABELS.category, "rdige", "frame.x")


def test_entries_add_to_the_class_names_and_replace_them():
    labels = LabelMap.parse(["Falciform=ligament", "a=b=Ridge", "tool=ignore", "silhouette=ignore"])
    found = {label: labels.category(label, "frame.x") for label in ("FALCIFORM", "a=b", "Tool", "ridge")}
    assert found == {"FALCIFORM": "ligament", "a=b": "ridge", "Tool": None, "ridge": "ridge"}
    assert labels.category("silhouette", "frame.x") is None
    assert labels.category("ligament", "frame.x") == "ligament"


@pytest.mark.parametrize(
    ("entries", "reason"),
    [
        (["falciform"], "label map 'falciform': expected LABEL=CLASS"),
        (["=ridge"], "label map '=ridge': expected LABEL=CLASS"),
        (["a=edge"], "label 'a' is mapped to 'edge': choose one of ridge, silhouette, ligament, ignore"),
        (["a=ridge", "A=ligament"], "label 'A' is mapped to ridge and to 'ligament'"),
        (["a="], "label 'a' is mapped to ''"),
    ],
)
def test_entries_that_say_nothing(entries, reason):
    with pytest.raises(ValueError, match=f"^{reason}"):
        LabelMap.parse(entries)


def test_a_file_says_the_same(tmp_path):
    path = tmp_path / "labels.json"
    path.write_text(json.dumps({"Falciform": "ligament", "tool": "ignore"}))
    assert LabelMap.read(path) == LabelMap.parse(["Falciform=ligament", "tool=ignore"])


@pytest.mark.parametrize(
    "content", ['["a"]', '{"a": 3}', '{"a": "edge"}', '{"a": "ridge", "a": "ridge"}', "{"]
)
def test_files_that_are_no_map(tmp_path, content):
    path = tmp_path / "labels.json"
    path.write_text(content)
    with pytest.raises(AnnotationError, match=r"labels\.json: "):
        LabelMap.read(path)


@pytest.mark.parametrize(
    ("maps", "reason"),
    [
        (({"a": "edge"},), "choose one"),
        (({"A": "ridge"},), "lower case: 'a'"),
        (({}, {"b": "b"}), "choose one"),
    ],
)
def test_maps_made_by_hand_are_checked(maps, reason):
    with pytest.raises(ValueError, match=reason):
        LabelMap(*maps)


def test_files_that_are_none(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "large").write_bytes(b" " * 11)
    (tmp_path / "right").write_bytes(b" " * 10)
    (tmp_path / "empty").touch()
    monkeypatch.setattr(limits, "MAX_FILE_BYTES", 10)
    reasons = {
        "missing": "no such file",
        "": "a folder, expected an annotation file",
        "pipe": "not a regular file",
        "large": "larger than the limit of 10 bytes",
        "empty": "empty file",
        "n" * 300: "cannot be read: File name too long",
    }
    for name, reason in reasons.items():
        with pytest.raises(AnnotationError) as caught:
            read_annotation_bytes(tmp_path / name)
        assert str(caught.value) == f"{tmp_path / name}: {reason}"
    assert len(read_annotation_bytes(tmp_path / "right")) == 10


@pytest.mark.parametrize("parse", [parse_json, parse_xml])
@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty file"),
        (b" \n ", "or truncated"),
        (b"\xef\xbb\xbf", "or truncated"),
        ("<a/>".encode("utf-16"), "UTF-16"),
        ("{}".encode("utf-16"), "UTF-16"),
        ("<a/>".encode("utf-16-be"), "UTF-16"),
        ('<?xml version="1.0" encoding="utf-16"?><a/>'.encode("utf-16-le"), "UTF-16"),
        (b'["\xe9"]', "not UTF-8: byte 2"),
        (b"<a>\xe9</a>", "not UTF-8: byte 3"),
        (b"\xed\xa0\x80", "not UTF-8: byte 0"),
        (b"{}<a/>", "or truncated"),
    ],
)
def test_what_is_no_document(parse, data, reason):
    assert reason in refusal(parse, data, "frame.x")


@pytest.mark.parametrize("parse", [parse_json, parse_xml])
@pytest.mark.parametrize(
    ("limit", "reason"),
    [
        ("MAX_FILE_BYTES", "larger than the limit of 3 bytes"),
        ("MAX_TEXT_BYTES", "holds more than the limit of 3 bytes of text: split it"),
    ],
)
def test_too_much_is_refused_by_its_size(parse, limit, reason, monkeypatch):
    monkeypatch.setattr(limits, limit, 3)
    assert refusal(parse, b"<a/>", "frame.x") == reason


def test_a_picture_is_no_text(monkeypatch):
    monkeypatch.setattr(limits, "MAX_TEXT_BYTES", 40)
    picture = b"QUFB+/" * 20
    content = {"imageData": "", "a": 'b"imageData'}
    for data in (b'{"imageData": "%s==", "a": "b\\"imageData"}', b'{"a":"b\\"imageData","imageData"\n:"%s"}'):
        assert parse_json(data % picture, "frame.x") == content
    # Cut off, called otherwise, or no base64: text like any other.
    for data in (
        b'{"imageData": "%s',
        b'{"imagedata": "%s"}',
        b'{"imageData": "%s,"}',
        b'{"a": "imageData: %s"}',
    ):
        assert "40 bytes of text" in refusal(parse_json, data % picture, "frame.x")


@pytest.mark.parametrize(
    ("parse", "fits", "over"),
    [
        (parse_json, b'["AAAA+/==", 1, 1]', b"[0, 1, 2, 3]"),
        (parse_json, b'{"a": [1]}', b'{"a": {"b": {}}}'),
        (parse_xml, b"<a/>", b"<a></a>"),
        (parse_xml, b"<a/>", b'<a b=""/>'),
        (parse_xml, b"<a/>", b"<a/>;"),
        (parse_xml, b"<a/>", b"<a/>,"),
    ],
)
def test_values_are_counted_before_parsing(parse, fits, over, monkeypatch):
    monkeypatch.setattr(limits, "MAX_VALUES", 4 if parse is parse_xml else 3)
    parse(fits, "frame.x")
    assert "values: split it" in refusal(parse, over, "frame.x")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b'{"a": NaN}', "holds NaN"),
        (b"[-Infinity]", "holds -Infinity"),
        (b'{"a": 1, "b": {"c": 1, "c": 2}}', "key 'c' stands twice in one object"),
        (b'{"a": 1, "\\u0061": 1}', "key 'a' stands twice in one object"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"a":' * 100_000, "nested too deeply"),
        (b"[1] [2]", "line 1, column 5"),
        (b'{"a": 01}', "or truncated"),
        (b'{"a": 1,}', "or truncated"),
        (b"{'a': 1}", "or truncated"),
        (b'"a\nb"', "or truncated"),
    ],
)
def test_what_is_no_json(data, reason):
    assert reason in refusal(parse_json, data, "frame.x")


def test_json_as_it_may_come():
    written = b'\xef\xbb\xbf \r\n{"a": [1, 2.5, true, null, "\\u00e9\xc3\xa9"]}\n'
    assert parse_json(written, "frame.x") == {"a": [1, 2.5, True, None, "éé"]}
    large = parse_json(b"[" + b"9" * 5000 + b", 1e400, 12345678901234567]", "frame.x")
    assert large == [float("inf"), float("inf"), 12345678901234567.0]


BOMB = b'<!DOCTYPE a [<!ENTITY b "bb"><!ENTITY c "&b;&b;&b;">]><a>&c;</a>'
EXTERNAL = b'<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/hostname">]><a>&b;</a>'


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (BOMB, "document type"),
        (EXTERNAL, "document type"),
        (b'<!DOCTYPE a SYSTEM "http://localhost/a.dtd"><a/>', "document type"),
        (b"<a>&b;</a>", "or truncated"),
        (b"<a><b></a>", "or truncated"),
        (b"<a>" * 100_000, "or truncated"),
        (b'<?xml version="1.0" encoding="latin-1"?><a/>', "declares the encoding 'latin-1'"),
        (b"<?xml version='1.0' encoding='utf-7'?><a/>", "declares the encoding 'utf-7'"),
    ],
)
def test_what_is_no_xml(data, reason):
    assert reason in refusal(parse_xml, data, "frame.x")


def test_xml_as_it_may_come():
    declared = b'<?xml version="1.0" encoding="UTF-8"?>\r\n'
    for head in (b"", b"\xef\xbb\xbf", declared, b"<!-- encoding='x' -->"):
        root = parse_xml(head + b"<a b='\xc3\xa9'>1,<!-- 5, -->2</a>", "frame.x")
        assert (root.tag, root.get("b"), root.text) == ("a", "é", "1,2")


def test_deep_xml_is_read_and_freed():
    assert parse_xml(b"<a>" * 100_000 + b"</a>" * 100_000, "frame.x").tag == "a"


WORST = (
    PEAK_MIB
    + """
from liver_landmark.curves.formats import AnnotationError
from liver_landmark.curves.formats.annotation import MAX_FILE_BYTES, MAX_TEXT_BYTES, MAX_VALUES
from liver_landmark.curves.formats.annotation import parse_json, parse_xml
size, count = MAX_TEXT_BYTES - 100, MAX_VALUES // 8 - 100
files = [
    (parse_json, b"{" + b",".join(b'"%d":0.5' % i for i in range(4 * count)) + b"}"),
    (parse_json, b"[" + b"{}," * (4 * count) + b"0]"),
    (parse_json, b'{"imageData":"' + b"A" * (MAX_FILE_BYTES - 100) + b'"}'),
    (parse_json, b'["' + b"A" * size + "\\U0001f600".encode() + b'"]'),
    (parse_json, b"[" + b"9" * size + b"]"),
    (parse_json, b"[" * 16 * count),
    (parse_xml, b"<a>" * count),
    (parse_xml, b"<a>" + b"".join(b'<b%d c=""/>' % i for i in range(count)) + b"</a>"),
    (parse_xml, b"<" + b"x" * size + b"/>"),
    (parse_xml, b"<a>" + b"1" * size + b"</a>"),
]
before = peak_mib()
for number, (parse, data) in enumerate(files):
    files[number] = None
    try:
        parse(data, "file")
    except AnnotationError:
        pass
print(peak_mib() - before)
"""
)


@needs_proc
@pytest.mark.slow
def test_the_worst_files_take_a_few_hundred_mebibytes():
    result = subprocess.run([sys.executable, "-c", WORST], capture_output=True, text=True, check=True)
    assert 100 < float(result.stdout) < 350
