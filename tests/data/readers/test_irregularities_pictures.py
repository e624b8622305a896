"""Irregular pictures: damaged, enormous, turned by EXIF, carrying patient data, there more than once."""

import io

import numpy as np
import pytest
from PIL import Image

from liver_landmark.data.readers import CustomOptions, L3dOptions
from raw_sets import l3d, labelme
from raw_sets.building import NAMED_SPLITS, build, check_as_told, check_left_out, decoded
from raw_sets.pictures import (
    SECRET,
    add_jpeg_metadata,
    add_png_metadata,
    jpeg_entropy_data,
    picture,
    png_bomb,
    truncate,
    turn_by_exif,
    write_jpeg,
    write_png,
)

L3D = ("l3d", L3dOptions())
CUSTOM = ("custom", CustomOptions("labelme"))
SPLITS = NAMED_SPLITS["anna"]


@pytest.mark.parametrize("share", [0.02, 0.3, 0.7, 0.95])
def test_a_truncated_jpeg(tmp_path, share):
    raw = l3d.write_l3d(tmp_path / "raw", width=160, height=90)
    frame = raw.frames[1]
    truncate(frame.picture, share)
    check_left_out(raw, tmp_path / "built", frame, frame.picture, "", *L3D)


@pytest.mark.parametrize(
    ("data", "reason"),
    [(png_bomb(), "60000"), (b"", "empty"), (b"<html>not found</html>", "not a readable picture")],
)
def test_a_file_that_is_no_frame(tmp_path, data, reason):
    raw = l3d.write_l3d(tmp_path / "raw")
    frame = raw.frames[1]
    frame.picture.write_bytes(data)
    check_left_out(raw, tmp_path / "built", frame, frame.picture, reason, *L3D)


@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_exif_turns_the_picture_and_not_the_points(tmp_path, orientation):
    """Annotated as labelme shows it: upright."""
    raw = l3d.write_l3d(tmp_path / "raw", width=64, height=48)
    frame = raw.frames[0]
    upright = decoded(frame.picture.read_bytes()).astype(float)
    turn_by_exif(frame.picture, orientation)
    stored = frame.picture.read_bytes()
    built = build(raw, tmp_path / "built", *L3D)
    check_as_told(built, raw.frames)
    assert built.report["tolerated"] == {"exif_turned": 1}
    data = built.row(frame)["image"]["bytes"]
    with Image.open(frame.picture) as image:
        assert image.getexif()[0x0112] == orientation
    # Turned for good, by JPEG's precision; what every decoder shows is upright.
    assert np.abs(decoded(data).astype(float) - upright).mean() < 4
    assert np.abs(decoded(data)[::-1, ::-1].astype(float) - upright).mean() > 20
    assert b"Exif" not in data
    assert b"Exif" in stored


@pytest.mark.parametrize("orientation", [6, 8])
def test_points_on_the_stored_pixels_of_a_turned_picture(tmp_path, orientation):
    raw = l3d.write_l3d(tmp_path / "raw")
    frame = raw.frames[0]
    turn_by_exif(frame.picture, orientation)
    l3d.edit_json(frame, lambda document: document.update(imageWidth=36, imageHeight=64))
    check_left_out(raw, tmp_path / "built", frame, frame.annotation, "EXIF", *L3D)


def test_jpeg_metadata_goes_and_the_picture_stays(tmp_path):
    raw = l3d.write_l3d(tmp_path / "raw")
    frame = raw.frames[0]
    without = frame.picture.read_bytes()
    add_jpeg_metadata(frame.picture)
    assert frame.picture.read_bytes().count(SECRET) == 6
    built = build(raw, tmp_path / "built", *L3D)
    check_as_told(built, raw.frames)
    data = built.row(frame)["image"]["bytes"]
    assert jpeg_entropy_data(data) == jpeg_entropy_data(without)
    for trace in (b"Exif", b"xmpmeta", b"Photoshop", SECRET):
        assert trace not in data
    assert all(SECRET not in path.read_bytes() for path in built.folder.rglob("*") if path.is_file())
    np.testing.assert_array_equal(built.picture(frame), decoded(without))


