"""A frame: drawn as the controls say, and written as files that carry nothing of the upload's metadata."""

from __future__ import annotations

import json
import zipfile

import demo_frame
import numpy as np
import pytest
from demo_engine import Engine
from demo_frame import AREAS, CURVES, View, analyze_frame, draw_view, findings, for_display, write_downloads
from demo_limits import DemoLimits
from PIL import Image

from colored_frames import colored_frame
from liver_landmark.curves.formats import read_landmarks
from liver_landmark.inference import LandmarkPredictor
from liver_landmark.model.landmarks_liver_landmark import DEFAULT_LANDMARKS, LandmarkTable
from liver_landmark.utils.frame_files import FrameError, FrameLimits
from tiny_datasets import SeesColors, polylines, schema_row, tiny_processor

SECRET = "Patient-4711"


@pytest.fixture(scope="module")
def analysis(engine, tmp_path_factory):
    path = tmp_path_factory.mktemp("upload") / "frame 1.jpg"
    exif = Image.Exif()
    exif[0x010E] = SECRET
    Image.fromarray(colored_frame(("ridge", "ligament"))).save(path, exif=exif, quality=95)
    assert SECRET.encode() in path.read_bytes()
    return analyze_frame(str(path), lambda frame: engine.predict(frame, False), FrameLimits())


def changed(one, other):
    return (one != other).any(axis=2)


def test_what_was_found(analysis):
    rows = findings(analysis)
    assert [(row["landmark"], row["present"]) for row in rows] == [
        ("ridge", True),
        ("silhouette", False),
        ("ligament", True),
    ]
    # The bars are 240 px long, and round caps of half their width are no part of a curve.
    assert [row["length_px"] for row in rows] == [pytest.approx(232, abs=12), 0, pytest.approx(232, abs=12)]
    assert all(0 <= row[key] <= 1 for row in rows for key in ("presence", "confidence"))
    assert demo_frame.summary(analysis).startswith("Found: ridge, ligament. Not in this frame: silhouette.")
    table = demo_frame.table_html(rows)
    assert table.count("<tr>") == 4
    assert table.count("<td>yes</td>") == 2


def test_only_what_is_switched_on_is_drawn(analysis):
    frame, mask = analysis.frame, analysis.prediction.mask

    def drawn(**fields):
        return changed(draw_view(analysis, View(**fields), legend=False), frame)

    nothing = drawn(shown=())
    assert not nothing.any()
    assert not drawn(landmarks=()).any()
    both = drawn()
    ridge = drawn(landmarks=("ridge",))
    for plane, names in ((both, ("ridge", "ligament")), (ridge, ("ridge",))):
        for name in DEFAULT_LANDMARKS.names:
            inside = mask == DEFAULT_LANDMARKS.label2id[name]
            share = plane[inside].mean() if inside.any() else 0
            assert share > 0.9 if name in names else share < 0.01
    curves = drawn(shown=(CURVES,))
    assert 0 < curves.sum() < both.sum()
    assert (changed(draw_view(analysis, View(opacity=1.0)), draw_view(analysis, View(opacity=0.2)))).any()
    assert drawn(shown=(AREAS, CURVES))[curves].all()


def test_pages_get_no_more_pixels_than_they_show():
    small = colored_frame(("ridge",))
    assert for_display(small) is small
    wide = np.zeros((300, 20_000, 3), np.uint8)
    wide[:, 10_000:] = 200
    shown = for_display(wide)
    assert shown.shape == (31, 2048, 3)
    assert (shown[:, :1000] == 0).all()
    assert (shown[:, 1100:] == 200).all()
    assert for_display(np.zeros((5000, 1, 3), np.uint8)).shape == (2048, 1, 3)


def test_the_heat_map_shows_where_a_landmark_is_likely(analysis):
    drawn = draw_view(analysis, View(shown=(), heat_map="ridge"))
    ridge, elsewhere = (
        analysis.prediction.mask == value for value in (DEFAULT_LANDMARKS.label2id["ridge"], 0)
    )
    difference = np.abs(drawn.astype(int) - analysis.frame).sum(axis=2)
    assert difference[ridge].mean() > 2 * difference[elsewhere].mean()
    assert changed(drawn, draw_view(analysis, View(shown=(), heat_map="ligament"))).any()


@pytest.mark.parametrize(
    "values",
    [
        ("ridge", 0.4, ["areas"], "none"),
        (["liver"], 0.4, ["areas"], "none"),
        (["ridge"], "0.4", ["areas"], "none"),
        (["ridge"], 1.5, ["areas"], "none"),
        (["ridge"], float("nan"), ["areas"], "none"),
        (["ridge"], 0.4, ["everything"], "none"),
        (["ridge"], 0.4, None, "none"),
        (["ridge"], 0.4, ["areas"], "background"),
        ([["ridge"]], 0.4, ["areas"], "none"),
    ],
)
def test_values_that_no_control_has_are_refused(values):
    with pytest.raises(ValueError, match="must"):
        View.from_controls(*values, DEFAULT_LANDMARKS)


