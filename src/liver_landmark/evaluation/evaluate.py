"""A model over a dataset of the schema: frames in, metrics by name out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import datasets
import numpy as np
import torch
from torch import nn
from tqdm.auto import tqdm

from ..data.loading import read_row
from ..model.landmarks_liver_landmark import LandmarkTable
from .distances import DistanceMetric
from .metrics import FrameMetric, MaskPair, OverlapMetric, PresenceMetric
from .truth import Scoring, check_scorable, dataset_protocol, get_scoring, truth_mask

# The metrics that an evaluation can compute, by name: a new one is one entry here.
METRICS: dict[str, Callable[[Sequence[str]], FrameMetric]] = {
    "overlap": OverlapMetric,
    "presence": PresenceMetric,
    "distances": DistanceMetric,
}


def build_metrics(names: Sequence[str], landmarks: Sequence[str]) -> dict[str, FrameMetric]:
    """The metrics of those names, for these landmarks; a ValueError names the ones there are."""
    for name in names:
        if name not in METRICS:
            raise ValueError(f"metric {name!r} is unknown: choose from {', '.join(METRICS)}")
    return {name: METRICS[name](landmarks) for name in names}


# The size at which every L3D paper scores.
DEFAULT_RESOLUTION = 1024

_COLUMNS = ["image", "label", "landmarks", "width", "height", "frame_id", "patient_id"]

# Of the columns that `MaskPair.pixel_counts` gives each landmark.
_TRUTH_PX = "truth_px_"

FrameCallback = Callable[[int, Mapping[str, Any], MaskPair], None]


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation found.

    Attributes:
        metrics: The content of metrics.json: pooled values, `per_class`, `protocol`, `resolution`,
            `frames` (their number), `frames_without_polylines`, `patients` and `definitions` (what each
            number is, in words).
        frames: One dict for each frame, the rows of frames.csv; None where a value is not defined.
    """

    metrics: dict[str, Any]
    frames: list[dict[str, Any]]


def evaluate_model(
    model: nn.Module,
    processor: Any,
    dataset: datasets.Dataset,
    *,
    protocol: str | None = None,
    resolution: int = DEFAULT_RESOLUTION,
    batch_size: int = 8,
    distances: bool = True,
    progress: bool = False,
    on_frame: FrameCallback | None = None,
) -> Evaluation:
    """Scores a model on every frame of a dataset.

    The truth is drawn from the polylines by the protocol, or is the label `as_drawn`; the logits are
    upsampled to the scored size by the protocol's rule, and the largest one is the prediction. The model is
    put in evaluation mode and every module is put back into the mode it was in.

    Args:
        model: Gives `.logits` (B, C, h, w) for `pixel_values`; `config.landmark_table` says what its
            channels are. Truth is compared with them by name, whatever the dataset's own order.
        processor: The model's image processor.
        dataset: Rows of the schema.
        protocol: Name of the protocol, or `as_drawn` for a set whose labels are so; None takes the one that
            the dataset's `protocol` column names.
        resolution: Width and height in px at which masks are compared.
        batch_size: Frames in one forward pass.
        distances: Compute ASSD and HD95 too.
        progress: Show a progress bar.
        on_frame: Called with the frame's index, its row of frames.csv and its masks.

    Raises:
        ValueError: an empty dataset, a protocol that is unknown or not one, a frame whose truth or image
            does not fit its row, or a landmark of the model that the dataset does not have.
    """
    if len(dataset) == 0:
        raise ValueError("the dataset has no frames to score")
    if resolution < 1 or batch_size < 1:
        raise ValueError(f"resolution ({resolution}) and batch_size ({batch_size}) must be at least 1")
    scoring = get_scoring(protocol or dataset_protocol(dataset))
    landmarks: LandmarkTable = model.config.landmark_table
    stored = check_scorable(dataset, scoring, landmarks)
    names = ("overlap", "presence", "distances") if distances else ("overlap", "presence")
    metrics = build_metrics(names, landmarks.names)
    frames = []
    predictions = _predictions(model, processor, dataset.with_format(None), scoring, resolution, batch_size)
    with _evaluation_mode(model), tqdm(total=len(dataset), unit="frame", disable=not progress) as bar:
        for index, (row, prediction) in enumerate(predictions):
            try:
                truth = landmarks.translate(truth_mask(row, scoring.protocol, resolution, stored), stored)
                pair = MaskPair(truth, prediction, landmarks)
            except ValueError as error:
                raise ValueError(f"frame {row['frame_id']} (row {index}): {error}") from error
            frame: dict[str, Any] = {
                "frame_id": row["frame_id"],
                "patient_id": row["patient_id"],
                "truth": _truth_of(row, scoring),
            }
            for metric in metrics.values():
                frame |= metric.score(pair)
            frame |= pair.pixel_counts()
            frames.append(frame)
            if on_frame is not None:
                on_frame(index, frame, pair)
            bar.update()
    return summarize_frames(frames, protocol=scoring.name, resolution=resolution, metric_names=names)


