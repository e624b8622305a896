"""Building a set: the same whatever happens on the way, or not at all; what it holds; its way to the Hub."""

from __future__ import annotations

import fnmatch
import hashlib
import json
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import datasets
import numpy as np
import pytest
import yaml
from defusedxml import ElementTree
from huggingface_hub.errors import LocalTokenNotFoundError
from huggingface_hub.utils import filter_repo_objects

from liver_landmark.cli import main
from liver_landmark.curves import get_protocol, rasterize_landmarks
from liver_landmark.data import build
from liver_landmark.data.build import PublishError, RawRequest, build_raw_set, check_repo_id, publish
from liver_landmark.data.check import SetCheck
from liver_landmark.data.dataset_folder import DatasetWriter
from liver_landmark.data.loading import load_landmark_dataset
from liver_landmark.data.readers import (
    CustomOptions,
    L3dOptions,
    MaskOptions,
    SplitOptions,
    finish_plan,
)
from liver_landmark.data.schema import SPLITS, landmark_features
from liver_landmark.data.statistics import split_statistics
from raw_sets import cvat, l3d, labelme, llsd, p2ilf
from raw_sets.building import content, l3d_request
from raw_sets.fuzzing import plain
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


def test_plain_load_dataset_gives_the_schema_and_the_labels(tmp_path, raw, card):
    build_raw_set(l3d_request(raw), tmp_path / "set", card)
    loaded = datasets.load_dataset(str(tmp_path / "set"), cache_dir=str(tmp_path / "cache"))
    assert {split: len(rows) for split, rows in loaded.items()} == {"train": 5, "validation": 2, "test": 3}
    # A process of its own shows that a set needs nothing of this package.
    program = (
        "import datasets, sys; rows = datasets.load_dataset(*sys.argv[1:2], cache_dir=sys.argv[2])['train'];"
        " print(rows[0]['width'], [name for name in sys.modules if name.startswith('liver_landmark')])"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "set"), str(tmp_path / "cache")]
    assert subprocess.check_output(command, text=True, cwd=tmp_path).splitlines()[-1] == "64 []"
    streamed = datasets.load_dataset(str(tmp_path / "set"), streaming=True)
    for split in SPLITS:
        assert loaded[split].features == landmark_features()
        assert [row["frame_id"] for row in streamed[split]] == loaded[split]["frame_id"][:]
    names = landmark_features()["landmarks"].feature["category"].names
    for row in loaded["train"]:
        truth = raw.frame(row["frame_id"])
        named = [curve | {"category": names[curve["category"]]} for curve in row["landmarks"]]
        assert plain(named) == plain(truth.landmarks)
        drawn = rasterize_landmarks(truth.landmarks, 64, 36, get_protocol("d2gpland"))
        np.testing.assert_array_equal(np.asarray(row["label"]), drawn)
        assert row["label"].mode == "L"
        assert np.asarray(row["depth"]).dtype == np.uint16
        assert (row["protocol"], row["stroke_width"], row["source"]) == ("d2gpland", 30, "l3d")


def test_the_card_and_the_report_tell_what_is_there(tmp_path, raw, card):
    l3d.misspell_ridge(raw.frames[0])
    l3d.edit_json(raw.frames[2], lambda document: document["shapes"].pop())
    build_raw_set(l3d_request(raw), tmp_path / "set", card)
    text = (tmp_path / "set" / "README.md").read_text(encoding="utf-8")
    front = yaml.safe_load(text.split("---\n")[1])
    told = {entry["name"]: entry["num_examples"] for entry in front["dataset_info"][0]["splits"]}
    assert told == {"train": 5, "validation": 2, "test": 3}
    assert [entry["split"] for entry in front["configs"][0]["data_files"]] == list(SPLITS)
    assert "| train | 3 | 5 |" in text
    assert "| ligament | 9 | 90.0% |" in text
    assert "| ridge + silhouette + ligament | 9 |" in text
    assert "| ridge + silhouette | 1 |" in text
    assert "| 64 × 36 | 10 |" in text
    assert "2 pictures of the raw set were left out" in text
    assert "stroke in px of the frame: here 30 px" in text
    assert "rigde 1" in text
    for path in (tmp_path / "set" / "data").iterdir():
        assert f"| `data/{path.name}` | `{hashlib.sha256(path.read_bytes()).hexdigest()}` |" in text
    for name, data in content(tmp_path / "set").items():
        assert str(tmp_path).encode() not in data, name
    report = json.loads((tmp_path / "set" / "report.json").read_text())
    assert report["frames"] == {"train": 5, "validation": 2, "test": 3}
    assert report["patients"]["test"] == ["Patient_21", "Patient_51"]
    assert report["tolerated"] == {"rigde": 1}
    assert [problem["file"] for problem in report["problems"]] == sorted(
        raw.relative(raw.frames[place].picture) for place in (1, 9)
    )


