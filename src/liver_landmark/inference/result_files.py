"""The files that a prediction writes: what they are called, how they are written, which are leftovers.

    picture                                       frame 12 of a video
    <name>_mask.png                               <name>_mask/000012.png            class ids, mode L
    <name>_overlay.png                            in <name>_overlay.mp4
    <name>_probability_<landmark>.png             <name>_probability_<landmark>/000012.png     16 bit, 65535
    is 1 <name>_variance.png                           <name>_variance/000012.png        16 bit, 65535 is 1
    <name>_labelme.json                           <name>_labelme/000012.json
    <name>_p2ilf.json, <name>_p2ilf.xml           <name>_p2ilf/000012.json, .xml
    <name>_svg.svg                                <name>_svg/000012.svg

All at the frame's own size. CVAT wants one file for many frames: `cvat.xml` of the whole run.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from ..curves import NoisyMaskError, TracedPolyline
from ..curves.formats import FrameAnnotation, write_landmarks
from ..model.landmarks_liver_landmark import DEFAULT_LANDMARKS, LandmarkTable
from ..utils.atomic_files import atomic_path, is_held, partial_target, write_png
from .frame_sources import FrameKey, PredictionOptions, Source
from .overlay import draw_overlay
from .predictor import FailedFrame, SeenFrame

# ----------------------------------------------------------------------------------------------------
# The files of one frame, and its line of predictions.jsonl.

# A curve format of the command line -> files: format of `write_landmarks`, suffix.
_CURVE_FILES = {
    "labelme": (("labelme", ".json"),),
    "p2ilf": (("p2ilf-json", ".json"), ("p2ilf-xml", ".xml")),
    "svg": (("svg", ".svg"),),
}
# A frame of a video, in one of its folders.
FRAME_FILE = re.compile(r"\d{6,}\.(png|json|xml|svg)")
_PLANES = (*(f"probability_{landmark}" for landmark in DEFAULT_LANDMARKS.names), "variance")
# Without a filter, runs of equal ids stay runs: a third of the time and of the bytes.
_MASK_PNG = [cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_NONE]
_MASK_PNG += [cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE]


@dataclass(frozen=True)
class WrittenFrame:
    """A frame whose files are written.

    Attributes:
        key: Which one.
        row: Its line of predictions.jsonl.
        overlay: (H, W, 3) uint8 RGB for the video's overlay, or None.
        smoother_state: `SeenFrame.smoother_state`.
    """

    key: FrameKey
    row: dict[str, Any]
    overlay: np.ndarray | None
    smoother_state: dict[str, np.ndarray] | None


class PartNames:
    """What the files of a run, or of one of several that share the inputs, are called."""

    def __init__(self, options: PredictionOptions) -> None:
        part = f"{options.part_id}-of-{options.num_parts}"
        alone = options.num_parts == 1
        self.work = ".unfinished" if alone else f".unfinished-{part}"
        self._works_beside = f".unfinished-*-of-{options.num_parts}"
        self.predictions = "predictions.jsonl" if alone else f"predictions-{part}.jsonl"
        self.run = "run.json" if alone else f"run-{part}.json"

    def meets_others(self, output: Path) -> bool:
        """Whether runs are at work in the output that are neither this one nor parts of the same split.

        They write files of the same names.
        """
        works = set(output.glob(".unfinished*")) - {output / self.work, *output.glob(self._works_beside)}
        return any(is_held(work) for work in works)


def result_folders(name: str) -> list[str]:
    """The folders that a video's results may be in."""
    return [f"{name}_{kind}" for kind in ("mask", *_CURVE_FILES, *_PLANES)]


def result_files(name: str) -> list[str]:
    """The files that a picture's results may be."""
    suffixes = {kind: [suffix for _, suffix in files] for kind, files in _CURVE_FILES.items()}
    kinds = ["mask", "overlay", *suffixes, *_PLANES]
    return [f"{name}_{kind}{suffix}" for kind in kinds for suffix in suffixes.get(kind, [".png"])]


def result_file(output: Path, key: FrameKey, kind: str, suffix: str) -> Path:
    """Where one result of a frame goes; a video's folder is made."""
    if key.index is None:
        return output / f"{key.source.name}_{kind}{suffix}"
    folder = output / f"{key.source.name}_{kind}"
    folder.mkdir(exist_ok=True)
    return folder / f"{key.index:06d}{suffix}"


def write_frame(output: Path, seen: SeenFrame, options: PredictionOptions) -> WrittenFrame | FailedFrame:
    """Writes one frame's files.

    Returns:
        What was written, or, where it cannot be, the reason.
    """
    try:
        return _write_frame(output, seen, options)
    # ValueError: what an exchange format cannot hold.
    except (OSError, ValueError) as error:
        return FailedFrame(seen.job, f"{seen.job.name}: its result cannot be written: {error}")


