"""Presence counts against frames laid out by hand."""

import pytest

from liver_landmark.evaluation.metrics import PresenceMetric


def frame(shown, found):
    return {f"truth_px_{name}": 40 * (name in shown) for name in ("ridge", "silhouette", "ligament")} | {
        f"predicted_px_{name}": int(name in found) for name in ("ridge", "silhouette", "ligament")
    }


def test_each_landmark_is_counted_by_frames():
    summary = PresenceMetric().summarize(
        [
            frame({"ridge", "ligament"}, {"ridge", "ligament"}),
            frame({"ridge", "ligament"}, {"ridge"}),
            frame({"ridge"}, {"ridge", "ligament"}),
            frame({"ridge"}, {"ridge"}),
        ]
    )
    assert summary.per_class["ligament"] == {
        "presence_accuracy": 0.5,
        "frames_shown": 2,
        "frames_missed": 1,
        "frames_invented": 1,
    }
    assert summary.per_class["ridge"]["presence_accuracy"] == 1.0
    # Absent on both sides everywhere: the model is right to say nothing.
    assert summary.per_class["silhouette"]["presence_accuracy"] == 1.0
    assert summary.pooled["presence_accuracy"] == pytest.approx(2.5 / 3)
