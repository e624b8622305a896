"""Metadata leaves JPEG and PNG files, and nothing else does."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from liver_landmark.data.readers.pictures import bare_picture

RGB = np.random.default_rng(3).integers(0, 255, (21, 34, 3), dtype=np.uint8)
ICC = b"\0" * 36 + b"acsp" + bytes(200)


def encoded(mode: str = "RGB", kind: str = "JPEG", **options: object) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(RGB).convert(mode).save(stream, kind, **options)
    return stream.getvalue()


JPEGS = {
    "baseline": encoded(quality=90),
    "progressive": encoded(progressive=True, quality=60),
    "restart markers": encoded(restart_marker_blocks=1),
    "full chroma": encoded(subsampling=0, optimize=True),
    "gray": encoded("L"),
    "CMYK with Adobe's segment": encoded("CMYK"),
    "color profile": encoded(icc_profile=ICC),
}
PNGS = {
    "RGB": encoded(kind="PNG"),
    "gray": encoded("L", "PNG"),
    "palette": encoded("P", "PNG"),
    "alpha": encoded("RGBA", "PNG"),
    "color profile": encoded(kind="PNG", icc_profile=ICC),
    "resolution": encoded(kind="PNG", dpi=(300, 300)),
}


def bare(data: bytes) -> bytes:
    picture = bare_picture(data)
    assert picture is not None
    assert (picture.width, picture.height) == (34, 21)
    assert picture.whole == (picture.joined() == data)
    return picture.joined()


@pytest.mark.parametrize("data", [*JPEGS.values(), *PNGS.values()], ids=[*JPEGS, *PNGS])
def test_a_file_without_metadata_stays_byte_for_byte(data):
    assert bare(data) == data


def segment(marker: int, payload: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(payload) + 2) + payload


def jpeg_borders(data: bytes) -> list[int]:
    """Where a segment may be put in: before each marker segment after JFIF's own, up to the scan."""
    position, borders = 2, []
    while True:
        if data[position + 1] != 0xE0:
            borders.append(position)
        if data[position + 1] == 0xDA:
            return borders
        position += 2 + struct.unpack_from(">H", data, position + 2)[0]


PAYLOADS = st.one_of(
    st.binary(max_size=60),
    st.sampled_from(
        [
            b"Exif\0\0II*\0\x08\0\0\0",
            b"http://ns.adobe.com/xap/1.0/\0<x:xmpmeta/>",
            b"Photoshop 3.0\x008BIM",
            b"MPF\0II*\0",
            b"JFXX\0\x10",
            b"name \xff\xd9 \xff\xda \xff\xd8 in it",
        ]
    ),
)
DROPPED = [0xE1, 0xE2, 0xE3, 0xEC, 0xED, 0xEF, 0xFE]


@given(
    st.sampled_from(sorted(JPEGS)),
    st.lists(st.tuples(st.sampled_from(DROPPED), PAYLOADS), max_size=4),
    st.data(),
)
@settings(max_examples=150, deadline=None)
def test_what_is_put_into_a_jpeg_is_taken_out(name, segments, data):
    original = changed = JPEGS[name]
    for marker, payload in segments:
        place = data.draw(st.sampled_from(jpeg_borders(changed)))
        changed = changed[:place] + segment(marker, payload) + changed[place:]
    changed += data.draw(st.binary(max_size=40))
    assert bare(changed) == original


def test_fill_bytes_and_comments_between_scans_are_followed():
    progressive = JPEGS["progressive"]
    second_scan = progressive.index(b"\xff\xda", progressive.index(b"\xff\xda") + 2)
    tables = progressive.rindex(b"\xff\xc4", 0, second_scan)
    changed = progressive[:tables] + segment(0xFE, b"name") + progressive[tables:]
    assert bare(changed) == progressive
    filled = progressive[:2] + b"\xff\xff" + progressive[2:]
    np.testing.assert_array_equal(pixels(bare(filled)), pixels(progressive))


def pixels(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image)


def test_thumbnails_go_and_the_rest_of_jfif_stays():
    data = JPEGS["baseline"]
    assert data[6:11] == b"JFIF\0"
    thumbnail = b"\x02\x01" + b"secret"
    with_thumbnail = data[:2] + segment(0xE0, data[6:18] + thumbnail) + data[20:]
    assert bare(with_thumbnail) == data


@given(
    st.sampled_from(sorted(PNGS)),
    st.binary(max_size=30),
    st.sampled_from([b"tEXt", b"zTXt", b"iTXt", b"eXIf", b"tIME", b"prVt", b"caBX"]),
)
@settings(max_examples=60, deadline=None)
def test_what_is_put_into_a_png_is_taken_out(name, payload, kind):
    original = PNGS[name]
    chunk = struct.pack(">I", len(payload)) + kind + payload + struct.pack(">I", zlib.crc32(kind + payload))
    for place in (33, len(original) - 12):  # behind the header, before the end
        assert bare(original[:place] + chunk + original[place:] + payload) == original


@given(
    st.one_of(
        st.binary(max_size=80),
        st.tuples(
            st.sampled_from([*JPEGS.values(), *PNGS.values()]), st.integers(0, 900), st.binary(max_size=3)
        ).map(lambda parts: parts[0][: parts[1]] + parts[2] + parts[0][parts[1] + 2 :]),
    )
)
@settings(max_examples=400, deadline=None)
def test_nothing_is_made_up_of_broken_files(data):
    picture = bare_picture(data)
    if picture is not None:
        assert len(picture.joined()) <= len(data)
        assert picture.whole == (picture.joined() == data)


def test_other_formats_are_not_taken_apart():
    for kind in ("BMP", "TIFF", "WEBP"):
        assert bare_picture(encoded(kind=kind)) is None
    assert bare_picture(b"") is None
