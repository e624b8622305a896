"""The check of a set that somebody sent: files, card, rows by themselves and what they have in common."""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import ClassLabel
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from checkable_sets import CARD, file_of, good_rows, label_of, problems, write_set
from liver_landmark.data.check import SetCheck
from liver_landmark.data.schema import landmark_features
from tiny_datasets import HEIGHT, WIDTH, polylines, schema_row


def test_a_good_set_has_no_problems(tmp_path: Path) -> None:
    rows = good_rows()
    # What is allowed: ignored pixels, no label, labels that no protocol draws, JPEG frames, no polylines.
    ignored = label_of(rows["train"][0])
    ignored[:30] = 255
    rows["train"][0]["label"] = file_of(Image.fromarray(ignored))
    rows["train"][1]["label"] = None
    by_hand = np.roll(label_of(rows["train"][2]), 3, axis=0)
    rows["train"][2] |= {"label": file_of(Image.fromarray(by_hand)), "protocol": "as_drawn"}
    frame = Image.open(io.BytesIO(rows["test"][0]["image"]["bytes"]))
    rows["test"][0] |= {
        "image": file_of(frame, "JPEG"),
        "depth": file_of(Image.fromarray(np.zeros((HEIGHT, WIDTH), np.uint16))),
    }
    folder = write_set(tmp_path / "set", rows)
    check = SetCheck(folder)
    assert [str(problem) for problem in check.problems()] == []
    assert check.counts.frames == {"train": 3, "test": 2}


def test_shared_patients_pictures_and_frame_ids_are_named_where_they_come_again(tmp_path: Path) -> None:
    rows = good_rows()
    rows["test"][0] |= {"patient_id": "train 1", "image": rows["train"][2]["image"]}
    rows["test"][1] |= {"patient_id": "train 1", "frame_id": "train-0"}
    found = problems(write_set(tmp_path / "set", rows, card=None))
    first, second = "data/train-00000-of-00001.parquet, row ", "data/test-00000-of-00001.parquet, row "
    # Whichever split `datasets` names first.
    assert len(found) == 3
    joined = "\n".join(found)
    assert len(re.findall("its patient 'train 1' of source 'test' is in (train|test) too", joined)) == 1
    assert re.search(f"its image is the very same as in (train|test): .*({first}2|{second}0)", joined)
    assert re.search(f"its frame_id is taken: .*({first}0|{second}1)", joined)


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("num_examples: 3", "num_examples: 4", "it says 4 frames of split 'train', there are 3"),
        ("| train | 2 | 3 |", "| train | 3 | 3 |", "says 3 | 3 for 'train', found: 2 | 3"),
        ("| ligament | 4 | 80.0% |\n", "", "says nothing for 'ligament', found: 4 | 80.0%"),
        (
            "num_examples: 3\n",
            "num_examples: 3\n  - name: dev\n    num_examples: 1\n",
            "says 1 frames of split 'd",
        ),
    ],
)
def test_a_card_that_counts_wrong_is_named(tmp_path: Path, old: str, new: str, reason: str) -> None:
    assert old in CARD
    [found] = problems(write_set(tmp_path / "set", good_rows(), CARD.replace(old, new)))
    assert found.startswith("README.md: ")
    assert reason in found


def test_files_are_those_that_the_card_names(tmp_path: Path) -> None:
    folder = write_set(tmp_path / "set", good_rows())
    names = [f"data/{split}-00000-of-00001.parquet" for split in ("train", "test")]
    lines = [f"| `{name}` | `{hashlib.sha256((folder / name).read_bytes()).hexdigest()}` |" for name in names]
    card = CARD + "\n| file | SHA-256 |\n|---|---|\n"
    (folder / "README.md").write_text(card + "\n".join(lines))
    assert problems(folder) == []
    # The same rows, and every one of them in order: only their file is another.
    pq.write_table(pq.read_table(folder / names[1]), folder / names[1], compression="gzip")
    [found] = problems(folder)
    assert found.startswith(f"README.md: its table of file | SHA-256 says {lines[1].split('| ')[2][:-1]}")
    (folder / "README.md").write_text(card + lines[0] + "\n| `data/../../other` | `0` |")
    assert [re.search("for '`(.*)`'", line)[1] for line in problems(folder)] == ["data/../../other", names[1]]


def test_a_card_that_is_no_yaml_is_one_line(tmp_path: Path) -> None:
    [found] = problems(write_set(tmp_path / "set", good_rows(), "---\na: [\n---\n"))
    assert found.startswith("README.md: cannot be understood")


def as_slippa(table: pa.Table) -> pa.Table:
    features = landmark_features()
    features["landmarks"].feature["category"] = ClassLabel(names=["silhouette", "ridge", "ligament"])
    return table.replace_schema_metadata(features.arrow_schema.metadata)


