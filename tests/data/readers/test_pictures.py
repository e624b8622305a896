"""Pictures as they go into a set: upright, without metadata, otherwise as they came."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, ImageOps, JpegImagePlugin

from liver_landmark.data.readers.pictures import LIMITS, digest_picture, read_picture
from liver_landmark.utils.frame_files import FrameError, read_frame
from raw_sets.pictures import (
    SECRET,
    add_jpeg_metadata,
    add_png_metadata,
    picture,
    png_bomb,
    png_chunk,
    turn_by_exif,
)

WIDTH, HEIGHT = 48, 32
ORIENTATION = 0x0112
RGB = picture(5, WIDTH, HEIGHT)


def save(path, rgb=RGB, mode="RGB", **options):
    Image.fromarray(rgb).convert(mode).save(path, **options)
    return path


def with_orientation(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return exif


def decode(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB"))


@pytest.mark.parametrize(("suffix", "add"), [(".jpg", add_jpeg_metadata), (".png", add_png_metadata)])
def test_upright_frames_keep_their_bytes_and_lose_their_metadata(tmp_path, suffix, add):
    path = save(tmp_path / f"frame{suffix}")
    plain = path.read_bytes()
    assert read_picture(path).data == plain
    add(path)
    assert SECRET in path.read_bytes()
    got = read_picture(path)
    assert got.data == plain
    assert (got.suffix, got.width, got.height, got.orientation, got.converted) == (suffix, 48, 32, 1, False)
    before = digest_picture(path)
    path.write_bytes(plain)
    assert digest_picture(path).content == before.content
    assert digest_picture(path).file != before.file


@pytest.mark.parametrize("sampling", [0, 1, 2])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_turned_jpegs_are_stored_as_they_are_seen(tmp_path, orientation, sampling):
    path = save(tmp_path / "frame.jpg", exif=with_orientation(orientation), quality=85, subsampling=sampling)
    got = read_picture(path)
    with Image.open(path) as image:
        seen = np.asarray(ImageOps.exif_transpose(image)).astype(int)
        tables, stored_size = image.quantization, image.size
    assert (got.height, got.width) == seen.shape[:2]
    assert got.stored_size == stored_size
    assert got.orientation == orientation
    # Encoded with the same steps the same picture comes out, but for rounding and chroma.
    assert np.abs(decode(got.data).astype(int) - seen).mean() < 2
    with Image.open(io.BytesIO(got.data)) as image:
        assert image.getexif() == {}
        for number, table in tables.items():
            square = np.array(table).reshape(8, 8)
            expected = square.T if orientation >= 5 else square
            np.testing.assert_array_equal(np.array(image.quantization[number]).reshape(8, 8), expected)
        expected = 0 if orientation >= 5 and sampling == 1 else sampling
        assert JpegImagePlugin.get_sampling(image) == expected


def test_a_turned_frame_keeps_its_color_profile_and_loses_its_comment(tmp_path):
    path = save(tmp_path / "frame.jpg", exif=with_orientation(6), icc_profile=b"profile", comment=b"name")
    data = read_picture(path).data
    with Image.open(io.BytesIO(data)) as image:
        assert image.info["icc_profile"] == b"profile"
    assert b"name" not in data


def test_gray_jpegs_stay_gray(tmp_path):
    path = save(tmp_path / "frame.jpg", mode="L", exif=with_orientation(8))
    got = read_picture(path)
    with Image.open(io.BytesIO(got.data)) as image:
        assert (image.mode, image.size) == ("L", (HEIGHT, WIDTH))


@pytest.mark.parametrize(
    ("name", "mode", "options"),
    [
        ("frame.bmp", "RGB", {}),
        ("frame.tif", "RGB", {}),
        ("frame.webp", "RGB", {"lossless": True}),
        ("frame.jpg", "CMYK", {}),
        ("frame.png", "P", {}),
        ("frame.png", "RGBA", {}),
        ("frame.png", "1", {}),
        ("frame.png", "RGB", {"exif": with_orientation(6)}),
        ("frame.tif", "RGB", {"exif": with_orientation(3)}),
    ],
)
def test_other_pictures_become_what_a_frame_is_read_as(tmp_path, name, mode, options):
    path = save(tmp_path / name, mode=mode, **options)
    got = read_picture(path)
    assert (got.suffix, got.converted) == (".png", True)
    np.testing.assert_array_equal(decode(got.data), read_frame(path))
    assert (got.height, got.width) == read_frame(path).shape[:2]


def test_sixteen_bits_become_eight(tmp_path):
    values = np.arange(WIDTH * HEIGHT, dtype=np.uint16).reshape(HEIGHT, WIDTH) * 42
    path = tmp_path / "frame.png"
    Image.fromarray(values).save(path)
    np.testing.assert_array_equal(decode(read_picture(path).data), read_frame(path))


def test_what_cannot_be_vouched_for_is_encoded_anew(tmp_path):
    """Bytes that the decoder skips may be anything: none of them gets into the set."""
    path = save(tmp_path / "frame.jpg")
    data = path.read_bytes()
    path.write_bytes(data[:20] + b"name" + data[20:])
    got = read_picture(path)
    assert b"name" not in got.data
    np.testing.assert_array_equal(decode(got.data), read_frame(path))


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
@pytest.mark.parametrize("share", [0.2, 0.6, 0.9])
def test_truncated_pictures_are_refused(tmp_path, suffix, share):
    path = save(tmp_path / f"frame{suffix}", picture(5, 200, 150))
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(FrameError, match="truncated") as caught:
        read_picture(path)
    assert "\n" not in str(caught.value)


def test_what_unpacks_to_gigabytes_is_refused_by_its_header(tmp_path):
    path = tmp_path / "frame.png"
    path.write_bytes(png_bomb())
    with pytest.raises(FrameError, match=r"3600000000 pixels|60000×60000"):
        read_picture(path)
    assert digest_picture(path).pixels == 60_000**2
    with path.open("wb") as file:
        file.truncate(LIMITS.max_file_bytes + 1)
    with pytest.raises(FrameError, match="larger than the limit"):
        read_picture(path)
    assert digest_picture(path).content is None


@pytest.mark.parametrize(("content", "reason"), [(b"", "empty"), (b"GIF89a", "not a readable picture")])
def test_what_is_no_picture_is_refused(tmp_path, content, reason):
    path = tmp_path / "frame.jpg"
    path.write_bytes(content)
    with pytest.raises(FrameError, match=reason):
        read_picture(path)
    (tmp_path / "folder.jpg").mkdir()
    for missing, reason in (("none.jpg", "no such file"), ("folder.jpg", "a folder")):
        with pytest.raises(FrameError, match=reason):
            read_picture(tmp_path / missing)


def test_a_broken_orientation_is_not_guessed(tmp_path):
    path = save(tmp_path / "frame.jpg", exif=with_orientation(9))
    assert read_picture(path).orientation == 1
    path = save(tmp_path / "frame.png")
    data = path.read_bytes()
    path.write_bytes(data[:33] + png_chunk(b"tEXt", b"Raw profile type exif\0\nexif\n4\nno hex") + data[33:])
    with pytest.raises(FrameError, match="EXIF data cannot be read") as caught:
        read_picture(path)
    assert "\n" not in str(caught.value)


def test_the_same_frame_held_otherwise_is_told_from_others(tmp_path):
    path = save(tmp_path / "frame.jpg", quality=95)
    upright = decode(read_picture(path).data).astype(int)
    turn_by_exif(path, 6)
    got = read_picture(path)
    assert (got.width, got.height) == (WIDTH, HEIGHT)
    difference = np.abs(decode(got.data).astype(int) - upright).mean()
    assert difference < 5 < np.abs(upright[::-1, ::-1] - upright).mean()
