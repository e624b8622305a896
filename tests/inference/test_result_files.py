"""Names that never collide, and a plan of a run's files that nothing leaves out and no input is in."""

from __future__ import annotations

import hashlib
import itertools
import re
import tempfile
import unicodedata
from functools import cache
from pathlib import Path

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from PIL import Image

from liver_landmark.inference import (
    AveragedViews,
    LandmarkPredictor,
    OutputError,
    PredictionOptions,
    collect_inputs,
    predict_files,
)
from liver_landmark.inference.frame_sources import as_sources
from liver_landmark.inference.result_files import CURVE_FORMATS, FrameKey, RunFiles, output_names
from tiny_datasets import SeesColors, tiny_processor
from tiny_videos import moving_frames, write_video


@pytest.mark.parametrize(
    ("files", "names"),
    [
        (["/d/a.jpg", "/d/b.jpg"], ["a", "b"]),
        (["/d/a.jpg", "/d/a.png"], ["a_jpg", "a_png"]),
        (["/d/p1/a.jpg", "/d/p2/a.jpg", "/d/p2/b.jpg"], ["p1_a", "p2_a", "b"]),
        (["/x/f/a.jpg", "/y/f/a.jpg"], ["x_f_a", "y_f_a"]),
        # By sha256sum, of p1/a.jpg, Frame.png, …, a.jpg.
        (["/d/p1/a.jpg", "/d/p2/a.jpg", "/d/p1_a.jpg"], ["p1_a-73bc572e", "p2_a", "p1_a"]),
        (["/d/Frame.png", "/d/frame.png"], ["Frame-12167761", "frame-1870aaba"]),
        (["/d/A.jpg", "/d/a.jpg", "/d/a.png", "/d/b.png"], ["A-c88c8fca", "a-509b0d46", "a-7f071235", "b"]),
        # An accent, composed and not.
        (["/d/\u00e9.jpg", "/d/e\u0301.png"], ["\u00e9_jpg", "e\u0301_png"]),
        (["/d/p1/A.jpg", "/d/p2/a.jpg"], ["p1_A", "p2_a"]),
        (["/a.jpg", "/d/a.jpg"], ["a", "d_a"]),
        (["/d/a b ü.jpg"], ["a b ü"]),
    ],
)
def test_names_follow_the_stems(files, names):
    assert output_names([Path(file) for file in files]) == names


# Hashes of a.jpg and A.jpg, as somebody might have named files after an earlier run's results.
PARTS = st.sampled_from(
    ["a", "A", "b", "a_b", "a_jpg", "b_a", "\u00e9", "e\u0301", "a-509b0d46", "A-c88c8fca"]
)


def spelling_apart(name):
    return unicodedata.normalize("NFC", name.upper().lower())


@given(
    st.lists(
        st.builds(
            lambda folders, stem, suffix: Path("/", *folders, stem + suffix),
            st.lists(PARTS, max_size=3),
            PARTS,
            st.sampled_from([".jpg", ".JPG", ".png", ""]),
        ),
        unique=True,
        min_size=1,
        max_size=12,
    ),
    st.randoms(use_true_random=False),
)
@settings(max_examples=300, deadline=None)
def test_names_never_collide_whatever_the_order(files, random):
    names = output_names(files)
    assert len(set(map(spelling_apart, names))) == len(files)
    assert all("/" not in name and name for name in names)
    for file, name in zip(files, names, strict=True):
        assert file.stem in name
        # A hash, and a folder's name for each folder above the file at most.
        assert len(name) <= len(file.as_posix()) + 9
    shuffled = random.sample(files, len(files))
    assert dict(zip(shuffled, output_names(shuffled), strict=True)) == dict(zip(files, names, strict=True))


def test_names_that_were_made_to_look_like_hashed_ones_do_not_collide():
    digest = hashlib.sha256(b"frame.png").hexdigest()
    stems = ["frame", "Frame", f"frame-{digest[:8]}", f"frame-{digest}"]
    for count in (3, 4):
        files = [Path("/d", f"{stem}.png") for stem in stems[:count]]
        names = output_names(files)
        assert len(set(map(spelling_apart, names))) == count
        assert output_names(files[::-1]) == names[::-1]


@given(st.sets(st.sampled_from([a + b + c for a in "aA" for b in "bB" for c in "cC"]), min_size=1))
def test_files_of_one_folder_are_not_named_after_it(stems):
    names = output_names([Path("/somewhere/deep/down", f"{stem}.png") for stem in sorted(stems)])
    for stem, name in zip(sorted(stems), names, strict=True):
        assert re.fullmatch(rf"{stem}-[0-9a-f]{{8}}" if len(stems) > 1 else stem, name)


VIDEO_FRAMES = 2


@cache
def predictor(views: AveragedViews | None) -> LandmarkPredictor:
    return LandmarkPredictor(SeesColors(), tiny_processor(32), revision="test", views=views)


