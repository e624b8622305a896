"""The table of landmarks: names, ids and colors; masks of one table in the ids of another."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from liver_landmark import LiverLandmarkConfig
from liver_landmark.model.landmarks_liver_landmark import DEFAULT_LANDMARKS, LandmarkTable

FOUR = ("ridge", "silhouette", "ligament", "gallbladder")


def test_the_default_is_l3ds() -> None:
    assert DEFAULT_LANDMARKS.id2label == {0: "background", 1: "ridge", 2: "silhouette", 3: "ligament"}
    assert DEFAULT_LANDMARKS.palette[:5].tolist() == [
        [0, 0, 0], [255, 0, 0], [0, 255, 0], [0, 0, 255], [128, 128, 128],
    ]  # fmt: skip


# A regular expression would be slow to draw from.
NAMES = st.builds(str.__add__, st.sampled_from("abcxyz"), st.text("abc_0189", max_size=8))


@given(st.lists(NAMES, min_size=1, max_size=12, unique=True))
def test_ids_and_names_are_each_others_and_colors_differ(names: list[str]) -> None:
    table = LandmarkTable.from_names(names)
    assert LandmarkTable.from_id2label(table.id2label, table.colors) == table
    assert {table.id2label[number]: number for number in table.id2label} == table.label2id
    assert [table.label2id[name] for name in names] == list(range(1, len(names) + 1))
    if len(names) <= 8:
        assert len(set(table.colors.values())) == len(names)


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        ([], "at least one landmark"),
        (["ridge", "Ridge"], "occurs twice"),
        (["background"], "occurs twice"),
        (["a/b"], "cannot name a landmark"),
        (["none"], "means that there is none"),
        (["Ignore"], "means that there is none"),
        ("ridge", "expected a list"),
        ([f"n{i}" for i in range(255)], "at most 254"),
    ],
)
def test_names_that_cannot_be_are_refused(names: list[str], reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as error:
        LandmarkTable.from_names(names)
    assert "\n" not in str(error.value)


def test_masks_are_translated_by_name() -> None:
    stored = LandmarkTable.from_names(("gallbladder", "ligament", "ridge"))
    wanted = LandmarkTable.from_names(("ridge", "silhouette", "ligament"))
    mask = np.array([[0, 1, 2, 3, 255]], np.uint8)
    assert wanted.translate(mask, stored).tolist() == [[0, 0, 3, 1, 255]]
    assert wanted.translate(mask, wanted) is mask
    with pytest.raises(ValueError, match=r"holds 4, .*0 to 3.* nor 255"):
        wanted.translate(np.array([[4]], np.uint8), stored)


def test_a_configs_names_ids_and_colors_are_one_table() -> None:
    config = LiverLandmarkConfig(
        id2label=dict(enumerate(("background", *FOUR))), label_colors={"gallbladder": [1, 2, 3]}
    )
    assert config.landmark_table.names == FOUR
    assert config.landmark_table.colors["gallbladder"] == (1, 2, 3)
    assert config.label2id == {"background": 0, **{name: place for place, name in enumerate(FOUR, 1)}}
    assert LiverLandmarkConfig.from_dict(config.to_dict()).landmark_table == config.landmark_table
    assert LandmarkTable.from_id2label({0: "none", 1: "ridge"}).background == "none"
    assert LiverLandmarkConfig().landmark_table == DEFAULT_LANDMARKS
    assert LiverLandmarkConfig(num_labels=6).landmark_table.num_classes == 6
    for fields, reason in (
        ({"num_labels": 1}, "num_labels must be at least 2"),
        ({"id2label": {0: "background", 2: "ridge"}}, "ids 0 to 1"),
        ({"label_colors": {"liver": [1, 2, 3]}}, "'liver' is no landmark"),
        ({"label_colors": {"ridge": [1, 2, 256]}}, "label_colors.ridge must be three integers"),
    ):
        with pytest.raises(ValueError, match=reason) as error:
            LiverLandmarkConfig(**fields)
        assert "\n" not in str(error.value)
