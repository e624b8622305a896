"""Tracing: strokes drawn along known curves give those curves back; pieces against OpenCV's labels."""

from __future__ import annotations

from itertools import pairwise

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.spatial import cKDTree

from liver_landmark.curves import skeleton as pixel_graph
from liver_landmark.curves import trace_polylines
from liver_landmark.curves import tracing as pieces
from liver_landmark.curves.centerline import StrokePlane
from liver_landmark.curves.skeleton import NoisyMaskError
from liver_landmark.curves.tracing import find_pieces, thinned_paths
from liver_landmark.model.landmarks_liver_landmark import DEFAULT_LANDMARKS

IDS = {"ridge": 1, "silhouette": 2, "ligament": 3}


def draw(*curves: tuple[str, list], stroke_px: int = 30, size: tuple[int, int] = (600, 800)) -> np.ndarray:
    """A mask of (H, W) with curves of whole px drawn by OpenCV, later ones over earlier ones."""
    mask = np.zeros(size, np.uint8)
    for name, points in curves:
        cv2.polylines(mask, [np.array(points, np.int32)], False, IDS[name], stroke_px)
    return mask


def densely(points) -> np.ndarray:
    points = np.asarray(points, dtype=np.float64)
    # Four a px, so that the nearest of them is as near as the curve.
    pieces = [np.linspace(a, b, 2 + int(4 * np.hypot(*(b - a)))) for a, b in pairwise(points)]
    return np.vstack(pieces)


def distances(points, truth) -> np.ndarray:
    """From each place on a curve to the nearest on another, px."""
    return cKDTree(densely(truth)).query(densely(points))[0]


def only(mask: np.ndarray, **options) -> np.ndarray:
    [curve] = trace_polylines(mask, **options)
    return curve.points


LINES = {
    "straight": [(100, 100), (700, 130)],
    "bent": [(60, 80), (250, 300), (500, 320), (740, 120)],
    "hook": [(100, 500), (100, 200), (220, 90), (400, 90), (520, 200), (520, 420)],
    "steep": [(400, 40), (380, 560)],
}


@pytest.mark.parametrize("stroke_px", [5, 12, 30, 35, 70])
@pytest.mark.parametrize("name", list(LINES))
def test_a_stroke_gives_its_curve_back(name: str, stroke_px: int) -> None:
    truth = LINES[name]
    [curve] = trace_polylines(draw(("ligament", truth), stroke_px=stroke_px))
    assert curve.category == "ligament"
    assert abs(curve.stroke_width_px - stroke_px) < 2.5  # OpenCV draws 30 as 31
    there, back = distances(curve.points, truth), distances(truth, curve.points)
    assert max(there.mean(), back.mean()) < 0.03 * stroke_px + 0.5
    # Beside a corner the stroke's middle is rounded; at the ends there is a round cap to read from.
    assert max(there.max(), back.max()) < 0.2 * stroke_px + 1.5
    ends = sorted([tuple(truth[0]), tuple(truth[-1])])
    assert np.hypot(*(curve.points[[0, -1]] - ends).T).max() < 0.1 * stroke_px + 1


def test_points_follow_the_curve_in_order_from_left_to_right() -> None:
    truth = LINES["hook"]
    points = only(draw(("ridge", truth[::-1])))
    steps = np.diff(cKDTree(densely(truth)).query(densely(points))[1])
    assert (steps >= 0).all()
    assert (steps > 0).sum() > 500


def test_an_arc_keeps_its_radius() -> None:
    angles = np.linspace(0.2, 2.8, 90)
    arc = np.stack([400 + 220 * np.cos(angles), 150 + 220 * np.sin(angles)], axis=1)
    points = only(draw(("silhouette", np.rint(arc))), tolerance_px=0.1)
    radii = np.hypot(*(points - (400, 150)).T)
    assert abs(radii.mean() - 220) < 0.5
    assert np.abs(radii - 220).max() < 2.5


