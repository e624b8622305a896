"""P2ILF's cameras and pairs of contour files, among them the challenge's own sample."""

from __future__ import annotations

import json
import shutil

import pytest

from liver_landmark.data.readers import ProblemError, find_p2ilf
from liver_landmark.data.readers.p2ilf import read_camera
from liver_landmark.data.readers.rows import P2ilfFiles
from raw_sets import p2ilf

CAMERA = {"fx": "900.5", "fy": 901, "cx": "320", "cy": 240.25, "k1": "-0.2", "k4": "1e-3", "p2": "0.5"}


def write_camera(folder, name="camera.json", **changes):
    content = {key: value for key, value in (CAMERA | changes).items() if value is not None}
    (folder / name).write_text(json.dumps(content))
    return name


def test_a_camera_is_read_from_strings_and_numbers(tmp_path):
    camera = read_camera(tmp_path, write_camera(tmp_path, width="640", height=480))
    assert camera.values == {
        "fx": 900.5,
        "fy": 901,
        "cx": 320,
        "cy": 240.25,
        "k": [-0.2, 0, 0, 0.5, 0, 0.001],  # k1, k2, p1, p2, k3, k4
    }
    assert (camera.width, camera.height) == (640, 480)
    assert read_camera(tmp_path, write_camera(tmp_path)).width is None


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


@pytest.mark.parametrize("content", ["[]", "{", ""])
def test_camera_files_that_are_none(tmp_path, content):
    (tmp_path / "camera.json").write_text(content)
    with pytest.raises(ProblemError):
        read_camera(tmp_path, "camera.json")


@pytest.fixture
def raw(tmp_path):
    raw = p2ilf.write_p2ilf(tmp_path / "raw")
    for camera in raw.root.rglob("*.json"):
        if "contours" not in camera.parent.name:
            camera.unlink()
    return raw


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


def test_the_challenges_own_files_agree(p2ilf_sample, tmp_path):
    names = ("2D_contours/patient2_1.xml", "2D_contours/patient2_1_2D-contours.json")
    labels = P2ilfFiles(names).read(p2ilf_sample)
    assert [curve["category"] for curve in labels.annotation.landmarks].count("ridge") >= 1
    assert labels.file == names[0]
    assert not +labels.tolerated
    shutil.copytree(p2ilf_sample / "2D_contours", tmp_path / "2D_contours")
    path = tmp_path / names[1]
    path.chmod(0o600)
    content = json.loads(path.read_text())
    content["contour"][1]["imagePoints"]["x"][3] += 1
    path.write_text(json.dumps(content))
    with pytest.raises(ProblemError, match="says otherwise than") as caught:
        P2ilfFiles(names).read(tmp_path)
    assert caught.value.problem.file == names[1]
    content["contour"][1]["imagePoints"]["x"][3] -= 0.5
    path.write_text(json.dumps(content))
    assert P2ilfFiles(names).read(tmp_path).tolerated["rounded_copies"] == 1


def test_mask_pictures_are_no_frames(raw):
    frame = raw.frames[0]
    shutil.copy(frame.picture, frame.picture.with_stem(f"{frame.stem}_GT"))
    found = find_p2ilf(raw.root)
    assert (found.pictures, found.tolerated["mask_pictures"], found.problems) == (len(raw.frames), 1, [])
