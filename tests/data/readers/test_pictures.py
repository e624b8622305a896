"""Pictures as they go into a set: upright, without metadata, else as they came; palettes of masks."""

from __future__ import annotations

import io
import struct

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps, JpegImagePlugin

from liver_landmark.data.readers import CustomOptions, L3dOptions
from liver_landmark.data.readers.pictures import (
    LIMITS,
    PALETTES,
    PaletteError,
    bare_picture,
    digest_picture,
    parse_palette,
    read_palette_mask,
    read_picture,
)
from liver_landmark.model.landmarks_liver_landmark import DEFAULT_LANDMARKS
from liver_landmark.utils.frame_files import FrameError, read_frame
from raw_sets import l3d, labelme, llsd
from raw_sets.building import NAMED_SPLITS, build, check_as_told, check_left_out, decoded
from raw_sets.pictures import (
    SECRET,
    add_jpeg_metadata,
    add_png_metadata,
    jpeg_segment,
    picture,
    png_bomb,
    png_chunk,
    turn_by_exif,
    write_jpeg,
    write_png,
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
    assert np.abs(decoded(got.data).astype(int) - seen).mean() < 2
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
    ("suffix", "mode", "options"),
    [
        (".bmp", "RGB", {}),
        (".tif", "RGB", {}),
        (".webp", "RGB", {"lossless": True}),
        (".jpg", "CMYK", {}),
        *((".png", mode, {}) for mode in ("P", "RGBA", "1", "I;16")),
        (".png", "RGB", {"exif": with_orientation(6)}),
        (".tif", "RGB", {"exif": with_orientation(3)}),
    ],
)
def test_other_pictures_become_what_a_frame_is_read_as(tmp_path, suffix, mode, options):
    values = np.arange(WIDTH * HEIGHT, dtype=np.uint16).reshape(HEIGHT, WIDTH) * 42 if mode == "I;16" else RGB
    path = save(tmp_path / f"frame{suffix}", values, mode=mode, **options)
    got = read_picture(path)
    assert (got.suffix, got.converted) == (".png", True)
    np.testing.assert_array_equal(decoded(got.data), read_frame(path))
    assert (got.height, got.width) == read_frame(path).shape[:2]


def test_what_cannot_be_vouched_for_is_encoded_anew(tmp_path):
    """Bytes that the decoder skips may be anything: none of them gets into the set."""
    path = save(tmp_path / "frame.jpg")
    data = path.read_bytes()
    path.write_bytes(data[:20] + b"name" + data[20:])
    got = read_picture(path)
    assert b"name" not in got.data
    np.testing.assert_array_equal(decoded(got.data), read_frame(path))


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_truncated_pictures_and_what_is_none_are_refused(tmp_path, suffix):
    path = save(tmp_path / f"frame{suffix}", picture(5, 200, 150))
    whole = path.read_bytes()
    contents = {whole[: int(share * len(whole))]: "truncated" for share in (0.2, 0.6, 0.9)}
    for content, reason in (contents | {b"": "empty", b"GIF89a": "not a readable picture"}).items():
        path.write_bytes(content)
        with pytest.raises(FrameError, match=reason) as caught:
            read_picture(path)
        assert "\n" not in str(caught.value)
    for place, reason in ((tmp_path / "none.jpg", "no such file"), (tmp_path, "a folder")):
        with pytest.raises(FrameError, match=reason):
            read_picture(place)


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


def test_a_broken_orientation_is_not_guessed(tmp_path):
    path = save(tmp_path / "frame.jpg", exif=with_orientation(9))
    assert read_picture(path).orientation == 1
    path = save(tmp_path / "frame.png")
    data = path.read_bytes()
    path.write_bytes(data[:33] + png_chunk(b"tEXt", b"Raw profile type exif\0\nexif\n4\nno hex") + data[33:])
    with pytest.raises(FrameError, match="EXIF data cannot be read") as caught:
        read_picture(path)
    assert "\n" not in str(caught.value)


NOISE = np.random.default_rng(3).integers(0, 255, (21, 34, 3), dtype=np.uint8)
ICC = b"\0" * 36 + b"acsp" + bytes(200)


def encoded(mode: str = "RGB", kind: str = "JPEG", pixels: np.ndarray = NOISE, **options: object) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(stream, kind, **options)
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
        changed = changed[:place] + jpeg_segment(marker, payload) + changed[place:]
    changed += data.draw(st.binary(max_size=40))
    assert bare(changed) == original


def test_fill_bytes_and_comments_between_scans_are_followed():
    progressive = JPEGS["progressive"]
    second_scan = progressive.index(b"\xff\xda", progressive.index(b"\xff\xda") + 2)
    tables = progressive.rindex(b"\xff\xc4", 0, second_scan)
    changed = progressive[:tables] + jpeg_segment(0xFE, b"name") + progressive[tables:]
    assert bare(changed) == progressive
    filled = progressive[:2] + b"\xff\xff" + progressive[2:]
    np.testing.assert_array_equal(decoded(bare(filled)), decoded(progressive))


