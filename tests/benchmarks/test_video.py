"""The video benchmark's measures, on what is known."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from tiny_videos import moving_frames, read_video, write_video
from video import agreement, make_repeated_video, steadiness, summarize_memory, times_of, true_masks


def test_steadiness_of_a_strip_that_moves_and_vanishes():
    masks = np.zeros((4, 10, 40), np.uint8)
    # 10 px wide, then 5 further, then still, then gone.
    for mask, left in zip(masks[:3], (0, 5, 5), strict=True):
        mask[:, left : left + 10] = 1
    found = steadiness(masks)
    assert found["iou_with_the_frame_before_ridge"] == pytest.approx((5 / 15 + 1 + 0) / 3)
    assert found["iou_with_the_frame_before"] == found["iou_with_the_frame_before_ridge"]
    assert "iou_with_the_frame_before_ligament" not in found
    assert found["comes_or_goes_per_100_frames"] == pytest.approx(100 / 3)


def test_agreement_with_the_truth_that_is_drawn_where_the_landmarks_are():
    truth = np.zeros((2, 10, 40), np.uint8)
    truth[:, :, :10] = 2
    half = truth.copy()
    half[:, :, :5] = 0
    found = agreement(list(truth), list(half))
    assert found == {"dsc": found["dsc"], "dsc_silhouette": found["dsc"]}
    assert found["dsc"] == pytest.approx(2 / 3, abs=1e-4)
    shown, empty = true_masks([[{"category": "ligament", "points": [[100.0, 200.0], [900.0, 200.0]]}], []])
    assert (shown[200, 500], shown[300, 500], empty.any()) == (3, 0, False)


def test_memory_is_compared_with_the_early_frame():
    samples = [(0, 100.0), (290, 900.0), (310, 510.0), (320, 430.0), (1000, 495.0), (1050, 470.0)]
    samples += [(2990, 545.0), (3000, 525.0)]
    found = summarize_memory(samples, 300)
    names = ("early", "end", "highest", "lowest_moment", "change", "frames")
    assert found == dict(zip(names, (510.0, 525.0, 545.0, 430.0, 35.0, 3000), strict=True))
    for short in ([(0, 100.0), (900, 500.0)], [(300, 100.0)]):
        with pytest.raises(RuntimeError, match="too short"):
            summarize_memory(short, 300)


def test_a_repeated_video_shows_the_same_over_and_over(tmp_path):
    source = write_video(tmp_path / "once.mp4", moving_frames(7))
    frames, _ = read_video(source)
    repeated = make_repeated_video(source, 3)
    shown, _ = read_video(repeated)
    assert len(shown) == 21
    for number, frame in enumerate(shown):
        np.testing.assert_array_equal(frame, frames[number % 7])
    assert times_of(repeated) == [Fraction(number, 25) for number in range(21)]
