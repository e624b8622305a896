"""Builds raw sets as `liver-landmark data build` does, and reads the result without the project's loader."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import datasets
import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from liver_landmark.data import build as build_module
from liver_landmark.data.build import RawRequest, build_raw_set
from liver_landmark.data.readers import L3dOptions, ProblemError, SplitOptions

from .fuzzing import PROTOCOL, plain
from .truth import RawSet, TrueFrame

CARD = "# A set of tests\n"
# Named, so that which patient is where does not depend on a draw.
NAMED_SPLITS = {
    "anna": SplitOptions(validation_patients=("ben",), test_patients=("dora",)),
    "patient": SplitOptions(validation_patients=("patient2",), test_patients=("patient4",)),
}


def l3d_request(raw: RawSet, **options: Any) -> RawRequest:
    """What asks for an L3D-shaped set."""
    return RawRequest("l3d", raw.root, L3dOptions(**options))


def content(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, byte for byte."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@dataclass
class Built:
    """What was built.

    Attributes:
        folder: The built folder.
        rows: Frame id -> row, pictures as encoded bytes, categories by name, `split` added.
        report: `report.json`.
    """

    folder: Path
    rows: dict[str, dict[str, Any]]
    report: dict[str, Any]

    def row(self, frame: TrueFrame) -> dict[str, Any]:
        """A frame's row."""
        return self.rows[frame.stem]

    def picture(self, frame: TrueFrame) -> np.ndarray:
        """(H, W, 3) uint8: the frame as every user of the set decodes it."""
        return decoded(self.row(frame)["image"]["bytes"])

    def problem(self, file: str) -> str:
        """Why a file, named as below the raw folder, was left out; fails unless exactly one line says it."""
        reasons = [problem["reason"] for problem in self.report["problems"] if problem["file"] == file]
        assert len(reasons) == 1, f"{len(reasons)} lines about {file}: {self.report['problems']}"
        return reasons[0]


def decoded(data: bytes) -> np.ndarray:
    """(H, W, 3) uint8 pixels of an encoded picture as they are stored."""
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB"))


def build(raw: RawSet, output: Path, set_name: str, options: Any = None, **fields: Any) -> Built:
    """Builds `raw` into `output`, leaving bad frames out.

    `fields` are RawRequest's; labels are drawn with narrow strokes on the frame unless they say otherwise.
    """
    # Two thirds of the time go into large tiles that nobody looks at here.
    with mock.patch.object(build_module, "_SHEET_TILE_PX", 64):
        build_raw_set(_request(raw, set_name, options, fields), output, CARD)
    rows = {}
    for file in sorted((output / "data").glob("*.parquet")):
        table = pq.read_table(file)
        names = datasets.Features.from_arrow_schema(table.schema)["landmarks"].feature["category"].names
        for row in table.to_pylist():
            for curve in row["landmarks"]:
                curve["category"] = names[curve["category"]]
            rows[row["frame_id"]] = row | {"split": file.name.split("-")[0]}
    return Built(output, rows, json.loads((output / "report.json").read_text()))


def strict_line(raw: RawSet, output: Path, set_name: str, options: Any = None, **fields: Any) -> str:
    """The one line that a strict build stops with, having left nothing behind."""
    before = sorted(output.parent.iterdir())
    with pytest.raises(ProblemError) as caught:
        build_raw_set(_request(raw, set_name, options, fields), output, CARD, strict=True)
    assert sorted(output.parent.iterdir()) == before
    line = str(caught.value)
    assert line.isprintable()
    return line


def _request(raw: RawSet, set_name: str, options: Any, fields: dict[str, Any]) -> RawRequest:
    defaults = {} if set_name == "llsd" else {"protocol": PROTOCOL}
    return RawRequest(set_name, raw.root, options, **(defaults | fields))


def check_as_told(built: Built, frames: list[TrueFrame]) -> None:
    """Fails unless the set holds these frames with their polylines, and no others."""
    assert sorted(built.rows) == sorted(frame.stem for frame in frames)
    for frame in frames:
        row = built.row(frame)
        assert plain(row["landmarks"]) == plain(frame.landmarks)
        assert (row["width"], row["height"]) == (frame.width, frame.height)
        assert built.picture(frame).shape == (frame.height, frame.width, 3)
        if frame.split is not None:
            assert row["split"] == frame.split
    patients = {built.row(frame)["patient_id"] for frame in frames}
    assert len(patients) == len({frame.patient for frame in frames})


def check_left_out(
    raw: RawSet,
    output: Path,
    frame: TrueFrame,
    file: Path,
    reason: str,
    set_name: str,
    *options: Any,
    **fields: Any,
) -> Built:
    """Fails unless one frame is left out, `file` named with that reason, and all others are as told.

    The further options are those of `build`.
    """
    name = raw.relative(file)
    line = strict_line(raw, output, set_name, *options, **fields)
    assert line.startswith(f"{name}: ")
    assert reason in line, line
    built = build(raw, output, set_name, *options, **fields)
    check_as_told(built, [other for other in raw.frames if other is not frame])
    assert f"{name}: {built.problem(name)}" == line
    assert len(built.report["problems"]) == 1
    return built