def test_png_metadata_goes_and_the_picture_stays(tmp_path):
    raw = labelme.write_labelme(tmp_path / "raw", suffix=".png")
    frame = raw.frames[0]
    without = frame.picture.read_bytes()
    add_png_metadata(frame.picture)
    assert frame.picture.read_bytes() != without
    built = build(raw, tmp_path / "built", *CUSTOM, splits=SPLITS)
    check_as_told(built, raw.frames)
    assert built.row(frame)["image"]["bytes"] == without
    assert built.row(raw.frames[1])["image"]["bytes"] == raw.frames[1].picture.read_bytes()


@pytest.mark.parametrize("orientation", [3, 6])
def test_a_png_that_exif_turns(tmp_path, orientation):
    raw = labelme.write_labelme(tmp_path / "raw", suffix=".png", width=64, height=48)
    frame = raw.frames[0]
    with Image.open(frame.picture) as image:
        upright = np.asarray(image)
        turn = {3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_90}[orientation]
        stored = image.transpose(turn)
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(frame.picture, exif=exif)
    built = build(raw, tmp_path / "built", *CUSTOM, splits=SPLITS)
    check_as_told(built, raw.frames)
    np.testing.assert_array_equal(built.picture(frame), upright)
    with Image.open(frame.picture) as image:
        assert image.getexif()[0x0112] == orientation


@pytest.mark.parametrize(
    ("suffix", "options"), [(".bmp", {}), (".tiff", {}), (".webp", {"lossless": True}), (".png", {})]
)
def test_other_formats_and_pixel_types_become_what_all_can_read(tmp_path, suffix, options):
    raw = labelme.write_labelme(tmp_path / "raw")
    frame = labelme.write_frame(raw.root / "anna", "anna", "anna_9", 77, suffix=".png")
    pixels = np.asarray(Image.open(frame.picture))
    frame.picture.unlink()
    frame.picture = frame.picture.with_suffix(suffix)
    # An alpha channel, where the format has one, is not the frame's.
    mode = "RGBA" if suffix in (".png", ".webp", ".tiff") else "RGB"
    Image.fromarray(pixels).convert(mode).save(frame.picture, **options)
    raw.frames.append(frame)
    built = build(raw, tmp_path / "built", *CUSTOM, splits=SPLITS)
    check_as_told(built, raw.frames)
    np.testing.assert_array_equal(built.picture(frame), pixels)
    with Image.open(io.BytesIO(built.row(frame)["image"]["bytes"])) as image:
        assert (image.format, image.mode) == ("PNG", "RGB")
    assert built.report["tolerated"] == {"pictures_converted": 1}


def _the_same(source, target):
    target.write_bytes(source.read_bytes())


def _the_same_with_metadata(source, target):
    _the_same(source, target)
    add_jpeg_metadata(target)


@pytest.mark.parametrize("copy", [_the_same, _the_same_with_metadata])
@pytest.mark.parametrize(
    ("kept", "left_out"),
    [("test", "train"), ("test", "validation"), ("validation", "train"), ("train", "train")],
)
def test_a_picture_that_is_there_twice_stays_where_it_is_tested(tmp_path, copy, kept, left_out):
    raw = l3d.write_l3d(tmp_path / "raw")
    first, double = raw.of_split(kept)[0], raw.of_split(left_out)[-1]
    copy(first.picture, double.picture)
    check_left_out(raw, tmp_path / "built", double, double.picture, raw.relative(first.picture), *L3D)


def test_pictures_that_only_look_alike_are_two(tmp_path):
    """Neighbors in a video may differ by little: only the very same picture is one."""
    raw = l3d.write_l3d(tmp_path / "raw")
    pixels = picture(1, 64, 36)
    write_jpeg(raw.frames[0].picture, pixels)
    write_jpeg(raw.frames[1].picture, pixels + np.uint8(2))
    check_as_told(build(raw, tmp_path / "built", *L3D), raw.frames)


def test_a_frame_larger_than_its_label(tmp_path):
    raw = labelme.write_labelme(tmp_path / "raw", suffix=".png")
    frame = raw.frames[0]
    write_png(frame.picture, picture(3, 128, 72))
    check_left_out(raw, tmp_path / "built", frame, frame.annotation, "128×72", *CUSTOM, splits=SPLITS)
