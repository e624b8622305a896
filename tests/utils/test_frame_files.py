"""Reading frames: every kind of file gives the right pixels or one line that names it."""

from __future__ import annotations

import itertools
import os
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from hostile.picture_bytes import UPRIGHT, encoded
from liver_landmark.utils.frame_files import (
    FrameError,
    FrameLimits,
    _holds_every_row,
    decode_picture,
    read_frame,
)
from raw_sets.pictures import png_bomb, png_chunk

RGB = np.random.default_rng(0).integers(0, 256, (12, 20, 3), dtype=np.uint8)


def saved(tmp_path, image, name, **options):
    path = tmp_path / name
    image.save(path, **options)
    return path


def one_line_error(path, limits=None):
    with pytest.raises(FrameError) as caught:
        read_frame(path, limits)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.png", {}),
        ("a.bmp", {}),
        ("a.tiff", {}),
        ("a.tif", {"compression": "tiff_lzw"}),
        ("a.webp", {"lossless": True}),
    ],
)
def test_lossless_formats_come_back_exactly(tmp_path, name, options):
    frame = read_frame(saved(tmp_path, Image.fromarray(RGB), name, **options))
    np.testing.assert_array_equal(frame, RGB)
    assert frame.dtype == np.uint8
    assert frame.flags.writeable


def test_content_decides_not_the_name(tmp_path):
    path = saved(tmp_path, Image.fromarray(RGB), "b.jpg", quality=90).rename(tmp_path / "b.png")
    np.testing.assert_array_equal(read_frame(path), np.asarray(Image.open(path)))
    path = saved(tmp_path, Image.fromarray(RGB), "a.png").rename(tmp_path / "a.jpg")
    np.testing.assert_array_equal(read_frame(str(path)), RGB)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = saved(tmp_path, Image.fromarray(RGB), "a.png", exif=exif)
    np.testing.assert_array_equal(read_frame(path), UPRIGHT[orientation](RGB))
    # Decoding alone leaves it to be seen.
    picture = decode_picture(path.read_bytes(), "row 7")
    assert picture.size == (20, 12)
    assert picture.getexif()[0x0112] == orientation