def with_wide_width(table: pa.Table) -> pa.Table:
    """What the file says of its columns is still the schema."""
    return table.set_column(table.column_names.index("width"), "width", table["width"].cast(pa.int64()))


NONSENSE = {"huggingface": '{"info": {"features": {"image": 3}}}'}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda table: table.drop_columns("depth"), "column 'depth' is missing"),
        (as_slippa, "its landmarks are silhouette, ridge, ligament, those of"),
        (
            lambda table: table.replace_schema_metadata(None),
            "column 'image' is {'bytes': Value('binary'), 'path': Value('string')}, expected Image",
        ),
        (with_wide_width, "column 'width' is Value('int64'), expected Value('int32')"),
        (lambda table: table.replace_schema_metadata(NONSENSE), "its columns cannot be understood ("),
    ],
)
def test_a_file_of_other_columns_is_named_once(tmp_path: Path, change: Callable, reason: str) -> None:
    folder = write_set(tmp_path / "set", good_rows(), card=None)
    path = folder / "data" / "test-00000-of-00001.parquet"
    pq.write_table(change(pq.read_table(path)), path)
    [found] = problems(folder)
    assert found.startswith("data/test-00000-of-00001.parquet: ")
    assert reason in found
    assert found.endswith("; its rows are not checked")


def test_damaged_files_are_named_and_the_others_checked(tmp_path: Path) -> None:
    rows = good_rows()
    rows["test"][1]["protocol"] = "wide"
    folder = write_set(tmp_path / "set", rows, card=None)
    path = folder / "data" / "train-00000-of-00001.parquet"
    whole = path.read_bytes()
    path.write_bytes(whole[:-100])
    found = problems(folder)
    assert len(found) == 2
    assert any(re.match(r"data/train\S+: no readable Parquet file \(", line) for line in found)
    # The footer is whole, a page is not.
    path.write_bytes(whole[:400] + bytes(3000) + whole[3400:])
    found = problems(folder)
    assert any(re.match(r"data/train\S+: cannot be read from row 0 on \(", line) for line in found), found


def test_other_splits_and_folders_without_data_are_refused(tmp_path: Path) -> None:
    folder = write_set(tmp_path / "set", good_rows(), card=None)
    (folder / "README.md").write_text(CARD.replace("- split: test", "- split: dev"))
    assert problems(folder)[0].endswith("split 'dev' is unknown: expected train, validation, test")
    (tmp_path / "empty").mkdir()
    for name in ("empty", "missing"):
        with pytest.raises(FileNotFoundError, match=name) as error:
            list(SetCheck(tmp_path / name).problems())
        assert "\n" not in str(error.value)


def test_an_id_cannot_break_the_line(tmp_path: Path) -> None:
    rows = good_rows()
    rows["train"][1] |= {"frame_id": "a\nb\x1b[2J", "protocol": "wide"}
    [found] = problems(write_set(tmp_path / "set", rows, card=None))
    assert "\x1b" not in found


