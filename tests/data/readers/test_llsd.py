"""Folders of color masks: which colors, which folder, hand-drawn or exact, layouts, damage."""

from itertools import pairwise

import datasets
import numpy as np
import pytest
from PIL import Image

from liver_landmark.cli import main
from liver_landmark.data.readers import MaskOptions
from raw_sets import llsd
from raw_sets.building import build, decoded
from raw_sets.pictures import png_bomb, truncate, write_png

CLASS_IDS = {"ridge": 1, "silhouette": 2, "ligament": 3}


def distances_px(points, landmarks, name):
    """(N,) distances of points to the true polyline of a class, by dense sampling."""
    [curve] = [curve for curve in landmarks if curve["category"] == name]
    corners = np.array(curve["points"])
    steps = np.linspace(0, 1, 500)[:, None]
    dense = np.concatenate([a + steps * (b - a) for a, b in pairwise(corners)])
    return np.linalg.norm(np.array(points)[:, None] - dense[None], axis=2).min(axis=1)


def check_traced(built, frames):
    """Fails unless each frame has one curve a class, along the true one and as long as it, and a label."""
    assert sorted(built.rows) == sorted(frame.stem for frame in frames)
    for frame in frames:
        row = built.row(frame)
        assert sorted(curve["category"] for curve in row["landmarks"]) == sorted(CLASS_IDS)
        label = decoded(row["label"]["bytes"])[..., 0]
        assert set(np.unique(label)) == {0, 1, 2, 3}
        for curve in row["landmarks"]:
            name = curve["category"]
            [truth] = [curve for curve in frame.landmarks if curve["category"] == name]
            assert distances_px(curve["points"], frame.landmarks, name).max() < 2
            traced = np.array(curve["points"])[[0, -1]]
            for end in (truth["points"][0], truth["points"][-1]):
                assert np.linalg.norm(traced - end, axis=1).min() < llsd.STROKE_PX
            assert all(label[round(y), round(x)] == CLASS_IDS[name] for x, y in truth["points"])


@pytest.mark.parametrize("layout", list(llsd.LAYOUTS))
def test_layouts_and_exact_masks(tmp_path, layout):
    raw = llsd.write_llsd(tmp_path / "raw", layout=layout)
    built = build(raw, tmp_path / "built", "llsd", MaskOptions())
    check_traced(built, raw.frames)
    assert built.report["problems"] == []
    for frame in raw.frames:
        row = built.row(frame)
        assert row["protocol"] == "as_drawn"
        # The label is the mask as it was drawn, pixel by pixel.
        label = decoded(row["label"]["bytes"])[..., 0]
        mask = np.asarray(Image.open(frame.annotation))
        for name, color in llsd.EXACT.items():
            np.testing.assert_array_equal(label == CLASS_IDS[name], (mask == color).all(-1))
        if frame.split is not None:
            assert row["split"] == frame.split
    assert {row["split"] for row in built.rows.values()} == {"train", "validation", "test"}


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_hand_drawn_masks(tmp_path, suffix):
    """Anti-aliased edges and colors a little off; JPEG mixes them with their surroundings."""
    raw = llsd.write_llsd(tmp_path / "raw", masks=("masks_original",), original_suffix=suffix)
    built = build(raw, tmp_path / "built", "llsd", MaskOptions())
    check_traced(built, raw.frames)
    assert built.report["problems"] == []


def test_exact_masks_are_taken_where_there_are_both(tmp_path):
    raw = llsd.write_llsd(tmp_path / "raw", masks=("masks_gt", "masks_original"))
    for frame in raw.frames:
        write_png(frame.others["masks_original"], np.zeros((90, 160, 3), np.uint8))
    check_traced(build(raw, tmp_path / "built", "llsd", MaskOptions()), raw.frames)
    empty = build(raw, tmp_path / "original", "llsd", MaskOptions(masks="masks_original"))
    assert all(row["landmarks"] == [] for row in empty.rows.values())


