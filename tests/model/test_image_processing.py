"""The image processor against Pillow, OpenCV and slower obvious versions."""

from __future__ import annotations

import io
import json
import os
import struct
import subprocess
import sys
import warnings
from fractions import Fraction
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile

from liver_landmark.model.image_processing_liver_landmark import LiverLandmarkImageProcessor
from liver_landmark.model.landmarks_liver_landmark import ID2LABEL, IGNORE_INDEX

IMAGENET_MEAN = np.array([0.485, 0.456, 0.406])
IMAGENET_STD = np.array([0.229, 0.224, 0.225])
sizes = st.integers(1, 70)
new_sizes = st.integers(2, 70)


def make_processor(height: int = 24, width: int = 32, **fields) -> LiverLandmarkImageProcessor:
    return LiverLandmarkImageProcessor(size={"height": height, "width": width}, **fields)


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def to_8_bit(pixel_values: torch.Tensor) -> np.ndarray:
    """(B, 3, H, W) normalised -> (B, H, W, 3) of 0..255."""
    array = pixel_values.double().numpy().transpose(0, 2, 3, 1)
    return (array * IMAGENET_STD + IMAGENET_MEAN) * 255


# Pixels


@settings(max_examples=60, deadline=None)
@given(sizes, sizes, new_sizes, new_sizes, st.integers(0, 99))
def test_resize_agrees_with_pillow(height, width, new_height, new_width, seed):
    image = noise(height, width, seed)
    processor = make_processor(new_height, new_width)
    expected = np.asarray(
        Image.fromarray(image).resize((new_width, new_height), Image.Resampling.BILINEAR), dtype=float
    )
    # Both round to 8 bits after each of the two passes; the float path does not round at all.
    np.testing.assert_allclose(to_8_bit(processor(image).pixel_values)[0], expected, atol=1.01)
    as_float = (image / 255).astype(np.float32)
    np.testing.assert_allclose(to_8_bit(processor(as_float).pixel_values)[0], expected, atol=1.01)


def test_a_large_frame_agrees_with_pillow():
    image = cv2.GaussianBlur(noise(1080, 1920), (0, 0), 3)
    expected = np.asarray(Image.fromarray(image).resize((1024, 1024), Image.Resampling.BILINEAR), dtype=float)
    difference = np.abs(to_8_bit(LiverLandmarkImageProcessor()(image).pixel_values)[0] - expected)
    assert difference.max() <= 1.01
    assert difference.mean() < 0.1


def test_normalisation_is_image_net():
    image = np.full((8, 8, 3), (255, 0, 128), dtype=np.uint8)
    pixel_values = make_processor()(image).pixel_values
    assert pixel_values.dtype == torch.float32
    assert pixel_values.shape == (1, 3, 24, 32)
    expected = (np.array([255, 0, 128]) / 255 - IMAGENET_MEAN) / IMAGENET_STD
    np.testing.assert_allclose(pixel_values[0].numpy().mean((1, 2)), expected, rtol=1e-5)


def test_steps_can_be_left_out():
    image = noise(5, 6)
    processor = make_processor(do_resize=False, do_normalize=False)
    np.testing.assert_allclose(
        processor(image).pixel_values[0], (image / 255).transpose(2, 0, 1), rtol=1e-6, atol=1e-7
    )
    raw = processor(image, do_rescale=False).pixel_values[0]
    np.testing.assert_array_equal(raw, image.transpose(2, 0, 1))
    any_range = np.float32([[[-7.0, 300.0, 0.5]]])
    kept = processor(any_range, do_rescale=False, input_data_format="channels_last").pixel_values
    assert kept.flatten().tolist() == [-7.0, 300.0, 0.5]


@pytest.mark.parametrize("rescale_factor", [1 / 255, 1 / 127.5])
def test_every_number_type_means_the_same_picture(rescale_factor):
    eight_bit = noise(9, 7)
    processor = make_processor(9, 7, rescale_factor=rescale_factor)
    expected = processor(eight_bit).pixel_values
    unit = eight_bit / 255
    for image in (
        eight_bit.astype(np.uint16) * 257,
        unit.astype(np.float32),
        unit,
        eight_bit.transpose(2, 0, 1),
        eight_bit.astype(">u2") * 257,
        eight_bit[::-1, ::-1].copy()[::-1, ::-1],
        torch.from_numpy(eight_bit.transpose(2, 0, 1).copy()),
        torch.from_numpy(eight_bit),
        torch.from_numpy(unit),
        torch.from_numpy(eight_bit.astype(np.uint16) * 257),
        Image.fromarray(eight_bit),
    ):
        torch.testing.assert_close(processor(image).pixel_values, expected, rtol=1e-5, atol=2e-6)
    half = processor(torch.from_numpy(unit).half()).pixel_values
    torch.testing.assert_close(half, expected, rtol=0, atol=0.01)


