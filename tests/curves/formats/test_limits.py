"""Hostile files: refused in one line, before they cost anything."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from curves.formats.annotations import refusal
from liver_landmark.curves.formats import AnnotationError, read_annotation_bytes
from liver_landmark.curves.formats import annotation as limits
from liver_landmark.curves.formats.annotation import parse_json, parse_xml
from peak_memory import PEAK_MIB, needs_proc


def test_bytes_come_as_they_are(tmp_path):
    path = tmp_path / "a.json"
    path.write_bytes(b"\xef\xbb\xbf{}\r\n\0")
    assert read_annotation_bytes(path) == read_annotation_bytes(str(path)) == path.read_bytes()


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
def test_too_large_is_refused_by_its_size(parse, monkeypatch):
    monkeypatch.setattr(limits, "MAX_FILE_BYTES", 3)
    assert refusal(parse, b"<a/>", "frame.x") == "larger than the limit of 3 bytes"


@pytest.mark.parametrize("parse", [parse_json, parse_xml])
def test_too_much_text_is_refused_by_its_size(parse, monkeypatch):
    monkeypatch.setattr(limits, "MAX_TEXT_BYTES", 3)
    assert refusal(parse, b"<a/>", "frame.x") == "holds more than the limit of 3 bytes of text: split it"


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
        (parse_xml, b"<a>1, 2</a>"[:0] + b"<a/>", b'<a b=""/>'),
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
    assert parse_json(b'\xef\xbb\xbf \r\n{"a": [1, 2.5, true, null, "\\u00e9\xc3\xa9"]}\n', "frame.x") == {
        "a": [1, 2.5, True, None, "éé"]
    }
    assert parse_json(b"[" + b"9" * 5000 + b", 1e400, 12345678901234567]", "frame.x") == [
        float("inf"),
        float("inf"),
        12345678901234567.0,
    ]


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
    for head in (
        b"",
        b"\xef\xbb\xbf",
        b'<?xml version="1.0" encoding="UTF-8"?>\r\n',
        b"<!-- encoding='x' -->",
    ):
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