def test_rows_are_streamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of 1 MB in row groups of eight: the memory held does not grow with their number."""
    noise = np.random.default_rng(0).integers(0, 256, (500, 700, 3), dtype=np.uint8)
    held: list[int] = []
    original = SetCheck._check_batch

    def spied(self: SetCheck, *arguments: Any) -> Iterator:
        held.append(pa.default_memory_pool().bytes_allocated())
        yield from original(self, *arguments)

    monkeypatch.setattr(SetCheck, "_check_batch", spied)
    peaks = []
    for count in (16, 64):
        rows = []
        for index in range(count):
            # No two alike: Parquet would store them once.
            picture = file_of(Image.fromarray(np.roll(noise, index, axis=0)), "BMP")
            row = schema_row(str(index), [], width=700, height=500, stroke_width=None, image=picture)
            rows.append(row | {"patient_id": "one"})
        folder = write_set(tmp_path / f"{count}", {"train": rows}, card=None, row_group_size=8)
        del rows
        held.clear()
        before = pa.default_memory_pool().bytes_allocated()
        assert problems(folder) == []
        assert len(held) == count // 8
        peaks.append(max(held) - before)
    assert peaks[1] < 1.2 * peaks[0]
    assert peaks[1] < 30 * noise.nbytes


def test_a_row_group_that_fills_the_memory_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("liver_landmark.data.check._LARGEST_ROW_GROUP_BYTES", 1000)
    found = problems(write_set(tmp_path / "set", good_rows(), card=None))
    assert len(found) == 2
    assert all("a row group of it holds " in line for line in found)


Row = dict[str, Any]


def a_picture(width: int = WIDTH, height: int = HEIGHT, mode: str = "RGB") -> Image.Image:
    return Image.new(mode, (width, height))


def exif(gps: bool = False, orientation: int | None = None) -> Image.Exif:
    data = Image.Exif()
    data[0x010F] = "a device"
    if gps:
        data.get_ifd(0x8825)[1] = "N"
    if orientation:
        data[0x0112] = orientation
    return data


def png_text() -> PngInfo:
    info = PngInfo()
    info.add_text("Author", "Dr. Who")
    return info


def with_pixel(row: Row, value: int) -> Row:
    label = label_of(row)
    label[0, 0] = value
    return {"label": file_of(Image.fromarray(label))}


def with_bytes(row: Row, change: Callable[[bytes], bytes]) -> Row:
    return {"image": {"bytes": change(row["image"]["bytes"]), "path": None}}


def stored(data: bytes | None, path: str | None = None) -> Row:
    return {"bytes": data, "path": path}


FLOATS = file_of(Image.fromarray(np.zeros((HEIGHT, WIDTH), np.float32)), "TIFF")
FAR = [*polylines(1), {"category": 0, "points": [(1, 1), (1, 99)]}]
SIZE = f"its row says {WIDTH}x"
# What is changed in a row, and what its line has to say.
ROW_PROBLEMS = {
    "truncated": (lambda row: with_bytes(row, lambda data: data[:-60]), "its image: truncated or corrupt: "),
    "not a picture": ({"image": stored(b"hello")}, "its image: not a readable picture"),
    "no picture": ({"image": None}, "its image is missing"),
    "elsewhere": ({"image": stored(None, "/my/a.png")}, "its image is not inside of the file"),
    "wrong size": ({"image": file_of(a_picture(90))}, f"its image is 90x{HEIGHT} px, {SIZE}"),
    "wrong depth": ({"depth": file_of(a_picture(9, 9, "L"))}, f"its depth is 9x9 px, {SIZE}"),
    "broken regions": ({"regions": stored(b"?")}, "its regions: not a readable picture"),
    "unknown ids": (
        lambda row: with_pixel(row, 9),
        "its label holds 9: neither class ids (0 to 3) nor 255",
    ),
    "color label": (
        {"label": file_of(a_picture())},
        "its label is a picture of mode RGB, expected class ids in mode L",
    ),
    "one pixel": (
        lambda row: with_pixel(row, 1),
        f"is not what synthetic draws from its polylines: 1 px of {WIDTH * HEIGHT}",
    ),
    "no polylines": ({"landmarks": None}, "is not what synthetic draws from its polylines"),
    "unknown protocol": ({"protocol": "wide"}, "its protocol 'wide' is unknown: expected d2gpland, "),
    "no mask as drawn": (
        {"protocol": "as_drawn", "label": None},
        "its protocol is as_drawn, but it has no la",
    ),
    "stroke width": ({"stroke_width": 3.0}, "its stroke_width is 3 px, synthetic draws 1.5 px"),
    "outside": (
        {"landmarks": FAR},
        f"polyline 4 (ridge): its point (1, 99) lies outside of the frame of {WIDTH}x{HEIGHT} px",
    ),
    "no patient": ({"patient_id": None}, "its patient_id is missing"),
    "nameless patient": ({"patient_id": " "}, "its patient_id is empty"),
    "path": ({"patient_id": "../../a"}, "its patient_id is a path, and results are called after it"),
    "long name": ({"patient_id": "ä" * 101}, "its patient_id is longer than 200 bytes"),
    "EXIF": (
        lambda row: {"image": file_of(Image.open(io.BytesIO(row["image"]["bytes"])), exif=exif())},
        "metadata is left in its image: EXIF",
    ),
    "GPS": (
        {"image": file_of(a_picture(), "JPEG", exif=exif(gps=True))},
        "metadata is left in its image: EXIF with a GPS position",
    ),
    "comment": (
        {"image": file_of(a_picture(), "JPEG", comment=b"Jane Doe")},
        "metadata is left in its image: a comment",
    ),
    "text": (
        lambda row: {"label": file_of(Image.fromarray(label_of(row)), pnginfo=png_text())},
        "metadata is left in its label: the text 'Author'",
    ),
    "appended": (
        lambda row: with_bytes(row, lambda data: data + b"Jane Doe"),
        "metadata is left in its image: something that its pixels do not need",
    ),
    "float image": ({"image": FLOATS}, "its image has pixels of type F, expected 8-bit color or gray"),
}


@pytest.mark.parametrize(("change", "reason"), ROW_PROBLEMS.values(), ids=ROW_PROBLEMS)
def test_what_is_wrong_with_a_row_is_one_line(tmp_path: Path, change: Any, reason: str) -> None:
    rows = good_rows()
    rows["train"][1] |= change(rows["train"][1]) if callable(change) else change
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