def test_thumbnails_go_and_the_rest_of_jfif_stays():
    data = JPEGS["baseline"]
    assert data[6:11] == b"JFIF\0"
    thumbnail = b"\x02\x01" + b"secret"
    with_thumbnail = data[:2] + jpeg_segment(0xE0, data[6:18] + thumbnail) + data[20:]
    assert bare(with_thumbnail) == data


@given(
    st.sampled_from(sorted(PNGS)),
    st.binary(max_size=30),
    st.sampled_from([b"tEXt", b"zTXt", b"iTXt", b"eXIf", b"tIME", b"prVt", b"caBX"]),
)
@settings(max_examples=60, deadline=None)
def test_what_is_put_into_a_png_is_taken_out(name, payload, kind):
    original = PNGS[name]
    chunk = png_chunk(kind, payload)
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


MASK_WIDTH, MASK_HEIGHT, STROKE_PX = 320, 180, 9
COLORS = {"masks_gt": llsd.EXACT, "masks_original": llsd.ORIGINAL, "p2ilf": llsd.P2ILF}


LINES = {
    "ridge": [(20, 40), (150, 60), (300, 35)],
    "silhouette": [(20, 90), (160, 80), (300, 100)],
    "ligament": [(30, 140), (140, 150), (290, 130)],
}


def draw(colors, *, antialiased=False, stroke_px=STROKE_PX) -> np.ndarray:
    line = cv2.LINE_AA if antialiased else cv2.LINE_8
    landmarks = [{"category": name, "points": LINES[name]} for name in colors]
    return llsd.exact_mask(landmarks, MASK_WIDTH, MASK_HEIGHT, colors, stroke_px, line)


def true_mask(names=tuple(LINES)) -> np.ndarray:
    gray = draw({name: (DEFAULT_LANDMARKS.label2id[name],) * 3 for name in names})
    return gray[..., 0]


def check_same_strokes(mask: np.ndarray, expected: np.ndarray) -> None:
    """Equal but for a px at the strokes' edges."""
    for landmark in (1, 2, 3):
        ours, true = (mask == landmark).astype(np.uint8), (expected == landmark).astype(np.uint8)
        disk = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5))
        assert not (ours & ~cv2.dilate(true, disk)).any()
        assert not (cv2.erode(true, disk) & ~ours).any()


def test_exact_colors_are_read_pixel_by_pixel():
    for names in (("ridge",), ("ligament", "silhouette"), tuple(LINES)):
        colors = {name: COLORS["masks_gt"][name] for name in names}
        np.testing.assert_array_equal(read_palette_mask(draw(colors), PALETTES["masks_gt"]), true_mask(names))
    empty = np.zeros((MASK_HEIGHT, MASK_WIDTH, 3), np.uint8)
    for palette in PALETTES.values():
        assert not read_palette_mask(empty, palette).any()


@pytest.mark.parametrize("name", ["masks_original", "p2ilf"])
@pytest.mark.parametrize("antialiased", [False, True])
@pytest.mark.parametrize("quality", [None, 95, 75, 50])
def test_hand_drawn_masks_keep_their_strokes(name, antialiased, quality):
    rgb = draw(COLORS[name], antialiased=antialiased)
    rgb = rgb if quality is None else decoded(encoded("RGB", pixels=rgb, quality=quality))
    check_same_strokes(read_palette_mask(rgb, PALETTES[name]), true_mask())


@given(st.lists(st.integers(-35, 35), min_size=9, max_size=9), st.sampled_from(["masks_original", "p2ilf"]))
@settings(max_examples=30, deadline=None)
def test_colors_may_be_a_little_off(offsets, name):
    off = {
        landmark: np.clip(np.add(color, offset), 0, 255)
        for (landmark, color), offset in zip(COLORS[name].items(), np.reshape(offsets, (3, 3)), strict=True)
    }
    check_same_strokes(read_palette_mask(draw(off, antialiased=True), PALETTES[name]), true_mask())


def test_the_originals_draw_the_ridge_in_green_too():
    green = {"ridge": (0, 255, 0)}
    check_same_strokes(read_palette_mask(draw(green), PALETTES["masks_original"]), true_mask(("ridge",)))


def test_red_is_what_the_palette_says():
    red = draw({"ridge": (255, 0, 0)})
    classes = {name: set(np.unique(read_palette_mask(red, palette))) for name, palette in PALETTES.items()}
    assert classes == {"masks_gt": {0, 1}, "p2ilf": {0, 1}, "masks_original": {0, 3}}


