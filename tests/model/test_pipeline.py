"""The pipeline task: every kind of input, alone and in batches, here and as code that came with a model."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from PIL import Image
from transformers import pipeline
from transformers.pipelines.pt_utils import KeyDataset

from liver_landmark import LiverLandmarkSegmentationPipeline
from liver_landmark.model.landmarks_liver_landmark import DEFAULT_LANDMARKS
from liver_landmark.model.pipeline_liver_landmark import TASK
from tiny_datasets import tiny_processor
from tiny_models import tiny_model

NEVER = {"weights": [0.0], "bias": -5.0, "threshold": 0.5}
ALWAYS = {"weights": [0.0], "bias": 5.0, "threshold": 0.5}


def calibration(**absent: bool) -> dict[str, Any]:
    """Takes the named landmarks to be in no frame, the others to be in every one."""
    classes = {name: NEVER if absent.get(name) else ALWAYS for name in DEFAULT_LANDMARKS.names}
    return {"features": ["top"], "classes": classes, "source": {"dataset": "none"}}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved model whose weights draw all classes somewhere, and its processor."""
    path = tmp_path_factory.mktemp("pipeline") / "model"
    model = tiny_model()
    torch.nn.init.normal_(model.decoder.classifier.weight, std=3.0)
    model.save_pretrained(path)
    tiny_processor().save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def segment(folder: Path) -> LiverLandmarkSegmentationPipeline:
    return pipeline(TASK, model=str(folder), device="cpu")


def noise(seed: int, size: tuple[int, int]) -> Image.Image:
    """Blurred noise of (width, height), on which random weights see several classes."""
    pixels = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC)


@pytest.fixture(scope="module")
def frames() -> list[Image.Image]:
    return [noise(0, (96, 54)), noise(1, (70, 90)), noise(2, (33, 31))]


@pytest.fixture
def files(tmp_path: Path, frames: list[Image.Image]) -> list[Path]:
    paths = [tmp_path / f"frame {index}.png" for index in range(len(frames))]
    for frame, path in zip(frames, paths, strict=True):
        frame.save(path)
    return paths