def test_a_crossing_of_one_class_gives_two_straight_curves() -> None:
    lines = [[(100, 100), (700, 500)], [(100, 500), (700, 100)]]
    curves = trace_polylines(draw(*(("ridge", line) for line in lines)))
    assert len(curves) == 2
    for curve, line in zip(sorted(curves, key=lambda curve: curve.points[0, 1]), lines, strict=True):
        assert distances(curve.points, line).max() < 4
        assert distances(line, curve.points).max() < 4


# At 30 degrees the cover cuts the stroke to a tip; 90 degrees end it on the edge between two pixels.
@pytest.mark.parametrize("order", [("ridge", "silhouette"), ("silhouette", "ridge")])
@pytest.mark.parametrize("degrees", [30, 45, 60, 90])
@pytest.mark.parametrize("stroke_px", [5, 12, 30])
def test_a_curve_that_another_class_covers_is_one_curve(
    order: tuple[str, str], degrees: int, stroke_px: int
) -> None:
    x, y = np.rint(260 * np.array([np.cos(np.deg2rad(degrees / 2)), np.sin(np.deg2rad(degrees / 2))]))
    falling, rising = [(400 - x, 300 - y), (400 + x, 300 + y)], [(400 - x, 300 + y), (400 + x, 300 - y)]
    lines = {"ridge": falling, "silhouette": rising}
    curves = trace_polylines(draw(*((name, lines[name]) for name in order), stroke_px=stroke_px))
    assert [curve.category for curve in curves] == ["ridge", "silhouette"]
    for curve, line in zip(curves, lines.values(), strict=True):
        there, back = (distances(*pair) for pair in ((curve.points, line), (line, curve.points)))
        # Beside the cover only one of its edges is seen.
        assert max(there.max(), back.max()) < 0.2 * stroke_px + 1.5


def test_a_gap_of_background_is_a_gap() -> None:
    curves = trace_polylines(draw(("ridge", [(100, 300), (330, 300)]), ("ridge", [(400, 300), (700, 300)])))
    assert [np.rint(curve.points[[0, -1], 0]).tolist() for curve in curves] == [[100, 330], [400, 700]]


def test_what_another_class_may_cover_is_not_joined_across_background() -> None:
    # Two silhouettes end the ridge's two pieces; between those there is nothing to cover it.
    mask = draw(("ridge", [(100, 300), (360, 300)]), ("ridge", [(440, 300), (700, 300)]))
    mask[200:400, 375:385] = mask[200:400, 415:425] = IDS["silhouette"]
    mask[200:400, 385:415] = 0
    assert [curve.category for curve in trace_polylines(mask)].count("ridge") == 2
    mask[200:400, 385:415] = IDS["silhouette"]
    assert [curve.category for curve in trace_polylines(mask)].count("ridge") == 1


def test_a_parallel_stroke_over_one_edge_does_not_push_the_curve_aside() -> None:
    ridge = [(80, 300), (720, 300)]
    mask = draw(("ridge", ridge), ("silhouette", [(80, 320), (720, 320)]))
    [found] = [curve for curve in trace_polylines(mask) if curve.category == "ridge"]
    # Of its 30 px 20 are left to see: their middle lies 5 px beside the curve.
    assert distances(found.points, ridge).mean() < 6
    assert distances([(80, 295), (720, 295)], found.points).mean() < 6


def test_at_a_fork_the_straightest_continuation_is_one_curve() -> None:
    through, branch = [(80, 300), (720, 300)], [(400, 300), (560, 540)]
    long, short = sorted(
        trace_polylines(draw(("ridge", through), ("ridge", branch))), key=lambda c: -c.length_px
    )
    assert distances(through, long.points).max() < 8
    assert distances(short.points, branch).max() < 12
    assert np.hypot(*(short.points[0] - (400, 300))) < 30


def test_a_ring_is_one_curve_that_meets_itself() -> None:
    angles = np.linspace(0, 2 * np.pi, 90)
    ring = np.rint(np.stack([400 + 220 * np.cos(angles), 300 + 160 * np.sin(angles)], axis=1))
    points = only(draw(("silhouette", ring)))
    assert np.hypot(*(points[0] - points[-1])) < 2
    assert distances(points, ring).max() < 3
    assert distances(ring, points).max() < 3


