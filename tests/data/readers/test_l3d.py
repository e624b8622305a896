"""Irregular L3D folders: what is let pass, what is left out, and what the report says of it."""

import io
import shutil

import numpy as np
import pytest
from PIL import Image

from liver_landmark.data.readers import L3dOptions
from raw_sets import l3d
from raw_sets.building import build, check_as_told, check_left_out, decoded, strict_line
from raw_sets.pictures import truncate, write_png
from raw_sets.truth import NAMES, RawSet

L3D = ("l3d", L3dOptions())
L3D_2K = ("l3d", L3dOptions(edition="l3d-2k"))


@pytest.mark.parametrize(
    ("folders", "tolerated"),
    [
        (l3d.FOLDERS, {}),
        (l3d.LOWER_FOLDERS, {}),
        (l3d.UPPER_FOLDERS, {"folder_case": 3}),
        (l3d.NESTED_FOLDERS, {"nested_split_folder": 1}),
    ],
)
def test_folders_of_the_splits(tmp_path, folders, tolerated):
    raw = l3d.write_l3d(tmp_path / "raw", folders=folders)
    built = build(raw, tmp_path / "built", *L3D)
    check_as_told(built, raw.frames)
    assert built.report["problems"] == []
    assert built.report["tolerated"] == tolerated
    assert built.report["frames"] == {"train": 6, "validation": 2, "test": 4}
    # Nothing to strip or to turn: the pictures are the files.
    assert all(built.row(frame)["image"]["bytes"] == frame.picture.read_bytes() for frame in raw.frames)


@pytest.mark.parametrize(
    "fields",
    [
        *(
            {"names": names}
            for names in ((), ("ridge",), ("ligament", "ridge"), NAMES[::-1], ("ridge", "ridge"))
        ),
        *({"suffix": suffix} for suffix in (".JPG", ".jpeg", ".Jpeg")),
    ],
    ids=str,
)
def test_absent_classes_any_order_and_suffixes_in_any_case(tmp_path, fields):
    raw = l3d.write_l3d(tmp_path / "raw")
    raw.frames.append(l3d.write_frame(raw.root, "Train", 2, 7, "train", **fields))
    check_as_told(build(raw, tmp_path / "built", *L3D), raw.frames)


def test_the_size_is_the_jsons(tmp_path):
    """A 4K frame between others, of a name that says nothing."""
    raw = l3d.write_l3d(tmp_path / "raw")
    raw.frames.append(l3d.write_frame(raw.root, "Train", 2, 7, "train", width=3840, height=2160))
    built = build(raw, tmp_path / "built", *L3D, protocol="d2gpland")
    check_as_told(built, raw.frames)
    assert decoded(built.row(raw.frames[-1])["label"]["bytes"]).shape[:2] == (2160, 3840)


def test_a_label_made_for_another_size(tmp_path):
    raw = l3d.write_l3d(tmp_path / "raw")
    frame = l3d.write_frame(raw.root, "Train", 2, 7, "train", width=128, height=72)
    raw.frames.append(frame)
    l3d.edit_json(frame, lambda document: document.update(imageWidth=64, imageHeight=36))
    check_left_out(raw, tmp_path / "built", frame, frame.annotation, "64×36", *L3D)


def test_published_splits_are_checked(tmp_path):
    raw = l3d.write_l3d(tmp_path / "raw")
    leak = l3d.write_frame(raw.root, "Train", 31, 1, "train")
    raw.frames.append(leak)
    check_left_out(raw, tmp_path / "built", leak, leak.picture, "patient 31", *L3D)


def test_other_editions_have_their_own_splits(tmp_path):
    raw = l3d.write_l3d(tmp_path / "raw", patients={"train": (21, 80), "validation": (1,), "test": (2,)})
    built = build(raw, tmp_path / "built", *L3D_2K)
    check_as_told(built, raw.frames)
    assert {row["source"] for row in built.rows.values()} == {"l3d-2k"}