def summarize_frames(
    frames: Sequence[dict[str, Any]],
    *,
    protocol: str,
    resolution: int,
    metric_names: Sequence[str],
) -> Evaluation:
    """The evaluation that follows from rows of frames.csv, scored by one process or gathered from several.

    Their columns say which landmarks there are. A ValueError says that there are no rows.
    """
    if not frames:
        raise ValueError("there are no frames to summarize")
    scoring = get_scoring(protocol)
    landmarks = [column.removeprefix(_TRUTH_PX) for column in frames[0] if column.startswith(_TRUTH_PX)]
    pooled: dict[str, Any] = {}
    per_class: dict[str, dict[str, Any]] = {name: {} for name in landmarks}
    definitions = {
        "protocol": scoring.definition,
        "resolution": "width and height in px at which truth and prediction are compared",
    }
    for metric in build_metrics(metric_names, landmarks).values():
        summary = metric.summarize(frames)
        pooled |= summary.pooled
        for name, values in summary.per_class.items():
            per_class[name] |= values
        definitions |= metric.definitions
    metrics = {
        **pooled,
        "protocol": scoring.name,
        "resolution": resolution,
        "frames": len(frames),
        "frames_without_polylines": sum(frame["truth"] == "label" for frame in frames),
        "patients": len({frame["patient_id"] for frame in frames}),
        "per_class": per_class,
        "definitions": definitions,
    }
    return Evaluation(metrics=metrics, frames=list(frames))


def _truth_of(row: Mapping[str, Any], scoring: Scoring) -> str:
    """What a frame is scored by: `polylines`, its `label` for want of them, or its label `as_drawn`."""
    if not row["landmarks"] and row["label"] is not None:
        return "label"
    return "polylines" if scoring.protocol is not None else scoring.name


def _predictions(
    model: nn.Module,
    processor: Any,
    dataset: datasets.Dataset,
    scoring: Scoring,
    resolution: int,
    batch_size: int,
) -> Iterator[tuple[dict[str, Any], np.ndarray]]:
    """(row, (resolution, resolution) uint8 prediction) of every frame, in order."""
    rows = dataset.select_columns(_COLUMNS)
    parameter = next(model.parameters())
    for start in range(0, len(rows), batch_size):
        batch = [read_row(rows, index) for index in range(start, min(start + batch_size, len(rows)))]
        inputs = processor(images=[row["image"] for row in batch], return_tensors="pt")
        with torch.no_grad():
            outputs = model(pixel_values=inputs["pixel_values"].to(parameter.device, parameter.dtype))
            masks = processor.post_process_semantic_segmentation(
                outputs,
                target_sizes=[(resolution, resolution)] * len(batch),
                interpolation=scoring.prediction_resize,
            )
        for row, mask in zip(batch, masks, strict=True):
            yield row, mask.to(torch.uint8).cpu().numpy()


@contextmanager
def _evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Evaluation mode inside, and afterward each module's own mode: frozen parts may be kept in eval."""
    training = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in training.items():
            module.training = mode
