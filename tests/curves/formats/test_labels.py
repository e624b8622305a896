"""Which landmark a label means."""

from __future__ import annotations

import json

import pytest

from curves.formats.annotations import refusal
from liver_landmark.curves.formats import DEFAULT_LABELS, L3D_LABELS, AnnotationError, LabelMap


@pytest.mark.parametrize("name", ["ridge", "silhouette", "ligament"])
def test_the_class_names_mean_themselves_in_any_case(name):
    for label in (name, name.upper(), name.title()):
        assert DEFAULT_LABELS.category(label, "frame.x") == name


@pytest.mark.parametrize("label", ["rigde", "", " ridge", "ignore", "ridge\n" * 99, "\ud800"])
def test_unknown_labels_are_refused_and_the_known_ones_named(label):
    reason = refusal(DEFAULT_LABELS.category, label, "frame.x", "shapes[3].label")
    assert reason.startswith("shapes[3].label '")
    assert "'ridge', 'silhouette', 'ligament'" in reason


def test_l3ds_misspelling_is_tolerated_and_can_be_counted():
    assert L3D_LABELS.category("Rigde", "frame.x") == "ridge"
    assert L3D_LABELS.is_tolerated("Rigde")
    assert not L3D_LABELS.is_tolerated("ridge")
    assert not LabelMap({"rigde": "ridge"}, tolerated={"rigde": "ridge"}).is_tolerated("rigde")
    refusal(L3D_LABELS.category, "rdige", "frame.x")


def test_entries_add_to_the_class_names_and_replace_them():
    labels = LabelMap.parse(["Falciform=ligament", "a=b=Ridge", "tool=ignore", "silhouette=ignore"])
    found = {label: labels.category(label, "frame.x") for label in ("FALCIFORM", "a=b", "Tool", "ridge")}
    assert found == {"FALCIFORM": "ligament", "a=b": "ridge", "Tool": None, "ridge": "ridge"}
    assert labels.category("silhouette", "frame.x") is None
    assert labels.category("ligament", "frame.x") == "ligament"


@pytest.mark.parametrize(
    ("entries", "reason"),
    [
        (["falciform"], "label map 'falciform': expected LABEL=CLASS"),
        (["=ridge"], "label map '=ridge': expected LABEL=CLASS"),
        (["a=edge"], "label 'a' is mapped to 'edge': choose one of ridge, silhouette, ligament, ignore"),
        (["a=ridge", "A=ligament"], "label 'A' is mapped to ridge and to 'ligament'"),
        (["a="], "label 'a' is mapped to ''"),
    ],
)
def test_entries_that_say_nothing(entries, reason):
    with pytest.raises(ValueError, match=f"^{reason}"):
        LabelMap.parse(entries)


def test_a_file_says_the_same(tmp_path):
    path = tmp_path / "labels.json"
    path.write_text(json.dumps({"Falciform": "ligament", "tool": "ignore"}))
    assert LabelMap.read(path) == LabelMap.parse(["Falciform=ligament", "tool=ignore"])


@pytest.mark.parametrize(
    "content", ['["a"]', '{"a": 3}', '{"a": "edge"}', '{"a": "ridge", "a": "ridge"}', "{"]
)
def test_files_that_are_no_map(tmp_path, content):
    path = tmp_path / "labels.json"
    path.write_text(content)
    with pytest.raises(AnnotationError, match=r"labels\.json: "):
        LabelMap.read(path)


def test_maps_made_by_hand_are_checked():
    with pytest.raises(ValueError, match="choose one of"):
        LabelMap({"a": "edge"})
    with pytest.raises(ValueError, match="lower case: 'a'"):
        LabelMap({"A": "ridge"})
    with pytest.raises(ValueError, match="choose one of"):
        LabelMap({}, tolerated={"rigde": "rigde"})
