"""One frame: analyzed once, drawn as often as somebody moves a switch, written as files on demand."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from liver_landmark.curves import NoisyMaskError, TracedPolyline
from liver_landmark.curves.formats import FrameAnnotation, check_names_fit, write_landmarks
from liver_landmark.inference.overlay import draw_heat_map, draw_overlay
from liver_landmark.inference.predictor import FramePrediction
from liver_landmark.model.landmarks_liver_landmark import LandmarkTable
from liver_landmark.utils.atomic_files import write_png
from liver_landmark.utils.frame_files import FrameError, FrameLimits, read_frame

# WebP, which pages are sent, ends at 16383 px; 4K screens hardly show more than this beside the controls.
_LONGEST_SHOWN_PX = 2048
NO_HEAT_MAP = "none"
AREAS, CURVES = "areas", "curves"
# Annotation format -> what its file is called after the frame's name.
CURVE_FILES = {
    "labelme": "labelme.json",
    "cvat": "cvat.xml",
    "p2ilf-json": "p2ilf.json",
    "p2ilf-xml": "p2ilf.xml",
    "svg": "svg",
}


@dataclass(frozen=True)
class View:
    """How a frame is drawn, as the controls say.

    Attributes:
        landmarks: Names of the landmarks that are drawn; None: all of the model.
        opacity: Of the areas, 0 to 1.
        shown: "areas", "curves", both or neither.
        heat_map: Name of the landmark whose probability is drawn below them, or "none".
    """

    landmarks: tuple[str, ...] | None = None
    opacity: float = 0.4
    shown: tuple[str, ...] = (AREAS,)
    heat_map: str = NO_HEAT_MAP

    def __post_init__(self) -> None:
        if not isinstance(self.opacity, int | float) or not 0 <= self.opacity <= 1:
            raise ValueError("opacity must lie between 0 and 1")
        if not set(self.shown) <= {AREAS, CURVES}:
            raise ValueError(f"what is shown must be among {AREAS}, {CURVES}")

    @classmethod
    def from_controls(
        cls, landmarks: Any, opacity: Any, shown: Any, heat_map: Any, table: LandmarkTable
    ) -> View:
        """The view that raw values of the controls name; a ValueError says which is none.

        Programs call the demo too: their values have not gone through its controls.

        Args:
            landmarks: A list of names.
            opacity: A number.
            shown: A list of names.
            heat_map: A name.
            table: The model's landmarks.
        """
        if not isinstance(landmarks, list) or not isinstance(shown, list):
            raise ValueError("landmarks and what is shown must be lists of names")
        chosen = tuple(map(str, landmarks))
        if not set(chosen) <= set(table.names):
            raise ValueError(f"landmarks must be among {', '.join(table.names)}")
        if heat_map not in (NO_HEAT_MAP, *table.names):
            raise ValueError(f"heat map must be {NO_HEAT_MAP} or one of {', '.join(table.names)}")
        return cls(chosen, opacity, tuple(map(str, shown)), str(heat_map))


@dataclass(frozen=True)
class Analysis:
    """A frame and what the model saw in it.

    Attributes:
        name: The upload's name without its suffix, as `safe_name` has it.
        file_name: The upload's name, likewise.
        frame: (H, W, 3) uint8 RGB.
        prediction: The model's.
        curves: The traced curves of all landmarks.
    """

    name: str
    file_name: str
    frame: np.ndarray
    prediction: FramePrediction
    curves: list[TracedPolyline]

    @property
    def size_bytes(self) -> int:
        """Memory of its pictures."""
        return self.frame.nbytes + self.prediction.mask.nbytes + self.prediction.logits.nbytes


def analyze_frame(
    path: str, predict: Callable[[np.ndarray], FramePrediction], limits: FrameLimits
) -> Analysis:
    """Reads an upload and asks the model; a FrameError's message is the reason without the file's name."""
    try:
        frame = read_frame(path, limits)
    except FrameError as error:
        raise FrameError(str(error).removeprefix(f"{path}: ")) from None
    prediction = predict(frame)
    file_name = safe_name(path)
    return Analysis(Path(file_name).stem, file_name, frame, prediction, curves_of(prediction))


def safe_name(path: str) -> str:
    """The file's name without what no XML, no other system's disk and no reader of the name can take.

    Gradio leaves such characters in: surrogates, U+FFFE, marks that turn the direction of writing.
    """
    return "".join(letter if letter.isprintable() else "_" for letter in Path(path).name)


def curves_of(prediction: FramePrediction) -> list[TracedPolyline]:
    """The curves; none of a mask that is noise, whose areas are shown all the same."""
    try:
        return prediction.curves()
    except NoisyMaskError:
        return []


def draw_view(analysis: Analysis, view: View, *, legend: bool = True) -> np.ndarray:
    """(H, W, 3) uint8 RGB: the frame with what the view asks for drawn over it."""
    prediction, frame = analysis.prediction, analysis.frame
    if view.heat_map != NO_HEAT_MAP:
        frame = draw_heat_map(frame, prediction.probability(view.heat_map))
    return draw_overlay(
        frame,
        prediction.mask if AREAS in view.shown else None,
        alpha=view.opacity,
        legend=legend and view.landmarks != () and bool(view.shown),
        landmarks=view.landmarks,
        curves=analysis.curves if CURVES in view.shown else None,
        table=prediction.landmarks,
    )


def for_display(picture: np.ndarray) -> np.ndarray:
    """The picture, made smaller where a page could not show all its pixels; downloads are of native size."""
    longest_px = max(picture.shape[:2])
    if longest_px <= _LONGEST_SHOWN_PX:
        return picture
    factor = _LONGEST_SHOWN_PX / longest_px
    size = [max(1, round(side * factor)) for side in picture.shape[1::-1]]
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA)


def findings(analysis: Analysis) -> list[dict[str, Any]]:
    """What was found, a dictionary for each landmark: lengths in px of the frame, the rest from 0 to 1."""
    prediction = analysis.prediction
    return [
        {
            "landmark": name,
            "present": name in prediction.present,
            "presence": round(prediction.presence[name], 4),
            "confidence": round(prediction.scores[name], 4),
            "length_px": round(sum(c.length_px for c in analysis.curves if c.category == name), 1),
        }
        for name in prediction.landmarks.names
    ]


def table_html(rows: Sequence[dict[str, Any]]) -> str:
    """`findings` as a table that screen readers and telephones manage."""
    heads = ("Landmark", "In frame?", "Presence", "Confidence", "Length")
    head = "".join(f'<th scope="col">{text}</th>' for text in heads)
    body = "".join(
        f'<tr><th scope="row">{row["landmark"]}</th><td>{"yes" if row["present"] else "no"}</td>'
        f"<td>{row['presence']:.1%}</td><td>{row['confidence']:.1%}</td>"
        f"<td>{row['length_px']:.0f} px</td></tr>"
        for row in rows
    )
    caption = (
        "Presence: probability that the landmark is in the frame. Confidence: mean probability over its "
        "pixels. Length: of its curves."
    )
    return f"<table><caption>{caption}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def summary(analysis: Analysis) -> str:
    """What was found, in a sentence or two."""
    prediction = analysis.prediction
    missing = [name for name in prediction.landmarks.names if name not in prediction.present]
    found = f"Found: {', '.join(prediction.present)}." if prediction.present else "No landmark found."
    height, width = prediction.mask.shape
    parts = [found]
    if missing and prediction.present:
        parts.append(f"Not in this frame: {', '.join(missing)}.")
    if not prediction.calibrated:
        parts.append("This model's probabilities are not calibrated.")
    parts.append(f"{width} × {height} px, {sum(prediction.milliseconds.values()):.0f} ms.")
    return " ".join(parts)


def write_downloads(analysis: Analysis, view: View, folder: Path) -> list[Path]:
    """Writes mask, overlay, curves and a zip of all of them; nothing of the upload's metadata is in them.

    Args:
        analysis: What is written; the mask and the curves are of all landmarks.
        view: How the overlay is drawn.
        folder: Where to; it has to be there.
    """
    name = analysis.name
    mask, overlay = folder / f"{name}_mask.png", folder / f"{name}_overlay.png"
    write_png(mask, analysis.prediction.mask)
    write_png(overlay, draw_view(analysis, view))
    files = [mask, overlay]
    annotation = annotate(analysis.file_name, analysis.prediction, analysis.curves)
    for format_name, ending in curve_files(analysis.prediction.landmarks).items():
        path = folder / f"{name}.{ending}"
        write_landmarks(path, [annotation], format_name)
        files.append(path)
    archive = folder / f"{name}_all.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as zipped:
        for path in files:
            zipped.write(path, path.name)
    return [*files, archive]


def curve_files(landmarks: LandmarkTable) -> dict[str, str]:
    """Those of `CURVE_FILES` whose format can hold all landmarks of the model: P2ILF's has three."""
    files = {}
    for format_name, ending in CURVE_FILES.items():
        try:
            check_names_fit(format_name, landmarks.names)
        except ValueError:
            continue
        files[format_name] = ending
    return files


def annotate(
    file_name: str, prediction: FramePrediction, curves: Sequence[TracedPolyline]
) -> FrameAnnotation:
    """A frame's curves as the exchange formats take them."""
    height, width = prediction.mask.shape
    landmarks = [
        {"category": curve.category, "points": [(float(x), float(y)) for x, y in curve.points]}
        for curve in curves
    ]
    return FrameAnnotation(file_name, width, height, landmarks, table=prediction.landmarks)


def mask_png(mask: np.ndarray) -> bytes:
    """(H, W) uint8 class ids as a PNG's bytes."""
    buffer = io.BytesIO()
    Image.fromarray(mask).save(buffer, format="PNG", compress_level=1)
    return buffer.getvalue()
