"""A user's own frames with labelme's JSON beside each picture, one folder per patient."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .l3d import edit_json as edit_json
from .l3d import labelme_json
from .pictures import picture, write_jpeg, write_png
from .truth import NAMES, RawSet, TrueFrame, curves


def write_frame(
    folder: Path,
    patient: str,
    stem: str,
    seed: int,
    split: str | None = None,
    *,
    width: int = 64,
    height: int = 36,
    names: tuple[str, ...] = NAMES,
    suffix: str = ".jpg",
) -> TrueFrame:
    """Writes a picture and its JSON into a folder."""
    landmarks = curves(seed, width, height, names)
    picture_file = folder / f"{stem}{suffix}"
    (write_png if suffix == ".png" else write_jpeg)(picture_file, picture(seed, width, height))
    annotation = folder / f"{stem}.json"
    annotation.write_text(json.dumps(labelme_json(landmarks, picture_file.name, width, height), indent=2))
    return TrueFrame(stem, patient, split, picture_file, annotation, width, height, landmarks)


def write_labelme(
    root: Path,
    *,
    patients: tuple[str, ...] = ("anna", "ben", "carl", "dora"),
    frames_per_patient: int = 2,
    **frame: Any,
) -> RawSet:
    """A set without a fault: `root/<patient>/<frame>.jpg` beside `<frame>.json`; nothing says splits."""
    frames = [
        write_frame(root / patient, patient, f"{patient}_{number}", 9000 + 50 * place + number, **frame)
        for place, patient in enumerate(patients)
        for number in range(frames_per_patient)
    ]
    return RawSet(root, frames)


def add_label(document: dict[str, Any], label: str, shape_type: str = "linestrip") -> None:
    """One more shape of that label, well inside of any frame."""
    document["shapes"].append(
        {"label": label, "points": [[4.0, 4.0], [20.0, 6.0], [30.0, 5.0]], "shape_type": shape_type}
    )