@pytest.fixture
def server(files: list[Path]) -> Iterator[str]:
    """The address under which the files lie."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=files[0].parent)) as http:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{http.server_port}"
        http.shutdown()


def same(result: list[dict[str, Any]], expected: list[dict[str, Any]]) -> bool:
    return all(
        part["label"] == other["label"]
        and part["present"] == other["present"]
        and part["score"] == pytest.approx(other["score"], abs=1e-5)
        and part["presence"] == pytest.approx(other["presence"], abs=1e-5)
        and part["mask"].tobytes() == other["mask"].tobytes()
        for part, other in zip(result, expected, strict=True)
    )


def test_what_a_frame_gives_is_what_model_and_processor_give(segment, frames) -> None:
    classes_seen = set()
    for frame in frames:
        result = segment(frame)
        with torch.no_grad():
            outputs = segment.model(**segment.image_processor(frame, return_tensors="pt"))
        [expected] = segment.image_processor.post_process_semantic_segmentation(
            outputs,
            target_sizes=[(frame.height, frame.width)],
            return_scores=True,
            id2label=segment.model.config.id2label,
        )
        ids = expected["segmentation"].numpy()
        np.testing.assert_array_equal(np.asarray(segment.index_mask(result)), ids)
        assert [part["label"] for part in result] == list(DEFAULT_LANDMARKS.names)
        for part in result:
            assert part["mask"].mode == "L"
            assert part["mask"].size == frame.size
            np.testing.assert_array_equal(np.asarray(part["mask"]) == 255, ids == part["id"])
            assert set(np.unique(part["mask"])) <= {0, 255}
            assert part["score"] == pytest.approx(expected["scores"][part["label"]], abs=1e-6)
            assert 0 <= part["presence"] <= 1
            assert isinstance(part["present"], bool)
        classes_seen |= set(np.unique(ids))
    assert len(classes_seen) >= 3


def test_every_kind_of_input_gives_the_same(segment, frames, files, server) -> None:
    expected = segment(frames[0])
    pixels = np.asarray(frames[0])
    encoded = base64.b64encode(files[0].read_bytes()).decode()
    for frame in (
        str(files[0]),
        files[0],
        f"{server}/frame%200.png",
        encoded,
        f"data:image/png;base64,{encoded}",
        pixels,
        torch.from_numpy(pixels.copy()).permute(2, 0, 1),
        {"image": frames[0]},
    ):
        assert same(segment(frame), expected)


def test_many_frames_give_what_each_gives(segment, frames, files) -> None:
    alone = [segment(frame) for frame in frames]
    rows = datasets.Dataset.from_dict(
        {"image": [str(path) for path in files], "other": [1, 2, 3]},
        features=datasets.Features({"image": datasets.Image(), "other": datasets.Value("int32")}),
    )
    kinds = {
        "list": list(frames),
        "paths": [str(path) for path in files],
        "tuple": tuple(frames),
        "generator": (frame for frame in frames),
        "data set": rows,
        "column": rows["image"],
        "stream": rows.to_iterable_dataset(),
        "stream of unknown columns": datasets.IterableDataset.from_generator(
            lambda: ({"image": str(path)} for path in files)
        ),
        "rows": (row for row in rows),
        "KeyDataset": KeyDataset(rows, "image"),
    }
    for batch_size in (1, 2):
        kinds["generator"], kinds["rows"] = (frame for frame in frames), (row for row in rows)
        for kind, inputs in kinds.items():
            results = segment(inputs, batch_size=batch_size)
            assert isinstance(results, list) == (kind in ("list", "paths", "tuple")), kind
            assert all(map(same, list(results), alone)), kind
    assert segment([]) == []


def test_sixteen_bits_and_orientation_are_kept(segment, frames, tmp_path) -> None:
    deep = (np.asarray(frames[0].convert("L")).astype(np.uint16)) * 257
    Image.fromarray(deep).save(tmp_path / "deep.png")
    assert same(segment(str(tmp_path / "deep.png")), segment(deep))
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera lay on its side: rotate by 270° to be upright
    frames[0].save(tmp_path / "turned.png", exif=exif)
    assert same(
        segment(str(tmp_path / "turned.png")), segment(frames[0].transpose(Image.Transpose.ROTATE_270))
    )


@pytest.mark.parametrize(
    ("frame", "error", "message"),
    [
        ("no-such-file.png", FileNotFoundError, "no-such-file.png: no such file"),
        ("x" * 5000 + ".png", FileNotFoundError, "no such file"),
        ("abcd", ValueError, "not an image"),
        (b"1234", ValueError, "frame: bytes; expected a path"),
        (None, ValueError, "frame: NoneType; expected a path"),
        ({"picture": 1}, ValueError, "without 'image'"),
        ("http://127.0.0.1:9/frame.png", ValueError, "frame.png: cannot be fetched"),
        (np.full((4, 4, 3), np.nan, np.float32), ValueError, "frame"),
    ],
)
def test_what_cannot_be_read_is_one_line(segment, frame, error, message) -> None:
    with pytest.raises(error, match=message) as caught:
        segment(frame)
    assert "\n" not in str(caught.value)


def test_broken_and_huge_files_are_refused(segment, files, server, tmp_path) -> None:
    (tmp_path / "cut.png").write_bytes(files[0].read_bytes()[:300])
    with pytest.raises(ValueError, match=r"cut\.png.*decoded"):
        segment(str(tmp_path / "cut.png"))
    Image.new("1", (30_000, 2_900)).save(tmp_path / "huge.png")
    for source in (str(tmp_path / "huge.png"), f"{server}/huge.png"):
        with pytest.raises(ValueError, match=r"huge\.png.*30000×2900 px is more than"):
            segment(source)
    with pytest.raises(ValueError, match="404"):
        segment(f"{server}/nothing.png")


def test_unknown_arguments_and_columns_are_named(segment: LiverLandmarkSegmentationPipeline) -> None:
    with pytest.raises(TypeError, match="'threshold'"):
        segment("x.png", threshold=0.5)
    with pytest.raises(ValueError, match="no column 'image' \\(there are: picture\\)"):
        segment(datasets.Dataset.from_dict({"picture": [1]}))


def test_an_absent_landmark_has_an_empty_mask(segment, frames, monkeypatch) -> None:
    drawn = {part["label"] for frame in frames for part in segment(frame) if part["present"]}
    assert len(drawn) >= 2
    name = sorted(drawn)[0]
    config = segment.model.config
    monkeypatch.setattr(config, "presence_calibration", calibration(**{name: True}))
    for frame in frames:
        for part in segment(frame):
            assert part["presence"] == pytest.approx(1 / (1 + np.exp(5 if part["label"] == name else -5)))
            if part["label"] == name:
                assert not part["present"]
                assert part["score"] == 0.0
            assert part["present"] == bool(np.any(part["mask"]))


CLEAN_PROCESS = """
import json, sys
sys.modules["liver_landmark"] = None  # importing the package is an error from here on
from transformers import AutoImageProcessor, AutoModel, pipeline
from transformers.image_utils import load_image