def test_a_stroke_that_the_frame_cuts_ends_at_its_border() -> None:
    points = only(draw(("ridge", [(-200, 300), (400, 300)])))
    assert points[0, 0] == pytest.approx(-0.5, abs=0.6)
    assert np.abs(points[:, 1] - 300).max() < 1
    # Its last point lies inside, but its cap does not: how wide the cap is at the border tells where.
    points = only(draw(("ridge", [(10, 300), (400, 300)])))
    assert points[0, 0] == pytest.approx(10, abs=2)


def test_a_stroke_along_the_border_is_not_pushed_inwards() -> None:
    truth = [(100, 400), (300, 4), (700, 4)]
    points = only(draw(("ridge", truth)))
    # Along the border 20 of 31 px are left, whose middle lies 5.5 px beside the curve.
    along = densely(points)
    along = along[(along[:, 0] > 350) & (along[:, 0] < 680)]
    assert np.abs(along[:, 1] - 4).max() < 2


def test_scores_are_means_across_the_stroke_at_each_point() -> None:
    truth = [(100, 300), (700, 300)]
    mask = draw(("silhouette", truth))
    scores = np.zeros((DEFAULT_LANDMARKS.num_classes, *mask.shape), np.float32)
    # Rising along the curve; across it, the mean of 0.1 above and 0.3 below.
    scores[2] = np.linspace(0, 0.5, mask.shape[1]) + np.where(np.arange(600) < 300, 0.1, 0.3)[:, None]
    [curve] = trace_polylines(mask, scores=scores, tolerance_px=0)
    expected = 0.2 + curve.points[:, 0] / (mask.shape[1] - 1) * 0.5
    inner = slice(3, -3)
    np.testing.assert_allclose(curve.scores[inner], expected[inner], atol=0.012)
    assert curve.scores.shape == (len(curve.points),)
    assert trace_polylines(mask)[0].scores is None
    # The same from a function, which is asked for what there is only, in any float type.
    asked = []

    def scores_of(name: str) -> np.ndarray:
        asked.append(name)
        return scores[2].astype(np.float64)

    [again] = trace_polylines(mask, scores=scores_of, tolerance_px=0)
    assert asked == ["silhouette"]
    np.testing.assert_allclose(again.scores, curve.scores, atol=1e-6)
    with pytest.raises(ValueError, match="scores of silhouette must be"):
        trace_polylines(mask, scores=lambda name: scores[2, 1:])


def test_the_tolerance_bounds_what_simplifying_moves() -> None:
    mask = draw(("ridge", LINES["bent"]))
    full = only(mask, tolerance_px=0)
    counts = []
    for tolerance_px in (0.2, 1.0, 5.0):
        points = only(mask, tolerance_px=tolerance_px)
        assert distances(full, points).max() < tolerance_px + 0.5
        assert np.array_equal(points[[0, -1]], full[[0, -1]])
        counts.append(len(points))
    assert len(full) > counts[0] > counts[1] > counts[2] >= 3


def test_short_curves_are_left_out() -> None:
    mask = draw(("ridge", [(100, 100), (110, 100)]), ("ridge", [(100, 300), (160, 300)]))
    assert [curve.length_px for curve in trace_polylines(mask)] == [pytest.approx(60, abs=2)]
    lengths = sorted(curve.length_px for curve in trace_polylines(mask, min_length_px=0))
    assert lengths == [pytest.approx(10, abs=3), pytest.approx(60, abs=2)]
    assert trace_polylines(mask, min_length_px=61) == []
    specks = np.zeros((40, 60), np.uint8)
    specks[10:12, 10:14] = specks[20:22, 30:34] = 1
    assert trace_polylines(specks, min_length_px=0) == []
    specks[30:32, 10:16] = 1
    assert len(trace_polylines(specks, min_length_px=0)) == 1


