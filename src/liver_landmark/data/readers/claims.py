"""Which picture of a folder an annotation is of: by the name that it gives, and where it lies."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath, PureWindowsPath

from ...curves.exchange import AnnotationError, LabelMap, parse_cvat, parse_labelme, read_annotation_bytes
from .files import relative
from .plan import AnnotationSource, Found, problem_of
from .sources import CvatImage, LabelmeFile

CVAT_FILE = "annotations.xml"


@dataclass
class Claims:
    """Attributes:
    sources: Picture, by its path below the raw folder -> annotations that are of it.
    broken: Pictures whose annotation cannot be read, which is noted as a problem of the annotation.
    """

    sources: dict[str, list[AnnotationSource]] = field(default_factory=lambda: defaultdict(list))
    broken: set[str] = field(default_factory=set)


def claims_of_labelme(
    files: Iterable[Path], pictures: Mapping[str, Path], labels: LabelMap, found: Found
) -> Claims:
    """Each JSON file belongs to the picture beside it that `imagePath` names, else to the one of its stem."""
    claims = Claims()
    stems: dict[Path, list[str]] = defaultdict(list)
    for name, picture in pictures.items():
        stems[picture.with_suffix("")].append(name)
    for path in files:
        if path.suffix.lower() != ".json":
            continue
        file = relative(found.raw, path)
        candidates = stems.get(path.with_suffix(""), [])
        try:
            annotation = parse_labelme(read_annotation_bytes(path), file, labels)
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
            claims.sources[candidates[0]].append(LabelmeFile(file, labels, "refuse"))
        elif candidates:
            found.problem(path, f"{len(candidates)} pictures are called {path.stem}: which is meant?")
            claims.broken.update(candidates)
        else:
            found.problem(path, "has no picture beside it")
    return claims


def claims_of_cvat(
    files: Iterable[Path], pictures: Mapping[str, Path], labels: LabelMap, found: Found
) -> Claims:
    """Each image of the XML is the picture of that path below the XML's folder, else of that file name.

    Raises:
        ValueError: no XML file, one that cannot be read as a whole, or one that lies elsewhere.
    """
    claims, files = Claims(), list(files)
    if not files:
        raise ValueError(f"{found.raw}: no {CVAT_FILE} below it: --annotations names the file")
    for path in files:
        # Not resolved: what a link stands for may lie elsewhere.
        absolute, raw = Path(os.path.abspath(path)), Path(os.path.abspath(found.raw))
        if not absolute.is_relative_to(raw):
            raise ValueError(f"{path}: lies outside of {found.raw}: put it beside the pictures")
        file = relative(raw, absolute)
        try:
            images = parse_cvat(read_annotation_bytes(path), file, labels)
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
                claims.sources[candidates[0]].append(CvatImage(file, image))
            else:
                what = "no picture is" if not candidates else f"{len(candidates)} pictures are"
                found.problem(path, f"image {image.file_name!r}: {what} called so below {folder}")
                claims.broken.update(candidates)
    return claims


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
