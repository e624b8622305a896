"""A video: every frame as if it came alone, at its own time, and what is left of one that breaks."""

from __future__ import annotations

import csv
import io
import zipfile
from fractions import Fraction

import numpy as np
import pytest
from demo_limits import DemoLimits
from demo_video import VideoOptions, analyze_video
from PIL import Image

from colored_frames import colored_frame
from liver_landmark.curves.formats import read_landmarks
from liver_landmark.inference.video_reader import VideoError, VideoLimits
from tiny_videos import read_video, write_video

ALL = ("ridge", "silhouette", "ligament")
SHOWN = [("ridge",), ("ridge", "silhouette"), (), ("ligament",), ALL, ("ridge",)]


def analyze(path, folder, engine, limits=None, **options):
    """All that it said on the way, and the result."""
    folder.mkdir(exist_ok=True)
    *steps, result = analyze_video(
        str(path), folder, engine, VideoOptions(**options), limits or VideoLimits()
    )
    return steps, result


@pytest.fixture
def video(tmp_path):
    # Irregular in time, of odd size.
    frames = [colored_frame(names, 91, 161) for names in SHOWN]
    path = tmp_path / "clip.mkv"
    return write_video(path, frames, "ffv1", pts=[0, 40, 90, 120, 200, 210], time_base=Fraction(1, 1000))


def test_every_frame_is_analysed_and_shown_at_its_time(video, engine, tmp_path):
    steps, result = analyze(video, tmp_path / "out", engine)
    frames, times = read_video(video)
    assert [step.done for step in steps] == [1, 2, 3, 4, 5, 6]
    assert [row.present for row in result.rows] == SHOWN
    assert result.stopped_by is None
    drawn, drawn_times = read_video(result.overlay)
    assert drawn_times == times
    # Browsers show even sizes only.
    assert {frame.shape for frame in drawn} == {(92, 162, 3)}
    with zipfile.ZipFile(result.archive) as zipped:
        assert zipped.testzip() is None
        for index, frame in enumerate(frames):
            mask = np.asarray(Image.open(io.BytesIO(zipped.read(f"masks/clip_{index:06d}.png"))))
            np.testing.assert_array_equal(mask, engine.predict(frame, False).mask)
        zipped.extract("curves.cvat.xml", tmp_path)
        zipped.extract("labelme/clip_000004.json", tmp_path)
    annotations = read_landmarks(tmp_path / "curves.cvat.xml", "cvat")
    assert [tuple(curve["category"] for curve in one.landmarks) for one in annotations] == SHOWN
    [one] = read_landmarks(tmp_path / "labelme" / "clip_000004.json", "labelme")
    assert (one.file_name, one.width, one.height) == ("clip_000004.png", 161, 91)
    assert len(one.landmarks) == 3
    # The timeline says what was found when.
    with result.timeline.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["time_s"]) for row in rows] == [0, 0.04, 0.09, 0.12, 0.2, 0.21]
    for row, names in zip(rows, SHOWN, strict=True):
        for name in ALL:
            assert row[f"{name}_present"] == ("yes" if name in names else "no")
            assert 0 <= float(row[f"{name}_probability"]) <= 1


def test_smoothing_keeps_what_was_there_a_moment_ago(video, engine, tmp_path):
    _, result = analyze(video, tmp_path / "out", engine, smoothing_s=1.0)
    assert "ridge" in result.rows[2].present
    assert "ridge" not in SHOWN[2]


def test_what_came_before_the_damage_is_kept(engine, tmp_path):
    path = tmp_path / "clip.ts"
    write_video(path, [colored_frame(("ridge",))] * 40, "mpeg2video")
    content = bytearray(path.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 3000] = bytes(3000)
    path.write_bytes(content)
    steps, result = analyze(path, tmp_path / "out", engine)
    assert 0 < len(result.rows) < 40
    assert result.stopped_by
    assert str(path) not in result.stopped_by
    assert len(read_video(result.overlay)[0]) == len(result.rows) == steps[-1].done


def test_a_video_that_cannot_be_read_is_refused_without_its_name(engine, tmp_path):
    path = tmp_path / "clip.mp4"
    path.write_bytes(b"no video" * 50)
    with pytest.raises(VideoError, match=r"^not a readable video"):
        analyze(path, tmp_path / "out", engine)


def test_frames_that_no_encoder_takes_are_refused(engine, tmp_path):
    path = write_video(tmp_path / "clip.mkv", [np.zeros((16, 16500, 3), np.uint8)], "ffv1")
    with pytest.raises(VideoError, match=r"^the overlay cannot be encoded$") as error:
        analyze(path, tmp_path / "out", engine)
    assert "cannot be shown" in DemoLimits().video_message(str(error.value))


def test_a_video_that_turns_out_longer_is_stopped_there(engine, tmp_path):
    # A bare stream does not say how long it is.
    path = write_video(tmp_path / "clip.h264", [colored_frame(("ridge",))] * 12, container="h264")
    _, result = analyze(path, tmp_path / "out", engine, VideoLimits(max_frames=5))
    assert len(result.rows) == 5
    assert "more than the limit" in result.stopped_by


def test_smoothing_outside_of_its_range_is_refused():
    for value in (-1, 6, float("nan"), "1"):
        with pytest.raises(ValueError, match="smoothing"):
            VideoOptions(smoothing_s=value)