def test_flaws_of_a_mask_change_little() -> None:
    rng = np.random.default_rng(0)
    mask = draw(("ridge", LINES["bent"]))
    clean = only(mask)
    for y, x in rng.integers((0, 0), mask.shape, (60, 2)):
        mask[y : y + 2, x : x + 3] = rng.integers(0, 2)
    for x in range(120, 700, 60):
        ys = np.flatnonzero(mask[:, x])
        mask[ys.mean().astype(int) - 3 : ys.mean().astype(int) + 3, x : x + 6] = 0  # holes
    flawed = only(mask)
    assert distances(flawed, clean).max() < 4
    assert distances(clean, flawed).max() < 4


@settings(deadline=None, max_examples=25)
@given(st.lists(st.integers(60, 240), min_size=3, max_size=4))
def test_a_mirrored_or_turned_mask_gives_mirrored_or_turned_curves(heights: list[int]) -> None:
    # No sharper turns than strokes of this width can show: there thinning takes sides.
    points = [(40 + 100 * index, (y + 300) // 4) for index, y in enumerate(heights)]
    mask = draw(("ridge", points), ("ligament", [(60, 250), (300, 200)]), stroke_px=12, size=(300, 400))
    width, height = 400, 300

    def places(turned: np.ndarray) -> np.ndarray:
        return np.vstack([densely(c.points) for c in trace_polylines(turned)] or [np.zeros((0, 2))])

    here = places(mask)
    turns = {
        "mirrored": (mask[:, ::-1], lambda p: np.stack([width - 1 - p[:, 0], p[:, 1]], 1)),
        "turned": (mask.T, lambda p: p[:, ::-1]),
        "upside down": (mask[::-1], lambda p: np.stack([p[:, 0], height - 1 - p[:, 1]], 1)),
    }
    for name, (turned, back) in turns.items():
        there = back(places(np.ascontiguousarray(turned)))
        assert len(there) > 0, name
        far = max(cKDTree(here).query(there)[0].max(), cKDTree(there).query(here)[0].max())
        assert far < 1.5, name


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10**6), st.integers(1, 40), st.integers(1, 60), st.floats(0.02, 0.98))
def test_any_mask_gives_curves_within_it(seed: int, height: int, width: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    mask = (rng.integers(1, 5, (height, width)) * (rng.random((height, width)) < share)).astype(np.uint8)
    mask[mask == 4] = 255
    curves = trace_polylines(mask, min_length_px=0)
    for curve in curves:
        assert curve.points.dtype == np.float32
        assert len(curve.points) >= 2
        assert np.isfinite(curve.points).all()
        assert curve.length_px > 0
        assert (curve.points >= -0.5 - 1e-3).all()
        assert (curve.points <= np.array([width, height]) - 0.5 + 1e-3).all()
    again = trace_polylines(mask.copy(), min_length_px=0)
    assert all(np.array_equal(a.points, b.points) for a, b in zip(curves, again, strict=True))


def test_a_straight_lines_bias_is_far_below_a_px() -> None:
    # Drawn by whole rows, without OpenCV's rounding: the middle of rows 100 to 129 is 114.5.
    mask = np.zeros((300, 500), np.uint8)
    mask[100:130, 50:450] = 1
    points = only(mask, tolerance_px=0)
    inner = points[(points[:, 0] > 90) & (points[:, 0] < 410)]
    assert np.abs(inner[:, 1] - 114.5).max() < 0.05


def test_views_and_read_only_masks_are_traced_as_their_copies_are() -> None:
    mask = draw(("ridge", LINES["bent"]), ("ligament", [(60, 250), (300, 200)]))
    mask.flags.writeable = False
    for view in (mask, mask[:, ::-1], mask.T, mask[5:, 7:]):
        traced, again = trace_polylines(view), trace_polylines(np.array(view, order="C"))
        assert len(traced) == 2
        assert all(np.array_equal(a.points, b.points) for a, b in zip(traced, again, strict=True))


@pytest.mark.parametrize(
    ("mask", "options", "reason"),
    [
        (np.zeros((4, 4), np.int64), {}, "uint8"),
        (np.zeros((4, 4, 3), np.uint8), {}, r"\(H, W\)"),
        (np.full((4, 4), 9, np.uint8), {}, "the id 9"),
        (np.zeros((4, 4), np.uint8), {"scores": np.zeros((4, 4))}, "scores must be"),
        (np.zeros((4, 4), np.uint8), {"tolerance_px": -1}, "tolerance_px"),
        (np.zeros((4, 4), np.uint8), {"min_length_px": float("nan")}, "min_length_px"),
    ],
)
def test_what_is_no_mask_is_refused(mask: np.ndarray, options: dict, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        trace_polylines(mask, **options)


def test_the_real_frames_mask(p2ilf_sample) -> None:
    """The challenge's own mask picture: two silhouette, two ridge curves and one ligament, as one sees."""
    with Image.open(p2ilf_sample / "images" / "patient1_12_GT.jpg") as picture:
        colors = np.asarray(picture.convert("RGB")).astype(int)
    palette = np.array([[0, 0, 0], [255, 0, 0], [255, 255, 0], [0, 0, 255]])
    mask = ((colors[:, :, None] - palette) ** 2).sum(-1).argmin(-1).astype(np.uint8)
    curves = trace_polylines(cv2.morphologyEx(mask, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8)))
    names = [curve.category for curve in curves]
    assert names == ["ridge", "ridge", "silhouette", "silhouette", "ligament"]
    assert all(11 < curve.stroke_width_px < 14 for curve in curves)
    # Drawn again, they cover what they were traced from.
    again = np.zeros_like(mask)
    for curve in curves:
        cv2.polylines(again, [np.rint(curve.points).astype(np.int32)], False, IDS[curve.category], 12)
    overlap = 2 * np.count_nonzero((again > 0) & (again == mask))
    assert overlap / (np.count_nonzero(again) + np.count_nonzero(mask)) > 0.93


def plane_of(inside: np.ndarray, corner: tuple[int, int] = (0, 0)) -> StrokePlane:
    height, width = inside.shape
    mask = np.zeros((height + corner[1], width + corner[0]), np.uint8)
    mask[corner[1] :, corner[0] :] = inside
    return StrokePlane(mask, 1, inside * np.uint8(255), corner)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10**6), st.integers(1, 30), st.integers(1, 40), st.floats(0.1, 0.9))
