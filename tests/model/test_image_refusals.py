"""What the image processor refuses, in one line, and what it is saved as."""

from __future__ import annotations

import io
import json
import struct
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile

from liver_landmark.model.image_processing_liver_landmark import LiverLandmarkImageProcessor
from processor_inputs import make_processor, noise


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
