"""Folders of one's own, labelme and CVAT: names, labels, places, splits, files without their other half."""

import shutil

import pytest

from liver_landmark.data.readers import CustomOptions, SplitOptions
from raw_sets import cvat, labelme
from raw_sets.building import NAMED_SPLITS, build, check_as_told, check_left_out
from raw_sets.truth import RawSet

LABELME = ("custom", CustomOptions("labelme"))
SPLITS = {"splits": NAMED_SPLITS["anna"]}


def test_the_picture_is_the_one_that_image_path_names(tmp_path):
    """A file of another name than its picture's, which labelme found elsewhere, on Windows."""
    raw = labelme.write_labelme(tmp_path / "raw")
    frame = raw.frames[0]
    labelme.edit_json(frame, lambda document: document.update(imagePath=f"C:\\data\\{frame.picture.name}"))
    frame.annotation = frame.annotation.rename(frame.annotation.with_name("revised.json"))
    built = build(raw, tmp_path / "built", *LABELME, **SPLITS)
    check_as_told(built, raw.frames)
    assert built.row(frame)["image"]["bytes"] == frame.picture.read_bytes()


def test_names_of_any_script_with_spaces_and_dots(tmp_path):
    raw = labelme.write_labelme(tmp_path / "raw", patients=("Größe 1", "肝.2", "d'Artagnan", "#4 100%"))
    options = SplitOptions(validation_patients=("肝.2",), test_patients=("#4 100%",))
    built = build(raw, tmp_path / "built", *LABELME, splits=options)
    check_as_told(built, raw.frames)
    assert {row["patient_id"] for row in built.rows.values()} == {frame.patient for frame in raw.frames}


def test_two_files_for_one_picture(tmp_path):
    raw = labelme.write_labelme(tmp_path / "raw")
    frame = raw.frames[0]
    shutil.copy(frame.annotation, frame.annotation.with_name("revised.json"))
    check_left_out(raw, tmp_path / "built", frame, frame.picture, "revised.json", *LABELME, **SPLITS)


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
        build(raw, tmp_path / "built", *LABELME)
    options = CustomOptions("labelme", patient_pattern="(P[0-9]+)_")
    built = build(raw, tmp_path / "built", "custom", options)
    check_as_told(built, raw.frames)
    splits = {row["patient_id"]: row["split"] for row in built.rows.values()}
    assert sorted(splits.values()) == ["test", "train", "train", "validation"]
    again = build(raw, tmp_path / "again", "custom", options)
    assert {frame_id: row["split"] for frame_id, row in again.rows.items()} == {
        frame_id: row["split"] for frame_id, row in built.rows.items()
    }


def test_split_folders_decide(tmp_path):
    raw = RawSet(tmp_path / "raw", [])
    folders = ("train/anna", "ben/Train", "Val/carl", "dora/test")
    for place, (folder, split) in enumerate(
        zip(folders, ("train", "train", "validation", "test"), strict=True)
    ):
        patient = ("anna", "ben", "carl", "dora")[place]
        raw.frames.append(labelme.write_frame(raw.root / folder, patient, f"{patient}_0", place, split))
    check_as_told(build(raw, tmp_path / "built", *LABELME), raw.frames)


def test_pictures_without_a_file_and_files_without_a_picture(tmp_path):
    raw = labelme.write_labelme(tmp_path / "raw")
    first, second = raw.frames[0], raw.frames[2]
    first.annotation.unlink()
    second.picture.unlink()
    built = build(raw, tmp_path / "built", *LABELME, **SPLITS)
    check_as_told(built, [frame for frame in raw.frames if frame not in (first, second)])
    assert "no annotation" in built.problem(raw.relative(first.picture))
    assert "no picture" in built.problem(raw.relative(second.annotation))


CVAT = ("custom", CustomOptions("cvat"))


@pytest.fixture
def raw(tmp_path):
    return cvat.write_cvat(tmp_path / "raw")


def test_a_file_of_another_name(tmp_path):
    raw = cvat.write_cvat(tmp_path / "raw", file_name="task_7.xml")
    with pytest.raises(ValueError, match="--annotations"):
        build(raw, tmp_path / "built", *CVAT, **SPLITS)
    options = CustomOptions("cvat", annotations=raw.frames[0].annotation)
    check_as_told(build(raw, tmp_path / "built", "custom", options, **SPLITS), raw.frames)


def test_unknown_labels_are_refused_unless_they_are_mapped(tmp_path, raw):
    cvat.rewrite(raw, 'polyline label="ligament"', 'polyline label="falciform"')
    frame = raw.frames[0]
    built = check_left_out(raw, tmp_path / "built", frame, frame.annotation, "falciform", *CVAT, **SPLITS)
    # The file that is named is all images': the line says whose shape it is.
    assert raw.relative(frame.picture) in built.problem("annotations.xml")
    box = cvat.shape_xml("tool", [(5.0, 5.0), (20.0, 9.0)], "box")
    cvat.rewrite(raw, "  </image>\n", f"{box}  </image>\n")
    options = CustomOptions("cvat", ("falciform=ligament", "tool=ignore"))
    check_as_told(build(raw, tmp_path / "mapped", "custom", options, **SPLITS), raw.frames)


def test_images_that_are_not_there_and_pictures_that_are_not_in_the_file(tmp_path, raw):
    first, second = raw.frames[0], raw.frames[2]
    first.picture.unlink()
    kept = [frame for frame in raw.frames if frame is not second]
    text = cvat.annotations_xml(raw)
    image = cvat.image_xml(2, raw.relative(second.picture), 64, 36, second.landmarks)
    assert image in text
    first.annotation.write_text(text.replace(image, ""))
    built = build(raw, tmp_path / "built", *CVAT, **SPLITS)
    check_as_told(built, kept[1:])
    assert "no picture" in built.problem("annotations.xml")
    assert "no annotation" in built.problem(raw.relative(second.picture))


def test_images_without_shapes_are_frames_without_landmarks(tmp_path, raw):
    frame = raw.frames[0]
    image = cvat.image_xml(0, raw.relative(frame.picture), 64, 36, frame.landmarks)
    cvat.rewrite(raw, image, cvat.image_xml(0, raw.relative(frame.picture), 64, 36, []))
    frame.landmarks = []
    built = build(raw, tmp_path / "built", *CVAT, **SPLITS)
    check_as_told(built, raw.frames)
    assert built.report["tolerated"] == {"frames_without_landmarks": 1}
