"""A user's own frames, annotated with labelme or CVAT, and which picture an annotation is of.

    RAW/<patient>/<frame>.jpg    with <frame>.json beside it (labelme), or annotations.xml (CVAT) above them

Split folders (train, val, test) may lie above or below the patients'; without them patients are drawn.
"""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Literal

from ...curves.formats import AnnotationError, LabelMap, parse_cvat, parse_labelme, read_annotation_bytes
from ...model.landmarks_liver_landmark import DEFAULT_LANDMARKS, LandmarkTable
from ...utils.frame_files import SUFFIXES
from .frame_plan import Found, RawFrame, check_source, problem_of
from .raw_folders import (
    PlaceError,
    check_raw_folder,
    compile_patient_pattern,
    files_below,
    find_place,
    relative,
)
from .rows import ParsedAnnotation

CVAT_FILE = "annotations.xml"


@dataclass(frozen=True)
class CustomOptions:
    """What to read.

    Attributes:
        format: `labelme`: a JSON file beside each picture; `cvat`: XML of "CVAT for images 1.1".
        label_map: JSON file, or entries LABEL=CLASS; see `LabelMap`.
        landmarks: Names of the set's landmarks, in the order of their ids.
        annotations: The XML file, in the raw folder; None: every `annotations.xml` below the raw folder.
        patient_pattern: See `find_place`.
        source: The schema's `source`.
    """

    format: Literal["labelme", "cvat"]
    label_map: tuple[str, ...] = ()
    annotations: Path | None = None
    patient_pattern: str | None = None
    source: str = "custom"
    landmarks: tuple[str, ...] = DEFAULT_LANDMARKS.names

    def __post_init__(self) -> None:
        check_source(self.source)
        try:
            _ = self.table
        except ValueError as error:
            raise ValueError(f"--landmarks: {str(error).removeprefix('labels: ')}") from None
        if self.format not in ("labelme", "cvat"):
            raise ValueError(f"format {self.format!r} is unknown: choose labelme or cvat")
        if self.annotations is not None and self.format != "cvat":
            raise ValueError("--annotations is CVAT's one file of all frames: leave it out for labelme")
        if self.patient_pattern is not None:
            compile_patient_pattern(self.patient_pattern)

    @property
    def table(self) -> LandmarkTable:
        """The set's landmarks."""
        return LandmarkTable.from_names(self.landmarks)

    def labels(self) -> LabelMap:
        """Which label means which landmark.

        Raises:
            ValueError: an entry or a file that is no such map.
        """
        files = [entry for entry in self.label_map if entry.lower().endswith(".json")]
        if not files:
            return LabelMap.parse(self.label_map, self.table)
        if len(self.label_map) > 1:
            raise ValueError(f"--label-map {files[0]}: give one file, or entries LABEL=CLASS, and not both")
        return LabelMap.read(files[0], self.table)


def find_custom(raw: Path, options: CustomOptions) -> Found:
    """Finds the frames of a raw folder of one's own.

    Raises:
        OSError: no such folder or no such annotation file.
        ValueError: a label map or an annotation file that cannot be read, or none at all.
    """
    check_raw_folder(raw)
    found, labels = Found(raw), options.labels()
    files = files_below(raw)
    pictures = {relative(raw, file): file for file in files if file.suffix.lower() in SUFFIXES}
    found.pictures = len(pictures)
    if options.format == "labelme":
        claims = _claims_of_labelme(files, pictures, labels, found)
    else:
        claims = _claims_of_cvat(_cvat_files(files, options), pictures, labels, found)
    pattern = None if options.patient_pattern is None else compile_patient_pattern(options.patient_pattern)
    for file, picture in pictures.items():
        sources = claims.sources[file]
        if len(sources) > 1:
            names = ", ".join(name for source in sources for name in source.files)
            found.problem(picture, f"has {len(sources)} annotations ({names}): which is meant?")
        elif not sources and file not in claims.broken:
            found.problem(picture, "has no annotation")
        elif sources:
            try:
                place = find_place(file, pattern)
            except PlaceError as error:
                found.problem(picture, str(error))
                continue
            found.frames.append(
                RawFrame(place.name, place.patient, place.split, options.source, file, sources[0])
            )
    return found


def _cvat_files(files: Iterable[Path], options: CustomOptions) -> list[Path]:
    if options.annotations is not None:
        return [options.annotations]
    return [file for file in files if file.name.casefold() == CVAT_FILE]


# Which picture of a folder an annotation is of: by the name that it gives, and where it lies.


