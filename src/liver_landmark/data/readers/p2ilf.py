"""P2ILF: a folder a patient, contours as XML or the challenge's JSON, and cameras.

    RAW/patient<n>/images/<frame>.jpg
                   2D-3D_contours/<frame>.xml      or 2D_contours, and <frame>.json, <frame>_2D-contours.json
                   <camera>.json                   of the patient, or one in RAW itself for all

The patient folders may also lie in `train…` and `test…` folders, which then decide the splits. Mask pictures
`<frame>_GT.jpg` beside a frame are no frames. See Ali et al., Medical Image Analysis 99 (2025) 103371.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from pathlib import Path
from typing import Any

from ...curves.formats import AnnotationError, read_annotation_bytes
from ...curves.formats.annotation import parse_json
from .frame_plan import Camera, Found, Problem, ProblemError, RawFrame, problem_of
from .raw_folders import by_stem, check_raw_folder, files_in, folders_named, pictures_in, relative, subfolders
from .rows import P2ilfFiles

_PATIENT = re.compile(r"patient[ _]?0*([0-9]+)", re.IGNORECASE)
_SPLIT = re.compile(r"(train|val|test).*", re.IGNORECASE)
_SPLIT_NAMES = {"train": "train", "val": "validation", "test": "test"}
_CONTOUR_FOLDERS = ("2D-3D_contours", "2D_contours")
_CONTOURS = re.compile(r"(.+?)(?:_2D-contours)?\.(xml|json)", re.IGNORECASE)
_CAMERA = re.compile("cam|calib", re.IGNORECASE)
_MASK = "_gt"
# OpenCV's order; its five coefficients are the first five.
DISTORTION: tuple[str, ...] = ("k1", "k2", "p1", "p2", "k3", "k4")


def find_p2ilf(raw: Path) -> Found:
    """Finds the frames of a raw P2ILF folder.

    Raises:
        OSError: no such folder.
        ValueError: no patient folder in it; the line names the raw folder.
    """
    check_raw_folder(raw)
    found = Found(raw)
    patients: list[tuple[Path, str | None]] = []
    for folder in subfolders(raw):
        if _PATIENT.fullmatch(folder.name):
            patients.append((folder, None))
        elif match := _SPLIT.fullmatch(folder.name):
            split = _SPLIT_NAMES[match[1].lower()]
            patients += [(inner, split) for inner in subfolders(folder) if _PATIENT.fullmatch(inner.name)]
    if not patients:
        raise ValueError(f"{raw}: no folder patient<number> found in it or in its train and test folders")
    cameras: dict[str, Camera | Problem] = {}
    for folder, split in patients:
        _find_frames(folder, split, _camera(folder, raw, cameras), found)
    return found


def _find_frames(folder: Path, split: str | None, camera: Camera | Problem | None, found: Found) -> None:
    patient = f"patient{_PATIENT.fullmatch(folder.name)[1]}"
    pictures: list[Path] = []
    for part in folders_named(folder, "images"):
        files, others = pictures_in(part)
        found.tolerated["other_files"] += others
        frames = {file.stem.casefold() for file in files}
        masks = {file for file in files if _is_mask(file.stem.casefold(), frames)}
        found.tolerated["mask_pictures"] += len(masks)
        pictures += [file for file in files if file not in masks]
    contours: dict[str, list[Path]] = defaultdict(list)
    for part in folders_named(folder, *_CONTOUR_FOLDERS):
        # XML first: of files that agree it may hold the finer numbers.
        for suffix in (".xml", ".json"):
            for file in files_in(part, (suffix,))[0]:
                contours[_CONTOURS.fullmatch(file.name)[1]].append(file)
    found.pictures += len(pictures)
    stems = by_stem(pictures)
    for stem, files in stems.items():
        for picture in files:
            if len(files) > 1:
                found.problem(picture, f"{len(files)} pictures are called {stem}: which are the contours'?")
            elif stem not in contours:
                found.problem(picture, f"has no contours ({_CONTOUR_FOLDERS[0]}/{stem}.xml or .json)")
            elif isinstance(camera, Problem):
                found.problem(picture, f"left out for its camera, {camera}")
            else:
                found.frames.append(
                    RawFrame(
                        frame_id=stem if stem.casefold().startswith(patient) else f"{patient}_{stem}",
                        patient_id=patient,
                        split=split,
                        source="p2ilf",
                        image=relative(found.raw, picture),
                        annotation=P2ilfFiles(tuple(relative(found.raw, file) for file in contours[stem])),
                        camera=camera,
                    )
                )
    for stem, files in contours.items():
        if stem not in stems:
            for file in files:
                found.problem(file, f"has no frame (images/{stem}.jpg)")


def _is_mask(stem: str, frames: set[str]) -> bool:
    return stem.endswith(_MASK) and stem.removesuffix(_MASK) in frames


def _camera(folder: Path, raw: Path, read: dict[str, Camera | Problem]) -> Camera | Problem | None:
    """The camera of a patient, from the nearest folder that holds one; `read` keeps what was read."""
    for place in (folder, *folder.parents):
        files = files_in(place, (".json",))[0]
        named = [file for file in files if _CAMERA.search(file.stem)]
        # Above the patients' folders other files may lie, too.
        files = named or (files if place == folder else [])
        if len(files) > 1:
            return Problem(relative(raw, files[0]), f"one of {len(files)} camera files: which is meant?")
        if files:
            file = relative(raw, files[0])
            if file not in read:
                try:
                    read[file] = read_camera(raw, file)
                except ProblemError as error:
                    read[file] = error.problem
            return read[file]
        if place == raw:
            break
    return None


def read_camera(raw: Path, file: str) -> Camera:
    """Reads a camera file: fx, fy, cx, cy, k1 to k4, p1, p2, width, height as numbers or as strings.

    Raises:
        ProblemError: it cannot be read, or the schema cannot hold it.
    """
    try:
        content = parse_json(read_annotation_bytes(raw / file), file)
    except AnnotationError as error:
        raise ProblemError(problem_of(file, error, raw / file)) from error
    if not isinstance(content, dict):
        raise ProblemError(Problem(file, "no JSON object with fx, fy, cx and cy"))
    focal = {key: _number(content, key, file) for key in ("fx", "fy", "cx", "cy")}
    for key in ("fx", "fy"):
        if focal[key] <= 0:
            raise ProblemError(Problem(file, f"{key} is {focal[key]:g} px, expected more than 0"))
    if _number(content, "skew", file, 0.0):
        raise ProblemError(Problem(file, "skew is not 0, which a data set's camera cannot say"))
    distortion = [_number(content, key, file, 0.0) for key in DISTORTION]
    sides = {key: _number(content, key, file) if key in content else None for key in ("width", "height")}
    for key, side in sides.items():
        if side is not None and (side < 1 or side != int(side)):
            raise ProblemError(Problem(file, f"{key} is {side:g}, expected a number of px"))
    width, height = (None if side is None else int(side) for side in sides.values())
    return Camera(file, {**focal, "k": distortion}, width, height)


def _number(content: dict[str, Any], key: str, file: str, default: float | None = None) -> float:
    value = content.get(key, default)
    try:
        number = float(value) if isinstance(value, (int, float, str)) else math.nan
    except (ValueError, OverflowError):
        number = math.nan
    if isinstance(value, bool) or not math.isfinite(number) or abs(number) > 2**24:
        raise ProblemError(Problem(file, f"{key} is missing or no usable number"))
    return number
