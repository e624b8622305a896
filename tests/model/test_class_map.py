"""Class maps and scores at native size against planes that are interpolated whole, in double precision."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from liver_landmark.model import post_processing_liver_landmark
from liver_landmark.model.landmarks_liver_landmark import DEFAULT_LANDMARKS
from liver_landmark.model.post_processing_liver_landmark import (
    FrameColumns,
    class_map,
    landmark_scores,
    upsampled_probabilities,
)

SIDES = st.integers(1, 9)
PIXELS = st.integers(1, 70)


def random_logits(classes: int, height: int, width: int, seed: int, kind: str) -> torch.Tensor:
    """Noise, where all cells are mixed, or areas of one class with noise on them, as a model draws."""
    random = np.random.default_rng(seed)
    logits = random.normal(size=(classes, height, width)) * 3
    if kind == "areas":
        ids = np.repeat(np.repeat(random.integers(0, classes, (height, width)), 3, 0), 3, 1)[:height, :width]
        logits = logits * 0.3 + 8 * (np.arange(classes)[:, None, None] == ids)
    return torch.from_numpy(logits).float()


def upsampled_slowly(logits: torch.Tensor, size: tuple[int, int]) -> np.ndarray:
    """(C, H, W) float64, from the definition: half-pixel centers, the border repeated."""
    planes = logits.double().numpy()
    for axis, pixels in enumerate(size, start=1):
        count = planes.shape[axis]
        position = np.clip((np.arange(pixels) + 0.5) * count / pixels - 0.5, 0, count - 1)
        before = np.floor(position).astype(int)
        weight = (position - before).reshape((1, -1, 1) if axis == 1 else (1, 1, -1))
        after = np.minimum(before + 1, count - 1)
        planes = planes.take(before, axis) * (1 - weight) + planes.take(after, axis) * weight
    return planes


def assert_same_but_for_ties(found: torch.Tensor, upsampled: np.ndarray) -> None:
    ordered = np.sort(upsampled, axis=0)
    clear = ordered[-1] - ordered[-2] > 1e-5 * np.abs(upsampled).max()
    assert found.dtype == torch.uint8
    assert clear.mean() > 0.9
    np.testing.assert_array_equal(found.numpy()[clear], upsampled.argmax(axis=0)[clear])


def softmax(upsampled: np.ndarray) -> np.ndarray:
    exponentials = np.exp(upsampled - upsampled.max(axis=0))
    return exponentials / exponentials.sum(axis=0)


@settings(max_examples=150, deadline=None)
@given(
    st.integers(2, 6),
    SIDES,
    SIDES,
    PIXELS,
    PIXELS,
    st.integers(0, 10**6),
    st.sampled_from(["noise", "areas"]),
)
def test_every_pixel_has_the_class_of_the_largest_interpolated_logit(
    classes, h, w, height, width, seed, kind
):
    logits = random_logits(classes, h, w, seed, kind)
    found = class_map(logits, (height, width))
    assert found.shape == (height, width)
    assert_same_but_for_ties(found, upsampled_slowly(logits, (height, width)))


@pytest.mark.parametrize(
    ("kind", "size"), [("areas", (1080, 1920)), ("noise", (270, 480)), ("areas", (333, 100))]
)
def test_large_frames(kind, size):
    logits = random_logits(4, 64, 48, 5, kind)
    upsampled = upsampled_slowly(logits, size)
    found = class_map(logits, size)
    assert_same_but_for_ties(found, upsampled)
    assert (
        found != F.interpolate(logits[None], size=size, mode="bilinear")[0].argmax(dim=0)
    ).float().mean() < 1e-4
    scores = landmark_scores(logits, found, DEFAULT_LANDMARKS)
    assert tuple(scores) == DEFAULT_LANDMARKS.names
    probability = softmax(upsampled)
    for class_id, name in list(DEFAULT_LANDMARKS.id2label.items())[1:]:
        assert scores[name] == pytest.approx(
            probability[class_id][found.numpy() == class_id].mean(), abs=1e-5
        )


@settings(max_examples=80, deadline=None)
@given(
    SIDES,
    SIDES,
    PIXELS,
    PIXELS,
    st.integers(0, 10**6),
    st.sets(st.sampled_from(DEFAULT_LANDMARKS.class_names)),
)
def test_scores_are_means_over_any_segmentation(h, w, height, width, seed, names):
    logits = random_logits(4, h, w, seed, "areas")
    # Not what the logits say, and with the ignored id in it.
    given_ids = np.random.default_rng(seed).choice([0, 0, 0, 1, 2, 3, 255], (height, width)).astype(np.uint8)
    scores = landmark_scores(logits, torch.from_numpy(given_ids), DEFAULT_LANDMARKS, sorted(names))
    probability = softmax(upsampled_slowly(logits, (height, width)))
    assert list(scores) == sorted(names)
    for class_id, name in DEFAULT_LANDMARKS.id2label.items():
        if name in names:
            chosen = given_ids == class_id
            expected = probability[class_id][chosen].mean() if chosen.any() else 0.0
            assert scores[name] == pytest.approx(expected, abs=2e-5)


@settings(max_examples=50, deadline=None)
@given(SIDES, SIDES, PIXELS, PIXELS, st.integers(0, 10**6))
def test_probabilities_are_the_softmax_of_the_interpolated_logits(h, w, height, width, seed):
    logits = random_logits(4, h, w, seed, "noise")
    found = upsampled_probabilities(logits, (height, width))
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found, softmax(upsampled_slowly(logits, (height, width))), atol=2e-5)
    np.testing.assert_allclose(found.sum(dim=0), 1, atol=1e-6)


def test_a_class_that_wins_at_no_corner_can_win_between_them():
    logits = torch.tensor([[10.0, 0.0], [0.0, 10.0], [6.0, 6.0]])
    across, down = logits[:, None, :].expand(3, 2, 2), logits[:, :, None].expand(3, 2, 2)
    assert class_map(across, (8, 20))[0].unique().tolist() == [0, 1, 2]
    assert class_map(down, (20, 8))[:, 0].unique().tolist() == [0, 1, 2]


def test_ties_go_to_the_first_class_and_large_logits_stay_finite():
    assert class_map(torch.zeros(4, 3, 3), (30, 40)).eq(0).all()
    logits = torch.full((4, 3, 3), -1e4)
    logits[2] = 1e4
    found = class_map(logits, (30, 40))
    assert found.eq(2).all()
    assert landmark_scores(logits, found, DEFAULT_LANDMARKS) == {
        "ridge": 0.0,
        "silhouette": 1.0,
        "ligament": 0.0,
    }
    assert upsampled_probabilities(logits, (30, 40))[2].eq(1).all()


def test_what_all_logits_of_a_place_share_changes_nothing():
    """A softmax knows no common offset, and a single one for a part of the frame would underflow."""
    logits = random_logits(4, 12, 10, 1, "areas")
    found = class_map(logits, (100, 90))
    scores = landmark_scores(logits, found, DEFAULT_LANDMARKS)
    shifted = logits + torch.linspace(-2000, 2000, 10)
    assert (class_map(shifted, (100, 90)) != found).float().mean() < 1e-3
    assert landmark_scores(shifted, found, DEFAULT_LANDMARKS) == pytest.approx(scores, abs=1e-3)


@pytest.mark.parametrize(
    ("name", "value"),
    # Whole planes, as an accelerator does; work in small parts.
    [("_few_pixels_matter", lambda *arguments: False), ("_CHUNK_VALUES", 100)],
)
def test_whole_planes_columns_and_parts_of_them_agree(monkeypatch, name, value):
    logits = random_logits(4, 20, 30, 7, "areas")
    by_columns = class_map(logits, (213, 311))
    scores = landmark_scores(logits, by_columns, DEFAULT_LANDMARKS)
    monkeypatch.setattr(post_processing_liver_landmark, name, value)
    assert (class_map(logits, (213, 311)) != by_columns).sum() <= (name[1] == "f") * 1e-4 * by_columns.numel()
    assert landmark_scores(logits, by_columns, DEFAULT_LANDMARKS) == pytest.approx(scores, abs=1e-6)


def test_few_pixels_of_a_frame_with_a_stroke_are_interpolated(monkeypatch):
    """What makes it fast: a stroke's edges, and for its score its pixels."""
    row = torch.arange(64)[:, None].expand(64, 64)
    logits = torch.zeros(4, 64, 64)
    logits[1] = 3 - (row - 20).abs().float()  # a horizontal stroke of 6 of 64 rows
    counts = []
    plain = FrameColumns.interpolated

    def counted(*arguments):
        for part in plain(*arguments):
            counts.append(part[1].size)
            yield part

    monkeypatch.setattr(FrameColumns, "interpolated", counted)
    found = class_map(logits, (1080, 1920))
    assert found.float().mean().item() == pytest.approx(6 / 64, rel=0.02)
    assert sum(counts) < 0.04 * 1080 * 1920
    counts.clear()
    landmark_scores(logits, found, DEFAULT_LANDMARKS)
    assert sum(counts) < 0.13 * 1080 * 1920