def test_a_set_that_only_tests_names_no_other_files(tmp_path, card):
    raw = llsd.write_llsd(tmp_path / "raw")
    asked = RawRequest("llsd", raw.root, MaskOptions(), SplitOptions(test_only=True))
    assert build_raw_set(asked, tmp_path / "set", card).frames == {"test": 4}
    loaded = datasets.load_dataset(str(tmp_path / "set"), cache_dir=str(tmp_path / "cache"))
    assert set(loaded) == {"test"}
    row = loaded["test"][0]
    ids = {"ridge": (1,) * 3, "silhouette": (2,) * 3, "ligament": (3,) * 3}
    truth = llsd.exact_mask(raw.frame(row["frame_id"]).landmarks, 160, 90, ids)
    np.testing.assert_array_equal(np.asarray(row["label"]), truth[..., 0])
    assert row["protocol"] == "as_drawn"
    # OpenCV draws wider than it is asked to; the strokes run from left to right.
    drawn_px = np.median((truth[..., 0][:, 40:120] > 0).sum(axis=0)) / 3
    assert abs(row["stroke_width"] - drawn_px) <= 0.5


def test_masks_may_be_drawn_anew_and_own_frames_are_scored_by_the_stroke_of_their_size(tmp_path, card):
    masks = RawRequest("llsd", llsd.write_llsd(tmp_path / "masks").root, MaskOptions(), protocol="p2ilf")
    own = RawRequest("custom", labelme.write_labelme(tmp_path / "own").root, CustomOptions("labelme"))
    for asked, size, protocol, stroke_px in (
        (masks, (160, 90), "p2ilf", 12),
        (own, (64, 36), "synthetic", 30 * 64 / 1920),
    ):
        build_raw_set(asked, tmp_path / protocol, card)
        row = load_landmark_dataset(tmp_path / protocol)["test"][0]
        drawn = rasterize_landmarks(row["landmarks"], *size, get_protocol(protocol))
        np.testing.assert_array_equal(np.asarray(row["label"]), drawn)
        assert (row["protocol"], row["stroke_width"]) == (protocol, stroke_px)


@pytest.mark.parametrize(
    ("name", "write", "options"),
    [
        ("l3d", l3d.write_l3d, []),
        ("p2ilf", p2ilf.write_p2ilf, []),
        ("llsd", llsd.write_llsd, []),
        ("custom", labelme.write_labelme, ["--format", "labelme"]),
    ],
)
def test_a_built_set_is_without_a_problem(
    tmp_path: Path, name: str, write: Callable[[Path], RawSet], options: list[str]
) -> None:
    raw = write(tmp_path / "raw")
    folder = tmp_path / "built"
    command = ["data", "build", name, str(raw.root), "--output", str(folder), "--workers", "1"]
    assert main([*command, *options]) == 0
    check = SetCheck(folder)
    assert [str(problem) for problem in check.problems()] == []
    assert check.counts.frames.total() == len(raw.frames)
    loaded = load_landmark_dataset(folder)
    assert sum(len(rows) for rows in loaded.values()) == len(raw.frames)
    for split, rows in loaded.items():
        assert split_statistics(rows).summary["frames"] == check.counts.frames[split]
        for row in rows:
            assert np.asarray(row["label"]).any()


