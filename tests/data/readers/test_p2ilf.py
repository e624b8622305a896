"""P2ILF folders: two files of one frame, floats, counts, cameras, folders, yellow silhouettes."""

from __future__ import annotations

import json

import numpy as np
import pytest

from liver_landmark.data.readers import ProblemError, find_p2ilf
from liver_landmark.data.readers.p2ilf import read_camera
from raw_sets import llsd, p2ilf
from raw_sets.building import NAMED_SPLITS, build, check_as_told, check_left_out
from raw_sets.pictures import write_png

CAMERA = {"fx": "900.5", "fy": 901, "cx": "320", "cy": 240.25, "k1": "-0.2", "k4": "1e-3", "p2": "0.5"}


def write_camera(folder, name="camera.json", **changes):
    content = {key: value for key, value in (CAMERA | changes).items() if value is not None}
    (folder / name).write_text(json.dumps(content))
    return name


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"fx": None}, "fx is missing"),
        ({"fy": "wide"}, "fy is missing or no usable number"),
        ({"fy": True}, "fy is missing or no usable number"),
        ({"cx": "nan"}, "cx is missing or no usable number"),
        ({"cx": [1]}, "cx is missing or no usable number"),
        ({"fx": "-1"}, "fx is -1 px"),
        ({"k1": "1e400"}, "k1 is missing or no usable number"),
        ({"skew": "0.5"}, "skew is not 0"),
        ({"width": "640.5"}, "width is 640.5"),
        ({"height": 0}, "height is 0"),
    ],
)
def test_cameras_that_cannot_be(tmp_path, changes, reason):
    file = write_camera(tmp_path, **changes)
    with pytest.raises(ProblemError, match=reason) as caught:
        read_camera(tmp_path, file)
    assert caught.value.problem.file == file


@pytest.fixture
def raw(tmp_path):
    return p2ilf.write_p2ilf(tmp_path / "raw", camera=None)


def cameras(raw) -> dict[str, float | None]:
    return {
        frame.patient_id: None if frame.camera is None else frame.camera.values["fx"]
        for frame in find_p2ilf(raw.root).frames
    }


def test_the_nearest_camera_is_the_patients(raw):
    assert set(cameras(raw).values()) == {None}
    (raw.root / "license.json").write_text("{}")
    write_camera(raw.root, fx=7)
    (patient,) = raw.root.glob("patient2")
    write_camera(patient, "parameters.json", fx=8)
    assert cameras(raw) == {"patient1": 7, "patient2": 8, "patient3": 7, "patient4": 7}
    [camera, *_] = [frame.camera for frame in find_p2ilf(raw.root).frames]
    assert camera.values["k"] == [-0.2, 0, 0, 0.5, 0, 0.001]  # k1, k2, p1, p2, k3, k4
    assert camera.width is None


def test_two_cameras_are_a_problem_of_their_frames(raw):
    write_camera(raw.root / "patient2", "camera_left.json")
    write_camera(raw.root / "patient2", "camera_right.json")
    found = find_p2ilf(raw.root)
    assert {frame.patient_id for frame in found.frames} == {"patient1", "patient3", "patient4"}
    assert len(found.problems) == found.pictures - len(found.frames)
    assert all("one of 2 camera files: which is meant?" in problem.reason for problem in found.problems)


def test_the_challenges_own_camera(p2ilf_sample):
    camera = read_camera(p2ilf_sample, "camera.json")
    assert (camera.width, camera.height) == (1920, 1080)
    assert camera.values["fx"] == camera.values["fy"] == pytest.approx(952.0696760139697)
    assert camera.values["k"][:2] == pytest.approx([-0.2318489830, 0.3405134918])


SPLITS = {"splits": NAMED_SPLITS["patient"]}


@pytest.mark.parametrize("annotations", [("xml",), ("json",), ("xml", "json")])
@pytest.mark.parametrize("contour_folder", ["2D-3D_contours", "2D_contours"])
def test_files_and_folders(tmp_path, annotations, contour_folder):
    """Float coordinates in all of them."""
    raw = p2ilf.write_p2ilf(tmp_path / "raw", annotations=annotations, contour_folder=contour_folder)
    built = build(raw, tmp_path / "built", "p2ilf", **SPLITS)
    check_as_told(built, raw.frames)
    assert built.report["problems"] == []
    assert any(x != int(x) for frame in raw.frames for x, _ in frame.landmarks[0]["points"])


def test_train_and_test_folders_decide_the_splits(tmp_path):
    folders = {1: "train", 2: "train", 3: "test", 4: "test"}
    raw = p2ilf.write_p2ilf(tmp_path / "raw", folders=folders, frames_per_patient=1)
    built = build(raw, tmp_path / "built", "p2ilf")
    splits = {frame.patient: built.row(frame)["split"] for frame in raw.frames}
    assert (splits["3"], splits["4"]) == ("test", "test")
    # Of those that train one is drawn to validate on: the set has no folder for it.
    assert sorted([splits["1"], splits["2"]]) == ["train", "validation"]


