"""A raw set is built the same whatever happens on the way, or not at all."""

from __future__ import annotations

import json
import shutil
from contextlib import suppress

import pytest

from liver_landmark.data import build
from liver_landmark.data.build import RawRequest, build_raw_set
from liver_landmark.data.dataset_folder import DatasetWriter
from liver_landmark.data.loading import load_landmark_dataset
from liver_landmark.data.readers import L3dOptions, ProblemError, finish_plan
from raw_sets import l3d
from raw_sets.building import content, l3d_request
from raw_sets.pictures import truncate
from raw_sets.truth import RawSet

pytestmark = pytest.mark.usefixtures("small_parts")


def test_the_bytes_do_not_depend_on_workers_and_places(tmp_path, raw, card):
    build_raw_set(l3d_request(raw), tmp_path / "one", card, workers=1)
    shutil.copytree(raw.root, tmp_path / "elsewhere" / "raw")
    moved = RawSet(tmp_path / "elsewhere" / "raw", raw.frames)
    result = build_raw_set(l3d_request(moved), tmp_path / "two", card, workers=4)
    assert content(tmp_path / "one") == content(tmp_path / "two")
    assert (result.built, result.frames) == (True, {"train": 5, "validation": 2, "test": 3})
    assert (result.left_out, result.problems) == (2, 2)


def interrupt_at(monkeypatch, call: int, error: BaseException) -> list[str]:
    """The reading of the frame of that number fails; the ids of the frames that are read."""
    read, real = [], build.read_row

    def read_row(folder, frame, protocol):
        read.append(frame.frame_id)
        if len(read) == call:
            raise error
        return real(folder, frame, protocol)

    monkeypatch.setattr(build, "read_row", read_row)
    return read


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("call", [2, 5, 12])
def test_an_interrupted_build_goes_on_and_gives_the_same(tmp_path, raw, card, monkeypatch, workers, call):
    build_raw_set(l3d_request(raw), tmp_path / "whole", card)
    with monkeypatch.context() as patch:
        interrupt_at(patch, call, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            build_raw_set(l3d_request(raw), tmp_path / "set", card, workers=workers)
    assert not (tmp_path / "set").exists()
    finished = len(list((tmp_path / ".set.building").glob("*.json")))
    # Of the frames' order, where each shard ends: no shard holds frames of two splits.
    ends = [0, 3, 6, 8, 11, 12]
    assert finished == sum(end < call for end in ends) - 1 if workers == 1 else finished <= 4
    problems = []
    read = interrupt_at(monkeypatch, 0, KeyboardInterrupt())
    build_raw_set(l3d_request(raw), tmp_path / "set", card, workers=workers, on_problem=problems.append)
    assert content(tmp_path / "set") == content(tmp_path / "whole")
    assert len(read) == 12 - ends[finished]
    # What was wrong in the shards that were there already is said again.
    assert [problem.file for problem in problems] == [
        raw.relative(raw.frames[place].picture) for place in (1, 9)
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["raw", "set", "whole"]


def test_what_a_build_killed_at_its_very_end_left_is_cleared_up(tmp_path, raw, card):
    build_raw_set(l3d_request(raw), tmp_path / "set", card)
    whole = content(tmp_path / "set")
    request = json.loads((tmp_path / "set" / "build.json").read_text(encoding="utf-8"))["request"]
    for described, left in ((request, False), ({"another": "set"}, True)):
        with suppress(KeyboardInterrupt), DatasetWriter(tmp_path / "set", described, []).opened():
            raise KeyboardInterrupt
        assert not build_raw_set(l3d_request(raw), tmp_path / "set", card).built
        assert (tmp_path / ".set.building").exists() == left
        assert content(tmp_path / "set") == whole


def test_an_interrupted_build_of_other_files_starts_anew(tmp_path, raw, card, monkeypatch):
    with monkeypatch.context() as patch:
        interrupt_at(patch, 12, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            build_raw_set(l3d_request(raw), tmp_path / "set", card, workers=1)
    l3d.edit_json(raw.frames[0], lambda document: document["shapes"].pop())
    read = interrupt_at(monkeypatch, 0, KeyboardInterrupt())
    build_raw_set(l3d_request(raw), tmp_path / "set", card)
    assert len(read) == 12


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_failure_leaves_things_as_they_were(tmp_path, raw, card, monkeypatch, overwrite):
    output = tmp_path / "set"
    if overwrite:
        build_raw_set(l3d_request(raw, depth=False), output, card)
    before = content(tmp_path)
    interrupt_at(monkeypatch, 6, OSError(28, "No space left on device"))
    with pytest.raises(OSError, match="No space left"):
        build_raw_set(l3d_request(raw), output, card, overwrite=overwrite)
    assert content(tmp_path) == before
    with pytest.raises(KeyError, match="hospital"):
        build_raw_set(l3d_request(raw), output, "$hospital", overwrite=overwrite)
    assert content(tmp_path) == before


def test_a_strict_build_stops_at_the_first_problem(tmp_path, raw, card):
    before = content(tmp_path)
    with pytest.raises(ProblemError) as caught:
        build_raw_set(l3d_request(raw), tmp_path / "set", card, strict=True)
    assert caught.value.problem.file == raw.relative(raw.frames[1].picture)
    assert content(tmp_path) == before


def test_the_very_same_set_is_not_built_again(tmp_path, raw, card, monkeypatch):
    first = build_raw_set(l3d_request(raw), tmp_path / "set", card)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "set").rglob("*")}
    read = interrupt_at(monkeypatch, 0, KeyboardInterrupt())
    again = build_raw_set(l3d_request(raw), tmp_path / "set", card)
    assert not again.built
    assert not read
    assert (again.frames, again.left_out) == (first.frames, first.left_out)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "set").rglob("*")} == before