@pytest.mark.parametrize("bits", [8, 16])
def test_depth_keeps_its_numbers(tmp_path, bits):
    raw = l3d.write_l3d(tmp_path / "raw", depth_bits=bits)
    raw.frames.append(l3d.write_frame(raw.root, "Train", 2, 7, "train"))
    built = build(raw, tmp_path / "built", *L3D)
    check_as_told(built, raw.frames)
    for frame in raw.frames[:-1]:
        stored = Image.open(io.BytesIO(built.row(frame)["depth"]["bytes"]))
        np.testing.assert_array_equal(np.asarray(stored), np.asarray(Image.open(frame.depth)))
    assert built.row(raw.frames[-1])["depth"] is None
    without = build(raw, tmp_path / "without", "l3d", L3dOptions(depth=False))
    assert all(row["depth"] is None for row in without.rows.values())


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda path: write_png(path, l3d.depth_values(1, 128, 72, 16)), "128×72"),
        (lambda path: write_png(path, np.zeros((36, 64, 3), np.uint8)), "RGB"),
        (truncate, "truncated"),
    ],
)
def test_depth_that_does_not_fit(tmp_path, spoil, reason):
    raw = l3d.write_l3d(tmp_path / "raw", depth_bits=16)
    frame = raw.frames[0]
    spoil(frame.depth)
    check_left_out(raw, tmp_path / "built", frame, frame.depth, reason, *L3D)
    check_as_told(build(raw, tmp_path / "without", "l3d", L3dOptions(depth=False)), raw.frames)


@pytest.mark.parametrize(
    ("lost", "named", "reason"),
    [("annotation", "picture", "no label"), ("picture", "annotation", "no frame")],
)
def test_a_frame_without_a_label_and_a_label_without_a_frame(tmp_path, lost, named, reason):
    raw = l3d.write_l3d(tmp_path / "raw")
    frame = raw.frames[0]
    getattr(frame, lost).unlink()
    check_left_out(raw, tmp_path / "built", frame, getattr(frame, named), reason, *L3D)


def test_points_a_little_outside_are_kept_and_counted(tmp_path):
    raw = l3d.write_l3d(tmp_path / "raw")
    frame = raw.frames[0]
    outside = [(-0.5, 4.0), (63.5, 35.5), (20.0, -0.5)]
    l3d.edit_json(frame, lambda document: document["shapes"][0].update(points=outside))
    frame.landmarks[0]["points"] = outside
    built = build(raw, tmp_path / "built", *L3D)
    check_as_told(built, raw.frames)
    assert built.report["tolerated"] == {"points_outside": 3}


def test_several_problems_are_all_told_and_the_first_stops_a_strict_build(tmp_path):
    raw = l3d.write_l3d(tmp_path / "raw")
    first, second, third = raw.frames[0], raw.frames[2], raw.frames[-1]
    first.annotation.unlink()
    truncate(second.picture)
    l3d.edit_json(third, lambda document: document.pop("shapes"))
    assert strict_line(raw, tmp_path / "built", *L3D).startswith(raw.relative(first.picture))
    built = build(raw, tmp_path / "built", *L3D)
    check_as_told(built, [frame for frame in raw.frames if frame not in (first, second, third)])
    assert built.report["left_out"] == 3
    assert built.report["pictures"] == len(raw.frames)
    assert sorted(problem["file"] for problem in built.report["problems"]) == sorted(
        [raw.relative(first.picture), raw.relative(second.picture), raw.relative(third.annotation)]
    )
    assert str(tmp_path) not in (built.folder / "report.json").read_text()


def test_a_folder_that_is_no_such_set(tmp_path):
    empty = RawSet(tmp_path / "raw", [])
    (tmp_path / "raw" / "Train").mkdir(parents=True)
    with pytest.raises(ValueError, match=str(tmp_path)):
        build(empty, tmp_path / "built", *L3D)
    shutil.rmtree(tmp_path / "raw" / "Train")
    with pytest.raises(ValueError, match="Train, Val and Test"):
        build(empty, tmp_path / "built", *L3D)
    assert not (tmp_path / "built").exists()


def test_the_same_frame_id_twice(tmp_path):
    """As JPEG and as PNG: which of them the label is of, nobody knows."""
    raw = l3d.write_l3d(tmp_path / "raw")
    frame = raw.frames[0]
    double = frame.picture.with_suffix(".png")
    write_png(double, np.zeros((36, 64, 3), np.uint8))
    built = build(raw, tmp_path / "built", *L3D)
    check_as_told(built, raw.frames[1:])
    assert "which" in built.problem(raw.relative(double))
    assert "which" in built.problem(raw.relative(frame.picture))
