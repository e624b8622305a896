"""The benchmark of tracing: its measure on curves whose distance is known, and what tracing must reach."""

from __future__ import annotations

import numpy as np
import pytest

import tracing
from liver_landmark.curves import get_protocol


def test_the_measure_knows_a_shift_a_lost_end_and_a_wrong_order() -> None:
    truth = [np.array([(100.0, 100.0), (500.0, 100.0)])]
    shifted = tracing.compare(truth, [np.array([(100.0, 103.0), (500.0, 103.0)])])
    assert np.allclose(shifted["to_truth"], 3)
    assert np.allclose(shifted["ends"], 3)
    assert shifted["backward"] == [0.0]
    short = tracing.compare(truth, [np.array([(480.0, 100.0), (110.0, 100.0)])])
    assert sorted(short["ends"]) == [10.0, 20.0]
    assert max(short["to_truth"]) < 1
    assert max(short["to_traced"]) == pytest.approx(20)
    zigzag = [np.array([(100.0, 100.0), (300.0, 100.0), (200.0, 100.0), (500.0, 100.0)])]
    assert tracing.compare(truth, zigzag)["backward"][0] == pytest.approx(1 / 6, abs=0.01)


def test_touching_strokes_are_told_from_those_apart() -> None:
    def marks(gap_px: float) -> list[dict]:
        return [
            {"category": "ridge", "points": [(100, 100), (900, 100)]},
            {"category": "ridge", "points": [(100, 100 + gap_px), (900, 100 + gap_px)]},
        ]

    assert tracing.strokes_touch(marks(30), 30)
    assert not tracing.strokes_touch(marks(45), 30)
    hook = [{"category": "ridge", "points": [(900, 100), (100, 100), (100, 120), (160, 120)]}]
    assert tracing.strokes_touch(hook, 30)
    angles = np.linspace(0, np.pi, 50)
    bend = np.stack([500 + 35 * np.sin(angles), 500 + 35 * np.cos(angles)], axis=1)
    assert not tracing.strokes_touch([{"category": "ridge", "points": bend}], 30)


@pytest.mark.parametrize("frames", [8, pytest.param(200, marks=pytest.mark.slow)])
def test_traced_curves_lie_on_the_true_ones(frames: int) -> None:
    protocol = get_protocol("d2gpland")
    figures = tracing.run(frames, protocol, seed=0)
    apart = figures["strokes_apart"]
    assert apart["frames"] == frames
    for direction in ("traced_to_truth_px", "truth_to_traced_px"):
        assert apart[direction]["mean"] <= 1.5
        assert apart[direction]["p95"] <= 4
    assert apart["ends_px"]["max"] <= protocol.stroke_width_px(1920, 1080) / 2
    assert apart["classes_with_another_number_of_curves"] == []
    assert apart["curves_out_of_order"] == 0
    assert apart["hausdorff_px"]["mean"] < apart["plain_thinning_hausdorff_px"]["mean"]
    assert figures["strokes_touching"]["frames"] == frames
