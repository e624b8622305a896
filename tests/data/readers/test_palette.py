"""Color masks: exact and hand-drawn ones are read, those of another palette are refused."""

from __future__ import annotations

import io

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from liver_landmark.data.readers.pictures import PALETTES, PaletteError, parse_palette, read_palette_mask
from liver_landmark.model.landmarks_liver_landmark import DEFAULT_LANDMARKS
from liver_landmark.utils.frame_files import read_frame

WIDTH, HEIGHT, STROKE_PX = 320, 180, 9
COLORS = {
    "masks_gt": {"ridge": (255, 0, 0), "silhouette": (0, 255, 0), "ligament": (0, 0, 255)},
    "masks_original": {"ridge": (0, 0, 255), "silhouette": (255, 255, 255), "ligament": (255, 0, 0)},
    "p2ilf": {"ridge": (255, 0, 0), "silhouette": (255, 255, 0), "ligament": (0, 0, 255)},
}
LINES = {
    "ridge": [(20, 40), (150, 60), (300, 35)],
    "silhouette": [(20, 90), (160, 80), (300, 100)],
    "ligament": [(30, 140), (140, 150), (290, 130)],
}


def draw(colors, *, antialiased=False, stroke_px=STROKE_PX) -> np.ndarray:
    canvas = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    for name, color in colors.items():
        line = np.array(LINES[name], np.int32)
        kind = cv2.LINE_AA if antialiased else cv2.LINE_8
        cv2.polylines(canvas, [line], False, color, stroke_px, kind)
    return canvas


def true_mask(names=tuple(LINES)) -> np.ndarray:
    gray = draw({name: (DEFAULT_LANDMARKS.label2id[name],) * 3 for name in names})
    return gray[..., 0]


def as_jpeg(rgb: np.ndarray, quality: int) -> np.ndarray:
    stream = io.BytesIO()
    Image.fromarray(rgb).save(stream, "JPEG", quality=quality)
    with Image.open(stream) as image:
        return np.asarray(image)


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
    empty = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    for palette in PALETTES.values():
        assert not read_palette_mask(empty, palette).any()


def test_exact_masks_take_no_other_color():
    rgb = draw(COLORS["masks_gt"])
    rgb[7, 5] = (255, 1, 0)
    with pytest.raises(PaletteError, match=r"1 pixels are of no color .* at \(5, 7\) is #ff0100"):
        read_palette_mask(rgb, PALETTES["masks_gt"])
    with pytest.raises(PaletteError, match="of no color"):
        read_palette_mask(as_jpeg(draw(COLORS["masks_gt"]), 95), PALETTES["masks_gt"])


@pytest.mark.parametrize("name", ["masks_original", "p2ilf"])
@pytest.mark.parametrize("antialiased", [False, True])
@pytest.mark.parametrize("quality", [None, 95, 75, 50])
def test_hand_drawn_masks_keep_their_strokes(name, antialiased, quality):
    rgb = draw(COLORS[name], antialiased=antialiased)
    rgb = rgb if quality is None else as_jpeg(rgb, quality)
    check_same_strokes(read_palette_mask(rgb, PALETTES[name]), true_mask())


@given(st.lists(st.integers(-35, 35), min_size=9, max_size=9), st.sampled_from(["masks_original", "p2ilf"]))
@settings(max_examples=30, deadline=None)
def test_colors_may_be_a_little_off(offsets, name):
    off = {
        landmark: tuple(
            int(value) for value in np.clip(np.add(color, offsets[3 * place : 3 * place + 3]), 0, 255)
        )
        for place, (landmark, color) in enumerate(COLORS[name].items())
    }
    check_same_strokes(read_palette_mask(draw(off, antialiased=True), PALETTES[name]), true_mask())


def test_the_originals_draw_the_ridge_in_green_too():
    green = {"ridge": (0, 255, 0)}
    check_same_strokes(read_palette_mask(draw(green), PALETTES["masks_original"]), true_mask(("ridge",)))


@pytest.mark.parametrize(
    ("drawn", "read"), [("p2ilf", "masks_original"), ("masks_original", "p2ilf"), ("masks_gt", "p2ilf")]
)
def test_masks_of_another_palette_are_refused(drawn, read):
    with pytest.raises(PaletteError, match=f"of no color of the palette '{read}', #"):
        read_palette_mask(draw(COLORS[drawn], antialiased=True), PALETTES[read])


def test_red_is_what_the_palette_says():
    red = draw({"ridge": (255, 0, 0)})
    classes = {name: set(np.unique(read_palette_mask(red, palette))) for name, palette in PALETTES.items()}
    assert classes == {"masks_gt": {0, 1}, "p2ilf": {0, 1}, "masks_original": {0, 3}}


def test_what_is_no_stroke_is_refused():
    white = np.full((HEIGHT, WIDTH, 3), 255, np.uint8)
    with pytest.raises(PaletteError, match="100% of it are drawn on"):
        read_palette_mask(white, PALETTES["masks_original"])
    thin = draw(COLORS["p2ilf"], stroke_px=1)
    with pytest.raises(PaletteError, match="thinner than 3 px"):
        read_palette_mask(thin, PALETTES["p2ilf"])


def test_noise_is_no_drawing():
    """What survives the opening, piece by piece, would take tracing minutes."""
    noise = np.zeros((200, 200, 3), np.uint8)
    for y in range(2, 198, 10):
        for x in range(2, 198, 10):
            noise[y : y + 4, x : x + 4] = (255, 0, 0)
    with pytest.raises(PaletteError, match="falls into 400 pieces"):
        read_palette_mask(noise, PALETTES["p2ilf"])


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
