"""The predictor against the model and the processor called by hand, and what it refuses to load."""

from __future__ import annotations

import shutil
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image
from safetensors.torch import load, save
from torch.nn.functional import avg_pool2d
from transformers.modeling_outputs import SemanticSegmenterOutput

from liver_landmark.curves.formats import FrameAnnotation, format_p2ilf_json, parse_p2ilf_json
from liver_landmark.inference import (
    FramePrediction,
    LandmarkPredictor,
    ModelLoadError,
    load_model_and_processor,
)
from liver_landmark.model.landmarks_liver_landmark import DEFAULT_LANDMARKS
from tiny_datasets import SeesColors, polylines, save_model, schema_row, tiny_processor
from tiny_models import tiny_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def predictor(folder):
    return LandmarkPredictor.from_pretrained(folder, device="cpu")


def noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_mask_and_scores_are_those_of_the_model(folder, predictor):
    frame = noise(90, 160)
    prediction = predictor.predict(frame)[0]
    model = tiny_model()
    with torch.no_grad():
        logits = model(pixel_values=tiny_processor()(images=[frame])["pixel_values"]).logits
    up = torch.nn.functional.interpolate(logits, size=(90, 160), mode="bilinear", align_corners=False)
    expected = up.argmax(1)[0].numpy()
    assert prediction.mask.dtype == np.uint8
    np.testing.assert_array_equal(prediction.mask, expected)
    probabilities = up.softmax(1)[0].numpy()
    for class_id, name in enumerate(("ridge", "silhouette", "ligament"), start=1):
        given = expected == class_id
        mean = probabilities[class_id][given].mean() if given.any() else 0.0
        assert prediction.scores[name] == pytest.approx(mean, abs=1e-5)
        assert prediction.pixel_counts[name] == given.sum()
        assert (name in prediction.present) == given.any()


def test_frames_of_any_sizes_in_any_batches_come_back_in_order_and_upright(predictor):
    on_its_side = Image.fromarray(noise(31, 33, 2))
    on_its_side.getexif()[0x0112] = 6
    frames = [noise(40, 70, 1), on_its_side, noise(64, 50, 3)]
    alone = [predictor.predict([frame])[0] for frame in frames]
    for batch_size in (2, 3):
        together = predictor.predict(frames, batch_size=batch_size)
        for one, other in zip(alone, together, strict=True):
            assert one.mask.shape == other.mask.shape
            # Batched convolutions round otherwise: a pixel on the edge of two classes may change.
            assert (one.mask != other.mask).mean() < 0.01
    assert [prediction.mask.shape for prediction in alone] == [(40, 70), (33, 31), (64, 50)]
    assert predictor.predict([]) == []
    with pytest.raises(ValueError, match="batch_size must be at least 1"):
        predictor.predict(frames, batch_size=0)


def test_landmarks_are_found_where_they_are():
    row = schema_row("f0", polylines(0, without=("silhouette",)))
    prediction = LandmarkPredictor(SeesColors(), tiny_processor(256)).predict(row["image"])[0]
    assert prediction.present == ("ridge", "ligament")
    assert prediction.scores["silhouette"] == 0.0
    assert set(prediction.milliseconds) == {"preprocess", "forward", "postprocess"}
    assert all(value > 0 for value in prediction.milliseconds.values())


def test_bfloat16_is_autocast_over_float32_weights(folder, predictor):
    half = LandmarkPredictor.from_pretrained(folder, device="cpu", dtype=torch.bfloat16)
    assert half.model.dtype == torch.float32
    frame = noise(90, 160)
    one, other = predictor.predict(frame)[0], half.predict(frame)[0]
    # 8 bits of mantissa: not the same numbers, but nearly everywhere the same class.
    assert one.scores != other.scores
    assert (one.mask != other.mask).mean() < 0.1
    with pytest.raises(ValueError, match="dtype must be"):
        LandmarkPredictor(half.model, half.processor, torch.int8)


def compile_with(monkeypatch, backend):
    """Lets `torch.compile` trace as always, and hand the graphs to that backend in place of Inductor."""
    torch.compiler.reset()
    monkeypatch.setattr("torch.compile", partial(torch.compile, backend=backend))


class OneGraph(SeesColors):
    """A model that is traced in no time and keeps no state between frames."""

    def forward(self, pixel_values):
        channels = [pixel_values.mean(1, keepdim=True), pixel_values]
        return SemanticSegmenterOutput(logits=self.gain * avg_pool2d(torch.cat(channels, 1), 4))


