"""The evaluation over a dataset against the same steps written out with plain calls."""

from __future__ import annotations

import json

import datasets
import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from liver_landmark.curves import get_protocol, rasterize_landmarks
from liver_landmark.data.loading import load_landmark_dataset
from liver_landmark.evaluation import METRICS, evaluate_model, pooled_overlap, summarize_frames
from liver_landmark.model.landmarks_liver_landmark import LandmarkTable
from tiny_datasets import (
    HEIGHT,
    WIDTH,
    SeesColors,
    make_dataset,
    polylines,
    save_dataset,
    schema_row,
    tiny_processor,
)


@pytest.fixture(scope="module")
def rows():
    return [
        schema_row("f0", polylines(0)),
        schema_row("f1", polylines(1, without=("ligament",))),
        schema_row("f2", polylines(2)),
    ]


@pytest.fixture(scope="module")
def dataset(rows):
    return make_dataset(rows)


def evaluate(dataset, model=None, **options):
    return evaluate_model(model or SeesColors(), tiny_processor(), dataset, resolution=256, **options)


def evaluated_pairs(dataset, **options):
    """The evaluation and the masks of each frame."""
    pairs = []
    return evaluate(dataset, on_frame=lambda index, frame, pair: pairs.append(pair), **options), pairs


def nearest(mask):
    """At the scored size; Pillow takes the pixel that a center falls in."""
    return np.asarray(Image.fromarray(mask).resize((256, 256), Image.Resampling.NEAREST))


def test_metrics_have_what_the_public_surface_names(dataset):
    evaluation = evaluate(dataset)
    metrics = evaluation.metrics
    assert {"dsc", "iou", "assd_px", "protocol", "frames", "per_class", "definitions"} <= set(metrics)
    assert metrics["protocol"] == "synthetic"
    assert (metrics["frames"], metrics["patients"], metrics["resolution"]) == (3, 3, 256)
    assert set(metrics["per_class"]) == {"ridge", "silhouette", "ligament"}
    for name in ("ridge", "silhouette", "ligament"):
        assert metrics["per_class"][name]["dsc"] > 0.6
        assert metrics["per_class"][name]["assd_px"] < 3
    assert metrics["per_class"]["ligament"]["frames_shown"] == 2
    assert evaluation.frames[1]["dsc_ligament"] is None
    json.dumps(metrics, allow_nan=False)
    numbers = set(metrics) - {"protocol", "resolution", "frames", "patients", "per_class", "definitions"}
    assert numbers - {"frames_without_polylines"} <= set(metrics["definitions"])
    for key in metrics["per_class"]["ridge"]:
        assert f"per_class.{key}" in metrics["definitions"]


@pytest.mark.parametrize("protocol", ["synthetic", "d2gpland", "srft_galore"])
def test_masks_are_those_of_the_protocol(rows, dataset, protocol):
    _, pairs = evaluated_pairs(dataset, protocol=protocol, batch_size=2)
    for index, row in enumerate(rows):
        expected = rasterize_landmarks(row["landmarks"], WIDTH, HEIGHT, get_protocol(protocol), (256, 256))
        np.testing.assert_array_equal(pairs[index].truth, expected)
        pixel_values = tiny_processor()(images=[row["image"]])["pixel_values"]
        logits = SeesColors()(pixel_values).logits
        if protocol == "srft_galore":
            up = logits.repeat_interleave(2, 2).repeat_interleave(2, 3)
        else:
            up = F.interpolate(logits, size=(256, 256), mode="bilinear", align_corners=False)
        first, second = up[0].topk(2, dim=0).values
        # Where two classes are equal but for the rounding of the interpolation, either may win.
        clear = (first - second > 1e-6).numpy()
        assert clear.mean() > 0.99
        np.testing.assert_array_equal(pairs[index].prediction[clear], up.argmax(1)[0].numpy()[clear])


