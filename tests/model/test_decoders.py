"""The transformer decoders: their parts against other libraries, closed forms and slower versions."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import numpy as np
import pytest
import shapely
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from liver_landmark import LiverLandmarkImageProcessor
from liver_landmark.curves import get_protocol, rasterize_landmarks
from liver_landmark.model.decoder_curve_liver_landmark import (
    bezier_points,
    curve_loss,
    curves_of_labels,
    distances_to_curves,
    match,
    resample,
)
from liver_landmark.model.decoder_mask_transformer_liver_landmark import blocked_places
from liver_landmark.model.decoders_liver_landmark import Curves, position_encoding
from liver_landmark.model.landmarks_liver_landmark import DEFAULT_LANDMARKS
from tiny_models import tiny_model

CURVE = {"decoder_type": "curve", "num_curves": 4, "decoder_hidden_size": 32, "use_depth": False}
MASK = {"decoder_type": "mask_transformer", "decoder_hidden_size": 32, "use_depth": False}

coordinates = st.tuples(st.floats(0.05, 0.95), st.floats(0.05, 0.95))
polylines = st.lists(coordinates, min_size=2, max_size=6).filter(
    lambda points: all(np.hypot(*np.subtract(a, b)) > 1e-3 for a, b in itertools.pairwise(points))
)


# Curves.


@settings(max_examples=40, deadline=None)
@given(polylines, st.integers(3, 12), st.integers(3, 12))
def test_distances_are_those_of_shapely(points, height: int, width: int) -> None:
    found = distances_to_curves(torch.tensor(points)[None, None], (height, width))[0, 0]
    # In shares of the width: rows are height / width apart.
    line = shapely.LineString([(x, y * height / width) for x, y in points])
    for row, column in itertools.product(range(height), range(width)):
        pixel = shapely.Point((column + 0.5) / width, (row + 0.5) / width)
        assert float(found[row, column]) == pytest.approx(line.distance(pixel), abs=2e-6)


@settings(max_examples=40, deadline=None)
@given(polylines, st.integers(2, 30))
def test_resampled_points_lie_evenly_along_the_line(points, count: int) -> None:
    found = resample(torch.tensor(points), count)
    line = shapely.LineString(points)
    expected = [line.interpolate(share, normalized=True).coords[0] for share in np.linspace(0, 1, count)]
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float32), rtol=0, atol=1e-4)


def test_bezier_curves_begin_and_end_at_their_outer_controls_and_halve_by_de_casteljau() -> None:
    controls = torch.rand(5, 4, 2)
    points = bezier_points(controls, 7)
    torch.testing.assert_close(points[:, [0, -1]], controls[:, [0, -1]])
    halves = controls
    while halves.shape[1] > 1:
        halves = (halves[:, 1:] + halves[:, :-1]) / 2
    torch.testing.assert_close(points[:, 3], halves[:, 0])


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 5), st.integers(1, 5), st.integers(0, 999))
def test_matching_is_the_best_of_all(rows: int, columns: int, seed: int) -> None:
    cost = torch.rand(rows, columns, generator=torch.Generator().manual_seed(seed))
    found = match(cost)
    few = min(rows, columns)
    best = min(
        sum(float(cost[row, column]) for row, column in zip(chosen, order, strict=True))
        for chosen in itertools.permutations(range(rows), few)
        for order in itertools.combinations(range(columns), few)
    )
    assert float(cost[found].sum()) == pytest.approx(best)


def sure(points: torch.Tensor, class_ids: list[int], num_classes: int = 4) -> Curves:
    logits = torch.full((1, len(class_ids), num_classes), -20.0)
    for query, class_id in enumerate(class_ids):
        logits[0, query, class_id] = 20.0
    return Curves(points[None], logits)


def test_the_loss_is_nothing_for_the_truth_in_any_order_and_direction() -> None:
    lines = torch.rand(2, 8, 2, generator=torch.Generator().manual_seed(0))
    lines = torch.stack([resample(line, 8) for line in lines])
    lines = torch.stack([resample(line, 8) for line in lines])
    truth = [[{"category": 2, "points": lines[0]}, {"category": 3, "points": lines[1]}]]
    # Within what resampling a resampled line moves it.
    right = curve_loss([sure(torch.stack([lines[1], lines[0].flip(0), lines[0]]), [3, 2, 0])], truth, 64, 96)
    assert float(right) < 0.4
    wrong_class = sure(torch.stack([lines[1], lines[0], lines[0]]), [2, 3, 0])
    assert float(curve_loss([wrong_class], truth, 64, 96)) > float(right) + 1
    moved = sure(torch.stack([lines[1] + 0.1, lines[0] + 0.1, lines[0]]), [3, 2, 0])
    assert float(curve_loss([moved], truth, 64, 96)) > float(right) + 0.3
    invented = sure(torch.stack([lines[1], lines[0], lines[0]]), [3, 2, 1])
    assert float(curve_loss([invented], truth, 64, 96)) > float(right) + 1


def test_a_frame_without_curves_teaches_that_there_is_none() -> None:
    points = torch.rand(3, 8, 2)
    assert float(curve_loss([sure(points, [0, 0, 0])], [[]], 64, 64)) == pytest.approx(0, abs=1e-6)
    assert float(curve_loss([sure(points, [0, 1, 0])], [[]], 64, 64)) > 5


def test_curves_of_a_mask_are_those_that_it_was_drawn_from() -> None:
    width, height = 192, 128
    lines = [
        {"category": "ridge", "points": [(20, 20), (90, 30), (170, 24)]},
        {"category": "silhouette", "points": [(30, 60), (100, 90), (160, 70)]},
        {"category": "silhouette", "points": [(20, 110), (80, 116)]},
    ]
    mask = rasterize_landmarks(lines, width, height, get_protocol("synthetic"))
    [found] = curves_of_labels(torch.from_numpy(mask)[None], 4)
    assert [curve["category"] for curve in found] == [1, 2, 2]
    for line in lines:
        true = shapely.LineString(line["points"])
        px = [
            shapely.LineString((curve["points"] * torch.tensor([width, height]) - 0.5).tolist())
            for curve in found
            if DEFAULT_LANDMARKS.names[curve["category"] - 1] == line["category"]
        ]
        # Half a stroke is 1.5 px; the ends reach into the caps.
        assert min(curve.hausdorff_distance(true) for curve in px) < 3
    assert curves_of_labels(torch.full((1, 16, 16), 255), 4) == [[]]


def test_logits_are_those_of_the_distance() -> None:
    decoder = tiny_model(**CURVE).decoder
    line = torch.tensor([[0.1, 16.5 / 32], [0.9, 16.5 / 32]])
    points = resample(line, 24)[None].expand(4, -1, -1)
    curves = sure(points, [2, 0, 0, 0])
    logits = decoder.draw(curves, (32, 32))
    assert logits.shape == (1, 4, 32, 32)
    assert torch.equal(logits[:, 0], torch.zeros(1, 32, 32))
    drawn = logits.argmax(dim=1)[0]
    half = float(decoder.half_width.exp().detach())
    distance = distances_to_curves(points[None, :1], (32, 32))[0, 0]
    assert torch.equal(drawn == 2, distance < half)
    assert set(drawn.unique().tolist()) == {0, 2}


def test_landmarks_and_labels_alone_both_train(frames: torch.Tensor) -> None:
    labels = torch.zeros(2, 96, 128, dtype=torch.long)
    labels[:, 40:44, 20:110] = 1
    given = [[{"category": 1, "points": torch.tensor([[20 / 128, 42 / 96], [110 / 128, 42 / 96]])}]] * 2
    for landmarks in (given, None):
        model = tiny_model(**CURVE).train()
        model(frames, labels, landmarks=landmarks).loss.backward()
        for name, parameter in model.named_parameters():
            assert parameter.grad is not None, name
    a, b = (tiny_model(**CURVE)(frames, labels, landmarks=lines).loss for lines in (given, None))
    assert float(a.detach()) == pytest.approx(float(b.detach()), abs=0.15)
    with pytest.raises(ValueError, match="landmarks must be of 2 frames, got 1"):
        tiny_model(**CURVE)(frames, labels, landmarks=given[:1])


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            {"category": 4, "points": torch.rand(3, 2)},
            r"landmarks\[1\]\[0\]: category .* 1..3, got 4",
        ),
        ({"category": 0, "points": torch.rand(3, 2)}, "category"),
        ({"category": 1, "points": torch.full((3, 2), torch.nan)}, "finite"),
        ({"category": 1, "points": torch.rand(3)}, r"must be \(N, 2\)"),
    ],
)
def test_landmarks_that_cannot_be_are_refused(frames: torch.Tensor, line: dict, message: str) -> None:
    labels = torch.zeros(2, 96, 128, dtype=torch.long)
    with pytest.raises(ValueError, match=message):
        tiny_model(**CURVE)(frames, labels, landmarks=[[], [line]])


def test_curves_at_the_border_learn_in_half_precision(frames: torch.Tensor) -> None:
    model = tiny_model(**CURVE).train()
    with torch.no_grad():
        model.decoder.anchors[:, :, 0] = 9.0  # a share of .9999 of the width
    line = {"category": 1, "points": torch.tensor([[0.2, 0.5], [1.0, 0.5]])}
    labels = torch.zeros(2, 96, 128, dtype=torch.long)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = model(frames, labels, landmarks=[[line], [line]]).loss
    loss.backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters())


def test_curves_come_in_px_of_the_frame_with_scores() -> None:
    points = torch.tensor([[[0.0, 0.0], [1.0, 1.0]], [[0.25, 0.5], [0.75, 0.5]]])
    logits = torch.log(torch.tensor([[0.2, 0.6, 0.1, 0.1], [0.7, 0.1, 0.1, 0.1]]))
    outputs = SimpleNamespace(
        logits=torch.zeros(1, 4, 8, 8), curve_points=points[None], curve_logits=logits[None]
    )
    processor, names = LiverLandmarkImageProcessor(), DEFAULT_LANDMARKS.id2label
    [[curve]] = processor.post_process_curves(outputs, [(108, 192)], id2label=names)
    assert (curve["category"], round(curve["score"], 4)) == ("ridge", 0.6)
    # Pixel centers are integers, so the frame's corners lie half a px outside of them.
    assert curve["points"].tolist() == [[-0.5, -0.5], [191.5, 107.5]]
    [both] = processor.post_process_curves(outputs, [(108, 192)], id2label=names, threshold=0.0)
    assert [curve["score"] for curve in both] == sorted((curve["score"] for curve in both), reverse=True)
    assert len(both) == 2
    with pytest.raises(ValueError, match=r"decoder gives no curves.*trace_polylines"):
        processor.post_process_curves(tiny_model()(torch.zeros(1, 3, 64, 64)), id2label=names)
    with pytest.raises(ValueError, match="threshold must be 0 to 1"):
        processor.post_process_curves(outputs, id2label=names, threshold=2)


# Mask transformer.


def test_a_query_looks_where_its_class_may_be_or_everywhere() -> None:
    logits = torch.full((1, 3, 8, 8), -10.0)
    logits[:, 0] = 0.0
    logits[:, 1, 2, 6] = 5.0
    blocked = blocked_places(logits, (4, 4))
    assert blocked.shape == (1, 3, 16)
    assert not blocked[0, 0].any()  # the background may be nearly everywhere
    expected = torch.ones(4, 4, dtype=torch.bool)
    expected[1, 3] = False
    assert torch.equal(blocked[0, 1], expected.flatten())
    assert not blocked[0, 2].any()  # a class that is nowhere is looked for everywhere


def test_earlier_layers_are_supervised_in_training_only(frames: torch.Tensor) -> None:
    model = tiny_model(**MASK, deep_supervision_weight=0.5)
    stages = model.decoder.refine(*(lambda p: (p[16], p))(model.vision_branch(frames)))
    assert not model.eval().decoder.predict(stages).auxiliary_logits
    auxiliary = model.train().decoder.predict(stages).auxiliary_logits
    # Of the stages before the last, then what each layer started from.
    sizes = [(6, 8), (12, 16), *[(24, 32)] * 3]
    assert [tuple(logits.shape) for logits in auxiliary] == [(2, 4, *size) for size in sizes]


def test_places_have_encodings_of_their_own_at_every_size() -> None:
    codes = position_encoding(12, 16, 32, torch.zeros(()))
    assert codes.shape == (192, 32)
    distances = torch.cdist(codes, codes) + 10 * torch.eye(192)
    assert float(distances.min()) > 0.1
    # A map twice as fine has the same code between two of its pixels as the coarse one at that place.
    fine = position_encoding(24, 32, 32, torch.zeros(())).unflatten(0, (24, 32))
    middle = fine.unfold(0, 2, 2).unfold(1, 2, 2).mean(dim=(-1, -2))
    assert (middle[..., :4] - codes.unflatten(0, (12, 16))[..., :4]).abs().max() < 0.05


# Both learn.


@pytest.mark.parametrize("fields", [CURVE, MASK], ids=["curve", "mask_transformer"])
def test_overfits_one_frame(fields: dict) -> None:
    torch.manual_seed(0)
    model = tiny_model(**fields, decoder_num_layers=2).train()
    frame = torch.randn(1, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    target = torch.zeros(1, 96, 96, dtype=torch.long)
    target[:, 20:26, 10:80], target[:, 60:66, 20:90] = 1, 2
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(150):
        loss = model(frame, target).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    logits = model.eval()(frame).logits
    predicted = torch.nn.functional.interpolate(logits, size=(96, 96), mode="bilinear").argmax(1)
    for index in (1, 2):
        truth, found = target == index, predicted == index
        assert 2 * (truth & found).sum() / (truth.sum() + found.sum()) > 0.75