def test_a_last_batch_that_is_smaller_is_not_compiled_anew(monkeypatch):
    compiled_for = []

    def backend(graph, inputs):
        compiled_for.append([tuple(tensor.shape) for tensor in inputs if tuple(tensor.shape[1:2]) == (3,)])
        return graph.forward

    compile_with(monkeypatch, backend)
    compiled = LandmarkPredictor(OneGraph(), tiny_processor(), compile=True)
    compiled.compile_now(4)
    frames = [noise(90, 160, seed) for seed in range(7)]
    masks = [prediction.mask for prediction in compiled.predict(frames, batch_size=4)]
    assert compiled_for == [[(4, 3, 128, 128)]]
    plain = LandmarkPredictor(OneGraph(), tiny_processor()).predict(frames)
    np.testing.assert_array_equal(masks, [prediction.mask for prediction in plain])


def test_a_model_that_cannot_be_compiled_here_is_one_line(monkeypatch):
    def backend(graph, inputs):
        raise RuntimeError("no compiler\nand much more")

    compile_with(monkeypatch, backend)
    compiled = LandmarkPredictor(OneGraph(), tiny_processor(), compile=True)
    with pytest.raises(
        ModelLoadError, match=r"cannot be compiled here, do without: RuntimeError: no compiler$"
    ):
        compiled.compile_now(1)


LIVER = b'{"model_type": "liver_landmark", "decoder_channels": 3}'
PROCESSOR = b'{"image_processor_type": "LiverLandmarkImageProcessor", "sise": 1}'


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("model.safetensors", b"\x40" * 100, ""),
        ("model.safetensors", None, ""),
        (
            "model.safetensors",
            lambda old: save(dict(sorted(load(old).items())[1:])),
            r"1 missing keys, \S+ first",
        ),
        ("config.json", lambda old: old.replace(b"32,\n    16,\n    8", b"24, 16, 8"), ""),
        ("config.json", b'{"model_type": "dinov2"}', "its type is dinov2, expected liver_landmark"),
        ("config.json", None, ""),
        ("config.json", b"{", ""),
        ("config.json", b"[]", ""),
        ("config.json", LIVER, ""),
        ("preprocessor_config.json", PROCESSOR, ""),
        (".", None, ""),
    ],
)
def test_a_folder_that_holds_no_whole_model_is_one_line(folder, tmp_path, name, content, reason):
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    file = copy / name
    if callable(content):
        content = content(file.read_bytes())
        assert content != file.read_bytes()
    if content is not None:
        file.write_bytes(content)
    else:
        file.unlink() if file.is_file() else shutil.rmtree(file)
    with pytest.raises(ModelLoadError, match=f"^model {copy}: .*{reason}") as caught:
        load_model_and_processor(copy)
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(torch.accelerator.is_available(), reason="there is an accelerator")
@pytest.mark.parametrize("device", ["cuda", "nonsense"])
def test_device_that_is_not_there(folder, device):
    with pytest.raises(ModelLoadError, match=f"^.*{device}.*$"):
        load_model_and_processor(folder, device=device)


def prediction_of(mask: np.ndarray, logits: np.ndarray | None = None, variance=None) -> FramePrediction:
    logits = np.zeros((4, 8, 8), np.float32) if logits is None else logits
    return FramePrediction(mask, {}, {}, (), False, logits, variance)


def test_probabilities_are_the_softmax_of_the_upsampled_logits():
    logits = np.random.default_rng(0).normal(size=(4, 6, 8)).astype(np.float32)
    blank = np.zeros((30, 50), np.uint8)
    prediction = prediction_of(blank, logits, np.full((8, 8), 0.25, np.float32))
    upsampled = torch.nn.functional.interpolate(
        torch.from_numpy(logits)[None], size=(30, 50), mode="bilinear", align_corners=False
    )
    expected = upsampled.softmax(1)[0].numpy()
    assert prediction.probabilities() == pytest.approx(expected, abs=1e-6)
    for class_id, name in enumerate(DEFAULT_LANDMARKS.names, start=1):
        assert np.array_equal(prediction.probability(name), prediction.probabilities()[class_id])
    assert prediction.variance_map() == pytest.approx(np.full((30, 50), 0.25))
    assert prediction_of(blank).variance_map() is None


@settings(max_examples=60, deadline=None)
@given(
    arrays.arrays(
        np.uint8, arrays.array_shapes(min_dims=2, max_dims=2, max_side=24), elements=st.integers(0, 3)
    )
)
def test_curves_of_any_mask_can_be_written_in_whole_px(mask):
    traced = prediction_of(mask).curves()
    curves = [{"category": curve.category, "points": curve.points.tolist()} for curve in traced]
    FrameAnnotation("frame.png", mask.shape[1], mask.shape[0], curves)
    text = format_p2ilf_json(curves)
    assert len(parse_p2ilf_json(text.encode(), "frame.json").landmarks) == len(curves)
