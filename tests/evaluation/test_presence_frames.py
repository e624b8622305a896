"""A model's presence features over a dataset, beside the truth."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from liver_landmark.evaluation.calibration import collect_presence
from liver_landmark.model.presence_liver_landmark import presence_features
from tiny_datasets import SeesColors, make_dataset, polylines, schema_row, tiny_processor


def test_features_and_truth_of_every_frame() -> None:
    missing = [(), ("ridge",), ("silhouette", "ligament"), ("ridge", "silhouette", "ligament"), ("ligament",)]
    rows = [
        schema_row(f"p/{index}", polylines(index, without=without)) for index, without in enumerate(missing)
    ]
    model, processor = SeesColors().eval(), tiny_processor()
    frames = collect_presence(model, processor, make_dataset(rows), batch_size=2)
    assert len(frames) == 5
    assert frames.protocol == "synthetic"
    assert frames.patients.tolist() == [f"patient{index}" for index in range(5)]
    expected = [[name not in without for name in ("ridge", "silhouette", "ligament")] for without in missing]
    assert frames.shown.tolist() == expected
    assert frames.drawn.tolist() == expected  # the model knows a landmark by its color
    with torch.no_grad():
        logits = model(processor([row["image"] for row in rows], return_tensors="pt")["pixel_values"]).logits
    np.testing.assert_allclose(frames.features, presence_features(logits).numpy(), atol=1e-4)
    blind = collect_presence(SeesColors(blind_to=("ridge",)).eval(), processor, make_dataset(rows))
    assert not blind.drawn[:, 0].any()
    assert blind.shown.tolist() == expected
    some = frames.select(frames.shown[:, 0])
    assert some.patients.tolist() == ["patient0", "patient2", "patient4"]
    np.testing.assert_array_equal(some.features, frames.features[[0, 2, 4]])


def test_what_cannot_be_collected_is_named() -> None:
    rows = [schema_row("p/0", polylines(0))]
    model, processor = SeesColors().eval(), tiny_processor()
    with pytest.raises(ValueError, match=r"call eval\(\)"):
        collect_presence(SeesColors().train(), processor, make_dataset(rows))
    with pytest.raises(ValueError, match="no frames"):
        collect_presence(model, processor, make_dataset(rows).select([]))
    with pytest.raises(ValueError, match="batch_size"):
        collect_presence(model, processor, make_dataset(rows), batch_size=0)
    with pytest.raises(ValueError, match="frame p/0: neither"):
        collect_presence(model, processor, make_dataset([schema_row("p/0", None)]))
