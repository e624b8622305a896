"""What a model says about the presence of each landmark, frame by frame, beside what is in the frame."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import datasets
import numpy as np
import torch
from torch import nn
from tqdm.auto import tqdm

from ..data.loading import read_row
from ..model.landmarks_liver_landmark import LANDMARK_NAMES, LANDMARKS
from ..model.presence_liver_landmark import PRESENCE_FEATURES, absent_suppressed, presence_features
from .evaluate import DEFAULT_RESOLUTION
from .truth import check_scorable, dataset_protocol, get_scoring, truth_mask

_COLUMNS = ["image", "label", "landmarks", "width", "height", "frame_id", "patient_id"]


@dataclass(frozen=True)
class PresenceFrames:
    """One row a frame, one column a landmark, in the order of LANDMARK_NAMES.

    Attributes:
        features: (N, 3, F) float64, `presence_features` of the logits.
        drawn: (N, 3) bool, whether the landmark is the likeliest class somewhere.
        shown: (N, 3) bool, whether the truth has a pixel of it or more at the scored size.
        patients: (N,) str.
        protocol: By which the truth was drawn.
    """

    features: np.ndarray
    drawn: np.ndarray
    shown: np.ndarray
    patients: np.ndarray
    protocol: str

    def __post_init__(self) -> None:
        shape = (len(self.patients), len(LANDMARK_NAMES))
        if self.features.shape != (*shape, len(PRESENCE_FEATURES)) or not np.isfinite(self.features).all():
            raise ValueError(f"features must be {(*shape, len(PRESENCE_FEATURES))} finite numbers")
        for name, values in (("drawn", self.drawn), ("shown", self.shown)):
            if values.shape != shape or values.dtype != bool:
                raise ValueError(f"{name} must be {shape} bool, got {values.shape} {values.dtype}")

    def __len__(self) -> int:
        return len(self.patients)

    def select(self, rows: np.ndarray) -> PresenceFrames:
        """Some of the frames, by index or by a mask."""
        return PresenceFrames(
            self.features[rows], self.drawn[rows], self.shown[rows], self.patients[rows], self.protocol
        )


def collect_presence(
    model: nn.Module,
    processor: Any,
    dataset: datasets.Dataset,
    *,
    protocol: str | None = None,
    batch_size: int = 8,
    progress: bool = False,
) -> PresenceFrames:
    """Runs a model over a dataset.

    Args:
        model: In evaluation mode; gives `.logits` (B, 4, h, w) for `pixel_values`.
        processor: The model's image processor.
        dataset: Rows of the schema.
        protocol: By which the truth is drawn; None: the one that the dataset's `protocol` column names.
        batch_size: Frames in one forward pass.
        progress: Show a progress bar.

    Raises:
        ValueError: an empty dataset, a protocol that is unknown or not one, a frame that cannot be read, or a
            model in training mode.
    """
    if model.training:
        raise ValueError("the model is in training mode: call eval() first")
    if len(dataset) == 0:
        raise ValueError("the dataset has no frames")
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    scoring = get_scoring(protocol or dataset_protocol(dataset))
    check_scorable(dataset, scoring)
    rows = dataset.with_format(None).select_columns(_COLUMNS)
    parameter = next(model.parameters())
    features, drawn, shown, patients = [], [], [], []
    with tqdm(total=len(rows), unit="frame", disable=not progress) as bar:
        for start in range(0, len(rows), batch_size):
            batch = [read_row(rows, index) for index in range(start, min(start + batch_size, len(rows)))]
            inputs = processor(images=[row["image"] for row in batch], return_tensors="pt")
            with torch.inference_mode():
                pixel_values = inputs["pixel_values"].to(parameter.device, parameter.dtype)
                logits = model(pixel_values=pixel_values).logits.float()
                features.append(presence_features(logits).double().cpu().numpy())
                drawn.append(absent_suppressed(logits, None)[2].cpu().numpy())
            for row in batch:
                try:
                    truth = truth_mask(row, scoring.protocol, DEFAULT_RESOLUTION)
                except ValueError as error:
                    raise ValueError(f"frame {row['frame_id']}: {error}") from error
                shown.append([bool((truth == landmark.id).any()) for landmark in LANDMARKS])
                patients.append(row["patient_id"])
            bar.update(len(batch))
    return PresenceFrames(
        np.concatenate(features), np.concatenate(drawn), np.array(shown), np.array(patients), scoring.name
    )