def one_pixel_off() -> np.ndarray:
    rgb = draw(COLORS["masks_gt"])
    rgb[7, 5] = (255, 1, 0)
    return rgb


def in_pieces() -> np.ndarray:
    """What survives the opening, piece by piece, would take tracing minutes."""
    square = np.zeros((10, 10, 3), np.uint8)
    square[2:6, 2:6] = (255, 0, 0)
    return np.tile(square, (20, 20, 1))


def exact_jpeg() -> np.ndarray:
    return decoded(encoded("RGB", pixels=draw(COLORS["masks_gt"]), quality=95))


@pytest.mark.parametrize(
    ("drawing", "read", "reason"),
    [
        (one_pixel_off, "masks_gt", r"1 pixels are of no color .* at \(5, 7\) is #ff0100"),
        (exact_jpeg, "masks_gt", "of no color"),
        *(
            (
                lambda drawn=drawn: draw(COLORS[drawn], antialiased=True),
                read,
                f"no color of the palette '{read}', #",
            )
            for drawn, read in (
                ("p2ilf", "masks_original"),
                ("masks_original", "p2ilf"),
                ("masks_gt", "p2ilf"),
            )
        ),
        (lambda: np.full((180, 320, 3), 255, np.uint8), "masks_original", "100% of it are drawn on"),
        (lambda: draw(COLORS["p2ilf"], stroke_px=1), "p2ilf", "thinner than 3 px"),
        (in_pieces, "p2ilf", "falls into 400 pieces"),
    ],
)
def test_what_is_no_drawing_of_a_palette_is_refused(drawing, read, reason):
    with pytest.raises(PaletteError, match=reason):
        read_palette_mask(drawing(), PALETTES[read])


def test_specks_are_left_out():
    rgb = draw(COLORS["p2ilf"])
    rgb[10:170:20, 10] = (0, 0, 255)
    mask = read_palette_mask(rgb, PALETTES["p2ilf"])
    assert not mask[:, 10].any()
    assert (mask == 3).any()


def test_a_palette_is_named_or_written():
    assert parse_palette("masks_original") is PALETTES["masks_original"]
    written = parse_palette("ridge=#ff0000, silhouette=#FFFF00,ligament=#0000ff")
    assert (written.colors, written.exact) == (PALETTES["p2ilf"].colors, False)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("masks", "choose one of masks_gt, masks_original, p2ilf"),
        ("ridge=#f00", "choose one of"),
        ("tumour=#ff0000", "choose one of"),
        ("", "choose one of"),
        ("ridge=#200000", "too dark"),
        ("ridge=#ff0000,ligament=#ff2020", "cannot be told apart"),
        ("ridge=#ff0000,ligament=#ff0000", "cannot be told apart"),
    ],
)
def test_palettes_that_cannot_be(text, reason):
    with pytest.raises(PaletteError, match=reason):
        parse_palette(text)


def test_a_real_mask_picture(p2ilf_sample):
    mask = read_palette_mask(read_frame(p2ilf_sample / "images" / "patient1_12_GT.jpg"), PALETTES["p2ilf"])
    strokes = [cv2.connectedComponents((mask == landmark).astype(np.uint8))[0] - 1 for landmark in (1, 2, 3)]
    assert strokes == [2, 2, 1]


L3D = ("l3d", L3dOptions())
CUSTOM = ("custom", CustomOptions("labelme"))
SPLITS = NAMED_SPLITS["anna"]


@pytest.mark.parametrize("orientation", [3, 6])
def test_exif_turns_the_picture_and_not_the_points(tmp_path, orientation):
    """Annotated as labelme shows it: upright."""
    raw = l3d.write_l3d(tmp_path / "raw", width=64, height=48)
    frame = raw.frames[0]
    upright = decoded(frame.picture.read_bytes()).astype(float)
    turn_by_exif(frame.picture, orientation)
    assert b"Exif" in frame.picture.read_bytes()
    built = build(raw, tmp_path / "built", *L3D)
    check_as_told(built, raw.frames)
    assert built.report["tolerated"] == {"exif_turned": 1}
    data = built.row(frame)["image"]["bytes"]
    # Turned for good, by JPEG's precision; what every decoder shows is upright.
    assert np.abs(decoded(data).astype(float) - upright).mean() < 4
    assert np.abs(decoded(data)[::-1, ::-1].astype(float) - upright).mean() > 20
    assert b"Exif" not in data


def test_points_on_the_stored_pixels_of_a_turned_picture(tmp_path):
    raw = l3d.write_l3d(tmp_path / "raw")
    frame = raw.frames[0]
    turn_by_exif(frame.picture, 6)
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
    assert built.row(frame)["image"]["bytes"] == without
    assert all(SECRET not in path.read_bytes() for path in built.folder.rglob("*") if path.is_file())


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
