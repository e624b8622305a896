"""The parts of the demo's benchmark that decide what counts as right."""

from __future__ import annotations

import numpy as np

import demo
from liver_landmark.inference import LandmarkPredictor
from tiny_datasets import SeesColors, tiny_processor


def test_each_client_has_a_frame_of_its_own():
    frames = [demo.make_frame(number, 64, 36) for number in range(3)]
    assert len(set(frames)) == 3
    assert demo.make_frame(1, 64, 36) == frames[1]


def test_another_clients_answer_is_wrong():
    predictor = LandmarkPredictor(SeesColors().eval(), tiny_processor())
    one, other = (demo.expected_findings(predictor, demo.make_frame(number, 160, 90)) for number in (1, 2))
    assert demo.is_right(one, one)
    assert not demo.is_right(one, other)
    assert not demo.is_right(one[:2], one)
    assert demo.is_right([row | {"presence": round(row["presence"], 4)} for row in one], one)
    for key, change in (("presence", 0.01), ("confidence", 0.01), ("length_px", 50)):
        assert not demo.is_right([one[0] | {key: one[0][key] + change}, *one[1:]], one)
    assert not demo.is_right([*one[:2], one[2] | {"present": not one[2]["present"]}], one)
    assert np.isfinite([row["length_px"] for row in one]).all()