def _write_frame(output: Path, seen: SeenFrame, options: PredictionOptions) -> WrittenFrame:
    key, prediction = seen.job.key, seen.prediction
    row: dict[str, Any] = {"file": str(key.source.file)}
    if key.index is not None:
        row |= {"frame": key.index, "time_s": key.time_s}
    pixels = prediction.pixel_counts
    row |= {
        "width": seen.frame.shape[1],
        "height": seen.frame.shape[0],
        "present": list(prediction.present),
        "presence": _rounded(prediction.presence),
        "calibrated": prediction.calibrated,
        "scores": _rounded(prediction.scores),
        "pixels": pixels,
        "stroke_pixels": sum(pixels.values()),
    }
    milliseconds = dict(prediction.milliseconds)

    start = time.perf_counter()
    if options.curves:
        try:
            row["curves"] = [_curve_row(curve) for curve in prediction.curves()]
        except NoisyMaskError as error:
            # One bad frame is no reason to end a video: its mask is what the model says.
            row |= {"curves": [], "curves_refused": str(error)}
        milliseconds["curves"] = (time.perf_counter() - start) * 1e3
    start = time.perf_counter()
    overlay = None
    if options.overlay:
        overlay = draw_overlay(seen.frame, prediction.mask, legend=options.legend, table=prediction.landmarks)
        milliseconds["draw"] = (time.perf_counter() - start) * 1e3
    start = time.perf_counter()
    _write_curves(output, key, row, options, prediction.landmarks)
    if options.save_probabilities:
        row |= _write_probabilities(output, seen)
    if overlay is not None and key.index is None:
        path = result_file(output, key, "overlay", ".png")
        write_png(path, overlay)
        row["overlay"] = path.name
    # The mask last: where a mask is, the rest is too.
    path = result_file(output, key, "mask", ".png")
    write_mask(path, prediction.mask)
    row["mask"] = path.relative_to(output).as_posix()
    milliseconds["write"] = (time.perf_counter() - start) * 1e3
    row["milliseconds"] = {stage: round(value, 3) for stage, value in milliseconds.items()}
    return WrittenFrame(key, row, overlay if key.index is not None else None, seen.smoother_state)


def row_line(row: dict[str, Any]) -> str:
    """A row as a line of predictions.jsonl; file names that are no UTF-8 are escaped."""
    return json.dumps(row, allow_nan=False) + "\n"


def write_mask(path: Path, mask: np.ndarray) -> None:
    """Writes (H, W) uint8 class ids as a PNG of mode L."""
    done, encoded = cv2.imencode(".png", mask, _MASK_PNG)
    if not done:
        raise OSError(f"{path}: cannot be encoded as PNG")
    with atomic_path(path) as temporary:
        temporary.write_bytes(encoded.data)


def frame_annotation(
    row: dict[str, Any], file_name: str, landmarks: LandmarkTable | None = None
) -> FrameAnnotation:
    """The curves of a line of predictions.jsonl as an annotation of a picture of that name.

    The line names the model's landmarks, in their order; colors come from `landmarks` alone.
    """
    table = LandmarkTable.from_names(list(row["presence"])) if landmarks is None else landmarks
    curves = [{"category": curve["category"], "points": curve["points"]} for curve in row["curves"]]
    return FrameAnnotation(file_name, row["width"], row["height"], curves, table=table)


def _write_curves(
    output: Path,
    key: FrameKey,
    row: dict[str, Any],
    options: PredictionOptions,
    landmarks: LandmarkTable,
) -> None:
    picture = key.source.file.name if key.index is None else f"{key.source.name}_{key.index:06d}.png"
    for kind in options.curves:
        for format, suffix in _CURVE_FILES.get(kind, ()):
            path = result_file(output, key, kind, suffix)
            write_landmarks(path, [frame_annotation(row, picture, landmarks)], format)


def _curve_row(curve: TracedPolyline) -> dict[str, Any]:
    return {
        "category": curve.category,
        "length_px": round(curve.length_px, 2),
        "stroke_width_px": round(curve.stroke_width_px, 2),
        "points": np.round(curve.points.astype(np.float64), 2).tolist(),
    }


def _write_probabilities(output: Path, seen: SeenFrame) -> dict[str, Any]:
    key, planes = seen.job.key, {}
    probabilities = seen.prediction.probabilities()
    for landmark in seen.prediction.landmarks.landmarks:
        planes[f"probability_{landmark.name}"] = probabilities[landmark.id]
    variance = seen.prediction.variance_map()
    if variance is not None:
        planes["variance"] = variance
    files = {}
    for kind, plane in planes.items():
        path = result_file(output, key, kind, ".png")
        scaled = np.rint(np.clip(plane, 0, 1) * 65535).astype(np.uint16)
        with atomic_path(path) as temporary:
            Image.fromarray(scaled).save(temporary, format="PNG", compress_level=1)
        files[kind] = path.relative_to(output).as_posix()
    return {"probabilities": files}


def _rounded(values: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 6) for name, value in values.items()}


# ----------------------------------------------------------------------------------------------------
# What runs that were killed left half-written among the results of the run that comes after them.


def remove_leftovers(output: Path, sources: Sequence[Source], options: PredictionOptions) -> None:
    """Removes temporary files of this run's own results: other parts of it may be writing theirs just now.

    To be called while the run's journal is open, so that no other run writes the same.

    Args:
        output: Folder of the results.
        sources: The run's inputs.
        options: The run's.
    """
    names = PartNames(options)
    results = {names.predictions, names.run}
    if options.num_parts == 1:
        results.add("cvat.xml")
    for source in sources:
        if source.kind == "picture":
            results.update(result_files(source.name))
            continue
        results.add(f"{source.name}_overlay.mp4")
        for folder in result_folders(source.name):
            for path in _entries(output / folder):
                if FRAME_FILE.fullmatch(partial_target(path.name) or ""):
                    path.unlink()
    for path in _entries(output):
        if partial_target(path.name) in results:
            path.unlink()


def _entries(folder: Path) -> list[Path]:
    """The files of a folder; none where there is no such folder."""
    try:
        with os.scandir(folder) as entries:
            return [Path(entry.path) for entry in entries if entry.is_file(follow_symlinks=False)]
    # A name that is too long, for instance: whoever writes there will say so.
    except OSError:
        return []
