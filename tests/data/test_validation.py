"""What `load_landmark_dataset` refuses: types, polylines and patients that cannot be, each in one line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import pytest
from datasets import ClassLabel, Features, Image, List, Value
from PIL import Image as Picture

from liver_landmark.data.loading import first_difference, load_landmark_dataset
from liver_landmark.data.schema import landmark_features
from tiny_datasets import HEIGHT, WIDTH, make_dataset, polylines, schema_row


@pytest.fixture(scope="module", autouse=True)
def datasets_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """`datasets` caches in a folder of the tests, not in the user's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))
        yield


def write_splits(folder: Path, **splits: datasets.Dataset) -> Path:
    folder.mkdir()
    for split, rows in splits.items():
        rows.to_parquet(folder / f"{split}-00000-of-00001.parquet")
    return folder


def row_of(frame_id: str, **fields: Any) -> dict[str, Any]:
    return schema_row(frame_id, polylines(0), patient_id=f"patient of {frame_id}") | fields


def changed_features(**columns: Any) -> Features:
    return Features({**landmark_features(), **columns})


def landmarks_of(category: Any = None, points: Any = None) -> List:
    feature = landmark_features()["landmarks"].feature
    return List({"category": category or feature["category"], "points": points or feature["points"]})


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (
            changed_features(width=Value("int64")),
            r"column 'width' is Value\('int64'\), expected Value\('int32",
        ),
        (changed_features(depth=Value("string")), r"column 'depth' is Value\('string'\), expected Image"),
        (
            changed_features(landmarks=landmarks_of(points=List(List(Value("float64"), length=2)))),
            r"column 'landmarks\[\]\.points\[\]\[\]' is Value\('float64'\), expected Value\('float32'\)",
        ),
        (
            changed_features(landmarks=landmarks_of(points=List(List(Value("float32"))))),
            r"column 'landmarks\[\]\.points\[\]' is List\(Value\('float32'\)\), expected .* length=2",
        ),
        (
            changed_features(landmarks=landmarks_of(category=Value("int64"))),
            r"'landmarks\[\]\.category' is Value\('int64'\), expected ClassLabel",
        ),
        (
            changed_features(landmarks=landmarks_of(ClassLabel(names=["silhouette", "ridge", "ligament"]))),
            r"orders its classes as silhouette, ridge, ligament, the schema as ridge, silhouette, ligament: "
            "which ids its labels hold cannot be known",
        ),
        (
            changed_features(camera={"fx": Value("float32")}),
            r"column 'camera\.fy' is missing",
        ),
    ],
)
def test_the_first_column_of_another_type_is_named(tmp_path: Path, features: Features, message: str) -> None:
    rows = datasets.Dataset.from_dict({name: [None] for name in features}, features=features)
    folder = write_splits(tmp_path / "set", train=rows)
    with pytest.raises(ValueError, match=message) as error:
        load_landmark_dataset(folder, "train")
    assert str(error.value).startswith(f"dataset {folder}: ")
    assert "\n" not in str(error.value)


def test_the_schema_differs_from_itself_in_nothing_and_may_have_more_columns() -> None:
    assert first_difference(landmark_features()) is None
    assert first_difference(Features({"mask": Image(), **landmark_features()})) is None


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"landmarks": [{"category": 2, "points": [(1.0, 1.0)]}]},
            r"polyline 1 \(ligament\): it has 1 points",
        ),
        (
            {"landmarks": [*polylines(0), {"category": 0, "points": [(1.0, 1.0), (WIDTH + 0.5, 2.0)]}]},
            rf"polyline 4 \(ridge\): its point \(96.5, 2\) lies outside of the frame of {WIDTH}x{HEIGHT} px",
        ),
        (
            {"landmarks": [{"category": 0, "points": [(1.0, float("inf")), (1.0, 2.0)]}]},
            "a coordinate of it is not finite",
        ),
        ({"width": 0}, "its width is 0"),
        ({"height": None}, "its height is None"),
        ({"patient_id": None}, "its patient_id is missing"),
        ({"protocol": None}, "its protocol is missing"),
        ({"protocol": "as_drawn"}, "its protocol is as_drawn, but it has no label"),
    ],
)
def test_a_row_that_cannot_be_is_named(tmp_path: Path, fields: dict[str, Any], message: str) -> None:
    rows = [row_of("one"), row_of("two"), row_of("three", **fields)]
    folder = write_splits(tmp_path / "set", train=make_dataset(rows))
    with pytest.raises(ValueError, match=r"frame three \(row 2\): .*" + message) as error:
        load_landmark_dataset(folder, "train")
    assert "\n" not in str(error.value)
    assert "data check" in str(error.value)