folder, frame, again = sys.argv[1:]
results = []
# The second time from what was saved as remote code, and with the task that the folder itself names.
for source, task in ((folder, "liver-landmark-segmentation"), (again, None)):
    segment = pipeline(task, model=source, trust_remote_code=True, device="cpu")
    assert type(segment).__module__.startswith("transformers_modules"), type(segment).__module__
    parts = segment([frame])[0]
    model = AutoModel.from_pretrained(source, trust_remote_code=True).eval()
    processor = AutoImageProcessor.from_pretrained(source, trust_remote_code=True)
    logits = model(**processor(load_image(frame), return_tensors="pt")).logits
    for own in (model, segment.model, processor):
        assert type(own).__module__.startswith("transformers_modules"), type(own).__module__
    assert "liver_landmark" in repr(segment.model.config)  # which is JSON
    segment.save_pretrained(again)
    segment.index_mask(parts).save(again + "/ids.png")
    results.append([[{key: part[key] for key in part if key != "mask"} for part in parts], logits.tolist()])
assert sys.modules["liver_landmark"] is None
print(json.dumps(results))
"""


def test_it_travels_with_the_model(folder, files, segment, tmp_path) -> None:
    calibrated = calibration(silhouette=True)
    model = type(segment.model).from_pretrained(folder)
    model.config.presence_calibration = calibrated
    model.save_pretrained(tmp_path / "model")
    segment.image_processor.save_pretrained(tmp_path / "model")
    assert not hasattr(model.config, "custom_pipelines")
    # Here the registered class is taken, and no code of the folder's.
    here = pipeline(TASK, model=str(tmp_path / "model"), device="cpu")
    assert type(here) is LiverLandmarkSegmentationPipeline
    assert here.model.config.presence_calibration == calibrated
    expected = here(str(files[0]))

    again = tmp_path / "again"
    environment = {"HF_HOME": str(tmp_path / "cache"), "HF_HUB_OFFLINE": "1", "PATH": "/usr/bin:/bin"}
    environment["OMP_NUM_THREADS"] = "1"  # as here: sums are split among threads
    command = [sys.executable, "-c", CLEAN_PROCESS, *map(str, (tmp_path / "model", files[0], again))]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    logits = model(**here.image_processor(Image.open(files[0]), return_tensors="pt")).logits
    for parts, found in json.loads(done.stdout):
        torch.testing.assert_close(torch.tensor(found), logits)
        for part, other in zip(parts, expected, strict=True):
            assert part == {key: pytest.approx(other[key], abs=1e-5) for key in part}
    with Image.open(again / "ids.png") as ids:
        assert ids.tobytes() == here.index_mask(expected).tobytes()
    assert json.loads((again / "config.json").read_text())["presence_calibration"] == calibrated


def test_a_landmark_that_shows_between_two_places_of_the_logits_is_present(segment) -> None:
    logits = torch.full((1, 4, 4, 4), -9.0)
    logits[:, 2] = 2.5  # the second at every place, and the first between the ridge and the ligament
    logits[:, 1], logits[:, 3] = torch.tensor([3.0, 3, 0, 0]), torch.tensor([0.0, 0, 3, 3])
    result = segment.postprocess({"logits": logits, "target_size": [(64, 64)]})
    assert [part["present"] for part in result] == [bool(np.any(part["mask"])) for part in result]
    assert (result[1]["label"], result[1]["present"]) == ("silhouette", True)
