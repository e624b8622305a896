"""Small datasets of the schema whose landmarks can be seen in the frames, and a model that sees them."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import datasets
import numpy as np
import torch
from PIL import Image

from liver_landmark import LiverLandmarkImageProcessor
from liver_landmark.curves import get_protocol, rasterize_landmarks
from liver_landmark.data.schema import landmark_features
from liver_landmark.model.landmarks_liver_landmark import DEFAULT_LANDMARKS, LandmarkTable
from tiny_models import tiny_model

WIDTH, HEIGHT = 96, 54


def polylines(seed: int, without: tuple[str, ...] = ()) -> list[dict[str, Any]]:
    """One bent line for each landmark, apart from each other."""
    rng = np.random.default_rng(seed)
    landmarks = []
    for row, name in enumerate(DEFAULT_LANDMARKS.names):
        if name not in without:
            y = 10 + 16 * row + rng.uniform(-2, 2, 3)
            landmarks.append(
                {"category": name, "points": list(zip((8.0, 45.0, 88.0), map(float, y), strict=True))}
            )
    return landmarks


def schema_row(frame_id: str, landmarks: list[dict[str, Any]] | None, **fields: Any) -> dict[str, Any]:
    """A row whose frame shows its landmarks in their colors on gray."""
    mask = rasterize_landmarks(landmarks or [], WIDTH, HEIGHT, get_protocol("synthetic"))
    frame = np.where(mask[..., None] > 0, DEFAULT_LANDMARKS.palette[mask], np.uint8(90))
    return {
        "image": Image.fromarray(frame),
        "label": None,
        "landmarks": landmarks,
        "depth": None,
        "regions": None,
        "camera": None,
        "patient_id": f"patient{frame_id[-1]}",
        "frame_id": frame_id,
        "source": "test",
        "width": WIDTH,
        "height": HEIGHT,
        "protocol": "synthetic",
        "stroke_width": 1.5,
    } | fields


def make_dataset(rows: list[dict[str, Any]]) -> datasets.Dataset:
    """The rows as a dataset."""
    return datasets.Dataset.from_list(rows, features=landmark_features())


def save_dataset(folder: Path, rows: list[dict[str, Any]]) -> None:
    """Writes the rows as the test split of a folder that `load_dataset` reads."""
    folder.mkdir(parents=True)
    make_dataset(rows).to_parquet(folder / "test-00000-of-00001.parquet")


class SeesColors(torch.nn.Module):
    """Knows a landmark by its color in the frame; blind to those named.

    Its channels lie as `landmarks` says, whatever is called neither ridge nor silhouette is what is blue.
    """

    def __init__(self, blind_to: tuple[str, ...] = (), landmarks: LandmarkTable = DEFAULT_LANDMARKS) -> None:
        super().__init__()
        self.gain = torch.nn.Parameter(torch.ones(()))
        self.part = torch.nn.Dropout()
        self.blind_to = [DEFAULT_LANDMARKS.names.index(name) for name in blind_to]
        self.config = SimpleNamespace(presence_calibration=None, landmark_table=landmarks)
        self.planes = [{"ridge": 0, "silhouette": 1}.get(name, 2) for name in landmarks.names]
        self.seen_modes: list[tuple[bool, bool]] = []

    @property
    def device(self) -> torch.device:
        return self.gain.device

    def forward(self, pixel_values: torch.Tensor) -> SimpleNamespace:
        self.seen_modes.append((self.training, self.part.training))
        processor = LiverLandmarkImageProcessor()
        mean, std = (
            torch.tensor(values).view(1, 3, 1, 1) for values in (processor.image_mean, processor.image_std)
        )
        red_green_blue = pixel_values * std + mean
        # A color stands out by how far it is above the other two.
        strength = 1.5 * red_green_blue - 0.5 * red_green_blue.sum(1, keepdim=True)
        strength[:, self.blind_to] = -1.0
        background = torch.full_like(strength[:, :1], 0.3)
        return SimpleNamespace(logits=self.gain * torch.cat([background, strength[:, self.planes]], 1))


def tiny_processor(size: int = 128) -> LiverLandmarkImageProcessor:
    """A processor for frames of that many px."""
    return LiverLandmarkImageProcessor(size={"height": size, "width": size})


def save_model(folder: Path, size: int = 128) -> Path:
    """Writes a tiny model with its processor."""
    tiny_model().save_pretrained(folder)
    tiny_processor(size).save_pretrained(folder)
    return folder
