"""LLSD: color masks, drawn by hand (`masks_original`) or recolored exactly (`masks_gt`)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from .pictures import picture, write_png
from .truth import NAMES, Landmarks, RawSet, TrueFrame, curves

# RGB, as each folder means them.
EXACT = {"ridge": (255, 0, 0), "silhouette": (0, 255, 0), "ligament": (0, 0, 255)}
ORIGINAL = {"ridge": (0, 0, 255), "silhouette": (255, 255, 255), "ligament": (255, 0, 0)}
P2ILF = {"ridge": (255, 0, 0), "silhouette": (255, 255, 0), "ligament": (0, 0, 255)}
STROKE_PX = 5
# Which folders stand between the set's root and `images`, in either order that is met, or patients alone.
LAYOUTS: dict[str, Callable[[str, str], str]] = {
    "split/patient": lambda split, patient: f"{split}/{patient}",
    "patient/split": lambda split, patient: f"{patient}/{split}",
    "patient": lambda split, patient: patient,
}
SPLITS = {"p1": "train", "p2": "train", "p3": "validation", "p4": "test"}


Colors = dict[str, tuple[int, int, int]]


def exact_mask(
    landmarks: Landmarks,
    width: int,
    height: int,
    colors: Colors,
    stroke_px: int = STROKE_PX,
    line: int = cv2.LINE_8,
) -> np.ndarray:
    """(height, width, 3) uint8: strokes on black, without anti-aliasing unless `line` says otherwise."""
    mask = np.zeros((height, width, 3), np.uint8)
    for landmark in landmarks:
        points = np.round(np.array(landmark["points"])).astype(np.int32)
        cv2.polylines(mask, [points], False, tuple(map(int, colors[landmark["category"]])), stroke_px, line)
    return mask


def hand_drawn_mask(landmarks: Landmarks, width: int, height: int, colors: Colors, seed: int) -> np.ndarray:
    """As a painting program saves it: anti-aliased edges, and ink that is not quite the pure color."""
    rng = np.random.default_rng([seed, 5])
    inks = {
        name: np.clip(np.array(color) + rng.integers(-18, 19, 3), 0, 255) for name, color in colors.items()
    }
    return exact_mask(landmarks, width, height, inks, line=cv2.LINE_AA)


def write_frame(
    root: Path,
    folder: str,
    patient: str,
    number: int,
    split: str | None,
    seed: int,
    *,
    width: int = 160,
    height: int = 90,
    names: tuple[str, ...] = NAMES,
    masks: tuple[str, ...] = ("masks_gt",),
    original_suffix: str = ".png",
) -> TrueFrame:
    """One frame with its mask in the folders named, `masks_gt` exact and `masks_original` by hand."""
    stem = f"{patient}_{number:03d}"
    landmarks = curves(seed, width, height, names)
    picture_file = root / folder / "images" / f"{stem}.png"
    write_png(picture_file, picture(seed, width, height))
    files = {
        "masks_gt": root / folder / "masks_gt" / f"{stem}_convert.png",
        "masks_original": root / folder / "masks_original" / f"{stem}{original_suffix}",
    }
    if "masks_gt" in masks:
        write_png(files["masks_gt"], exact_mask(landmarks, width, height, EXACT))
    if "masks_original" in masks:
        pixels = hand_drawn_mask(landmarks, width, height, ORIGINAL, seed)
        files["masks_original"].parent.mkdir(parents=True, exist_ok=True)
        # JPEG's default: strokes get halos and mixed colors, as in the masks that are met.
        Image.fromarray(pixels).save(files["masks_original"])
    written = {kind: files[kind] for kind in masks}
    return TrueFrame(
        stem, patient, split, picture_file, files[masks[0]], width, height, landmarks, others=written
    )


def write_llsd(
    root: Path,
    *,
    layout: str = "split/patient",
    splits: dict[str, str] = SPLITS,
    frames_per_patient: int = 1,
    **frame: Any,
) -> RawSet:
    """A set without a fault, in one of `LAYOUTS`; further options are `write_frame`'s."""
    frames = []
    for place, (patient, split) in enumerate(splits.items()):
        folder, told = LAYOUTS[layout](split, patient), split if "split" in layout else None
        for number in range(frames_per_patient):
            seed = 15000 + 50 * place + number
            frames.append(write_frame(root, folder, patient, number, told, seed, **frame))
    return RawSet(root, frames)