GREY = RGB[..., 0]


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (Image.fromarray(GREY), np.stack([GREY] * 3, -1)),
        (Image.fromarray(np.dstack([GREY, GREY // 2]), "LA"), np.stack([GREY] * 3, -1)),
        (Image.fromarray(np.dstack([RGB, GREY]), "RGBA"), RGB),
        (Image.fromarray(GREY > 99), np.stack([(GREY > 99) * np.uint8(255)] * 3, -1)),
        (Image.fromarray(GREY.astype(np.uint16) * 257), np.stack([GREY] * 3, -1)),
        (Image.fromarray(np.full((4, 4), 300, np.uint16)), np.full((4, 4, 3), 1)),
    ],
    ids=["gray", "gray+alpha", "alpha", "1-bit", "16-bit", "16-bit rounds"],
)
def test_pixel_types(tmp_path, image, expected):
    np.testing.assert_array_equal(read_frame(saved(tmp_path, image, "a.png")), expected)


@pytest.mark.parametrize("transparency", [None, 3])
def test_palette_is_looked_up(tmp_path, transparency):
    indices = GREY % 8
    palette = np.random.default_rng(1).integers(0, 256, (256, 3), dtype=np.uint8)
    image = Image.fromarray(indices, "L")
    image.putpalette(palette.tobytes())
    options = {} if transparency is None else {"transparency": transparency}
    np.testing.assert_array_equal(read_frame(saved(tmp_path, image, "a.png", **options)), palette[indices])


def test_big_endian_16_bit_tiff(tmp_path):
    pixels = (GREY.astype(np.uint16) * 257).astype(">u2")
    image = Image.frombytes("I;16B", (20, 12), pixels.tobytes())
    np.testing.assert_array_equal(read_frame(saved(tmp_path, image, "a.tiff")), np.stack([GREY] * 3, -1))


def test_cmyk_is_not_inverted(tmp_path):
    bright = Image.new("RGB", (16, 16), (250, 120, 30))
    frame = read_frame(saved(tmp_path, bright.convert("CMYK"), "a.jpg", quality=98))
    np.testing.assert_allclose(frame.mean((0, 1)), (250, 120, 30), atol=4)


@pytest.mark.parametrize("mode", ["F", "I"])
def test_other_pixel_types_are_refused(tmp_path, mode):
    pixels = np.full((4, 4), 70_000, np.int32 if mode == "I" else np.float32)
    assert f"pixels of type {mode}" in one_line_error(saved(tmp_path, Image.fromarray(pixels), "a.tiff"))


@pytest.mark.parametrize(
    ("name", "quality"), [("a.jpg", 90), ("a.png", None), ("a.webp", 90), ("a.tiff", None)]
)
def test_truncated_files_fail_at_any_length(tmp_path, name, quality):
    image = Image.fromarray(np.random.default_rng(2).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    data = saved(tmp_path, image, name, **({"quality": quality} if quality else {})).read_bytes()
    cut = tmp_path / f"cut_{name}"
    for length in np.linspace(1, int(len(data) * 0.9), 15).astype(int):
        cut.write_bytes(data[:length])
        one_line_error(cut)


def test_any_bit_flipped_in_a_png_is_found(tmp_path):
    """Also where the rows still decode: to other pixels than were saved."""
    whole = saved(tmp_path, Image.fromarray(RGB), "a.png").read_bytes()
    path = tmp_path / "flipped.png"
    # The end chunk holds nothing.
    for place in range(len(whole) - 12):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << place % 8
        path.write_bytes(damaged)
        one_line_error(path)


def test_empty_missing_and_other_things(tmp_path):
    (tmp_path / "empty.jpg").touch()
    assert one_line_error(tmp_path / "empty.jpg").endswith("empty file")
    assert one_line_error(tmp_path / "missing.jpg").endswith("no such file")
    assert "a folder" in one_line_error(tmp_path)
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.jpg")
        assert "not a regular file" in one_line_error(tmp_path / "pipe.jpg")
    (tmp_path / "text.png").write_text("no picture")
    assert "not a readable picture of type JPEG, PNG" in one_line_error(tmp_path / "text.png")


@pytest.mark.parametrize("name", ["a.gif", "a.ppm", "a.eps", "a.tga"])
def test_formats_outside_the_list_are_refused(tmp_path, name):
    path = saved(tmp_path, Image.fromarray(RGB), name)
    Image.open(path).close()
    assert "not a readable picture" in one_line_error(path)


@pytest.mark.parametrize(("name", "options"), [("a.tiff", {}), ("a.webp", {}), ("a.png", {})])
def test_several_pictures_are_refused(tmp_path, name, options):
    pages = [Image.fromarray(np.roll(RGB, shift)) for shift in range(3)]
    path = saved(tmp_path, pages[0], name, save_all=True, append_images=pages[1:], **options)
    assert "holds 3 pictures" in one_line_error(path)


def test_limits_are_checked_before_decoding(tmp_path, monkeypatch):
    path = saved(tmp_path, Image.fromarray(RGB), "a.png")
    assert "larger than the limit of 100 bytes" in one_line_error(path, FrameLimits(max_file_bytes=100))
    np.testing.assert_array_equal(read_frame(path, FrameLimits(max_pixels=240)), RGB)

    def decoded(self):
        raise AssertionError("decoded")

    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", decoded)
    assert "20×12 px, more than the limit of 239 pixels" in one_line_error(path, FrameLimits(max_pixels=239))
    with pytest.raises(FrameError, match=r"^row 7: 20×12 px, more than the limit of 239 pixels"):
        decode_picture(path.read_bytes(), "row 7", FrameLimits(max_pixels=239))


# Where a pixel of an 8 × 8 tile comes in an interlaced PNG, as the specification draws it (8.2).
ADAM7 = """
1 6 4 6 2 6 4 6
7 7 7 7 7 7 7 7
5 6 5 6 5 6 5 6
7 7 7 7 7 7 7 7
3 6 4 6 3 6 4 6
7 7 7 7 7 7 7 7
5 6 5 6 5 6 5 6
7 7 7 7 7 7 7 7
"""
PASS_OF = np.array([line.split() for line in ADAM7.split("\n")[1:9]], dtype=int)


def rows_of(samples, depth, interlaced):
    """A PNG's rows, each with no filter: (H, W, C) samples of `depth` bits."""
    height, width, _ = samples.shape
    passes = np.tile(PASS_OF, (height // 8 + 1, width // 8 + 1))[:height, :width]
    rows = []
    for number in range(1, 8) if interlaced else [0]:
        for y in range(height):
            row = samples[y][(passes[y] == number) | (number == 0)].ravel()
            if row.size:
                bits = (row[:, None] >> np.arange(depth)[::-1] & 1).astype(np.uint8)
                rows.append(b"\0" + np.packbits(bits).tobytes())
    return rows


def png_of_rows(width, height, depth, colors, interlaced, rows, pieces=1):
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colors, 0, 0, interlaced))
    palette = png_chunk(b"PLTE", bytes(3 * 2**depth)) if colors == 3 else b""
    packed = zlib.compress(rows)
    cuts = np.linspace(0, len(packed), pieces + 1).astype(int)
    pixels = b"".join(png_chunk(b"IDAT", packed[a:b]) for a, b in itertools.pairwise(cuts))
    return b"\x89PNG\r\n\x1a\n" + header + palette + pixels + png_chunk(b"IEND", b"")


PNG_TYPES = [(depth, 0) for depth in (1, 2, 4, 8, 16)] + [(depth, 3) for depth in (1, 2, 4, 8)]
PNG_TYPES += [(depth, colors) for depth in (8, 16) for colors in (2, 4, 6)]


@given(
    st.sampled_from(PNG_TYPES),
    st.integers(1, 20),
    st.integers(1, 20),
    st.booleans(),
    st.booleans(),
    st.integers(1, 4),
    st.integers(0, 2**32 - 1),
    st.data(),
)
@settings(max_examples=150, deadline=None)
def test_a_png_whose_stream_holds_too_few_rows_is_refused(
    kind, width, height, interlaced, black, pieces, seed, draw
):
    """Of any type of pixel, its last checksum right; where it ends with a row, Pillow does not complain."""
    depth, colors = kind
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colors]
    samples = np.random.default_rng(seed).integers(0, 2**depth, (height, width, channels))
    samples *= not black
    rows = rows_of(samples, depth, interlaced)
    # Bytes behind the last row do no harm.
    behind = b"abc" * (seed % 2)
    whole = png_of_rows(width, height, depth, colors, interlaced, b"".join(rows) + behind, pieces)
    picture = decode_picture(whole, "row 7")
    assert picture.size == (width, height)
    if colors == 0 and depth in (8, 16):
        np.testing.assert_array_equal(np.asarray(picture), samples[..., 0])
    kept = draw.draw(st.integers(0, len(rows) - 1))
    part = rows[kept][: draw.draw(st.sampled_from([0, 0, 1]))]
    cut = png_of_rows(width, height, depth, colors, interlaced, b"".join(rows[:kept]) + part, pieces)
    with pytest.raises(FrameError, match=r"^row 7: "):
        decode_picture(cut, "row 7")


def test_only_pngs_that_end_black_are_inflated_twice(monkeypatch):
    monkeypatch.setattr(
        "liver_landmark.utils.frame_files._holds_every_row", lambda data: pytest.fail("inflated")
    )
    decode_picture(encoded(RGB, "PNG"), "row 7")


def test_rows_are_counted_in_little_memory():
    rows = bytes(2**12 * (2**12 + 1))
    data = png_of_rows(2**12, 2**12, 8, 0, 0, rows)
    tracemalloc.start()
    assert _holds_every_row(data)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 2**20


@pytest.mark.parametrize("side", [9_000, 12_000, 60_000])
def test_bombs_are_refused_in_one_line(tmp_path, side, recwarn):
    path = tmp_path / "bomb.png"
    path.write_bytes(png_bomb(side, side))
    one_line_error(path)
    assert not recwarn.list


VALID = [encoded(RGB, file_format) for file_format in ("JPEG", "PNG", "WEBP", "TIFF", "BMP")]


@given(st.sampled_from(VALID) | st.binary(min_size=1, max_size=300), st.data())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_damaged_files_give_a_frame_or_one_line(tmp_path, data, draw):
    damaged = bytearray(data)
    for _ in range(draw.draw(st.integers(1, 6))):
        damaged[draw.draw(st.integers(0, len(data) - 1))] = draw.draw(st.integers(0, 255))
    path = tmp_path / "damaged"
    path.write_bytes(bytes(damaged))
    try:
        frame = read_frame(path, FrameLimits(max_pixels=10_000))
    except FrameError as error:
        assert "\n" not in str(error)  # noqa: PT017
        assert str(error).startswith(f"{path}: ")  # noqa: PT017
    else:
        assert frame.ndim == 3
        assert frame.shape[2] == 3
        assert frame.dtype == np.uint8


@pytest.mark.parametrize(
    ("pixels", "mode", "suffix"),
    [
        (np.arange(12, dtype=np.uint8).reshape(3, 4), "L", "PNG"),
        (np.arange(12, dtype=np.uint16).reshape(3, 4) * 5000, "I;16", "PNG"),
        (np.linspace(0, 1, 12, dtype=np.float32).reshape(3, 4), "F", "TIFF"),
        (RGB, "RGB", "PNG"),
    ],
)
def test_bytes_are_decoded_to_the_numbers_they_hold(pixels, mode, suffix):
    picture = decode_picture(encoded(pixels, suffix), "row 7")
    assert picture.mode == mode
    np.testing.assert_array_equal(np.asarray(picture), pixels)


@pytest.mark.parametrize("data", [b"", b"no picture", b"\xff\xd8\xff\xe0 cut"])
def test_what_cannot_be_decoded_is_called_by_its_name(data):
    with pytest.raises(FrameError, match=r"^row 7: ") as caught:
        decode_picture(data, "row 7")
    assert "\n" not in str(caught.value)


def test_the_real_frame(p2ilf_sample):
    assert read_frame(p2ilf_sample / "images" / "patient1_12.jpg").shape == (1080, 1920, 3)