@cache
def contents(kind: str) -> bytes:
    """A picture or a video; the name that it gets says nothing of it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "picture.png" if kind == "picture" else "video.mkv")
        if kind == "picture":
            Image.fromarray(moving_frames(1, 32, 16)[0]).save(path)
        else:
            write_video(path, moving_frames(VIDEO_FRAMES, 32, 16), "ffv1")
        return path.read_bytes()


RESULTS = ["mask.png", "overlay.png", "overlay.mp4", "labelme.json", "p2ilf.xml", "svg.svg", "variance.png"]
RESULTS += ["probability_ridge.png", "mask/000000.png", "svg/000000.svg", "variance/000001.png"]
RECORDS = ["run.json", "predictions.jsonl", "cvat.xml", "run-0-of-2.json", "predictions-1-of-2.jsonl"]
HIDDEN = [".unfinished/rows.jsonl", ".unfinished", ".lock-.unfinished", ".unfinished-1-of-2/planned.json"]
HIDDEN += [f".a_mask.{'0' * 8}.partial.png", f".run.{'f' * 8}.partial.json"]
# Names of frames, among them those that results of others, records and remainders of runs have.
INPUTS = st.one_of(
    st.sampled_from(["a.png", "b.mp4", "A.png", "a", "a_mask", "..png", "...mkv", "a b ü.jpg"]),
    st.builds("{}_{}".format, st.sampled_from("ab"), st.sampled_from(RESULTS)),
    st.sampled_from([*RECORDS, *HIDDEN]),
    st.text(st.characters(exclude_categories=["C"], exclude_characters="/"), min_size=1, max_size=8),
).filter(lambda name: name not in (".", ".."))
OPTIONS = st.fixed_dictionaries(
    {
        "overlay": st.booleans(),
        "curves": st.sets(st.sampled_from(CURVE_FORMATS)).map(sorted).map(tuple),
        "save_probabilities": st.booleans(),
        "smoothing_s": st.sampled_from([None, 0.1]),
        "num_parts": st.sampled_from([1, 1, 2]),
        "batch_size": st.sampled_from([1, 3]),
    }
)


def in_the_way(inputs, beside=True, **options):
    plain = {"overlay": True, "curves": (), "num_parts": 1, "batch_size": 1, "smoothing_s": None}
    return example(inputs=inputs, options=plain | options, views=None, beside=beside, replaces=True)


def everything_in(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@settings(max_examples=80, deadline=None)
@given(
    inputs=st.dictionaries(INPUTS, st.sampled_from(["picture", "video"]), min_size=1, max_size=4),
    options=OPTIONS,
    views=st.sampled_from([None, AveragedViews(flip=True)]),
    beside=st.booleans(),
    replaces=st.booleans(),
)
@in_the_way({"a.png": "picture", "a_probability_ridge.png": "picture"}, save_probabilities=True)
@in_the_way({"b.mp4": "video", "b_svg/000000.svg": "picture"})
@in_the_way({"a.png": "picture", f".a_mask.{'0' * 8}.partial.png": "picture"})
# Names of one stem, and a stem of dots, between pictures.
@in_the_way({"p/a.png": "picture", "q/a.png": "picture", "...mkv": "video"}, beside=False)
@in_the_way({"a.png": "picture", "...mkv": "video", "b.png": "picture"}, beside=False, overlay=False)
def test_what_is_written_is_what_was_planned_and_never_an_input(
    tmp_path_factory, inputs, options, views, beside, replaces
):
    # A name cannot be a file's and a folder's.
    assume(not any(one in Path(other).parents for one, other in itertools.permutations(map(Path, inputs), 2)))
    folder = tmp_path_factory.mktemp("run")
    output = folder if beside else folder / "out"
    for name, kind in inputs.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(contents(kind))
    before = everything_in(folder)
    found = collect_inputs([str(folder / name) for name in inputs])
    sources, planned = as_sources(found.files), set()
    runs = [PredictionOptions(**options, part_id=part) for part in range(options["num_parts"])]
    for run in runs:
        files = RunFiles(output, run, predictor(views).landmarks, with_variance=views is not None)
        planned.update(files.planned(sources[run.part_id :: run.num_parts]))
        try:
            overwrite = replaces or run.part_id > 0
            report = predict_files(
                predictor(views), found, output, run, model_name="colors", overwrite=overwrite
            )
        except OutputError:
            after = everything_in(folder)
            assert {name: after[name] for name in before} == before
            if run.part_id == 0:
                assert after == before
                # Refused for a reason: a plan that is in nobody's way is carried out.
                assert beside
            return
        assert report.failed == []
    after = everything_in(folder)
    assert {name: after[name] for name in before} == before
    for source in (source for source in sources if source.kind == "video"):
        planned.difference_update(files.video_folders(source))
        for index in range(VIDEO_FRAMES):
            planned.update(files.frame_files(FrameKey(source, index)))
    assert {folder / name for name in after.keys() - before.keys()} == planned