def test_sixteen_bits_are_not_cut_to_eight():
    ramp = np.arange(0, 65536, 16, dtype=np.uint16).reshape(64, 64)
    processor = make_processor(do_resize=False, do_normalize=False)
    buffer = io.BytesIO()
    Image.fromarray(ramp).save(buffer, "PNG")
    for image in (ramp, Image.open(buffer), Image.fromarray(ramp.astype(np.int32))):
        values = processor(image).pixel_values[0]
        np.testing.assert_allclose(values.numpy(), np.broadcast_to(ramp / 65535, (3, 64, 64)), atol=1e-6)


GREY, RED = (77, 77, 77), (200, 10, 30)


@pytest.mark.parametrize(
    ("mode", "color", "expected"),
    [
        ("1", 1, (255, 255, 255)),
        ("L", 77, GREY),
        ("LA", (77, 3), GREY),
        ("La", (77, 255), GREY),
        ("I", 77 * 257, GREY),
        ("I;16", 77 * 257, GREY),
        ("I;16L", 77 * 257, GREY),
        ("I;16B", 77 * 257, GREY),
        ("F", 77 / 255, GREY),
        ("RGB", RED, RED),
        ("RGBA", (*RED, 0), RED),
        ("RGBX", (*RED, 9), RED),
        ("RGBa", (*RED, 255), RED),
        ("CMYK", (55, 245, 225, 0), RED),
        ("HSV", (0, 0, 77), GREY),
        ("YCbCr", (77, 128, 128), GREY),
    ],
)
def test_pil_modes(mode, color, expected):
    processor = make_processor()
    pixels = to_8_bit(processor(Image.new(mode, (5, 4), color)).pixel_values)[0]
    np.testing.assert_allclose(pixels, np.broadcast_to(expected, pixels.shape), atol=1e-3)


@pytest.mark.parametrize("transparency", [None, 0, b"\x00\x80"])
def test_palettes_are_looked_up_without_a_warning(transparency):
    image = Image.new("P", (5, 4), 1)
    image.putpalette([0, 0, 0, *RED])
    if transparency is not None:
        image.info["transparency"] = transparency
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pixels = to_8_bit(make_processor()(image).pixel_values)[0]
    np.testing.assert_allclose(pixels, np.broadcast_to(RED, pixels.shape), atol=1e-3)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_arrays_of_one_to_four_channels(channels):
    image = np.random.default_rng(1).integers(0, 256, (6, 7, channels), dtype=np.uint8)
    rgb = image[..., :3] if channels >= 3 else np.repeat(image[..., :1], 3, axis=2)
    processor = make_processor()
    expected = processor(Image.fromarray(np.ascontiguousarray(rgb))).pixel_values
    for given_image in (image, np.ascontiguousarray(image.transpose(2, 0, 1)), torch.from_numpy(image)):
        torch.testing.assert_close(processor(given_image).pixel_values, expected)
    if channels == 1:
        torch.testing.assert_close(processor(image[..., 0]).pixel_values, expected)


def test_where_both_ends_could_be_channels():
    image = noise(3, 5)  # (3, 5, 3)
    processor = make_processor(do_resize=False, do_rescale=False, do_normalize=False)
    last, first = image.transpose(2, 0, 1), image
    np.testing.assert_array_equal(processor(image).pixel_values[0], last)
    np.testing.assert_array_equal(processor(torch.from_numpy(image)).pixel_values[0], first)
    np.testing.assert_array_equal(processor(image, input_data_format="channels_first").pixel_values[0], first)
    np.testing.assert_array_equal(
        processor(torch.from_numpy(image), input_data_format="channels_last").pixel_values[0], last
    )


