"""Irregular CVAT exports: labels, shapes, images that are not there, pictures that are not in it."""

import pytest

from liver_landmark.data.readers import CustomOptions
from raw_sets import cvat
from raw_sets.building import NAMED_SPLITS, build, check_as_told, check_left_out, strict_line

CUSTOM = ("custom", CustomOptions("cvat"))
SPLITS = {"splits": NAMED_SPLITS["anna"]}


@pytest.fixture
def raw(tmp_path):
    return cvat.write_cvat(tmp_path / "raw")


def in_first_image(raw, old, new):
    """Replaces text that occurs in the first image first."""
    cvat.rewrite(raw, old, new)
    return raw.frames[0]


def test_several_images_in_one_file(tmp_path, raw):
    built = build(raw, tmp_path / "built", *CUSTOM, **SPLITS)
    check_as_told(built, raw.frames)
    assert built.report["problems"] == []


def test_a_file_of_another_name(tmp_path):
    raw = cvat.write_cvat(tmp_path / "raw", file_name="task_7.xml")
    with pytest.raises(ValueError, match="--annotations"):
        build(raw, tmp_path / "built", *CUSTOM, **SPLITS)
    options = CustomOptions("cvat", annotations=raw.frames[0].annotation)
    check_as_told(build(raw, tmp_path / "built", "custom", options, **SPLITS), raw.frames)


def check_image_left_out(raw, output, reason, options=CUSTOM[1]):
    """Fails unless the first image alone is left out; the file that is named is all images'."""
    frame = raw.frames[0]
    built = check_left_out(raw, output, frame, frame.annotation, reason, "custom", options, **SPLITS)
    assert raw.relative(frame.picture) in built.problem("annotations.xml")


def test_unknown_labels_are_refused_unless_they_are_mapped(tmp_path, raw):
    frame = in_first_image(raw, 'polyline label="ligament"', 'polyline label="falciform"')
    check_image_left_out(raw, tmp_path / "built", "falciform")
    options = CustomOptions("cvat", ("falciform=ligament",))
    check_as_told(build(raw, tmp_path / "mapped", "custom", options, **SPLITS), raw.frames)
    assert frame.landmarks[2]["category"] == "ligament"


@pytest.mark.parametrize("kind", ["polygon", "points", "box", "mask"])
def test_other_shapes_are_refused_unless_they_are_ignored(tmp_path, raw, kind):
    shape = cvat.shape_xml("tool", [(5.0, 5.0), (20.0, 9.0), (30.0, 20.0)], kind)
    in_first_image(raw, "  </image>\n", f"{shape}  </image>\n")
    options = CustomOptions("cvat", ("tool=ridge",))
    check_image_left_out(raw, tmp_path / "built", "polyline", options)
    ignoring = CustomOptions("cvat", ("tool=ignore",))
    check_as_told(build(raw, tmp_path / "ignored", "custom", ignoring, **SPLITS), raw.frames)


def test_tracks_are_refused(tmp_path, raw):
    in_first_image(raw, "</annotations>", '<track id="0" label="ridge"></track></annotations>')
    with pytest.raises(ValueError, match="CVAT for images") as caught:
        build(raw, tmp_path / "built", *CUSTOM, **SPLITS)
    assert str(caught.value).startswith(str(raw.frames[0].annotation))
    assert not (tmp_path / "built").exists()


def test_an_image_of_the_same_name_twice(tmp_path, raw):
    """Also of the same content: one of the two has been forgotten."""
    frame = raw.frames[0]
    image = cvat.image_xml(0, raw.relative(frame.picture), 64, 36, frame.landmarks)
    in_first_image(raw, image, 2 * image)
    line = strict_line(raw, tmp_path / "built", *CUSTOM, **SPLITS)
    assert raw.relative(frame.picture) in line
    assert "2 times" in line
    check_as_told(build(raw, tmp_path / "built", *CUSTOM, **SPLITS), raw.frames[1:])


def test_images_that_are_not_there_and_pictures_that_are_not_in_the_file(tmp_path, raw):
    first, second = raw.frames[0], raw.frames[2]
    first.picture.unlink()
    kept = [frame for frame in raw.frames if frame is not second]
    text = cvat.annotations_xml(raw)
    image = cvat.image_xml(2, raw.relative(second.picture), 64, 36, second.landmarks)
    assert image in text
    first.annotation.write_text(text.replace(image, ""))
    built = build(raw, tmp_path / "built", *CUSTOM, **SPLITS)
    check_as_told(built, kept[1:])
    assert "no picture" in built.problem("annotations.xml")
    assert "no annotation" in built.problem(raw.relative(second.picture))


def test_images_without_shapes_are_frames_without_landmarks(tmp_path, raw):
    frame = raw.frames[0]
    image = cvat.image_xml(0, raw.relative(frame.picture), 64, 36, frame.landmarks)
    in_first_image(raw, image, cvat.image_xml(0, raw.relative(frame.picture), 64, 36, []))
    frame.landmarks = []
    built = build(raw, tmp_path / "built", *CUSTOM, **SPLITS)
    check_as_told(built, raw.frames)
    assert built.report["tolerated"] == {"frames_without_landmarks": 1}


@pytest.mark.parametrize(
    ("points", "reason"),
    [("5,5;74,20", "outside"), ("5,5", "two"), ("5,5;5.00,5.00", "different"), ("5,5;6", "points")],
)
def test_curves_that_cannot_be(tmp_path, raw, points, reason):
    old = cvat.shape_xml("ridge", raw.frames[0].landmarks[0]["points"])
    new = old[: old.index('points="')] + f'points="{points}" z_order="0"></polyline>\n'
    frame = in_first_image(raw, old, new)
    check_left_out(raw, tmp_path / "built", frame, frame.annotation, reason, *CUSTOM, **SPLITS)


def test_the_size_of_another_picture(tmp_path, raw):
    frame = in_first_image(raw, 'width="64" height="36"', 'width="1920" height="1080"')
    check_left_out(raw, tmp_path / "built", frame, frame.annotation, "1920×1080", *CUSTOM, **SPLITS)