@pytest.mark.parametrize("change", ["a label", "a stray label", "the protocol"])
def test_another_set_replaces_it_only_when_asked(tmp_path, raw, card, change):
    build_raw_set(l3d_request(raw), tmp_path / "set", card)
    before = content(tmp_path / "set")
    asked = l3d_request(raw)
    if change == "a label":
        l3d.misspell_ridge(raw.frames[0])
    elif change == "a stray label":
        shutil.copy(raw.frames[0].annotation, raw.frames[0].annotation.with_stem("Patient_1_00099"))
    else:
        asked = RawRequest("l3d", raw.root, L3dOptions(), protocol="slippa")
    with pytest.raises(FileExistsError, match="--overwrite"):
        build_raw_set(asked, tmp_path / "set", card)
    assert content(tmp_path / "set") == before
    assert build_raw_set(asked, tmp_path / "set", card, overwrite=True).built
    assert content(tmp_path / "set") != before


def test_outputs_within_the_raw_folder_are_refused(tmp_path, raw, card):
    for output in (raw.root / "built", raw.root, tmp_path, tmp_path / "other" / ".." / "raw" / "built"):
        with pytest.raises(ValueError, match="lies within the raw folder, or that in it"):
            build_raw_set(l3d_request(raw), output, card)


def test_a_split_without_a_frame_is_no_set(tmp_path, raw, card):
    for frame in raw.of_split("validation"):
        truncate(frame.picture)
    before = content(tmp_path)
    with pytest.raises(ValueError, match="no frame of validation is left: all 2 have a problem"):
        build_raw_set(l3d_request(raw), tmp_path / "set", card)
    assert content(tmp_path) == before


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"set_name": "coco"}, "set 'coco' is unknown"),
        ({"set_name": "p2ilf"}, "takes options of NoneType"),
        ({"protocol": "thick"}, "protocol 'thick' is unknown"),
        ({"protocol": "as_drawn"}, "is for masks"),
    ],
)
def test_impossible_requests_say_why(tmp_path, fields, reason):
    with pytest.raises(ValueError, match=reason):
        RawRequest(**{"set_name": "l3d", "raw": tmp_path, "options": L3dOptions(), **fields})


def test_a_picture_that_changes_after_planning_is_left_out(tmp_path, raw, card, monkeypatch):
    """A test picture that takes a training picture's place meanwhile would be trained on."""
    train, test = (next(frame for frame in raw.frames if frame.split == split) for split in ("train", "test"))

    def plan_then_swap(*arguments):
        plan = finish_plan(*arguments)
        shutil.copyfile(test.picture, train.picture)
        return plan

    monkeypatch.setattr(build, "finish_plan", plan_then_swap)
    problems = []
    build_raw_set(l3d_request(raw), tmp_path / "set", card, on_problem=problems.append)
    [changed] = [problem for problem in problems if "was changed while" in problem.reason]
    assert changed.file.endswith(train.picture.name)
    assert train.stem not in load_landmark_dataset(tmp_path / "set")["train"]["frame_id"]