def test_masks_of_landmarks_of_ones_own(tmp_path):
    raw = llsd.write_llsd(tmp_path / "raw")
    # The strokes in red, green and blue, by other names and ids.
    names = ("Falciform ligament", "edge", "rim")
    colors = "edge=#ff0000,rim=#00ff00,Falciform ligament=#0000ff"
    layout = ["--masks", "masks_gt", "--palette", colors, "--landmarks", ",".join(names)]
    command = ["data", "build", "llsd", str(raw.root), "--output", str(tmp_path / "built"), *layout]
    assert main(command) == 0
    known_colors = "ridge=#ff0000,silhouette=#00ff00,ligament=#0000ff"
    options = MaskOptions(masks="masks_gt", palette=known_colors)
    plain = build(raw, tmp_path / "plain", "llsd", options)
    splits = datasets.load_dataset(str(tmp_path / "built"), cache_dir=str(tmp_path / "cache"))
    assert splits["train"].features["landmarks"].feature["category"].names == list(names)
    meant = {"ridge": 1, "silhouette": 2, "ligament": 0}
    ids = np.array([0, 2, 3, 1])
    rows = {row["frame_id"]: row for split in splits.values() for row in split}
    assert len(rows) == len(raw.frames)
    for frame in raw.frames:
        row, known = rows[plain.row(frame)["frame_id"]], plain.row(frame)
        np.testing.assert_array_equal(np.asarray(row["label"]), ids[decoded(known["label"]["bytes"])[..., 0]])
        traced = sorted((meant[curve["category"]], curve["points"]) for curve in known["landmarks"])
        assert sorted((curve["category"], curve["points"]) for curve in row["landmarks"]) == traced
    card = (tmp_path / "built" / "README.md").read_text(encoding="utf-8")
    assert "`Falciform ligament`, `edge`, `rim`" in card
    assert "1 Falciform ligament, 2 edge, 3 rim" in card


def test_landmarks_of_ones_own_need_their_colors():
    with pytest.raises(ValueError, match=r"--landmarks: give their colors, too: --palette edge=#rrggbb$"):
        MaskOptions(landmarks=("edge",))
    with pytest.raises(ValueError, match=r"--landmarks: 'a/b' cannot name"):
        MaskOptions(landmarks=("a/b",), palette="a/b=#ff0000")


def test_colors_of_an_unknown_folder_are_refused_until_they_are_told(tmp_path):
    raw = llsd.write_llsd(tmp_path / "raw")
    for folder in raw.root.rglob("masks_gt"):
        folder.rename(folder.with_name("drawings"))
    with pytest.raises(ValueError, match=str(raw.root)):
        build(raw, tmp_path / "built", "llsd", MaskOptions())
    assert not (tmp_path / "built").exists()
    with pytest.raises(ValueError, match="--palette"):
        MaskOptions(masks="drawings")
    for name, palette in (
        ("named", "masks_gt"),
        ("told", "ridge=#ff0000,silhouette=#00ff00,ligament=#0000ff"),
    ):
        options = MaskOptions(masks="drawings", palette=palette)
        check_traced(build(raw, tmp_path / name, "llsd", options), raw.frames)


@pytest.mark.parametrize("palette", ["masks_gt", "p2ilf"])
def test_a_wrong_palette_is_noticed(tmp_path, palette):
    """White and green have no place in the exact palette and in P2ILF's."""
    raw = llsd.write_llsd(tmp_path / "raw", masks=("masks_original",))
    options = MaskOptions(masks="masks_original", palette=palette)
    with pytest.raises(ValueError, match="palette"):
        build(raw, tmp_path / "built", "llsd", options)
    assert not (tmp_path / "built").exists()


def _another_size(path):
    with Image.open(path) as image:
        write_png(path, np.asarray(image.resize((320, 180), Image.Resampling.NEAREST)))


def _one_pixel_off(path):
    pixels = np.array(Image.open(path))
    y, x = np.argwhere(pixels.any(-1))[40]
    pixels[y, x] = (250, 3, 3)
    write_png(path, pixels)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (_another_size, "320×180"),
        (_one_pixel_off, "#fa0303"),
        (truncate, "truncated"),
        (lambda path: path.write_bytes(png_bomb()), "60000"),
    ],
)
def test_masks_that_cannot_be_read(tmp_path, spoil, reason):
    raw = llsd.write_llsd(tmp_path / "raw", frames_per_patient=2)
    frame = raw.frames[0]
    spoil(frame.annotation)
    built = build(raw, tmp_path / "built", "llsd", MaskOptions())
    check_traced(built, raw.frames[1:])
    assert reason in built.problem(raw.relative(frame.annotation))
    assert built.report["left_out"] == 1


def test_frames_without_a_mask_and_masks_without_a_frame(tmp_path):
    raw = llsd.write_llsd(tmp_path / "raw", frames_per_patient=3)
    first, second = raw.frames[0], raw.frames[1]
    first.annotation.unlink()
    second.picture.unlink()
    built = build(raw, tmp_path / "built", "llsd", MaskOptions())
    check_traced(built, raw.frames[2:])
    assert "no mask" in built.problem(raw.relative(first.picture))
    assert "no frame" in built.problem(raw.relative(second.annotation))
