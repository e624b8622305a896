"""L3D and L3D-2K: split folders of JPEG frames, labelme JSON and depth maps.

    RAW/{Train,Val,Test}/images/Patient_<n>_<frame>.jpg
                         labels/Patient_<n>_<frame>.json
                         depth_AdelaiDepth/Patient_<n>_<frame>.png

Folder names are met in any case, and `Val/Val` for `Val`; ridge is also spelt `rigde`. Curves are the points
of the JSON's lines, linestrips and polygons, as open polylines. See arXiv 2406.17858.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from .frame_plan import Found, RawFrame
from .raw_folders import (
    SPLIT_FOLDERS,
    by_stem,
    check_raw_folder,
    files_in,
    folders_named,
    pictures_in,
    relative,
    subfolders,
)
from .rows import L3dLabel

# The published splits; all other patients of L3D train.
PUBLISHED: dict[str, frozenset[int]] = {
    "test": frozenset({21, 31, 41, 51}),
    "validation": frozenset({18, 32, 40}),
}
_LAST_PATIENT = 62
_NAME = re.compile(r"patient_0*([0-9]+)_.+", re.IGNORECASE)
# Both are documented; other spellings are counted.
_SPELLINGS = {"Train", "Val", "Test", "train", "val", "test"}
_DEPTH_FOLDER = "depth_AdelaiDepth"


@dataclass(frozen=True)
class L3dOptions:
    """What to read.

    Attributes:
        edition: `l3d` checks the published splits, with `l3d-2k` folders decide.
        depth: Take depth maps along where they are.
    """

    edition: Literal["l3d", "l3d-2k"] = "l3d"
    depth: bool = True

    def __post_init__(self) -> None:
        if self.edition not in ("l3d", "l3d-2k"):
            raise ValueError(f"edition {self.edition!r} is unknown: choose l3d or l3d-2k")


def published_split(patient: int) -> str:
    """The split of a patient in L3D as published."""
    return next((split for split, patients in PUBLISHED.items() if patient in patients), "train")


def find_l3d(raw: Path, options: L3dOptions) -> Found:
    """Finds the frames of a raw L3D folder.

    Raises:
        OSError: no such folder.
        ValueError: no split folder in it; the line names the raw folder.
    """
    check_raw_folder(raw)
    found = Found(raw)
    folders = [folder for folder in subfolders(raw) if folder.name.casefold() in SPLIT_FOLDERS]
    if not folders:
        raise ValueError(f"{raw}: no split folder found, expected Train, Val and Test")
    for folder in folders:
        split = SPLIT_FOLDERS[folder.name.casefold()]
        found.tolerated["folder_case"] += folder.name not in _SPELLINGS
        nested = [inner for inner in subfolders(folder) if SPLIT_FOLDERS.get(inner.name.casefold()) == split]
        found.tolerated["nested_split_folder"] += len(nested)
        parts = [part for part in (folder, *nested) if folders_named(part, "images")]
        if not parts:
            raise ValueError(f"{folder}: no folder images in it")
        for part in parts:
            _find_frames(part, split, options, found)
    return found


def _find_frames(part: Path, split: str, options: L3dOptions, found: Found) -> None:
    pictures, labels, depths = [], [], []
    for folder in folders_named(part, "images"):
        files, others = pictures_in(folder)
        pictures += files
        found.tolerated["other_files"] += others
    for folder in folders_named(part, "labels"):
        files, others = files_in(folder, (".json",))
        labels += files
        found.tolerated["other_files"] += others
    if options.depth:
        for folder in folders_named(part, _DEPTH_FOLDER):
            depths += files_in(folder, (".png",))[0]
    found.pictures += len(pictures)
    stems, json_files, depth_maps = by_stem(pictures), by_stem(labels), by_stem(depths)
    for stem, files in stems.items():
        if len(files) > 1:
            for file in files:
                found.problem(file, f"{len(files)} pictures are called {stem}: which is the label's?")
            continue
        [picture] = files
        name = _NAME.fullmatch(stem)
        if not name:
            found.problem(picture, "is not called Patient_<number>_<frame>")
        elif stem not in json_files:
            found.problem(picture, f"has no label (labels/{stem}.json)")
        elif len(json_files[stem]) > 1:
            found.problem(picture, f"has {len(json_files[stem])} labels in folders of different case")
        elif fault := _split_fault(int(name[1]), split, options):
            found.problem(picture, fault)
        else:
            label = relative(found.raw, json_files[stem][0])
            found.frames.append(
                RawFrame(
                    frame_id=stem,
                    patient_id=f"Patient_{name[1]}",
                    split=split,
                    source=options.edition,
                    image=relative(found.raw, picture),
                    annotation=L3dLabel(label),
                    depth=relative(found.raw, depth_maps[stem][0]) if stem in depth_maps else None,
                )
            )
    for stem, files in json_files.items():
        if stem not in stems:
            for file in files:
                found.problem(file, f"has no frame (images/{stem}.jpg)")
    found.tolerated["depth_without_frame"] += len(depth_maps.keys() - stems.keys())
    if depth_maps:
        found.tolerated["frames_without_depth"] += len(stems.keys() - depth_maps.keys())


def _split_fault(patient: int, split: str, options: L3dOptions) -> str | None:
    if options.edition == "l3d-2k":
        return None
    if not 1 <= patient <= _LAST_PATIENT:
        return f"patient {patient} is none of L3D's 1 to {_LAST_PATIENT}: --edition l3d-2k takes any"
    published = published_split(patient)
    if published != split:
        return f"lies in {split}, but patient {patient} is in {published} as published"
    return None