def test_a_json_that_rounds_what_the_xml_says(tmp_path):
    raw = p2ilf.write_p2ilf(tmp_path / "raw", annotations=("xml", "json"))
    for frame in raw.frames:
        document = json.loads(p2ilf.contours_json(frame.landmarks))
        for contour in document["contour"]:
            points = contour["imagePoints"]
            points.update(x=[round(x) for x in points["x"]], y=[round(y) for y in points["y"]])
        frame.others["json"].write_text(json.dumps(document))
    built = build(raw, tmp_path / "built", "p2ilf", **SPLITS)
    check_as_told(built, raw.frames)
    assert built.report["tolerated"] == {"rounded_copies": len(raw.frames)}


def first_point_moved(landmarks):
    (x, y), *rest = landmarks[0]["points"]
    return [landmarks[0] | {"points": [(x + 2, y), *rest]}, *landmarks[1:]]


@pytest.mark.parametrize(
    "other",
    [
        first_point_moved,
        lambda landmarks: [landmarks[0] | {"points": landmarks[0]["points"][:-1]}, *landmarks[1:]],
        lambda landmarks: [landmarks[0] | {"category": "ligament"}, *landmarks[1:]],
        lambda landmarks: landmarks[1:],
        # The other may be right, but which of them was meant to be the last?
        None,
    ],
    ids=["moved", "shorter", "renamed", "fewer", "broken"],
)
def test_files_that_disagree(tmp_path, other):
    raw = p2ilf.write_p2ilf(tmp_path / "raw", annotations=("xml", "json"), frames_per_patient=1)
    frame = raw.frames[0]
    text, reason = (
        ("{", "JSON") if other is None else (p2ilf.contours_json(other(frame.landmarks)), "otherwise")
    )
    frame.others["json"].write_text(text)
    check_left_out(raw, tmp_path / "built", frame, frame.others["json"], reason, "p2ilf", **SPLITS)


@pytest.mark.parametrize("place", ["patient", "root", None])
def test_cameras_of_strings(tmp_path, place):
    raw = p2ilf.write_p2ilf(tmp_path / "raw", camera=place)
    built = build(raw, tmp_path / "built", "p2ilf", **SPLITS)
    check_as_told(built, raw.frames)
    # OpenCV's order of the distortion; the file's is another.
    distortion = [float(p2ilf.CAMERA[key]) for key in ("k1", "k2", "p1", "p2", "k3", "k4")]
    for row in built.rows.values():
        if place is None:
            assert row["camera"] is None
        else:
            for key in ("fx", "fy", "cx", "cy"):
                assert row["camera"][key] == np.float32(float(p2ilf.CAMERA[key]))
            assert row["camera"]["k"] == [np.float32(value) for value in distortion]


@pytest.mark.parametrize(
    ("text", "reason"), [(p2ilf.camera_json(1920, 1080), "1920"), ("{", "JSON"), ("[]", "fx")]
)
def test_a_camera_that_is_not_this_frames(tmp_path, text, reason):
    raw = p2ilf.write_p2ilf(tmp_path / "raw", frames_per_patient=1)
    frame = raw.frames[0]
    (frame.picture.parents[1] / "camera.json").write_text(text)
    check_left_out(raw, tmp_path / "built", frame, frame.picture, reason, "p2ilf", **SPLITS)


def test_frames_without_contours_and_contours_without_a_frame(tmp_path):
    raw = p2ilf.write_p2ilf(tmp_path / "raw")
    first, second = raw.frames[0], raw.frames[1]
    first.annotation.unlink()
    second.picture.unlink()
    built = build(raw, tmp_path / "built", "p2ilf", **SPLITS)
    check_as_told(built, raw.frames[2:])
    assert "no contours" in built.problem(raw.relative(first.picture))
    assert "no frame" in built.problem(raw.relative(second.annotation))
    assert built.report["left_out"] == 1


def test_mask_pictures_beside_frames_are_no_frames(tmp_path):
    raw = p2ilf.write_p2ilf(tmp_path / "raw")
    frame = raw.frames[0]
    write_png(
        frame.picture.with_name(f"{frame.stem}_GT.png"),
        llsd.exact_mask(frame.landmarks, frame.width, frame.height, llsd.P2ILF),
    )
    built = build(raw, tmp_path / "built", "p2ilf", **SPLITS)
    check_as_told(built, raw.frames)
    assert built.report["tolerated"] == {"mask_pictures": 1}