def test_pieces_are_the_connected_components(seed: int, height: int, width: int, share: float) -> None:
    inside = (np.random.default_rng(seed).random((height, width)) < share).astype(np.uint8)
    count, labels, boxes, _ = cv2.connectedComponentsWithStats(inside, connectivity=8)
    large = [label for label in range(1, count) if boxes[label, cv2.CC_STAT_AREA] >= 9]
    expected = [np.flatnonzero(labels == label).tolist() for label in large]
    found = []
    for piece in find_pieces(plane_of(inside, (3, 5))):
        drawn = np.zeros_like(inside)
        x, y = piece.corner[0] - 3, piece.corner[1] - 5
        rows, columns = piece.pixels.shape
        drawn[y : y + rows, x : x + columns] = piece.pixels
        found.append(np.flatnonzero(drawn).tolist())
    assert sorted(found) == sorted(expected)


def test_what_is_connected_by_a_sliver_stays_connected() -> None:
    inside = np.zeros((200, 700), np.uint8)
    inside[80:111, 50:340] = inside[80:111, 360:650] = 1
    inside[80:82, 340:360] = 1
    [piece] = find_pieces(plane_of(inside))
    paths, _ = thinned_paths(piece)
    assert max(np.ptp(path.points[:, 0]) for path in paths) > 520


def test_noise_is_refused_soon_and_named() -> None:
    rng = np.random.default_rng(0)
    specks = np.zeros((400, 600), np.uint8)
    specks[4::8, 4::8] = 1
    specks = cv2.dilate(specks, np.ones((3, 3), np.uint8))
    with pytest.raises(NoisyMaskError, match=f"3750 pieces of class 1, more than {pieces.MOST_PIECES}"):
        trace_polylines(specks)
    with pytest.raises(NoisyMaskError, match=f"ends and forks, more than {pixel_graph.MOST_NODES}"):
        trace_polylines((rng.random((400, 600)) < 0.6).astype(np.uint8))
    # Pieces of fewer than nine pixels are left out, not counted.
    assert trace_polylines((rng.random((400, 600)) < 0.05).astype(np.uint8)) == []