def test_a_split_without_rows_is_named(tmp_path: Path) -> None:
    empty = datasets.Dataset.from_dict({name: [] for name in landmark_features()}, landmark_features())
    folder = write_splits(tmp_path / "set", train=empty)
    with pytest.raises(ValueError, match=r"set: a file of it cannot be read \(.*no data") as error:
        load_landmark_dataset(folder, "train")
    assert "\n" not in str(error.value)


def test_points_on_the_frames_border_are_fine(tmp_path: Path) -> None:
    border = [{"category": "ridge", "points": [(-1.0, -1.0), (float(WIDTH), float(HEIGHT))]}]
    folder = write_splits(tmp_path / "set", train=make_dataset([row_of("one", landmarks=border)]))
    assert load_landmark_dataset(folder, "train")[0]["landmarks"][0]["points"][1] == [WIDTH, HEIGHT]


def test_a_patient_in_two_splits_is_named(tmp_path: Path) -> None:
    train, test = row_of("a-1", patient_id="P7"), row_of("a-2", patient_id="P7")
    folder = write_splits(tmp_path / "set", train=make_dataset([train]), test=make_dataset([test]))
    message = "patient 'P7' of source 'test' is in (train and in test|test and in train); splits must be by"
    with pytest.raises(ValueError, match=message):
        load_landmark_dataset(folder)
    # One split alone says nothing of the other.
    assert len(load_landmark_dataset(folder, "train")) == 1


def test_patients_of_different_sources_may_have_the_same_name(tmp_path: Path) -> None:
    train, test = row_of("a-1", patient_id="P7"), row_of("a-2", patient_id="P7", source="another hospital")
    folder = write_splits(tmp_path / "set", train=make_dataset([train]), test=make_dataset([test]))
    assert set(load_landmark_dataset(folder)) == {"train", "test"}


def test_labels_as_drawn_are_never_drawn_anew_unless_asked_for(tmp_path: Path) -> None:
    mask = Picture.new("L", (WIDTH, HEIGHT), 0)
    mask.putpixel((5, 50), 3)
    row = row_of("one", label=mask, protocol="as_drawn", stroke_width=7.5)
    folder = write_splits(tmp_path / "set", train=make_dataset([row]))
    for protocol in (None, "as_drawn"):
        stored = load_landmark_dataset(folder, "train", protocol)[0]
        assert stored["label"].tobytes() == mask.tobytes()
        assert (stored["protocol"], stored["stroke_width"]) == ("as_drawn", 7.5)
    drawn = load_landmark_dataset(folder, "train", "slippa")[0]
    assert (drawn["protocol"], drawn["stroke_width"]) == ("slippa", 12)
    assert drawn["label"].getextrema() == (0, 3)
    assert drawn["label"].getpixel((5, 50)) == 0


def test_stored_and_missing_labels_live_side_by_side(tmp_path: Path) -> None:
    mask = Picture.new("L", (WIDTH, HEIGHT), 2)
    stored = row_of("one", label=mask, protocol="as_drawn", stroke_width=7.5)
    folder = write_splits(tmp_path / "set", train=make_dataset([stored, row_of("two", protocol="slippa")]))
    rows = load_landmark_dataset(folder, "train")
    assert rows[0]["label"].getextrema() == (2, 2)
    assert rows[0]["stroke_width"] == 7.5
    assert rows[1]["stroke_width"] == 12


def test_labels_as_drawn_cannot_be_asked_of_a_set_that_draws_them(tmp_path: Path) -> None:
    folder = write_splits(tmp_path / "set", train=make_dataset([row_of("one")]))
    with pytest.raises(ValueError, match="its labels are drawn by synthetic and not stored as their source"):
        load_landmark_dataset(folder, "train", "as_drawn")
