"""What an evaluation leaves on disk.

<output>/metrics.json    the numbers, what each one is, and what was evaluated
<output>/frames.csv      one row for each frame
<output>/overlays/       best, median and worst frames by pooled DSC: prediction left, truth right
"""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import datasets
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ..curves import resize_mask
from ..inference.overlay import draw_overlay
from ..model.landmarks_liver_landmark import LandmarkTable
from ..utils.atomic_files import write_json, write_png
from .evaluate import Evaluation
from .metrics import MaskPair

# Wide enough to judge a stroke by eye, whatever the frame's size; 4K frames are shrunk to it.
_PANEL_WIDTH_PX = 960
_TITLE_HEIGHT_PX = 36
_FONT_PX = 20


class MaskStore:
    """Keeps every frame's masks, compressed, until the frames to show are known.

    Pass it to `evaluate_model` as `on_frame`. Masks of strokes compress to a few kB.
    """

    def __init__(self) -> None:
        self._pairs: list[tuple[bytes, bytes, LandmarkTable]] = []

    def __call__(self, index: int, frame: Mapping[str, Any], pair: MaskPair) -> None:
        self._pairs.append((_as_png(pair.truth), _as_png(pair.prediction), pair.landmarks))

    def __getitem__(self, index: int) -> MaskPair:
        truth, prediction, landmarks = self._pairs[index]
        return MaskPair(_from_png(truth), _from_png(prediction), landmarks)


def _as_png(mask: np.ndarray) -> bytes:
    _, data = cv2.imencode(".png", mask, [cv2.IMWRITE_PNG_COMPRESSION, 1])
    return data.tobytes()


def _from_png(data: bytes) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)


def select_examples(frames: Sequence[Mapping[str, Any]], count: int = 3) -> dict[str, list[int]]:
    """Indices of the frames to show: `best`, `median` and `worst` by pooled DSC, no frame twice.

    With fewer than 3 * count frames, the worst are filled first, then the best.
    """
    order = sorted(range(len(frames)), key=lambda index: (frames[index]["dsc"], index))
    worst = order[:count]
    best = order[max(len(worst), len(order) - count) :][::-1]
    between = order[len(worst) : len(order) - len(best)]
    first = max(0, (len(between) - count) // 2)
    return {"best": best, "median": between[first : first + count], "worst": worst}


def write_report(
    folder: Path,
    evaluation: Evaluation,
    dataset: datasets.Dataset,
    masks: MaskStore,
    provenance: Mapping[str, Any],
) -> None:
    """Writes metrics.json, frames.csv and overlays/ into an empty folder.

    Args:
        folder: Exists and is empty.
        evaluation: What `evaluate_model` returned.
        dataset: The frames that were evaluated.
        masks: What it was given as `on_frame`.
        provenance: Put into metrics.json beside the numbers: model, dataset, split, versions.
    """
    write_json(folder / "metrics.json", {**evaluation.metrics, **provenance})
    with (folder / "frames.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(evaluation.frames[0]))
        writer.writeheader()
        writer.writerows(evaluation.frames)
    overlays = folder / "overlays"
    overlays.mkdir()
    rows = dataset.with_format(None).select_columns(["image"])
    for kind, indices in select_examples(evaluation.frames).items():
        for rank, index in enumerate(indices, start=1):
            frame = evaluation.frames[index]
            image = np.asarray(rows[index]["image"].convert("RGB"))
            name = re.sub(r"[^\w.-]+", "_", str(frame["frame_id"]))
            write_png(overlays / f"{kind}_{rank}_{name}.png", comparison_picture(image, masks[index], frame))


def comparison_picture(image: np.ndarray, pair: MaskPair, frame: Mapping[str, Any]) -> np.ndarray:
    """Prediction beside truth under a line of scores.

    Args:
        image: (H, W, 3) uint8 RGB frame.
        pair: Masks of any size: they are resized to the picture by nearest.
        frame: The frame's row of frames.csv.

    Returns:
        (h, w, 3) uint8 RGB, two panels of 960 px.
    """
    height_px = max(1, round(image.shape[0] * _PANEL_WIDTH_PX / image.shape[1]))
    size = (_PANEL_WIDTH_PX, height_px)
    shrinks = image.shape[1] > _PANEL_WIDTH_PX
    shown = cv2.resize(image, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)
    panels = [
        draw_overlay(shown, resize_mask(mask, size), table=pair.landmarks)
        for mask in (pair.prediction, pair.truth)
    ]
    picture = Image.new("RGB", (2 * _PANEL_WIDTH_PX, _TITLE_HEIGHT_PX + height_px), (24, 24, 24))
    draw = ImageDraw.Draw(picture)
    font = ImageFont.load_default(size=_FONT_PX)
    scores = ", ".join(f"{name} {_number(frame[f'dsc_{name}'])}" for name in pair.landmarks.names)
    titles = (f"prediction: DSC {_number(frame['dsc'])} ({scores})", f"truth: frame {frame['frame_id']}")
    for column, (panel, title) in enumerate(zip(panels, titles, strict=True)):
        left = column * _PANEL_WIDTH_PX
        picture.paste(Image.fromarray(panel), (left, _TITLE_HEIGHT_PX))
        draw.text((left + 12, _TITLE_HEIGHT_PX // 2), title, font=font, fill=(255, 255, 255), anchor="lm")
    return np.asarray(picture)


def format_table(metrics: Mapping[str, Any]) -> str:
    """The numbers of metrics.json as a small text table; `-` where a value is not defined."""
    columns = {"DSC": "dsc", "IoU": "iou", "ASSD px": "assd_px", "HD95 px": "hd95_px"}
    columns["presence"] = "presence_accuracy"
    rows = [("pooled", metrics)]
    rows += list(metrics["per_class"].items())
    width = max(12, *(len(name) + 1 for name, _ in rows))
    lines = [" " * width + "".join(f"{title:>10}" for title in columns)]
    for name, values in rows:
        cells = (_number(values.get(key), 1 if key.endswith("_px") else 3) for key in columns.values())
        lines.append(f"{name:{width}}" + "".join(f"{cell:>10}" for cell in cells))
    lines.append(
        f"{metrics['frames']} frames of {metrics['patients']} patients, protocol {metrics['protocol']}, "
        f"{metrics['resolution']}x{metrics['resolution']} px"
    )
    return "\n".join(lines)


def _number(value: float | None, digits: int = 3) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
