"""Irregular folders of one's own labelme files: names, labels, places, splits."""

import base64
import shutil

import pytest

from liver_landmark.data.readers import CustomOptions, SplitOptions
from raw_sets import labelme
from raw_sets.building import NAMED_SPLITS, build, check_as_told, check_left_out
from raw_sets.truth import RawSet

CUSTOM = ("custom", CustomOptions("labelme"))
SPLITS = {"splits": NAMED_SPLITS["anna"]}


@pytest.mark.parametrize("path", ["../frames/{}", "C:\\data\\liver\\{}", "/data/{}", "./{}", "{}"])
def test_image_paths_that_lead_elsewhere(tmp_path, path):
    """The picture beside the file is meant, wherever labelme once found it."""
    raw = labelme.write_labelme(tmp_path / "raw")
    for frame in raw.frames:
        labelme.edit_json(
            frame, lambda document: document.update(imagePath=path.format(document["imagePath"]))
        )
    check_as_told(build(raw, tmp_path / "built", *CUSTOM, **SPLITS), raw.frames)


def test_the_picture_is_the_one_that_image_path_names(tmp_path):
    """A file of another name than its picture's."""
    raw = labelme.write_labelme(tmp_path / "raw")
    frame = raw.frames[0]
    frame.annotation = frame.annotation.rename(frame.annotation.with_name("revised.json"))
    built = build(raw, tmp_path / "built", *CUSTOM, **SPLITS)
    check_as_told(built, raw.frames)
    assert built.row(frame)["image"]["bytes"] == frame.picture.read_bytes()


def test_names_of_any_script_with_spaces_and_dots(tmp_path):
    raw = labelme.write_labelme(tmp_path / "raw", patients=("Größe 1", "肝.2", "d'Artagnan", "#4 100%"))
    options = SplitOptions(validation_patients=("肝.2",), test_patients=("#4 100%",))
    built = build(raw, tmp_path / "built", *CUSTOM, splits=options)
    check_as_told(built, raw.frames)
    assert {row["patient_id"] for row in built.rows.values()} == {frame.patient for frame in raw.frames}


def test_two_files_for_one_picture(tmp_path):
    raw = labelme.write_labelme(tmp_path / "raw")
    frame = raw.frames[0]
    shutil.copy(frame.annotation, frame.annotation.with_name("revised.json"))
    check_left_out(raw, tmp_path / "built", frame, frame.picture, "revised.json", *CUSTOM, **SPLITS)


@pytest.mark.parametrize(
    "change",
    [
        lambda data: b"\xef\xbb\xbf" + data,
        lambda data: data.replace(b"\n", b"\r\n"),
        lambda data: data.replace(
            b'"imageData": null', b'"imageData": "' + base64.b64encode(bytes(9999)) + b'"'
        ),
        lambda data: data.replace(b'"imageData": null,', b""),
    ],
)
def test_files_as_editors_and_labelme_leave_them(tmp_path, change):
    raw = labelme.write_labelme(tmp_path / "raw")
    for frame in raw.frames:
        before = frame.annotation.read_bytes()
        labelme.rewrite(frame, change)
        assert frame.annotation.read_bytes() != before
    check_as_told(build(raw, tmp_path / "built", *CUSTOM, **SPLITS), raw.frames)


def test_polygons_are_refused(tmp_path):
    raw = labelme.write_labelme(tmp_path / "raw")
    frame = raw.frames[0]
    labelme.edit_json(frame, lambda document: document["shapes"][1].update(shape_type="polygon"))
    check_left_out(raw, tmp_path / "built", frame, frame.annotation, "linestrip", *CUSTOM, **SPLITS)


@pytest.mark.parametrize("label", ["falciform", "tool", "rigde"])
def test_unknown_labels_are_refused(tmp_path, label):
    raw = labelme.write_labelme(tmp_path / "raw")
    frame = raw.frames[0]
    labelme.edit_json(frame, lambda document: labelme.add_label(document, label))
    built = check_left_out(raw, tmp_path / "built", frame, frame.annotation, label, *CUSTOM, **SPLITS)
    assert "ridge" in built.problem(raw.relative(frame.annotation))


@pytest.mark.parametrize("as_file", [False, True])
def test_a_label_map_says_what_is_meant(tmp_path, as_file):
    raw = labelme.write_labelme(tmp_path / "raw")
    frame = raw.frames[0]
    labelme.edit_json(frame, lambda document: labelme.add_label(document, "falciform"))
    labelme.edit_json(frame, lambda document: labelme.add_label(document, "tool", "polygon"))
    frame.landmarks.append({"category": "ligament", "points": [(4, 4), (20, 6), (30, 5)]})
    entries = ("falciform=ligament", "tool=ignore")
    if as_file:
        path = tmp_path / "labels.json"
        path.write_text('{"falciform": "ligament", "tool": "ignore"}')
        entries = (str(path),)
    built = build(raw, tmp_path / "built", "custom", CustomOptions("labelme", entries), **SPLITS)
    check_as_told(built, raw.frames)


def test_frames_that_lie_in_no_patients_folder(tmp_path):
    raw = RawSet(
        tmp_path / "raw",
        [
            labelme.write_frame(tmp_path / "raw", f"P{place}", f"P{place}_frame{number}", 10 * place + number)
            for place in range(4)
            for number in range(2)
        ],
    )
    with pytest.raises(ValueError, match="--patient-pattern"):
        build(raw, tmp_path / "built", *CUSTOM)
    options = CustomOptions("labelme", patient_pattern="(P[0-9]+)_")
    built = build(raw, tmp_path / "built", "custom", options)
    check_as_told(built, raw.frames)
    splits = {row["patient_id"]: row["split"] for row in built.rows.values()}
    assert sorted(splits.values()) == ["test", "train", "train", "validation"]
    again = build(raw, tmp_path / "again", "custom", options)
    assert {frame_id: row["split"] for frame_id, row in again.rows.items()} == {
        frame_id: row["split"] for frame_id, row in built.rows.items()
    }


@pytest.mark.parametrize("above", [True, False])
def test_split_folders_decide(tmp_path, above):
    raw = RawSet(tmp_path / "raw", [])
    folders = {"anna": "train", "ben": "Train", "carl": "Val", "dora": "test"}
    splits = {"train": "train", "Train": "train", "Val": "validation", "test": "test"}
    for place, (patient, folder) in enumerate(folders.items()):
        path = raw.root / folder / patient if above else raw.root / patient / folder
        raw.frames.append(labelme.write_frame(path, patient, f"{patient}_0", place, splits[folder]))
    check_as_told(build(raw, tmp_path / "built", *CUSTOM), raw.frames)


def test_too_few_patients_to_split(tmp_path):
    raw = labelme.write_labelme(tmp_path / "raw", patients=("anna", "ben"))
    with pytest.raises(ValueError, match="--validation-patients"):
        build(raw, tmp_path / "built", *CUSTOM)
    built = build(raw, tmp_path / "built", *CUSTOM, splits=SplitOptions(test_only=True))
    check_as_told(built, raw.frames)
    assert built.report["frames"] == {"test": 4}


def test_pictures_without_a_file_and_files_without_a_picture(tmp_path):
    raw = labelme.write_labelme(tmp_path / "raw")
    first, second = raw.frames[0], raw.frames[2]
    first.annotation.unlink()
    second.picture.unlink()
    built = build(raw, tmp_path / "built", *CUSTOM, **SPLITS)
    check_as_told(built, [frame for frame in raw.frames if frame not in (first, second)])
    assert "no annotation" in built.problem(raw.relative(first.picture))
    assert "no picture" in built.problem(raw.relative(second.annotation))
