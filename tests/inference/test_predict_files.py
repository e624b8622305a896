"""Runs over files: what is written, interrupted runs, runs in parts, and the same from Python."""

from __future__ import annotations

import errno
import json
import os
from fractions import Fraction
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from PIL import Image

from liver_landmark.curves.formats import read_landmarks
from liver_landmark.inference import (
    AveragedViews,
    FrameError,
    LandmarkPredictor,
    OutputError,
    PredictionOptions,
    RunListener,
    collect_inputs,
    iterate_predictions,
    predict_files,
)
from liver_landmark.model.landmarks_liver_landmark import DEFAULT_LANDMARKS
from liver_landmark.utils.atomic_files import atomic_path
from tiny_datasets import SeesColors, tiny_processor
from tiny_videos import read_video, write_video

FRAMES = 23


@pytest.fixture
def predictor() -> LandmarkPredictor:
    return LandmarkPredictor(SeesColors(), tiny_processor(), revision="test")


def colored(index: int, width: int = 96, height: int = 64) -> np.ndarray:
    """A bar for each landmark; the bars move, and the ligament's is missing in every third frame."""
    frame = np.full((height, width, 3), 60, np.uint8)
    for class_id in (1, 2, 3):
        if class_id == 3 and index % 3 == 0:
            continue
        top = 4 + 18 * (class_id - 1) + index % 5
        frame[top : top + 8, 8 + index : width - 8] = DEFAULT_LANDMARKS.palette[class_id]
    return frame


@pytest.fixture
def inputs(tmp_path) -> Path:
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(4):
        Image.fromarray(colored(number)).save(folder / f"picture{number}.png")
    frames = [colored(index) for index in range(FRAMES)]
    # Neither at a constant rate nor from zero.
    pts = (7 + np.cumsum([0, *[30 + 10 * (index % 3) for index in range(FRAMES - 1)]])).tolist()
    write_video(folder / "clip.mkv", frames, "ffv1", pts=pts, time_base=Fraction(1, 1000))
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    return folder


@pytest.fixture
def output(tmp_path) -> Path:
    return tmp_path / "out"


@pytest.fixture
def short_segments(monkeypatch) -> int:
    monkeypatch.setattr("liver_landmark.inference.video_writer.SEGMENT_FRAMES", 5)
    return 5


def run(predictor, folder, output, *, resume=False, overwrite=True, listener=None, **options):
    return predict_files(
        predictor,
        collect_inputs([str(folder)]),
        output,
        PredictionOptions(**options),
        model_name="colors",
        resume=resume,
        overwrite=overwrite,
        listener=listener,
    )