def test_bool_images_are_black_and_white():
    mask = np.zeros((6, 6), dtype=bool)
    mask[:3] = True
    processor = make_processor(do_resize=False, do_normalize=False)
    assert processor(mask).pixel_values[0, 1, :, 0].tolist() == [1, 1, 1, 0, 0, 0]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation):
    # Left half dark, right half bright, stored as the orientation says; quality keeps the halves apart.
    upright = np.zeros((16, 32, 3), dtype=np.uint8)
    upright[:, 16:] = 250
    undo = {
        1: None,
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }[orientation]
    stored = Image.fromarray(upright)
    if undo is not None:
        stored = stored.transpose(undo)
    exif = Image.Exif()
    exif[0x0112] = orientation
    buffer = io.BytesIO()
    stored.save(buffer, "PNG", exif=exif)
    processor = make_processor(16, 32)
    labels = (upright[..., 0] > 0).astype(np.uint8)
    batch = processor(Image.open(buffer), labels)
    np.testing.assert_allclose(to_8_bit(batch.pixel_values)[0], upright, atol=1e-3)
    np.testing.assert_array_equal(batch.labels[0], labels)


def test_a_batch_equals_its_images_one_by_one():
    images = [noise(20, 30), Image.fromarray(noise(50, 10, 1)), torch.from_numpy(noise(31, 47, 2))]
    maps = [np.full((20, 30), 1), Image.new("L", (10, 50), 2), torch.full((31, 47), 255)]
    processor = make_processor()
    batch = processor(images, maps)
    assert batch.pixel_values.shape == (3, 3, 24, 32)
    for index, (image, mask) in enumerate(zip(images, maps, strict=True)):
        single = processor(image, mask)
        torch.testing.assert_close(single.pixel_values[0], batch.pixel_values[index], rtol=0, atol=0)
        torch.testing.assert_close(single.labels[0], batch.labels[index], rtol=0, atol=0)
    stacked = np.stack([noise(8, 9, seed) for seed in range(3)])
    torch.testing.assert_close(processor(stacked).pixel_values, processor(list(stacked)).pixel_values)


def test_inputs_are_left_alone():
    image, mask = noise(20, 30), np.ones((20, 30), np.uint8)
    tensor = torch.rand(3, 20, 30)
    before = image.copy(), mask.copy(), tensor.clone()
    make_processor(20, 30)([image, tensor], [mask, mask])
    np.testing.assert_array_equal(image, before[0])
    np.testing.assert_array_equal(mask, before[1])
    torch.testing.assert_close(tensor, before[2], rtol=0, atol=0)


def test_numpy_out():
    batch = make_processor()(noise(5, 5), np.ones((5, 5), np.uint8), return_tensors="np")
    assert isinstance(batch["pixel_values"], np.ndarray)
    assert batch["labels"].dtype == np.int64


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_tensors_stay_on_their_device():
    image = torch.from_numpy(noise(37, 53)).permute(2, 0, 1)
    mask = torch.randint(0, 4, (37, 53))
    processor = make_processor()
    expected, batch = processor(image, mask), processor(image.cuda(), mask)
    assert batch.pixel_values.device.type == batch.labels.device.type == "cuda"
    np.testing.assert_allclose(to_8_bit(batch.pixel_values.cpu()), to_8_bit(expected.pixel_values), atol=1.01)
    torch.testing.assert_close(batch.labels.cpu(), expected.labels)
    with pytest.raises(ValueError, match=r"images\[1\]: on cpu"):
        processor([image.cuda(), image])


# Maps


@settings(max_examples=60, deadline=None)
@given(sizes, sizes, new_sizes, new_sizes, st.integers(0, 99))
def test_maps_are_resized_by_nearest(height, width, new_height, new_width, seed):
    mask = np.random.default_rng(seed).choice([0, 1, 2, 3, IGNORE_INDEX], (height, width)).astype(np.uint8)
    labels = make_processor(new_height, new_width)(np.zeros_like(mask), mask).labels[0]
    for row in range(new_height):
        source_row = int(Fraction(2 * row + 1, 2) * Fraction(height, new_height))
        for column in range(new_width):
            source_column = int(Fraction(2 * column + 1, 2) * Fraction(width, new_width))
            assert labels[row, column] == mask[source_row, source_column]