def test_numbers_follow_from_the_masks_whatever_the_batch_size_and_without_distances(dataset):
    overlaps, columns = [], []

    def on_frame(index, frame, pair):
        overlaps.append(pooled_overlap(pair.truth, pair.prediction))
        columns.append((index, dict(frame)))

    evaluation = evaluate(dataset, on_frame=on_frame, batch_size=3)
    assert [frame["dsc"] for frame in evaluation.frames] == [dsc for dsc, _ in overlaps]
    assert evaluation.metrics["dsc"] == pytest.approx(np.mean([dsc for dsc, _ in overlaps]))
    assert evaluation.metrics["iou"] == pytest.approx(np.mean([iou for _, iou in overlaps]))
    assert columns == list(enumerate(evaluation.frames))
    assert [frame["frame_id"] for frame in evaluation.frames] == ["f0", "f1", "f2"]
    assert evaluate(dataset, batch_size=1) == evaluation
    quick = evaluate(dataset, distances=False).metrics
    assert "assd_px" not in quick
    for key in ("dsc", "iou", "macro_dsc", "presence_accuracy"):
        assert quick[key] == evaluation.metrics[key]


def test_a_landmark_that_is_never_found_shows_in_every_number(dataset):
    seen, blind = evaluate(dataset), evaluate(dataset, SeesColors(blind_to=("ligament",)))
    ligament = blind.metrics["per_class"]["ligament"]
    assert ligament["dsc"] < 1e-6
    assert ligament["frames_missed"] == ligament["frames_one_empty"] == 2
    assert ligament["assd_px"] == pytest.approx(256 * 2**0.5)
    assert ligament["assd_px_both"] is None
    assert ligament["presence_accuracy"] == pytest.approx(1 / 3)
    assert blind.metrics["dsc"] < seen.metrics["dsc"]
    assert blind.metrics["per_class"]["ridge"] == seen.metrics["per_class"]["ridge"]


def test_every_module_gets_its_mode_back_and_no_gradient(dataset):
    model = SeesColors().train()
    model.part.eval()
    evaluate(dataset, model)
    assert (model.training, model.part.training) == (True, False)
    assert set(model.seen_modes) == {(False, False)}
    assert model.gain.grad is None
    assert torch.is_grad_enabled()

    def stop(index, frame, pair):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate(dataset, model, on_frame=stop)
    assert (model.training, model.part.training) == (True, False)


