"""The check of a row: one thing broken at a time, and its one line."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from checkable_sets import file_of, good_rows, label_of, problems, write_set
from tiny_datasets import HEIGHT, WIDTH, polylines


@pytest.fixture(scope="module", autouse=True)
def datasets_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """`datasets` caches in a folder of the tests, not in the user's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))
        yield


def broken(**fields: Any) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda row: fields


def a_picture(width: int = WIDTH, height: int = HEIGHT, mode: str = "RGB", value: Any = 0) -> Image.Image:
    return Image.new(mode, (width, height), value)


def exif(**tags: Any) -> Image.Exif:
    data = Image.Exif()
    data[0x010F] = "a device"
    if tags.get("gps"):
        data.get_ifd(0x8825)[1] = "N"
    if tags.get("orientation"):
        data[0x0112] = tags["orientation"]
    return data


def png_text() -> PngInfo:
    info = PngInfo()
    info.add_text("Author", "Dr. Who")
    return info


def with_pixel(value: int) -> Callable[[dict[str, Any]], dict[str, Any]]:
    def change(row: dict[str, Any]) -> dict[str, Any]:
        label = label_of(row)
        label[0, 0] = value
        return {"label": file_of(Image.fromarray(label))}

    return change


def cut_short(row: dict[str, Any]) -> dict[str, Any]:
    return {"image": {"bytes": row["image"]["bytes"][:-60], "path": None}}


ROW_PROBLEMS = {
    "truncated": (cut_short, "its image: truncated or corrupt: "),
    "not a picture": (broken(image={"bytes": b"hello", "path": None}), "its image: not a readable picture"),
    "no picture": (broken(image=None), "its image is missing"),
    "elsewhere": (broken(image={"bytes": None, "path": "/my/a.png"}), "its image is not inside of the file"),
    "wrong size": (
        broken(image=file_of(a_picture(90))),
        f"its image is 90x{HEIGHT} px, its row says {WIDTH}x",
    ),
    "wrong depth": (
        broken(depth=file_of(a_picture(9, 9, "L"))),
        f"its depth is 9x9 px, its row says {WIDTH}x",
    ),
    "broken regions": (broken(regions={"bytes": b"?", "path": None}), "its regions: not a readable picture"),
    "unknown ids": (with_pixel(9), "its label holds 9: neither class ids (0 to 3) nor 255"),
    "color label": (
        broken(label=file_of(a_picture())),
        "its label is a picture of mode RGB, expected class ids in mode L",
    ),
    "one pixel": (with_pixel(1), f"is not what synthetic draws from its polylines: 1 px of {WIDTH * HEIGHT}"),
    "no polylines": (broken(landmarks=None), "is not what synthetic draws from its polylines"),
    "unknown protocol": (broken(protocol="wide"), "its protocol 'wide' is unknown: expected d2gpland, "),
    "no mask as drawn": (
        broken(protocol="as_drawn", label=None),
        "its protocol is as_drawn, but it has no la",
    ),
    "stroke width": (broken(stroke_width=3.0), "its stroke_width is 3 px, synthetic draws 1.5 px"),
    "outside": (
        broken(landmarks=[*polylines(1), {"category": 0, "points": [(1, 1), (1, 99)]}]),
        f"polyline 4 (ridge): its point (1, 99) lies outside of the frame of {WIDTH}x{HEIGHT} px",
    ),
    "one point": (
        broken(landmarks=[{"category": 2, "points": [(1, 1)]}]),
        "polyline 1 (ligament): it has 1 points, at least 2",
    ),
    "no patient": (broken(patient_id=None), "its patient_id is missing"),
    "nameless patient": (broken(patient_id=" "), "its patient_id is empty"),
    "path": (broken(patient_id="../../a"), "its patient_id is a path, and results are called after it"),
    "long name": (broken(patient_id="ä" * 101), "its patient_id is longer than 200 bytes"),
    "EXIF": (
        lambda row: {"image": file_of(Image.open(io.BytesIO(row["image"]["bytes"])), exif=exif())},
        "metadata is left in its image: EXIF",
    ),
    "GPS": (
        broken(image=file_of(a_picture(), "JPEG", exif=exif(gps=True))),
        "metadata is left in its image: EXIF with a GPS position",
    ),
    "comment": (
        broken(image=file_of(a_picture(), "JPEG", comment=b"Jane Doe")),
        "metadata is left in its image: a comment",
    ),
    "text": (
        lambda row: {"label": file_of(Image.fromarray(label_of(row)), pnginfo=png_text())},
        "metadata is left in its label: the text 'Author'",
    ),
    "appended": (
        lambda row: {"image": {"bytes": row["image"]["bytes"] + b"Jane Doe", "path": None}},
        "metadata is left in its image: something that its pixels do not need",
    ),
    "float image": (
        broken(image=file_of(Image.fromarray(np.zeros((HEIGHT, WIDTH), np.float32)), "TIFF")),
        "its image has pixels of type F, expected 8-bit color or gray",
    ),
}


@pytest.mark.parametrize(("change", "reason"), ROW_PROBLEMS.values(), ids=ROW_PROBLEMS)
def test_what_is_wrong_with_a_row_is_one_line(tmp_path: Path, change: Callable, reason: str) -> None:
    rows = good_rows()
    rows["train"][1] |= change(rows["train"][1])
    found = problems(write_set(tmp_path / "set", rows, card=None))
    assert len(found) == 1, found
    assert found[0].startswith("data/train-00000-of-00001.parquet, row 1 (frame train-1): ")
    assert reason in found[0]


def test_an_orientation_is_named_beside_the_metadata(tmp_path: Path) -> None:
    rows = good_rows()
    rows["train"][1]["image"] = file_of(a_picture(), exif=exif(orientation=6))
    found = problems(write_set(tmp_path / "set", rows))
    assert len(found) == 2
    assert found[1].endswith("an EXIF orientation turns its image against its polylines")