@dataclass
class _Claims:
    """Attributes:
    sources: Picture, by its path below the raw folder -> annotations that are of it.
    broken: Pictures whose annotation cannot be read, which is noted as a problem of the annotation.
    """

    sources: dict[str, list[ParsedAnnotation]] = field(default_factory=lambda: defaultdict(list))
    broken: set[str] = field(default_factory=set)


def _claims_of_labelme(
    files: Iterable[Path], pictures: Mapping[str, Path], labels: LabelMap, found: Found
) -> _Claims:
    """Each JSON file belongs to the picture beside it that `imagePath` names, else to the one of its stem."""
    claims = _Claims()
    stems: dict[Path, list[str]] = defaultdict(list)
    for name, picture in pictures.items():
        stems[picture.with_suffix("")].append(name)
    for path in files:
        if path.suffix.lower() != ".json":
            continue
        file = relative(found.raw, path)
        candidates = stems.get(path.with_suffix(""), [])
        try:
            annotation = parse_labelme(_read(path, file, found), file, labels)
        except AnnotationError as error:
            found.problems.append(problem_of(file, error, path))
            claims.broken.update(candidates)
            continue
        if annotation.file_name is not None:
            # labelme on Windows writes its own separators.
            named = PureWindowsPath(annotation.file_name).name
            beside = (PurePosixPath(file).parent / named).as_posix()
            if beside in pictures:
                candidates = [beside]
        if len(candidates) == 1:
            claims.sources[candidates[0]].append(ParsedAnnotation.compact(file, annotation))
        elif candidates:
            found.problem(path, f"{len(candidates)} pictures are called {path.stem}: which is meant?")
            claims.broken.update(candidates)
        else:
            found.problem(path, "has no picture beside it")
    return claims


def _claims_of_cvat(
    files: Iterable[Path], pictures: Mapping[str, Path], labels: LabelMap, found: Found
) -> _Claims:
    """Each image of the XML is the picture of that path below the XML's folder, else of that file name.

    Raises:
        ValueError: no XML file, one that cannot be read as a whole, or one that lies elsewhere.
    """
    claims, files = _Claims(), list(files)
    if not files:
        raise ValueError(f"{found.raw}: no {CVAT_FILE} below it: --annotations names the file")
    for path in files:
        # Not resolved: what a link stands for may lie elsewhere.
        absolute, raw = Path(os.path.abspath(path)), Path(os.path.abspath(found.raw))
        if not absolute.is_relative_to(raw):
            raise ValueError(f"{path}: lies outside of {found.raw}: put it beside the pictures")
        file = relative(raw, absolute)
        try:
            images = parse_cvat(_read(path, file, found), file, labels)
        except AnnotationError as error:
            # Nothing is known of any frame without it.
            raise ValueError(f"{path}: {error.reason}") from error
        folder = PurePosixPath(file).parent
        names = _names_below(folder, pictures)
        for image in images:
            broken = isinstance(image, AnnotationError)
            candidates = _candidates(folder, image.file_name, pictures, names)
            if broken:
                found.problems.append(problem_of(file, image, path))
                claims.broken.update(candidates)
            elif len(candidates) == 1:
                found.tolerated["frames_without_landmarks"] += not image.landmarks
                claims.sources[candidates[0]].append(ParsedAnnotation.compact(file, image))
            else:
                what = "no picture is" if not candidates else f"{len(candidates)} pictures are"
                found.problem(path, f"image {image.file_name!r}: {what} called so below {folder}")
                claims.broken.update(candidates)
    return claims


def _read(path: Path, file: str, found: Found) -> bytes:
    """An annotation file's bytes, whose digest tells later whether it was changed since."""
    data = read_annotation_bytes(path)
    found.inputs[file] = hashlib.sha256(data).hexdigest()
    return data


def _names_below(folder: PurePosixPath, pictures: Mapping[str, Path]) -> dict[str, list[str]]:
    """File name -> the pictures below a folder that bear it."""
    names: dict[str, list[str]] = defaultdict(list)
    for picture in map(PurePosixPath, pictures):
        if picture.is_relative_to(folder):
            names[picture.name].append(picture.as_posix())
    return names


def _candidates(
    folder: PurePosixPath, name: str | None, pictures: Mapping[str, Path], names: Mapping[str, list[str]]
) -> list[str]:
    """The pictures that an image's name may mean; looked up, so that no name leads out of the folder."""
    if name is None:
        return []
    path = PurePosixPath(name.replace("\\", "/"))
    # CVAT's own export puts the pictures into a folder of this name.
    for place in (folder / path, folder / "images" / path):
        if place.as_posix() in pictures:
            return [place.as_posix()]
    return names.get(path.name, [])