def test_ignored_pixels_of_the_label_count_nowhere(rows):
    label = np.zeros((HEIGHT, WIDTH), np.uint8)
    label[HEIGHT // 2 :] = 255
    row = rows[0] | {"label": Image.fromarray(label)}
    [frame] = evaluate(make_dataset([row])).frames
    # The silhouette's lower part and the whole ligament lie below the middle.
    assert frame["truth_px_ligament"] == frame["predicted_px_ligament"] == 0
    assert frame["truth_px_ridge"] > 0
    assert frame["truth"] == "polylines"


def test_a_set_of_masks_is_scored_by_its_labels():
    landmarks = polylines(4)
    mask = rasterize_landmarks(landmarks, WIDTH, HEIGHT, get_protocol("synthetic"))
    mask[:5] = 255
    row = schema_row("m0", landmarks) | {"landmarks": [], "label": Image.fromarray(mask)}
    evaluation, pairs = evaluated_pairs(make_dataset([row]))
    np.testing.assert_array_equal(pairs[0].truth, nearest(mask))
    assert evaluation.metrics["frames_without_polylines"] == 1
    assert evaluation.metrics["dsc"] > 0.7


def drawn_by_hand(landmarks):
    """A row whose label no protocol draws: strokes with a notch, and ignored pixels."""
    mask = rasterize_landmarks(landmarks, WIDTH, HEIGHT, get_protocol("toponet"))
    mask[::7], mask[:5] = 0, 255
    row = schema_row("h0", landmarks) | {"label": Image.fromarray(mask), "protocol": "as_drawn"}
    return row, mask


@pytest.mark.parametrize("protocol", ["as_drawn", None])
def test_labels_as_drawn_are_scored_as_they_are(protocol):
    row, mask = drawn_by_hand(polylines(5))
    evaluation, pairs = evaluated_pairs(make_dataset([row]), protocol=protocol)
    np.testing.assert_array_equal(pairs[0].truth, nearest(mask))
    logits = SeesColors()(tiny_processor()(images=[row["image"]])["pixel_values"]).logits
    predicted = logits.argmax(1).repeat_interleave(2, 1).repeat_interleave(2, 2)[0]
    np.testing.assert_array_equal(pairs[0].prediction, predicted.numpy())
    assert evaluation.metrics["protocol"] == evaluation.frames[0]["truth"] == "as_drawn"
    assert evaluation.metrics["frames_without_polylines"] == 0
    assert "as their source drew them" in evaluation.metrics["definitions"]["protocol"]
    gathered = {"protocol": "as_drawn", "resolution": 256, "metric_names": list(METRICS)}
    assert summarize_frames(json.loads(json.dumps(evaluation.frames)), **gathered) == evaluation


def test_a_protocol_draws_where_a_source_drew_otherwise():
    row, mask = drawn_by_hand(polylines(5))
    _, pairs = evaluated_pairs(make_dataset([row]), protocol="srft_galore")
    expected = rasterize_landmarks(row["landmarks"], WIDTH, HEIGHT, get_protocol("srft_galore"), (256, 256))
    np.testing.assert_array_equal(pairs[0].truth, np.where(nearest(mask) == 255, 255, expected))


def test_another_order_of_classes_is_scored_by_name(tmp_path, rows, dataset, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    save_dataset(tmp_path / "set", rows)
    order = ("silhouette", "ligament", "ridge")
    reordered = load_landmark_dataset(tmp_path / "set", "test", class_order=order)
    assert evaluate(reordered).metrics == evaluate(dataset).metrics
    # By labels where there are no polylines.
    labels = datasets.Dataset.from_list([row | {"landmarks": None} for row in reordered], reordered.features)
    assert min(scores["dsc"] for scores in evaluate(labels).metrics["per_class"].values()) > 0.6


def test_a_landmark_that_the_dataset_lacks_is_refused(rows):
    four = LandmarkTable.from_names(("ridge", "silhouette", "ligament", "gallbladder"))
    model = SeesColors()
    model.config.landmark_table = four
    with pytest.raises(ValueError, match="those of the dataset ridge, silhouette, ligament: gallbladder"):
        evaluate(make_dataset(rows), model)


def test_a_frame_that_shows_nothing_is_scored_as_such():
    evaluation, pairs = evaluated_pairs(make_dataset([schema_row("n0", [])]))
    assert not pairs[0].truth.any()
    assert evaluation.metrics["dsc"] == 1.0
    assert evaluation.metrics["assd_px"] is None
    assert evaluation.metrics["presence_accuracy"] == 1.0
    assert evaluation.metrics["frames_without_polylines"] == 0


def test_a_view_of_the_dataset_with_a_format_is_scored_by_its_stored_rows(dataset):
    changed = dataset.with_transform(lambda batch: {key: value[:1] for key, value in batch.items()})
    assert evaluate(changed) == evaluate(dataset)


def picture(mode, color):
    return Image.new(mode, (WIDTH, HEIGHT), color)


@pytest.mark.parametrize(
    ("row", "options", "message"),
    [
        ({"protocol": "toponet"}, {}, "protocol column holds synthetic, toponet: name the protocol"),
        ({"protocol": None}, {}, "protocol column holds None, synthetic: name the protocol"),
        ({}, {"protocol": "l3d"}, "protocol 'l3d' is unknown"),
        ({"protocol": "as_drawn"}, {}, "protocol column holds as_drawn, synthetic: name the protocol"),
        ({}, {"batch_size": 0}, "must be at least 1"),
        ({}, {"protocol": "as_drawn"}, "protocol column holds synthetic: its labels are not as their"),
        ({"width": 97}, {}, r"frame f9: its image is 96x54 px, its row says 97x54"),
        ({"landmarks": None}, {}, r"frame f9 \(row 1\): neither 'landmarks' nor 'label' is given"),
        ({"landmarks": [], "label": picture("L", 7)}, {}, r"frame f9 \(row 1\): truth holds 7"),
        ({"label": picture("RGB", 0)}, {}, r"frame f9 \(row 1\): column 'label' is a picture of mode RGB"),
    ],
)
def test_errors_name_the_frame_or_the_option(rows, row, options, message):
    dataset = make_dataset([rows[0], schema_row("f9", polylines(3)) | row])
    with pytest.raises(ValueError, match=message) as caught:
        evaluate(dataset, **options)
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="no frames to score"):
        evaluate(dataset.select([]))