class HubStandIn:
    """Keeps what would have been uploaded, as the Hub's own client chooses it."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.private: bool | None = None
        self.files = {"data/train-00009-of-00010.parquet": b"of a former version"}

    def create_repo(self, repo_id, *, repo_type, private, exist_ok):
        assert (repo_type, exist_ok) == ("dataset", True)
        self.private = private
        return f"https://hub.example/datasets/{repo_id}"

    def upload_folder(
        self, *, repo_id, repo_type, folder_path, commit_message, ignore_patterns, delete_patterns
    ):
        assert repo_type == "dataset"
        assert commit_message
        if self.error:
            raise self.error
        for name in list(self.files):
            if any(fnmatch.fnmatch(name, pattern) for pattern in delete_patterns):
                del self.files[name]
        paths = [path for path in Path(folder_path).rglob("*") if path.is_file()]
        names = [path.relative_to(folder_path).as_posix() for path in paths]
        for name in filter_repo_objects(names, ignore_patterns=ignore_patterns):
            self.files[name] = (Path(folder_path) / name).read_bytes()


@pytest.fixture
def pushed_folder(tmp_path):
    files = "README.md contact_sheet.png report.json build.json data/train-00000-of-00001.parquet"
    for name in files.split():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(name)
    return tmp_path


def test_the_set_is_pushed_without_the_names_of_raw_files(pushed_folder):
    hub = HubStandIn()
    assert publish(pushed_folder, "user/set", api=hub) == "https://hub.example/datasets/user/set"
    assert sorted(hub.files) == ["README.md", "contact_sheet.png", "data/train-00000-of-00001.parquet"]
    assert hub.private is True
    publish(pushed_folder, "user/set", public=True, api=hub)
    assert hub.private is False


@pytest.mark.parametrize(
    "error",
    [LocalTokenNotFoundError("no token:\nlog in"), ConnectionError("not\nreached"), ValueError("bad\nid")],
)
def test_what_the_hub_says_is_one_line(pushed_folder, error):
    with pytest.raises(PublishError, match="is built, but user/set was not pushed") as caught:
        publish(pushed_folder, "user/set", api=HubStandIn(error))
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("repo_id", ["user/set/more", "user/ set", "-user/set", ""])
def test_names_that_no_set_can_have_are_refused(repo_id):
    with pytest.raises(ValueError, match="--push-to-hub") as caught:
        check_repo_id(repo_id)
    assert str(caught.value).isprintable()
    check_repo_id("user/liver-landmarks_2")


@pytest.mark.parametrize(
    ("write", "fields"),
    [
        (labelme.write_labelme, ("custom", CustomOptions("labelme"))),
        (cvat.write_cvat, ("custom", CustomOptions("cvat"))),
        (partial(p2ilf.write_p2ilf, camera="root"), ("p2ilf", None)),
        (partial(p2ilf.write_p2ilf, annotations=("xml", "json")), ("p2ilf", None)),
        (l3d.write_l3d, ("l3d", L3dOptions())),
    ],
    ids=["labelme", "CVAT", "P2ILF, one camera", "P2ILF, XML and JSON", "L3D"],
)
def test_each_annotation_file_is_parsed_once(tmp_path, monkeypatch, write, fields):
    raw = write(tmp_path / "raw")
    paths = [path for path in raw.root.rglob("*") if path.suffix in (".json", ".xml")]
    parsed = Counter()

    def counting(parse):
        def counted(text, *arguments, **options):
            parsed[text] += 1
            return parse(text, *arguments, **options)

        return counted

    monkeypatch.setattr(json, "loads", counting(json.loads))
    monkeypatch.setattr(ElementTree, "fromstring", counting(ElementTree.fromstring))
    build_raw_set(RawRequest(fields[0], raw.root, fields[1]), tmp_path / "set", "# A set")
    texts = Counter(path.read_text(encoding="utf-8") for path in paths)
    assert {text: parsed[text] for text in texts} == texts
