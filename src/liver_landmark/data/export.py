"""The way back: a set of the schema as frames and annotation files that other tools read.

OUTPUT/<split>/<patient>/<frame>.jpg      as stored in the set
                         <frame>.json     labelme; <frame>.svg likewise
OUTPUT/annotations.xml                    CVAT, one file for all frames
OUTPUT/<split>/<patient>/images/, …/2D-3D_contours/<frame>.json or .xml      P2ILF
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import datasets
from PIL import Image

from ..curves.formats import WRITE_FORMATS, FrameAnnotation, write_landmarks
from ..model.landmarks_liver_landmark import LandmarkTable
from ..utils.atomic_files import new_folder
from .schema import landmarks_of, picture_bytes

_COLUMNS = ("image", "landmarks", "patient_id", "frame_id", "width", "height")
_SUFFIXES = {"labelme": ".json", "p2ilf-json": ".json", "p2ilf-xml": ".xml", "svg": ".svg"}
_PICTURES = {"JPEG": ".jpg", "MPO": ".jpg", "PNG": ".png", "TIFF": ".tif", "BMP": ".bmp", "WEBP": ".webp"}


def export_set(splits: Mapping[str, datasets.Dataset], output: Path, format: str) -> int:
    """Writes the frames and polylines of a set into a new folder; nothing is left where it fails.

    What `liver-landmark data build custom` builds from the result (`labelme`, `cvat`) has the same pictures,
    byte for byte, and the same polylines up to the format's precision.

    Args:
        splits: Split -> rows, as `load_landmark_dataset` gives them.
        output: Folder to write; must not exist, or be empty.
        format: One of `curves.formats.WRITE_FORMATS`.

    Returns:
        How many frames were written.

    Raises:
        ValueError: an unknown format, or a frame that the format cannot hold; the line names it.
        OSError: the folder is in the way or cannot be written.
    """
    if format not in WRITE_FORMATS:
        raise ValueError(f"format {format!r} is unknown: choose one of {', '.join(WRITE_FORMATS)}")
    output = Path(output)
    if output.is_dir() and not any(output.iterdir()):
        output.rmdir()
    count = 0
    with new_folder(output) as folder:
        annotations = []
        # Without suffix: two pictures of one name would share an annotation file.
        taken: set[Path] = set()
        patients: dict[str, str] = {}
        for file, row, table in _placed_rows(splits, format):
            path = folder / file
            path.parent.mkdir(parents=True, exist_ok=True)
            patient, name = row["patient_id"], _file_name(row["patient_id"])
            if patients.setdefault(name, patient) != patient:
                raise ValueError(
                    f"frame {row['frame_id']}: its patient {patient!r} and {patients[name]!r} would be one "
                    f"folder, {name}: rename one of them"
                )
            if path.with_suffix("") in taken:
                raise ValueError(
                    f"frame {row['frame_id']}: another frame of its patient is called {path.stem} already"
                )
            taken.add(path.with_suffix(""))
            path.write_bytes(row["data"])
            count += 1
            try:
                annotation = _annotation(row, file if format == "cvat" else path.name, table)
                if format == "cvat":
                    annotations.append(annotation)
                else:
                    write_landmarks(_annotation_path(path, format), [annotation], format)
            except ValueError as error:
                raise ValueError(f"frame {row['frame_id']}: {error}") from error
        if format == "cvat":
            write_landmarks(folder / "annotations.xml", annotations, format)
    return count


def _placed_rows(
    splits: Mapping[str, datasets.Dataset], format: str
) -> Iterator[tuple[str, dict[str, Any], LandmarkTable]]:
    """(picture's path below the output, row with its bytes as `data`, the set's landmarks), one at a time."""
    between = ("images",) if format.startswith("p2ilf") else ()
    for split, rows in splits.items():
        table = landmarks_of(rows.features)
        stored = rows.with_format(None).select_columns(list(_COLUMNS))
        stored = stored.cast_column("image", datasets.Image(decode=False))
        for row in stored:
            if row["landmarks"] is None:
                raise ValueError(f"frame {row['frame_id']}: it has no polylines to export")
            row["data"] = picture_bytes(row["image"])
            name = _file_name(row["frame_id"]) + _picture_suffix(row["data"])
            yield str(PurePosixPath(split, _file_name(row["patient_id"]), *between, name)), row, table


def _annotation(row: Mapping[str, Any], file_name: str, table: LandmarkTable) -> FrameAnnotation:
    landmarks = [
        {
            "category": table.names[landmark["category"]],
            "points": [(x, y) for x, y in landmark["points"]],
        }
        for landmark in row["landmarks"]
    ]
    return FrameAnnotation(file_name, row["width"], row["height"], landmarks, table=table)


def _annotation_path(picture: Path, format: str) -> Path:
    folder = picture.parent
    if format.startswith("p2ilf"):
        folder = folder.parent / "2D-3D_contours"
        folder.mkdir(exist_ok=True)
    return folder / (picture.stem + _SUFFIXES[format])


def _file_name(text: str) -> str:
    """A frame's or patient's name without what a file system takes for something else."""
    return re.sub(r"[^\w.-]+", "_", text).lstrip(".") or "_"


def _picture_suffix(data: bytes) -> str:
    with Image.open(io.BytesIO(data), formats=sorted({*_PICTURES} - {"MPO"})) as image:
        return _PICTURES[image.format]