@settings(max_examples=40, deadline=None)
@given(st.integers(8, 60), st.integers(8, 60), st.integers(4, 40), st.integers(4, 40))
def test_image_and_map_stay_aligned(height, width, new_height, new_width):
    mask = np.zeros((height, width), dtype=np.uint8)
    mask[height // 3 :, width // 4 :] = 1
    batch = make_processor(new_height, new_width, do_normalize=False)(mask * np.uint8(255), mask)
    # Where the resized picture is purely inside or outside the rectangle, the map says so too.
    pixels, labels = batch.pixel_values[0, 0], batch.labels[0]
    assert (labels[pixels > 0.999] == 1).all()
    assert (labels[pixels < 0.001] == 0).all()


def test_map_types():
    ids = np.array([[0, 1, 2], [3, 255, 0]])
    image = np.zeros((2, 3), np.uint8)
    processor = make_processor(do_resize=False)
    palette = Image.fromarray(ids.astype(np.uint8), "L").convert("P")
    palette.putpalette([9] * 768)  # the colours say nothing, the indices are the ids
    for mask in (
        *(ids.astype(kind) for kind in (np.uint8, np.int16, np.int32, np.int64, np.uint16, ">u2")),
        Image.fromarray(ids.astype(np.uint8)),
        Image.fromarray(ids.astype(np.uint16)),
        Image.fromarray(ids.astype(np.int32)),
        palette,
        torch.from_numpy(ids),
    ):
        labels = processor(image, mask).labels
        assert labels.dtype == torch.int64
        np.testing.assert_array_equal(labels[0], ids)
    with_channel = processor([image], [torch.from_numpy(ids)[None]]).labels
    np.testing.assert_array_equal(with_channel[0], ids)
    np.testing.assert_array_equal(processor(image, ids == 1).labels[0], ids == 1)


def test_labels_can_have_their_own_size():
    mask = np.repeat(np.repeat(np.array([[0, 1], [2, 3]], np.uint8), 32, 0), 32, 1)
    batch = make_processor(label_size={"height": 4, "width": 2})(np.zeros((64, 64), np.uint8), mask)
    assert batch.pixel_values.shape == (1, 3, 24, 32)
    assert batch.labels[0].tolist() == [[0, 1], [0, 1], [2, 3], [2, 3]]


# Errors


def broken_png() -> Image.Image:
    buffer = io.BytesIO()
    Image.fromarray(noise(64, 64)).save(buffer, "PNG")
    return Image.open(io.BytesIO(buffer.getvalue()[:2000]))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (broken_png, "cannot be decoded"),
        (lambda: np.zeros((0, 5, 3), np.uint8), "empty, 5×0 px"),
        (lambda: Image.new("RGB", (5, 0)), "empty, 5×0 px"),
        (lambda: torch.zeros(3, 4, 0), "empty, 0×4 px"),
        (lambda: np.zeros((4, 4), np.int64), "dtype torch.int64"),
        (lambda: np.zeros((4, 4), np.complex64), "dtype complex64"),
        (lambda: np.array([["a"]]), "dtype <U1"),
        (lambda: np.full((4, 4), 200.0), r"float values 200\.\.200: expected 0\.\.1"),
        (lambda: np.full((4, 4), -0.5), r"float values -0\.5"),
        (lambda: np.array([[0.5, np.nan]]), "not all values are finite"),
        (lambda: torch.full((3, 4, 4), float("inf")), "not all values are finite"),
        (lambda: Image.new("I", (4, 4), 70000), r"expected 0\.\.65535"),
        (lambda: Image.new("F", (4, 4), 200.0), "float values 200"),
        (lambda: np.zeros((6, 7, 8), np.uint8), r"shape \(6, 7, 8\)"),
        (lambda: np.zeros((2, 6, 7, 3), np.uint8), r"shape \(2, 6, 7, 3\)"),
        (lambda: np.zeros(5, np.uint8), r"shape \(5,\)"),
        (lambda: np.zeros((80, 90), np.uint8), r"90×80 px is more than the limit of 5000"),
        (lambda: "frame.jpg", "str: expected a PIL image"),
        (lambda: None, "NoneType: expected a PIL image"),
        (lambda: [noise(4, 4)], "list: expected a PIL image"),
    ],
)
def test_what_is_no_image_is_named_in_one_line(make, message):
    with pytest.raises(ValueError, match=message) as caught:
        make_processor(max_pixels=5000)([noise(4, 4), make()])
    assert str(caught.value).startswith("images[1]")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: np.zeros((4, 4), np.float32), "dtype float32: expected integers"),
        (lambda: torch.zeros(4, 4), "dtype torch.float32: expected integers"),
        (lambda: np.full((4, 4), 256), r"class ids 256\.\.256: expected 0\.\.255"),
        (lambda: np.full((4, 4), -1), r"class ids -1\.\.-1"),
        (lambda: Image.new("RGB", (4, 4)), "mode RGB: expected class ids"),
        (lambda: Image.new("F", (4, 4)), "mode F: expected class ids"),
        (lambda: np.zeros((4, 4, 3), np.uint8), r"shape \(4, 4, 3\)"),
        (lambda: np.zeros((4, 5), np.uint8), "5×4 px, but its image is 4×4 px"),
        (broken_png, "cannot be decoded"),
        (lambda: [[0, 1]], "list: expected"),
    ],
)
def test_what_is_no_map_is_named_in_one_line(make, message):
    good = np.zeros((4, 4), np.uint8)
    with pytest.raises(ValueError, match=message) as caught:
        make_processor()([noise(4, 4)] * 3, [good, good, make()])
    assert str(caught.value).startswith("segmentation_maps[2]")
    assert "\n" not in str(caught.value)