def rows_of(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def names_of(failed: list[dict]) -> list[str]:
    return [Path(failure["file"]).name for failure in failed]


def untimed(output: Path) -> dict[str, bytes | list]:
    """All results but overlay videos, with what only says how long it took taken out."""
    results: dict[str, bytes | list] = {}
    for file in sorted(path for path in output.rglob("*") if path.is_file() and path.suffix != ".mp4"):
        name = file.relative_to(output).as_posix()
        if file.name == "predictions.jsonl":
            results[name] = [{**row, "milliseconds": None} for row in rows_of(file)]
        elif not file.name.startswith(("run", "predictions-")):
            results[name] = file.read_bytes()
    return results


def assert_same_results(output: Path, whole: Path) -> None:
    assert untimed(output) == untimed(whole)
    assert {path.name for path in output.rglob("*.mp4")} == {path.name for path in whole.rglob("*.mp4")}
    for path in whole.glob("*.mp4"):
        (frames, times), (others, other_times) = read_video(path), read_video(output / path.name)
        assert times == other_times
        for one, other in zip(frames, others, strict=True):
            # Where cores are busy, x264 now and then codes a block of the same frame otherwise. The frame
            # before or after differs by 2.6 on average, or more: the bars move.
            assert np.abs(one.astype(int) - other).mean() < 1


def test_a_folder_of_pictures_and_videos(predictor, inputs, output):
    options = {"curves": ("labelme", "cvat", "p2ilf", "svg"), "save_probabilities": True, "legend": False}
    report = run(predictor, inputs, output, batch_size=3, **options)
    assert (report.inputs, report.predicted, report.frames) == (6, 5, 4 + FRAMES)
    assert names_of(report.failed) == ["broken.png"]
    rows = rows_of(output / "predictions.jsonl")
    clip = [row for row in rows if "frame" in row]
    assert [row["frame"] for row in clip] == list(range(FRAMES))
    assert [row["file"] for row in rows] == sorted(row["file"] for row in rows)
    shown, times = read_video(output / "clip_overlay.mp4")
    assert times == read_video(inputs / "clip.mkv")[1]
    assert [row["time_s"] for row in clip] == [float(time) for time in times]
    for row, drawn in zip(clip, shown, strict=True):
        index, frame = row["frame"], colored(row["frame"])
        [alone] = predictor.predict(frame)
        assert np.array_equal(np.asarray(Image.open(output / row["mask"])), alone.mask)
        assert row["present"] == list(alone.present)
        assert row["pixels"] == alone.pixel_counts
        assert ("ligament" in row["present"]) == (index % 3 != 0)
        for format, file in {
            "labelme": f"clip_labelme/{index:06d}.json",
            "p2ilf-json": f"clip_p2ilf/{index:06d}.json",
            "p2ilf-xml": f"clip_p2ilf/{index:06d}.xml",
        }.items():
            [annotation] = read_landmarks(output / file, format)
            categories = [curve["category"] for curve in annotation.landmarks]
            assert categories == [curve.category for curve in alone.curves()]
        for class_id, landmark in enumerate(DEFAULT_LANDMARKS.names, start=1):
            saved = np.asarray(Image.open(output / row["probabilities"][f"probability_{landmark}"]))
            assert saved.dtype == np.uint16
            assert np.abs(saved / 65535 - alone.probabilities()[class_id]).max() < 1e-5
        # Gray where nothing is; a landmark's own color, blended with itself, where it is.
        assert drawn.shape == frame.shape
        assert np.abs(drawn[60:, :6].astype(int) - 60).max() < 8
        assert np.abs(drawn[8 + index % 5, 60].astype(int) - DEFAULT_LANDMARKS.palette[1]).max() < 60
    together = read_landmarks(output / "cvat.xml", "cvat")
    assert [annotation.file_name for annotation in together] == [
        *(f"clip.mkv/frame_{index:06d}" for index in range(FRAMES)),
        *(f"picture{number}.png" for number in range(4)),
    ]
    assert (output / "picture1_svg.svg").read_text().startswith("<?xml")


class _Stop(BaseException):
    """A kill from outside."""


def run_until(frames: int, predictor, folder, output, **options) -> None:
    """A run that is killed when so many frames are written."""
    seen = []

    def stop(row, _):
        seen.append(row)
        if len(seen) == frames:
            raise _Stop

    with pytest.raises(_Stop):
        run(predictor, folder, output, listener=RunListener(on_frame=stop), **options)


@pytest.mark.parametrize("options", [{}, {"smoothing_s": 0.1}, {"overlay": False, "curves": ("labelme",)}])
@pytest.mark.parametrize("stop_after", [1, 6, 14, 23, 25])
def test_an_interrupted_run_ends_as_an_uninterrupted_one(
    predictor, inputs, tmp_path, output, short_segments, stop_after, options
):
    run(predictor, inputs, tmp_path / "whole", **options)
    run_until(stop_after, predictor, inputs, output, **options)
    assert not (output / "predictions.jsonl").exists()
    before = {path: path.stat().st_mtime_ns for path in output.rglob("*_mask/*.png")}
    with pytest.raises(OutputError, match="--resume goes on with it"):
        run(predictor, inputs, output, overwrite=False, **options)
    again = []
    listener = RunListener(on_frame=lambda row, frames: again.append(row))
    report = run(predictor, inputs, output, resume=True, listener=listener, **options)
    assert_same_results(output, tmp_path / "whole")
    assert report.predicted == 5
    # Whole segments were not predicted again, nor the video if it had ended.
    spared = FRAMES if stop_after > FRAMES else stop_after // short_segments * short_segments
    assert len(again) <= 4 + FRAMES - spared
    kept = {path for path, time in before.items() if path.stat().st_mtime_ns == time}
    assert len(kept) >= spared


def test_a_torn_journal_and_segment_are_made_again(predictor, inputs, tmp_path, short_segments, output):
    run(predictor, inputs, tmp_path / "whole")
    run_until(24, predictor, inputs, output)
    journal = output / ".unfinished" / "rows.jsonl"
    journal.write_bytes(journal.read_bytes()[:-9])
    report = run(predictor, inputs, output, resume=True)
    assert report.failed[0]["file"].endswith("broken.png")
    assert_same_results(output, tmp_path / "whole")


def test_a_run_goes_on_with_the_same_settings_only(predictor, inputs, output):
    run(predictor, inputs, output)
    with pytest.raises(OutputError, match=r"had curves \[\], not \['svg'\]"):
        run(predictor, inputs, output, resume=True, curves=("svg",))
    other = LandmarkPredictor(SeesColors(), tiny_processor(), revision="other")
    with pytest.raises(OutputError, match="model_revision"):
        run(other, inputs, output, resume=True)
    with pytest.raises(OutputError, match=r"clip_mask is there already: pass --overwrite or --resume"):
        run(predictor, inputs, output, overwrite=False)
    # It ended well before: what lies there stays as it was.
    assert (output / "predictions.jsonl").is_file()
    assert not (output / ".unfinished").exists()


def test_a_resumed_run_retries_what_failed_and_adds_what_is_new(predictor, inputs, tmp_path, output):
    run(predictor, inputs, output)
    Image.fromarray(colored(1)).save(inputs / "broken.png")
    Image.fromarray(colored(2)).save(inputs / "aaa.png")
    (output / "picture2_mask.png").unlink()
    done = []
    listener = RunListener(on_input=lambda source, frames: done.append(source.name))
    report = run(predictor, inputs, output, resume=True, listener=listener)
    assert done == ["aaa", "broken", "picture2"]
    assert (report.predicted, report.failed) == (7, [])
    run(predictor, inputs, tmp_path / "whole")
    assert_same_results(output, tmp_path / "whole")


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_parts_together_give_the_same_as_one_run(predictor, inputs, tmp_path, order, output):
    curves = ("cvat",)
    run(predictor, inputs, tmp_path / "whole", curves=curves)
    for part_id in order:
        assert not (output / "predictions.jsonl").exists()
        run(predictor, inputs, output, num_parts=3, part_id=part_id, curves=curves)
    assert_same_results(output, tmp_path / "whole")
    merged, whole = (json.loads((folder / "run.json").read_text()) for folder in (output, tmp_path / "whole"))
    for record in (merged, whole):
        record["totals"]["seconds"] = 0
    assert merged["totals"] == whole["totals"]
    assert merged["failed"] == whole["failed"]


def test_from_python_the_same_arrays_come_without_files(predictor, inputs, tmp_path, output):
    run(predictor, inputs, output)
    before = sorted(tmp_path.rglob("*"))
    reasons = []
    seen = list(iterate_predictions(predictor, inputs, on_failed=reasons.append))
    assert len(reasons) == 1
    assert "broken.png" in reasons[0]
    rows = rows_of(output / "predictions.jsonl")
    for frame, row in zip(seen, rows, strict=True):
        assert (str(frame.file), frame.index) == (row["file"], row.get("frame"))
        assert np.array_equal(frame.prediction.mask, np.asarray(Image.open(output / row["mask"])))
    assert sorted(tmp_path.rglob("*")) == before
    with pytest.raises(FrameError, match=r"broken\.png"):
        list(iterate_predictions(predictor, inputs))


class FailsOnWhite(SeesColors):
    """Gives no numbers for a white frame, or raises for its whole batch."""

    def __init__(self, raises: bool = False) -> None:
        super().__init__()
        self.raises = raises

    def forward(self, pixel_values):
        outputs = super().forward(pixel_values)
        white = pixel_values.mean(dim=(1, 2, 3)) > 2
        if self.raises and white.any():
            raise RuntimeError("no kernel for white")
        outputs.logits[white] = float("nan")
        return outputs


def with_white_frames(inputs: Path, *indices: int) -> None:
    Image.new("RGB", (96, 64), "white").save(inputs / "picture1.png")
    frames = [colored(index) for index in range(FRAMES)]
    for index in indices:
        frames[index] = np.full_like(frames[index], 255)
    write_video(inputs / "clip.mkv", frames, "ffv1")


@pytest.mark.parametrize("raises", [False, True])
def test_a_frame_that_the_model_fails_on_costs_no_other_of_its_batch_or_video(
    predictor, inputs, output, raises
):
    with_white_frames(inputs, 9)
    failing = LandmarkPredictor(FailsOnWhite(raises), tiny_processor(), revision="test")
    report = run(failing, inputs, output, batch_size=4)
    reasons = {Path(failure["file"]).name: failure for failure in report.failed}
    assert set(reasons) == {"broken.png", "picture1.png", "clip.mkv"}
    reason = "the model fails on it: no kernel for white" if raises else "not all values are finite"
    assert reason in reasons["picture1.png"]["reason"]
    assert f"{reason} (frame 9); the 22 other frames are predicted" in reasons["clip.mkv"]["reason"]
    assert reasons["clip.mkv"]["frames"] == 22
    assert report.predicted == 3
    rows = rows_of(output / "predictions.jsonl")
    expected = [index for index in range(FRAMES) if index != 9]
    assert [row.get("frame") for row in rows] == [*expected, None, None, None]
    masks = sorted(path.name for path in (output / "clip_mask").iterdir())
    assert masks == [f"{index:06d}.png" for index in expected]
    times = read_video(inputs / "clip.mkv")[1]
    assert read_video(output / "clip_overlay.mp4")[1] == times[:9] + times[10:]
    # What was right of the video stays so where the run is repeated, and the whole is tried again.
    report = run(predictor, inputs, output, resume=True)
    assert names_of(report.failed) == ["broken.png"]
    assert report.frames == FRAMES + 4


@pytest.mark.parametrize("white", [(0,), (4, 5, 6, 7, 8, 9), (22,), tuple(range(FRAMES))])
@pytest.mark.parametrize("options", [{"curves": ("cvat",)}, {"smoothing_s": 0.1}])
def test_frames_that_fail_are_gone_over_when_a_run_goes_on(
    inputs, tmp_path, output, short_segments, white, options
):
    with_white_frames(inputs, *white)
    predictor = LandmarkPredictor(FailsOnWhite(), tiny_processor(), revision="test")
    whole = run(predictor, inputs, tmp_path / "whole", **options)
    kept = [index for index in range(FRAMES) if index not in white]
    if len(kept) > 13:
        run_until(13, predictor, inputs, output, **options)
    report = run(predictor, inputs, output, resume=True, **options)
    if "curves" in options:
        names = [annotation.file_name for annotation in read_landmarks(output / "cvat.xml", "cvat")]
        assert [name for name in names if "/" in name] == [f"clip.mkv/frame_{index:06d}" for index in kept]
    assert report.failed == whole.failed
    assert_same_results(output, tmp_path / "whole")
    rows = [row["frame"] for row in rows_of(output / "predictions.jsonl") if "frame" in row]
    assert rows == kept


def test_a_frame_that_cannot_be_written_costs_no_other(predictor, inputs, output):
    for folder in ("clip_mask/000003.png", "picture2_overlay.png"):
        (output / folder).mkdir(parents=True)
    report = run(predictor, inputs, output, batch_size=4, curves=("svg",))
    reasons = {Path(failure["file"]).name: failure["reason"] for failure in report.failed}
    assert "(frame 3); the 22 other frames are predicted" in reasons["clip.mkv"]
    assert "picture2.png: its result cannot be written" in reasons["picture2.png"]
    # All of a frame's files, or none.
    assert not list(output.glob("picture2_*.svg"))
    assert not (output / "clip_svg" / "000003.svg").exists()
    assert not list(output.rglob("*partial*"))
    assert report.frames == FRAMES + 2


def test_masks_stay_where_the_overlay_cannot_be_written(predictor, inputs, output):
    (output / "clip_overlay.mp4").mkdir(parents=True)
    report = run(predictor, inputs / "clip.mkv", output)
    assert "its overlay cannot be written" in report.failed[0]["reason"]
    assert report.failed[0]["frames"] == report.frames == FRAMES
    assert all("overlay" not in row for row in rows_of(output / "predictions.jsonl"))


def test_averaged_views_leave_a_variance_map(inputs, tmp_path, output):
    views = AveragedViews(flip=True)
    predictor = LandmarkPredictor(SeesColors(), tiny_processor(), views=views, revision="test")
    run(predictor, inputs / "picture1.png", output, save_probabilities=True)
    variance = np.asarray(Image.open(output / "picture1_variance.png"))
    assert variance.dtype == np.uint16
    # Colors are the same in a mirror.
    assert variance.max() <= 2
    plain = LandmarkPredictor(SeesColors(), tiny_processor(), revision="test")
    run(plain, inputs / "picture1.png", tmp_path / "plain")
    masks = [np.asarray(Image.open(tmp_path / name / "picture1_mask.png")) for name in ("out", "plain")]
    assert (masks[0] != masks[1]).mean() < 0.01


class SeesNoise(SeesColors):
    def forward(self, pixel_values):
        outputs = super().forward(pixel_values)
        noise = torch.rand(pixel_values.shape[-2:], generator=torch.Generator().manual_seed(0)) < 0.4
        outputs.logits[:, 1] += 9.0 * noise
        return outputs


def test_a_mask_of_noise_is_kept_and_has_no_curves(inputs, output):
    predictor = LandmarkPredictor(SeesNoise(), tiny_processor(256), revision="test")
    Image.fromarray(colored(1, 768, 768)).save(inputs / "picture1.png")
    assert run(predictor, inputs / "picture1.png", output, curves=("labelme", "cvat")).failed == []
    [row] = rows_of(output / "predictions.jsonl")
    assert row["curves"] == []
    assert "noise" in row["curves_refused"]
    assert (output / "picture1_mask.png").is_file()


def test_other_files_in_a_folder_of_a_videos_results_stay(predictor, inputs, output):
    for name in ("clip_labelme/notes.json", "clip_mask/000099.png", "clip_mask/mine.png"):
        (output / name).parent.mkdir(parents=True, exist_ok=True)
        (output / name).write_bytes(b"somebody's")
    run(predictor, inputs / "clip.mkv", output)
    assert (output / "clip_labelme/notes.json").read_bytes() == b"somebody's"
    assert (output / "clip_mask/mine.png").read_bytes() == b"somebody's"
    # This one would pass for a frame of the video.
    assert not (output / "clip_mask/000099.png").exists()


def leftover(path: Path) -> Path:
    """What a run leaves that is killed while it writes that file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        temporary.write_bytes(b"half")
    return path.rename(temporary)


@pytest.mark.parametrize("resume", [False, True])
def test_leftovers_of_a_killed_run_go_and_nothing_else(
    predictor, inputs, tmp_path, short_segments, resume, output
):
    run(predictor, inputs, tmp_path / "whole")
    run_until(14, predictor, inputs, output)
    for name in (
        *("picture3_mask.png", "picture3_p2ilf.xml", "picture3_variance.png", "broken_overlay.png"),
        *("clip_overlay.mp4", "clip_mask/000099.png", "run.json", "predictions.jsonl", "cvat.xml"),
    ):
        leftover(output / name)
    # Another part's, another run's, or somebody's.
    kept = [leftover(output / name) for name in ("run-1-of-2.json", "other_mask.png", "picture3.png")]
    kept += [leftover(output / "clip_mask" / name) for name in ("note.png", "0001.png")]
    for name in (
        *(".picture3_mask.png", ".picture3_mask.0123abcd.png", "picture3_mask.0123abcd.partial.png"),
        *(".picture3_mask.notes.partial.png", ".picture3_mask.0123abcde.partial.png"),
    ):
        (output / name).write_bytes(b"somebody's")
        kept.append(output / name)
    run(predictor, inputs, output, resume=resume)
    assert all(path.is_file() for path in kept)
    for path in kept:
        path.unlink()
    assert_same_results(output, tmp_path / "whole")


def test_a_part_leaves_alone_what_others_are_writing(predictor, inputs, output):
    # The inputs are broken, clip and four pictures: every second is this part's.
    theirs = ("clip_mask/000001.png", "picture1_mask.png", "predictions-1-of-2.jsonl", "run.json")
    others = [leftover(output / name) for name in theirs]
    mine = [leftover(output / name) for name in ("picture0_mask.png", "predictions-0-of-2.jsonl")]
    run(predictor, inputs, output, num_parts=2, part_id=0)
    assert all(path.is_file() for path in others)
    assert not any(path.exists() for path in mine)


def test_an_output_that_cannot_be_locked_is_one_line(predictor, inputs, output, monkeypatch):
    error = OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))
    monkeypatch.setattr("liver_landmark.inference.run_journal.hold_folder", Mock(side_effect=error))
    with pytest.raises(OutputError, match=r"out: cannot be written: No locks available: choose another"):
        run(predictor, inputs, output)


def test_inputs_whose_results_can_have_no_name_fail_alone(predictor, inputs, output):
    (inputs / "clip.mkv").rename(inputs / f"{'x' * 251}.mkv")
    (inputs / "picture0.png").rename(inputs / f"{'y' * 250}.png")
    failed = []
    report = run(predictor, inputs, output, listener=RunListener(on_failed=failed.append))
    assert (report.inputs, report.predicted) == (6, 3)
    assert sum("its result cannot be written" in reason for reason in failed) == 2


def test_a_name_that_xml_cannot_hold_is_left_out_of_cvat(predictor, inputs, tmp_path):
    (inputs / "picture0.png").rename(inputs / "pic\x01ture.png")
    (inputs / "broken.png").unlink()
    for num_parts in (1, 2):
        output = tmp_path / f"out{num_parts}"
        for part_id in range(num_parts):
            report = run(predictor, inputs, output, curves=("cvat",), num_parts=num_parts, part_id=part_id)
        [failure] = json.loads((output / "run.json").read_text())["failed"]
        assert report.failed[-1] == failure
        assert "its curves are not in cvat.xml" in failure["reason"]
        assert len(read_landmarks(output / "cvat.xml", "cvat")) == FRAMES + 3


@pytest.mark.parametrize(
    ("difference", "why"),
    [
        ("options", "part 0 had legend True, part 1 False"),
        ("inputs", "part 0 had other inputs"),
        ("damage", "run-0-of-2.json is damaged"),
    ],
)
def test_parts_that_do_not_belong_together_are_not_merged(predictor, inputs, output, difference, why):
    run(predictor, inputs, output, num_parts=2, part_id=0)
    if difference == "inputs":
        Image.fromarray(colored(0)).save(inputs / "another.png")
    if difference == "damage":
        (output / "run-0-of-2.json").write_text("no JSON")
    report = run(predictor, inputs, output, num_parts=2, part_id=1, legend=difference != "options")
    assert f"predictions.jsonl: the parts are not merged: {why}" in report.failed[-1]["reason"]
    assert not (output / "predictions.jsonl").exists()


@pytest.mark.parametrize(
    ("file", "content"),
    [("run.json", text) for text in ('{"settings": 1}', "[]", "no JSON")]
    + [("predictions.jsonl", text) for text in ("{}\n", "{bad\n")],
)
def test_a_damaged_record_is_named_and_left(predictor, inputs, output, file, content):
    run(predictor, inputs / "picture0.png", output)
    (output / file).write_text(content)
    with pytest.raises(OutputError, match="damaged"):
        run(predictor, inputs / "picture0.png", output, resume=True)
    assert (output / file).read_text() == content
    assert not (output / ".unfinished").exists()


def test_a_run_under_way_is_not_called_interrupted(predictor, inputs, output):

    def another(row, frames):
        with pytest.raises(FileExistsError, match="another run is writing it"):
            run(predictor, inputs, output, overwrite=False)

    run(predictor, inputs / "picture0.png", output, listener=RunListener(on_frame=another))


@pytest.mark.parametrize(
    ("splits", "meet"), [((2, 1), True), ((1, 2), True), ((2, 3), True), ((2, 2), False)]
)
def test_runs_that_would_write_the_same_files_do_not_meet(predictor, inputs, output, splits, meet):

    def another():
        before = sorted(output.glob(".unfinished*"))
        try:
            run(predictor, inputs, output, num_parts=splits[1], part_id=splits[1] - 1)
        except FileExistsError as error:
            met.append("another run is writing it" in str(error))
            assert sorted(output.glob(".unfinished*")) == before
        else:
            met.append(False)

    met = []
    listener = RunListener(on_input=lambda source, frames: met or another())
    run(predictor, inputs, output, listener=listener, num_parts=splits[0])
    assert met == [meet]
    # When it has ended, the other is free to begin.
    run(predictor, inputs, output, num_parts=splits[1], part_id=splits[1] - 1)
