"""A user's own frames, annotated with labelme or CVAT.

    RAW/<patient>/<frame>.jpg    with <frame>.json beside it (labelme), or annotations.xml (CVAT) above them

Split folders (train, val, test) may lie above or below the patients'; without them patients are drawn.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ...curves.exchange import LabelMap
from ...frame_files import SUFFIXES
from .claims import CVAT_FILE, claims_of_cvat, claims_of_labelme
from .files import check_raw_folder, files_below, relative
from .places import PlaceError, compile_patient_pattern, find_place
from .plan import Found, RawFrame, check_source


@dataclass(frozen=True)
class CustomOptions:
    """What to read.

    Attributes:
        format: `labelme`: a JSON file beside each picture; `cvat`: XML of "CVAT for images 1.1".
        label_map: JSON file, or entries LABEL=CLASS; see `LabelMap`.
        annotations: The XML file, in the raw folder; None: every `annotations.xml` below the raw folder.
        patient_pattern: See `find_place`.
        source: The schema's `source`.
    """

    format: Literal["labelme", "cvat"]
    label_map: tuple[str, ...] = ()
    annotations: Path | None = None
    patient_pattern: str | None = None
    source: str = "custom"

    def __post_init__(self) -> None:
        check_source(self.source)
        if self.format not in ("labelme", "cvat"):
            raise ValueError(f"format {self.format!r} is unknown: choose labelme or cvat")
        if self.annotations is not None and self.format != "cvat":
            raise ValueError("--annotations is CVAT's one file of all frames: leave it out for labelme")
        if self.patient_pattern is not None:
            compile_patient_pattern(self.patient_pattern)

    def labels(self) -> LabelMap:
        """Which label means which landmark.

        Raises:
            ValueError: an entry or a file that is no such map.
        """
        files = [entry for entry in self.label_map if entry.lower().endswith(".json")]
        if not files:
            return LabelMap.parse(self.label_map)
        if len(self.label_map) > 1:
            raise ValueError(f"--label-map {files[0]}: give one file, or entries LABEL=CLASS, and not both")
        return LabelMap.read(files[0])


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
        claims = claims_of_labelme(files, pictures, labels, found)
    else:
        claims = claims_of_cvat(_cvat_files(files, options), pictures, labels, found)
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