def test_the_file_is_named_where_there_is_one(tmp_path):
    path = tmp_path / "frame.jpg"
    Image.fromarray(noise(64, 64)).save(path)
    path.write_bytes(path.read_bytes()[:900])
    with pytest.raises(ValueError, match=r"images\[0\] \(.*frame\.jpg\): cannot be decoded"):
        make_processor()(Image.open(path))


def test_size_is_checked_before_decoding(monkeypatch):
    buffer = io.BytesIO()
    Image.new("L", (9000, 9000)).save(buffer, "PNG")

    def fail(self):
        raise AssertionError("decoded")

    image = Image.open(buffer)
    monkeypatch.setattr(ImageFile.ImageFile, "load", fail)
    with pytest.raises(ValueError, match="9000×9000 px is more than the limit"):
        LiverLandmarkImageProcessor()(image)


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_corrupt_files_give_pixels_or_one_line(data):
    kind = data.draw(st.sampled_from(["PNG", "JPEG", "BMP", "TIFF", "WEBP", "GIF"]))
    buffer = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(noise(20, 30)).save(buffer, kind, **({"exif": exif} if kind in ("PNG", "JPEG") else {}))
    content = bytearray(buffer.getvalue())
    for _ in range(data.draw(st.integers(0, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    content = content[: data.draw(st.integers(len(content) // 2, len(content)))]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            image = Image.open(io.BytesIO(content))
        except (OSError, SyntaxError, ValueError, IndexError, struct.error, Image.DecompressionBombError):
            return  # not even a header: the one who opened it knows
        message, pixel_values = None, None
        try:
            pixel_values = make_processor(max_pixels=10_000)(image).pixel_values
        except ValueError as error:
            message = str(error)
    if message is None:
        assert pixel_values.shape == (1, 3, 24, 32)
        assert torch.isfinite(pixel_values).all()
    else:
        assert message.startswith("images[0]: ")
        assert "\n" not in message


def test_batches_that_do_not_fit_together():
    processor = make_processor()
    with pytest.raises(ValueError, match="images: empty batch"):
        processor([])
    with pytest.raises(ValueError, match="2 images, but 1 segmentation_maps"):
        processor([noise(4, 4)] * 2, [np.zeros((4, 4), np.uint8)])
    with pytest.raises(ValueError, match=r"images\[1\]: 5×4 px beside 4×4 px"):
        processor([noise(4, 4), noise(4, 5)], do_resize=False)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"size": {"height": 5}}, "size"),
        ({"size": {"shortest_edge": 5}}, "size"),
        ({"size": {"height": 5, "width": 1}}, "at least 2"),
        ({"size": {"height": 5.5, "width": 5}}, "must be integers"),
        ({"label_size": {"height": -1, "width": 5}}, "label_size"),
        ({"resample": 1}, "resample"),
        ({"image_mean": [0.5]}, "image_mean"),
        ({"image_std": [1, 1, 0]}, "image_std"),
        ({"max_pixels": 0}, "max_pixels"),
        ({"do_resize": "no"}, "do_resize"),
    ],
)
def test_wrong_fields_are_refused_in_the_constructor_and_in_a_call(fields, message):
    with pytest.raises(ValueError, match=message):
        LiverLandmarkImageProcessor(**fields)
    with pytest.raises(ValueError, match=message):
        make_processor()(noise(4, 4), **fields)


def test_unknown_names_are_refused():
    with pytest.raises(TypeError, match="'do_pad'"):
        LiverLandmarkImageProcessor(do_pad=True)
    with pytest.raises(TypeError, match="'do_pad'"):
        make_processor()(noise(4, 4), do_pad=True)
    with pytest.raises(ValueError, match="return_tensors='tf'"):
        make_processor()(noise(4, 4), return_tensors="tf")
    with pytest.raises(ValueError, match="input_data_format='HWC'"):
        make_processor()(noise(4, 4), input_data_format="HWC")


# Files


def test_saved_and_loaded_it_is_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr(LiverLandmarkImageProcessor, "_auto_class", "AutoImageProcessor")
    processor = make_processor(20, 28, image_mean=(0.1, 0.2, 0.3), label_size={"height": 5, "width": 7})
    processor.save_pretrained(tmp_path / "first")
    saved = json.loads((tmp_path / "first" / "preprocessor_config.json").read_text())
    assert saved["image_processor_type"] == "LiverLandmarkImageProcessor"
    assert saved["auto_map"] == {
        "AutoImageProcessor": "image_processing_liver_landmark.LiverLandmarkImageProcessor"
    }
    loaded = LiverLandmarkImageProcessor.from_pretrained(tmp_path / "first")
    loaded.save_pretrained(tmp_path / "second")
    assert json.loads((tmp_path / "second" / "preprocessor_config.json").read_text()) == saved
    image, mask = noise(50, 60), np.ones((50, 60), np.uint8)
    for key, value in processor(image, mask).items():
        torch.testing.assert_close(loaded(image, mask)[key], value, rtol=0, atol=0)
    changed = LiverLandmarkImageProcessor.from_pretrained(tmp_path / "first", do_normalize=False)
    assert changed.do_normalize is False
    assert changed.size == {"height": 20, "width": 28}


def test_loads_as_remote_code_without_this_package(tmp_path, monkeypatch):
    monkeypatch.setattr(LiverLandmarkImageProcessor, "_auto_class", "AutoImageProcessor")
    make_processor(20, 28).save_pretrained(tmp_path / "processor")
    image = noise(50, 60)
    np.save(tmp_path / "image.npy", image)
    np.save(tmp_path / "expected.npy", make_processor(20, 28)(image).pixel_values.numpy())
    script = """
import sys
sys.modules["liver_landmark"] = None  # any import of it fails
import numpy as np
from transformers import AutoImageProcessor
processor = AutoImageProcessor.from_pretrained("processor", trust_remote_code=True)
pixel_values = processor(np.load("image.npy"), return_tensors="np")["pixel_values"]
np.testing.assert_array_equal(pixel_values, np.load("expected.npy"))
assert type(processor).__module__.startswith("transformers_modules"), type(processor)
"""
    environment = os.environ | {"HF_HOME": str(tmp_path / "cache"), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


# Post-processing


def as_outputs(logits: torch.Tensor) -> SimpleNamespace:
    return SimpleNamespace(logits=logits)


def upsampled_by_opencv(logits: np.ndarray, height: int, width: int) -> np.ndarray:
    """(C, h, w) -> (C, height, width) float64, half-pixel centres."""
    return np.stack([cv2.resize(plane, (width, height), interpolation=cv2.INTER_LINEAR) for plane in logits])


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 12), st.integers(2, 12), st.integers(12, 60), st.integers(12, 60), st.integers(0, 99))
def test_masks_and_scores_agree_with_opencv_and_a_plain_softmax(h, w, height, width, seed):
    logits = np.random.default_rng(seed).normal(size=(4, h, w)) * 3
    (result,) = make_processor().post_process_semantic_segmentation(
        as_outputs(torch.from_numpy(logits)[None].float()), [(height, width)], return_scores=True
    )
    upsampled = upsampled_by_opencv(logits, height, width)
    expected = upsampled.argmax(axis=0)
    segmentation = result["segmentation"].numpy()
    ordered = np.sort(upsampled, axis=0)
    clear = ordered[-1] - ordered[-2] > 1e-4  # two classes within rounding may fall either way
    np.testing.assert_array_equal(segmentation[clear], expected[clear])
    probability = np.exp(upsampled) / np.exp(upsampled).sum(axis=0)
    for class_id, name in ID2LABEL.items():
        given_pixels = segmentation == class_id
        score = probability[class_id][given_pixels].mean() if given_pixels.any() else 0.0
        assert result["scores"][name] == pytest.approx(score, abs=1e-5)


def test_nearest_repeats_pixels():
    logits = torch.randn(2, 4, 6, 8, generator=torch.Generator().manual_seed(0))
    maps = make_processor().post_process_semantic_segmentation(
        as_outputs(logits), [(24, 32), (6, 8)], interpolation="nearest"
    )
    coarse = logits.argmax(dim=1).numpy()
    np.testing.assert_array_equal(maps[0], coarse[0].repeat(4, 0).repeat(4, 1))
    np.testing.assert_array_equal(maps[1], coarse[1])


def test_a_mask_survives_the_way_through_logits():
    mask = np.random.default_rng(3).integers(0, 4, (30, 40))
    logits = torch.nn.functional.one_hot(torch.from_numpy(mask), 4).permute(2, 0, 1)[None] * 10.0
    for outputs in (as_outputs(logits), as_outputs(logits.half()), as_outputs(logits.requires_grad_())):
        (result,) = make_processor().post_process_semantic_segmentation(outputs, return_scores=True)
        np.testing.assert_array_equal(result["segmentation"], mask)
        assert result["segmentation"].dtype == torch.int64
        assert result["scores"]["ligament"] == pytest.approx(1 / (1 + 3 * np.exp(-10)), rel=1e-6)


def test_a_class_without_pixels_scores_zero():
    logits = torch.zeros(1, 4, 5, 5)
    logits[:, 2] = 1
    (result,) = make_processor().post_process_semantic_segmentation(as_outputs(logits), return_scores=True)
    certainty = np.e / (np.e + 3)
    assert result["scores"] == pytest.approx(
        {"background": 0.0, "ridge": 0.0, "silhouette": certainty, "ligament": 0.0}
    )


def test_target_sizes_as_a_tensor():
    logits = torch.randn(2, 4, 6, 8, generator=torch.Generator().manual_seed(0))
    process = make_processor().post_process_semantic_segmentation
    sizes_px = [(13, 17), (20, 9)]
    for first, second in zip(
        process(as_outputs(logits), torch.tensor(sizes_px)),
        process(as_outputs(logits), sizes_px),
        strict=True,
    ):
        torch.testing.assert_close(first, second)
    assert [tuple(mask.shape) for mask in process(as_outputs(logits), sizes_px)] == sizes_px


@pytest.mark.parametrize(
    ("logits", "arguments", "message"),
    [
        (torch.zeros(4, 5, 5), {}, r"expected \(B, C, h, w\)"),
        (torch.zeros(2, 4, 5, 5), {"target_sizes": [(5, 5)]}, "1 sizes for 2 frames"),
        (torch.zeros(1, 4, 5, 5), {"target_sizes": [(5, 0)]}, r"target_sizes\[0\]"),
        (torch.zeros(1, 4, 5, 5), {"target_sizes": [(5, 5, 3)]}, r"target_sizes\[0\]"),
        (torch.full((1, 4, 5, 5), float("nan")), {}, r"logits\[0\]: not all values are finite"),
        (torch.zeros(1, 4, 5, 5), {"interpolation": "cubic"}, "interpolation='cubic'"),
        (torch.zeros(1, 7, 5, 5), {"return_scores": True}, "7 channels"),
    ],
)
def test_outputs_that_do_not_fit(logits, arguments, message):
    with pytest.raises(ValueError, match=message):
        make_processor().post_process_semantic_segmentation(as_outputs(logits), **arguments)


def test_the_real_frame_comes_back_at_its_size(p2ilf_sample):
    image = Image.open(p2ilf_sample / "images" / "patient1_12.jpg")
    pixel_values = LiverLandmarkImageProcessor()(image).pixel_values
    assert pixel_values.shape == (1, 3, 1024, 1024)
    (mask,) = LiverLandmarkImageProcessor().post_process_semantic_segmentation(
        as_outputs(torch.zeros(1, 4, 256, 256)), [(image.height, image.width)]
    )
    assert mask.shape == (1080, 1920)
