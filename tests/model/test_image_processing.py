"""Pictures and maps to the model's inputs, against Pillow, OpenCV and slower obvious versions."""

from __future__ import annotations

import inspect
import io
import json
import re
import struct
import typing
import warnings
from fractions import Fraction

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile
from transformers.image_utils import SizeDict
from transformers.models.segformer.image_processing_pil_segformer import SegformerImageProcessorPil

from liver_landmark.model.image_processing_liver_landmark import LiverLandmarkImageProcessor
from liver_landmark.model.landmarks_liver_landmark import IGNORE_INDEX
from processor_inputs import make_processor, new_sizes, noise, sizes, to_8_bit


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


def test_steps_can_be_left_out():
    image = noise(5, 6)
    processor = make_processor(do_resize=False, do_normalize=False)
    np.testing.assert_allclose(
        processor(image).pixel_values[0], (image / 255).transpose(2, 0, 1), rtol=1e-6, atol=1e-7
    )
    np.testing.assert_array_equal(processor(image[..., 0] > 99).pixel_values[0, 1], image[..., 0] > 99)
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


def test_map_types():
    ids = np.array([[0, 1, 2], [3, 255, 0]])
    image = np.zeros((2, 3), np.uint8)
    processor = make_processor(do_resize=False)
    palette = Image.fromarray(ids.astype(np.uint8), "L").convert("P")
    palette.putpalette([9] * 768)  # the colors say nothing, the indices are the ids
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


# As transformers' own processors


def test_every_argument_of_segformers_is_taken_or_explained():
    parameters = inspect.signature(LiverLandmarkImageProcessor.preprocess).parameters
    ours = {*parameters, *LiverLandmarkImageProcessor.valid_kwargs.__annotations__}
    table = re.findall(r"^ *\| (.*?) \|", LiverLandmarkImageProcessor.__doc__, re.MULTILINE)
    explained = {name for cell in table for name in re.findall(r"`(\w+)`", cell)}
    # What a processor of text takes, and how an int is read as a size, which is ours as well.
    elsewhere = {"image_seq_length", "default_to_square"}
    theirs = {
        name
        for owner in SegformerImageProcessorPil.valid_kwargs.__mro__[:1]
        for name in typing.get_type_hints(owner, include_extras=False)
    }
    assert theirs - ours - explained == elsewhere
    assert explained <= theirs | ours | {
        "return_tensors",
        "interpolation",
        "return_scores",
        "score_classes",
        "id2label",
    }


@pytest.mark.parametrize("size", [{"height": 20, "width": 30}, (20, 30), 24, SizeDict(height=20, width=30)])
def test_agrees_with_segformers(size):
    images = [noise(40, 60), Image.fromarray(noise(31, 47, 1))]
    maps = [np.full((40, 60), 2, np.uint8), np.full((31, 47), 255, np.uint8)]
    ours, theirs = (
        kind(size=size)(images, maps, return_tensors="pt")
        for kind in (LiverLandmarkImageProcessor, SegformerImageProcessorPil)
    )
    as_numpy = LiverLandmarkImageProcessor(size=size)(images, maps, return_tensors="np")
    assert ours.keys() == theirs.keys() == as_numpy.keys()
    for key, values in as_numpy.items():
        assert values.dtype == {"labels": np.int64, "pixel_values": np.float32}[key]
        np.testing.assert_array_equal(values, ours[key])
    np.testing.assert_allclose(to_8_bit(ours.pixel_values), to_8_bit(theirs.pixel_values), atol=1.01)
    torch.testing.assert_close(ours.labels, theirs.labels)


def test_without_tensors_images_come_as_a_list_of_any_sizes():
    images = [noise(8, 9), noise(5, 4)]
    maps = [np.ones(image.shape[:2], np.uint8) for image in images]
    batch = make_processor(do_resize=False)(images, maps, return_tensors=None)
    theirs = SegformerImageProcessorPil(do_resize=False)(images, maps, return_tensors=None)
    for key, values in theirs.items():
        assert isinstance(batch[key], list)
        for ours, expected in zip(batch[key], values, strict=True):
            np.testing.assert_allclose(ours, expected, atol=1e-5)


def test_one_mean_for_all_channels_and_a_device():
    image = noise(24, 32)
    batch = make_processor(image_mean=0.5, image_std=0.25)(image, np.ones((24, 32), np.uint8), device="cpu")
    expected = (image.transpose(2, 0, 1) / 255 - 0.5) / 0.25
    np.testing.assert_allclose(batch.pixel_values[0], expected, atol=1e-5)
    on_meta = make_processor(do_resize=False, do_rescale=False)(
        image, device="meta", data_format="channels_first"
    )
    assert on_meta.pixel_values.device.type == "meta"


@pytest.mark.parametrize(
    ("image", "is_rgb"),
    [
        (Image.new("RGB", (5, 4)), True),
        (noise(4, 5), True),
        (torch.zeros(3, 4, 5), True),
        (Image.new("RGBA", (5, 4)), False),
        (Image.new("L", (5, 4)), False),
        (Image.new("P", (5, 4)), False),
        (np.zeros((4, 5), np.uint8), False),
        (np.zeros((4, 5, 1), np.uint8), False),
        (torch.zeros(4, 4, 5), False),
    ],
)
def test_what_is_not_rgb_is_refused_where_it_is_not_to_be_converted(image, is_rgb):
    processor = make_processor(do_convert_rgb=False)
    if is_rgb:
        torch.testing.assert_close(processor(image).pixel_values, make_processor()(image).pixel_values)
        return
    with pytest.raises(ValueError, match=r"images\[0\]: .* is not RGB, and do_convert_rgb is off"):
        processor(image)
    assert processor(image, do_convert_rgb=True).pixel_values.shape == (1, 3, 24, 32)


# What is refused, in one line


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
        ({"do_convert_rgb": None}, "do_convert_rgb"),
        ({"size": (5, 6, 7)}, "size"),
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
    for name, value in {
        "return_tensors": "tf",
        "input_data_format": "HWC",
        "data_format": "channels_last",
        "do_reduce_labels": True,
    }.items():
        with pytest.raises(ValueError, match=name):
            make_processor()(noise(4, 4), **{name: value})


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
