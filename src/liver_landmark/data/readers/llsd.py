"""LLSD, and any folders of frames with color masks.

    RAW/<split>/<patient>/images/<frame>.png          or RAW/<patient>/<split>/images, RAW/<patient>/images
                          masks_original/<frame>.png  strokes as drawn by hand
                          masks_gt/<frame>_convert.png  the same in exact colors: taken where both are

Which color is which landmark is never guessed: red is the ligament in `masks_original` and the ridge in
`masks_gt`. The folder's name or an explicit palette says it, else the masks are refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ...model.landmarks_liver_landmark import DEFAULT_LANDMARKS, LandmarkTable
from .frame_plan import Found, RawFrame, check_source
from .pictures import PALETTES, Palette, parse_palette
from .raw_folders import (
    PlaceError,
    by_stem,
    check_raw_folder,
    compile_patient_pattern,
    find_place,
    folders_below,
    folders_named,
    pictures_in,
    relative,
)
from .rows import ColorMask

# Exact colors before hand-drawn ones.
MASK_FOLDERS: tuple[str, ...] = ("masks_gt", "masks_original")
_SUFFIXES = ("", "_convert")


@dataclass(frozen=True)
class MaskOptions:
    """What to read.

    Attributes:
        frames: Name of the folders that hold frames.
        masks: Name of the folders that hold masks, beside those of the frames; None: `masks_gt` where it
            is, else `masks_original`.
        mask_suffix: What a mask's stem has behind its frame's; None: nothing or `_convert`.
        palette: Name or colors, see `parse_palette`; None: by the name of the masks' folder.
        patient_pattern: See `find_place`.
        source: The schema's `source`.
        landmarks: Names of the set's landmarks, in the order of their ids; others than the default ones need
            a palette that has their colors.
    """

    frames: str = "images"
    masks: str | None = None
    mask_suffix: str | None = None
    palette: str | None = None
    patient_pattern: str | None = None
    source: str = "llsd"
    landmarks: tuple[str, ...] = DEFAULT_LANDMARKS.names

    def __post_init__(self) -> None:
        check_source(self.source)
        try:
            table = self.table
        except ValueError as error:
            raise ValueError(f"--landmarks: {str(error).removeprefix('labels: ')}") from None
        if self.palette is not None:
            parse_palette(self.palette, table)
        elif self.landmarks != DEFAULT_LANDMARKS.names:
            colors = ",".join(f"{name}=#rrggbb" for name in self.landmarks)
            raise ValueError(f"--landmarks: give their colors, too: --palette {colors}")
        elif self.masks is not None and self.masks.casefold() not in MASK_FOLDERS:
            raise ValueError(
                f"what the colors of {self.masks!r} mean is unknown: give --palette, one of "
                f"{', '.join(PALETTES)} or ridge=#rrggbb,silhouette=#rrggbb,ligament=#rrggbb"
            )
        if self.masks == self.frames and not self.mask_suffix:
            raise ValueError("frames and masks in one folder are told apart by --mask-suffix: give it")
        if self.patient_pattern is not None:
            compile_patient_pattern(self.patient_pattern)

    @property
    def table(self) -> LandmarkTable:
        """The set's landmarks."""
        return LandmarkTable.from_names(self.landmarks)


def find_masks(raw: Path, options: MaskOptions) -> Found:
    """Finds the frames of a raw folder with color masks.

    Raises:
        OSError: no such folder.
        ValueError: no folder of frames in it; the line names the raw folder.
    """
    check_raw_folder(raw)
    found = Found(raw)
    parts = [folder for folder in folders_below(raw) if folders_named(folder, options.frames)]
    if not parts:
        raise ValueError(f"{raw}: no folder {options.frames!r} below it: --frames names another")
    for part in parts:
        _find_frames(part, options, found)
    return found


def _find_frames(part: Path, options: MaskOptions, found: Found) -> None:
    pictures: list[Path] = []
    for folder in folders_named(part, options.frames):
        files, others = pictures_in(folder)
        pictures += files
        found.tolerated["other_files"] += others
    folder_name, folders = _mask_folders(part, options)
    masks = [file for folder in folders for file in pictures_in(folder)[0]]
    suffixes = _SUFFIXES if options.mask_suffix is None else (options.mask_suffix,)
    if options.masks == options.frames:
        pictures = [file for file in pictures if not file.stem.endswith(suffixes)]
        masks = [file for file in masks if file.stem.endswith(suffixes)]
    found.pictures += len(pictures)
    stems, mask_files = by_stem(pictures), by_stem(masks)
    pattern = None if options.patient_pattern is None else compile_patient_pattern(options.patient_pattern)
    palette = _palette(folder_name, options)
    for stem, files in stems.items():
        candidates = [mask for suffix in suffixes for mask in mask_files.pop(stem + suffix, ())]
        for picture in files:
            if len(files) > 1:
                found.problem(picture, f"{len(files)} pictures are called {stem}: which is the mask's?")
            elif not candidates:
                found.problem(picture, f"has no mask ({folder_name}/{stem}.png)")
            elif len(candidates) > 1:
                found.problem(picture, f"has {len(candidates)} masks: which is meant?")
            else:
                _add(picture, candidates[0], palette, pattern, options, found)
    for files in mask_files.values():
        for file in files:
            found.problem(file, f"has no frame in {options.frames}")


def _mask_folders(part: Path, options: MaskOptions) -> tuple[str, list[Path]]:
    names = MASK_FOLDERS if options.masks is None else (options.masks,)
    for name in names:
        folders = folders_named(part, name)
        if folders:
            return name, folders
    return names[0], []


def _palette(folder_name: str, options: MaskOptions) -> Palette:
    return parse_palette(options.palette or folder_name.casefold(), options.table)


def _add(
    picture: Path, mask: Path, palette: Palette, pattern: object, options: MaskOptions, found: Found
) -> None:
    file = relative(found.raw, picture)
    try:
        place = find_place(file, pattern, frozenset({options.frames.casefold()}))
    except PlaceError as error:
        found.problem(picture, str(error))
        return
    found.frames.append(
        RawFrame(
            frame_id=place.name,
            patient_id=place.patient,
            split=place.split,
            source=options.source,
            image=file,
            annotation=ColorMask(relative(found.raw, mask), palette),
        )
    )
