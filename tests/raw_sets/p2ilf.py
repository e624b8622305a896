"""P2ILF: contours as XML or as the challenge's JSON, a camera whose numbers are strings, a liver mesh."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .pictures import picture, write_jpeg
from .truth import NAMES, Landmarks, RawSet, TrueFrame, curves

# OpenCV's order is k1, k2, p1, p2, k3, k4.
CAMERA = {
    "projection": "frame",
    "fx": "9.5206967601396957e+02",
    "fy": "9.4106967601396957e+02",
    "cx": "8.8447392341747241e+02",
    "cy": "5.3568748726315528e+02",
    "skew": "0.0000000000000000e+00",
    "k1": "-2.3184898303739043e-01",
    "k2": "3.4051349187505525e-01",
    "k3": "-2.3860036358921605e-01",
    "k4": "0.0000000000000000e+00",
    "p1": "1.5000000000000000e-03",
    "p2": "-2.5000000000000000e-03",
}


def number(value: float) -> str:
    """5 as `5` and 5.25 as `5.25`: integers are what most files hold, floats what some do."""
    return str(int(value)) if value == int(value) else repr(value)


def contours_xml(landmarks: Landmarks) -> str:
    """The XML of one frame."""
    parts = ["<?xml version='1.0' encoding='utf-8'?>", "<contours>"]
    parts.append(f"\t<numOfContours>{len(landmarks)}</numOfContours>")
    for landmark in landmarks:
        x, y = (", ".join(map(number, values)) for values in zip(*landmark["points"], strict=True))
        parts += [
            "\t<contour>",
            f"\t\t<contourType>{landmark['category'].capitalize()}</contourType>",
            "\t\t<imagePoints>",
            f"\t\t\t<numOfPoints>{len(landmark['points'])}</numOfPoints>",
            f"\t\t\t<x>{x}</x>",
            f"\t\t\t<y>{y}</y>",
            "\t\t</imagePoints>",
            "\t\t<modelPoints>",
            "\t\t\t<numOfPoints>3</numOfPoints>",
            "\t\t\t<vertices>2709,2744,2774</vertices>",
            "\t\t</modelPoints>",
            "\t</contour>",
        ]
    return "\n".join([*parts, "</contours>"])


def contours_json(landmarks: Landmarks) -> str:
    """The challenge's own JSON of one frame."""
    contours = []
    for landmark in landmarks:
        x, y = (
            [int(value) if value == int(value) else value for value in values]
            for values in zip(*landmark["points"], strict=True)
        )
        contours.append({"contourType": landmark["category"].capitalize(), "imagePoints": {"x": x, "y": y}})
    return json.dumps({"numOfContours": len(landmarks), "contour": contours})


def camera_json(width: int, height: int) -> str:
    """The camera file for frames of that size."""
    return json.dumps(CAMERA | {"width": str(width), "height": str(height)})


def write_frame(
    folder: Path,
    patient: int,
    number: int,
    split: str | None,
    *,
    width: int = 64,
    height: int = 36,
    names: tuple[str, ...] = NAMES,
    annotations: tuple[str, ...] = ("xml",),
    contour_folder: str = "2D-3D_contours",
) -> TrueFrame:
    """Writes one frame into its patient's folder, with its contours as "xml", "json" or both."""
    stem = f"patient{patient}_{number}"
    seed = 5000 + 100 * patient + number
    landmarks = curves(seed, width, height, names)
    picture_file = folder / "images" / f"{stem}.jpg"
    write_jpeg(picture_file, picture(seed, width, height))
    (folder / contour_folder).mkdir(parents=True, exist_ok=True)
    texts = {"xml": (".xml", contours_xml), "json": ("_2D-contours.json", contours_json)}
    written = {}
    for kind in annotations:
        ending, text_of = texts[kind]
        written[kind] = folder / contour_folder / f"{stem}{ending}"
        written[kind].write_text(text_of(landmarks))
    first = written[annotations[0]]
    return TrueFrame(stem, str(patient), split, picture_file, first, width, height, landmarks, others=written)


def write_p2ilf(
    root: Path,
    *,
    patients: tuple[int, ...] = (1, 2, 3, 4),
    frames_per_patient: int = 2,
    camera: str | None = "patient",
    folders: dict[int, str] | None = None,
    **frame: Any,
) -> RawSet:
    """A set without a fault.

    Args:
        root: Folder to write into.
        patients: Their numbers.
        frames_per_patient: As it says.
        camera: "patient": a camera file in each patient's folder; "root": one for all; None: none.
        folders: Patient -> folder between root and the patient's, e.g. {1: "train", 2: "test"}; the
            folder's name is then the split. None: patients lie in root, and nothing decides the splits.
        frame: Options of `write_frame`.
    """
    frames = []
    for patient in patients:
        above = "" if folders is None else folders[patient]
        folder = root / above / f"patient{patient}"
        for number in range(1, frames_per_patient + 1):
            frames.append(write_frame(folder, patient, number, above or None, **frame))
        (folder / "liver.obj").write_text("v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n")
        if camera == "patient":
            (folder / "camera.json").write_text(camera_json(frames[-1].width, frames[-1].height))
    if camera == "root":
        (root / "camera.json").write_text(camera_json(frames[-1].width, frames[-1].height))
    return RawSet(root, frames)