@pytest.mark.parametrize("size", [(24, 32), (7, 8), (3, 5), (13, 29)])
def test_nearest_takes_the_logit_that_a_pixel_lies_in(size):
    logits = random_logits(4, 6, 8, 2, "noise")
    rows, columns = ((np.arange(n) * 2 + 1) * old // (2 * n) for n, old in zip(size, (6, 8), strict=True))
    expected = logits.argmax(dim=0).numpy()[rows][:, columns]
    found = class_map(logits, size, "nearest")
    assert found.dtype == torch.uint8
    np.testing.assert_array_equal(found, expected)
    probability = softmax(logits.numpy())[:, rows][:, :, columns]
    for class_id, name in list(DEFAULT_LANDMARKS.id2label.items())[1:]:
        score = landmark_scores(logits, found, DEFAULT_LANDMARKS, interpolation="nearest")[name]
        assert score == pytest.approx(probability[class_id][expected == class_id].mean(), abs=1e-6)


def test_logits_of_any_float_type_and_layout():
    logits = random_logits(4, 10, 12, 4, "areas").half().float()
    expected = class_map(logits, (50, 77))
    turned = logits.permute(1, 2, 0).contiguous().permute(2, 0, 1)
    with torch.inference_mode():
        inferred = logits.clone()
    for same in (logits.half(), logits.double(), turned, logits.clone().requires_grad_(), inferred):
        torch.testing.assert_close(class_map(same, (50, 77)), expected)
        torch.testing.assert_close(class_map(same, torch.Size((50, 77))), expected)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: class_map(torch.zeros(1, 4, 5, 5), (9, 9)), r"logits: expected \(C, h, w\)"),
        (lambda: class_map(torch.zeros(257, 5, 5), (9, 9)), "at most 256 classes"),
        (lambda: class_map(torch.full((4, 5, 5), torch.inf), (90, 90)), "logits: not all values are finite"),
        (lambda: class_map(torch.full((4, 5, 5), torch.nan), (5, 5), name="frame 3"), "frame 3: not all"),
        (lambda: class_map(torch.zeros(4, 5, 5), (9, 9), "cubic"), "interpolation='cubic'"),
        (lambda: landmark_scores(torch.zeros(7, 5, 5), torch.zeros(9, 9), DEFAULT_LANDMARKS), "7 channels"),
        (
            lambda: landmark_scores(torch.zeros(4, 5, 5), torch.zeros(9, 9), DEFAULT_LANDMARKS, ["liver"]),
            "class 'liver'",
        ),
        (lambda: upsampled_probabilities(torch.full((4, 5, 5), torch.nan), (9, 9)), "not all values"),
    ],
)
def test_what_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
