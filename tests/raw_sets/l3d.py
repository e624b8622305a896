"""L3D and L3D-2K: labelme JSON beside JPEG frames, split folders that already decide the splits."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from .pictures import picture, write_jpeg, write_png
from .truth import NAMES, Landmarks, RawSet, TrueFrame, curves

FOLDERS = {"train": "Train", "validation": "Val", "test": "Test"}
LOWER_FOLDERS = {"train": "train", "validation": "val", "test": "test"}
UPPER_FOLDERS = {"train": "TRAIN", "validation": "VAL", "test": "TEST"}
NESTED_FOLDERS = {"train": "Train", "validation": "Val/Val", "test": "Test"}
# A few patients of each split, as published.
PATIENTS = {"train": (1, 2, 62), "validation": (18,), "test": (21, 51)}


def labelme_json(landmarks: Landmarks, picture_name: str, width: int, height: int) -> dict[str, Any]:
    """What labelme saves, with the picture left out."""
    unused = {"group_id": None, "description": "", "shape_type": "linestrip", "flags": {}}
    shapes = [
        {"label": landmark["category"], "points": [list(point) for point in landmark["points"]]} | unused
        for landmark in landmarks
    ]
    picture = {"imagePath": picture_name, "imageData": None, "imageHeight": height, "imageWidth": width}
    return {"version": "5.2.1", "flags": {}, "shapes": shapes} | picture


def write_frame(
    root: Path,
    folder: str,
    patient: int,
    number: int,
    split: str | None,
    *,
    width: int = 64,
    height: int = 36,
    names: tuple[str, ...] = NAMES,
    depth_bits: int | None = None,
    suffix: str = ".jpg",
) -> TrueFrame:
    """Writes picture, JSON and, if asked for, the depth map of one frame into `root/folder`."""
    stem = f"Patient_{patient}_{number:05d}"
    seed = 1000 * patient + number
    landmarks = curves(seed, width, height, names)
    picture_file = root / folder / "images" / f"{stem}{suffix}"
    write_jpeg(picture_file, picture(seed, width, height))
    label_file = root / folder / "labels" / f"{stem}.json"
    label_file.parent.mkdir(parents=True, exist_ok=True)
    document = labelme_json(landmarks, f"..\\images\\{stem}{suffix}", width, height)
    label_file.write_text(json.dumps(document, indent=2))
    frame = TrueFrame(stem, str(patient), split, picture_file, label_file, width, height, landmarks)
    if depth_bits is not None:
        frame.depth = root / folder / "depth_AdelaiDepth" / f"{stem}.png"
        write_png(frame.depth, depth_values(seed, width, height, depth_bits))
    return frame


def depth_values(seed: int, width: int, height: int, bits: int) -> np.ndarray:
    """(height, width) gray values of a depth map of 8 or 16 bits, using the whole range."""
    ramp = np.linspace(0, 1, width * height).reshape(height, width)
    values = np.roll(ramp, seed, axis=1) * (2**bits - 1)
    return np.round(values).astype(np.uint8 if bits == 8 else np.uint16)


def write_l3d(
    root: Path,
    *,
    folders: dict[str, str] = FOLDERS,
    patients: dict[str, tuple[int, ...]] = PATIENTS,
    frames_per_patient: int = 2,
    **frame: Any,
) -> RawSet:
    """A set without a fault: each patient's frames in the folder of its published split."""
    frames = [
        write_frame(root, folders[split], patient, number, split, **frame)
        for split, numbers in patients.items()
        for patient in numbers
        for number in range(1, frames_per_patient + 1)
    ]
    return RawSet(root, frames)


def edit_json(frame: TrueFrame, change: Callable[[dict[str, Any]], None]) -> None:
    """Changes a frame's JSON in place; the truth is the caller's to keep."""
    document = json.loads(frame.annotation.read_text())
    change(document)
    frame.annotation.write_text(json.dumps(document, indent=2))


def misspell_ridge(frame: TrueFrame) -> None:
    """Writes `rigde` for ridge, as some of the set's files do."""
    text = frame.annotation.read_text()
    frame.annotation.write_text(text.replace('"ridge"', '"rigde"'))