def test_the_downloads_can_be_read_and_carry_no_metadata(analysis, tmp_path):
    view = View(landmarks=("ridge",), shown=("areas", "curves"))
    files = {path.name: path for path in write_downloads(analysis, view, tmp_path)}
    endings = "_mask.png _overlay.png _all.zip .svg .labelme.json .cvat.xml .p2ilf.json .p2ilf.xml"
    assert set(files) == {f"frame 1{ending}" for ending in endings.split()}
    np.testing.assert_array_equal(np.asarray(Image.open(files["frame 1_mask.png"])), analysis.prediction.mask)
    overlay = Image.open(files["frame 1_overlay.png"])
    np.testing.assert_array_equal(np.asarray(overlay), draw_view(analysis, view))
    assert overlay.info == {}
    for name, format in (
        ("labelme.json", "labelme"),
        ("cvat.xml", "cvat"),
        ("p2ilf.json", "p2ilf-json"),
        ("p2ilf.xml", "p2ilf-xml"),
    ):
        [annotation] = read_landmarks(files[f"frame 1.{name}"], format)
        assert [curve["category"] for curve in annotation.landmarks] == ["ridge", "ligament"]
        for read, traced in zip(annotation.landmarks, analysis.curves, strict=True):
            np.testing.assert_allclose(read["points"], traced.points, atol=0.51)
        assert annotation.file_name in (None, "frame 1.jpg")
    with zipfile.ZipFile(files["frame 1_all.zip"]) as zipped:
        assert zipped.testzip() is None
        assert sorted(zipped.namelist()) == sorted(set(files) - {"frame 1_all.zip"})
    for path in files.values():
        assert SECRET.encode() not in path.read_bytes()


def test_the_reason_for_a_refusal_does_not_name_the_file(engine, tmp_path):
    path = tmp_path / f"{SECRET}.png"
    path.write_bytes(b"no picture")
    with pytest.raises(FrameError, match="not a readable picture") as error:
        analyze_frame(str(path), lambda frame: engine.predict(frame, False), FrameLimits())
    assert SECRET not in str(error.value)


def test_the_careful_way_averages_two_views(engine):
    frame = colored_frame(("silhouette",))
    plain, careful = engine.predict(frame, False), engine.predict(frame, True)
    assert plain.variance is None
    assert careful.variance is not None
    assert careful.present == plain.present == ("silhouette",)


@pytest.mark.parametrize("size", [(1, 1), (1, 3000), (3000, 1), (2, 2)])
def test_frames_of_unusual_shape_are_drawn_and_written(engine, tmp_path, size):
    path = tmp_path / "frame.png"
    Image.fromarray(np.full((*size, 3), 90, np.uint8)).save(path)
    analysis = analyze_frame(str(path), lambda frame: engine.predict(frame, False), FrameLimits())
    view = View(shown=("areas", "curves"), heat_map="ridge")
    assert max(for_display(draw_view(analysis, view)).shape) <= 2048
    assert len(write_downloads(analysis, view, tmp_path)) == 8


def test_a_mask_of_noise_has_areas_and_no_curves():
    from liver_landmark.inference import FramePrediction

    mask = (np.random.default_rng(0).random((512, 512)) < 0.2).astype(np.uint8)
    noise = FramePrediction(mask, {}, {}, (), False, np.zeros((4, 8, 8), np.float32))
    assert demo_frame.curves_of(noise) == []


@pytest.mark.parametrize("names", [("ligament", "ridge", "silhouette"), ("ridge", "silhouette", "artery")])
def test_controls_tables_and_files_have_the_models_own_landmarks(tmp_path, names):
    from demo_blocks import build
    from demo_handlers import Handlers
    from demo_page import plot_colors

    model = SeesColors(landmarks=LandmarkTable.from_names(names)).eval()
    engine = Engine(LandmarkPredictor(model, tiny_processor()))
    path = tmp_path / "frame.png"
    Image.fromarray(np.asarray(schema_row("f0", polylines(0))["image"])).save(path)
    analysis = analyze_frame(str(path), lambda frame: engine.predict(frame, False), FrameLimits())
    # The frame shows ridge, silhouette and ligament in their colors; "artery" is what the model calls blue.
    assert [row["landmark"] for row in findings(analysis)] == list(names)
    rows = {row["landmark"]: row for row in findings(analysis)}
    assert all(row["present"] and row["length_px"] > 50 for row in rows.values())
    files = {file.name for file in write_downloads(analysis, View(), tmp_path)}
    assert ("frame.p2ilf.json" in files) == ("artery" not in names)
    shapes = json.loads((tmp_path / "frame.labelme.json").read_text())["shapes"]
    heights = {shape["label"]: np.mean([y for _, y in shape["points"]]) for shape in shapes}
    third = "artery" if "artery" in names else "ligament"
    assert heights["ridge"] < heights["silhouette"] < heights[third]
    demo = build(Handlers(engine, DemoLimits(), tmp_path, []), DemoLimits(), [])
    boxes = [block for block in demo.blocks.values() if str(block.elem_id).endswith("-landmarks")]
    assert [[value for _, value in box.choices] for box in boxes] == [list(names)] * 2
    assert list(plot_colors(engine.landmarks)) == list(names)
