"""What metrics are computed from, and those of overlap and presence."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np

from ..model.landmarks_liver_landmark import DEFAULT_LANDMARKS, IGNORE_INDEX, LandmarkTable


@dataclass(frozen=True)
class MaskPair:
    """Truth and prediction of one frame at the scored size.

    Attributes:
        truth: (H, W) uint8 class ids; pixels of value 255 count in no metric.
        prediction: (H, W) uint8 class ids.
        landmarks: What the ids of both mean.

    Raises:
        ValueError: shapes differ, an array is not 2-D uint8, or a value is no class id.
    """

    truth: np.ndarray
    prediction: np.ndarray
    landmarks: LandmarkTable = DEFAULT_LANDMARKS

    def __post_init__(self) -> None:
        for name, mask in (("truth", self.truth), ("prediction", self.prediction)):
            if mask.ndim != 2 or mask.dtype != np.uint8:
                raise ValueError(f"{name} must be (H, W) uint8 class ids, got {mask.shape} {mask.dtype}")
        if self.truth.shape != self.prediction.shape:
            raise ValueError(
                f"truth {self.truth.shape} and prediction {self.prediction.shape} differ in size"
            )
        classes = self.landmarks.num_classes
        if self.prediction.size and self.prediction.max() >= classes:
            raise ValueError(f"prediction holds {self.prediction.max()}, which is no class id")
        wrong = (self.truth >= classes) & (self.truth != IGNORE_INDEX)
        if wrong.any():
            raise ValueError(f"truth holds {self.truth[wrong].max()}, which is neither a class id nor 255")

    @cached_property
    def confusion(self) -> np.ndarray:
        """(C, C) int64 pixel counts, [truth, prediction], ignored pixels left out."""
        classes = self.landmarks.num_classes
        # An ignored pixel's code lies behind those of real pairs, so that no pass masks it: in uint16
        # because 255 C >= C², and in uint8, which is faster, where 255 C + p wraps to 256 - C + p >= C².
        dtype = np.uint8 if classes * (classes + 1) <= 256 else np.uint16
        codes = self.truth.astype(dtype, copy=False) * dtype(classes) + self.prediction
        counts = np.bincount(codes.ravel(), minlength=classes**2)
        return counts[: classes**2].reshape(classes, classes)

    def class_masks(self, class_id: int) -> tuple[np.ndarray, np.ndarray]:
        """(H, W) bool masks of one class, (truth, prediction); ignored pixels belong to neither."""
        truth = self.truth == class_id
        prediction = self.prediction == class_id
        if self._has_ignored:
            prediction &= self.truth != IGNORE_INDEX
        return truth, prediction

    @cached_property
    def _has_ignored(self) -> bool:
        return int(self.confusion.sum()) < self.truth.size

    def pixel_counts(self) -> dict[str, int]:
        """Columns `truth_px_<class>` and `predicted_px_<class>`: pixels of each landmark on both sides."""
        counts = {}
        for landmark in self.landmarks.landmarks:
            counts[f"truth_px_{landmark.name}"] = int(self.confusion[landmark.id].sum())
            counts[f"predicted_px_{landmark.name}"] = int(self.confusion[:, landmark.id].sum())
        return counts


# What a metric is: columns of a frame, and a summary of the frames' columns.


@dataclass(frozen=True)
class MetricSummary:
    """One metric's part of metrics.json.

    Attributes:
        pooled: Values over all landmarks, at the top level of metrics.json.
        per_class: Landmark name -> its values.
    """

    pooled: dict[str, float | int | None]
    per_class: dict[str, dict[str, float | int | None]]


class FrameMetric(Protocol):
    """A metric that scores frame by frame.

    `definitions` says in words what each key of the summary is; it is written beside the numbers.
    `score` gives one frame's columns of frames.csv, None where a value is not defined. `summarize`
    sees these columns alone, with `MaskPair.pixel_counts` among them, so that frames scored by several
    processes, or read back from a file, are summarized alike. A metric is made for the landmarks `names`.
    """

    definitions: Mapping[str, str]

    def score(self, pair: MaskPair) -> dict[str, Any]: ...

    def summarize(self, frames: Sequence[Mapping[str, Any]]) -> MetricSummary: ...


def mean_or_none(values: Iterable[float | None]) -> float | None:
    """Mean of the values that are not None; None where there is none."""
    defined = [value for value in values if value is not None]
    return float(np.mean(defined)) if defined else None


# Dice and IoU: pooled as the L3D papers compute them, per class, and their macro means.

# The L3D papers' smoothing, in numerator and denominator alike: a frame that is empty on both sides scores 1.
SMOOTHING = 1e-5


def dice(intersection: float, size_a: float, size_b: float) -> float:
    """(2 I + 1e-5) / (A + B + 1e-5), from pixel counts."""
    return (2 * intersection + SMOOTHING) / (size_a + size_b + SMOOTHING)


def iou_from_dice(dice_value: float) -> float:
    """D / (2 - D): the papers' IoU follows from their Dice and carries its smoothing."""
    return dice_value / (2 - dice_value)


def pooled_overlap(
    truth: np.ndarray, prediction: np.ndarray, landmarks: LandmarkTable = DEFAULT_LANDMARKS
) -> tuple[float, float]:
    """(DSC, IoU) of one frame as the L3D papers compute them.

    The foreground planes are flattened *together*: I counts the pixels that have the same
    landmark on both sides, P and G the pixels of any landmark; DSC = (2 I + 1e-5) / (P + G + 1e-5)
    and IoU = DSC / (2 - DSC). The papers' number is the mean of this over the frames, at 1024².

    Args:
        truth: (H, W) uint8 class ids, 255 = ignored.
        prediction: (H, W) uint8 class ids.
        landmarks: What the ids mean.
    """
    return _pooled(MaskPair(truth, prediction, landmarks))


def class_overlap(
    truth: np.ndarray, prediction: np.ndarray, landmarks: LandmarkTable = DEFAULT_LANDMARKS
) -> dict[str, tuple[float, float] | None]:
    """(DSC, IoU) of each landmark in one frame, by name; None for a landmark that the truth lacks.

    A false positive on an absent landmark has no DSC: it shows in the pooled overlap and in `presence`.
    """
    return _by_class(MaskPair(truth, prediction, landmarks))


def _pooled(pair: MaskPair) -> tuple[float, float]:
    confusion = pair.confusion
    intersection = np.trace(confusion[1:, 1:])
    value = float(dice(intersection, confusion[1:].sum(), confusion[:, 1:].sum()))
    return value, iou_from_dice(value)


def _by_class(pair: MaskPair) -> dict[str, tuple[float, float] | None]:
    confusion = pair.confusion
    overlaps: dict[str, tuple[float, float] | None] = {}
    for landmark in pair.landmarks.landmarks:
        truth_px = confusion[landmark.id].sum()
        value = float(dice(confusion[landmark.id, landmark.id], truth_px, confusion[:, landmark.id].sum()))
        overlaps[landmark.name] = (value, iou_from_dice(value)) if truth_px > 0 else None
    return overlaps


class OverlapMetric:
    """Pooled, per-class and macro DSC and IoU."""

    definitions: Mapping[str, str] = {
        "dsc": (
            "L3D papers' pooled Dice: the landmark planes of a frame flattened together, "
            "(2 I + 1e-5) / (P + G + 1e-5), then the mean over all frames"
        ),
        "iou": "L3D papers' pooled IoU: D / (2 - D) of a frame's pooled Dice, then the mean over all frames",
        "per_class.dsc": (
            "Dice of the landmark's own plane, mean over the frames whose truth shows it; null where none "
            "does; false positives in other frames count in `dsc` and in `presence_accuracy`"
        ),
        "per_class.iou": "D / (2 - D) of the landmark's Dice, mean over the frames whose truth shows it",
        "macro_dsc": "mean of `per_class.dsc` over the landmarks that any frame shows",
        "macro_iou": "mean of `per_class.iou` over the landmarks that any frame shows",
    }

    def __init__(self, names: Sequence[str] = DEFAULT_LANDMARKS.names) -> None:
        self.names = tuple(names)

    def score(self, pair: MaskPair) -> dict[str, float | None]:
        """Columns `dsc`, `iou`, `dsc_<class>`, `iou_<class>` of one frame."""
        dsc, iou = _pooled(pair)
        columns: dict[str, float | None] = {"dsc": dsc, "iou": iou}
        for name, overlap in _by_class(pair).items():
            columns[f"dsc_{name}"], columns[f"iou_{name}"] = overlap or (None, None)
        return columns

    def summarize(self, frames: Sequence[Mapping[str, Any]]) -> MetricSummary:
        """Means over frames, as the definitions say."""
        per_class = {
            name: {
                "dsc": mean_or_none(frame[f"dsc_{name}"] for frame in frames),
                "iou": mean_or_none(frame[f"iou_{name}"] for frame in frames),
            }
            for name in self.names
        }
        pooled = {
            "dsc": mean_or_none(frame["dsc"] for frame in frames),
            "iou": mean_or_none(frame["iou"] for frame in frames),
            "macro_dsc": mean_or_none(scores["dsc"] for scores in per_class.values()),
            "macro_iou": mean_or_none(scores["iou"] for scores in per_class.values()),
        }
        return MetricSummary(pooled, per_class)


# Presence: does the model see a landmark where there is one, and none where there is none?


class PresenceMetric:
    """Per-class detection accuracy over frames."""

    definitions: Mapping[str, str] = {
        "per_class.presence_accuracy": (
            "share of all frames in which truth and prediction agree on whether the landmark is there, "
            "at one pixel or more of the scored size"
        ),
        "per_class.frames_shown": "frames whose truth shows the landmark",
        "per_class.frames_missed": "frames whose truth shows the landmark and whose prediction does not",
        "per_class.frames_invented": "frames whose prediction shows the landmark and whose truth does not",
        "presence_accuracy": "mean of `per_class.presence_accuracy` over the landmarks",
    }

    def __init__(self, names: Sequence[str] = DEFAULT_LANDMARKS.names) -> None:
        self.names = tuple(names)

    def score(self, pair: MaskPair) -> dict[str, Any]:
        """No columns of its own: presence follows from the pixel counts that every frame has."""
        return {}

    def summarize(self, frames: Sequence[Mapping[str, Any]]) -> MetricSummary:
        """Counts over frames from the columns `truth_px_<class>` and `predicted_px_<class>`."""
        per_class: dict[str, dict[str, float | int | None]] = {}
        for name in self.names:
            states = [(frame[f"truth_px_{name}"] > 0, frame[f"predicted_px_{name}"] > 0) for frame in frames]
            per_class[name] = {
                "presence_accuracy": mean_or_none(float(shown == found) for shown, found in states),
                "frames_shown": sum(shown for shown, _ in states),
                "frames_missed": states.count((True, False)),
                "frames_invented": states.count((False, True)),
            }
        accuracy = mean_or_none(scores["presence_accuracy"] for scores in per_class.values())
        return MetricSummary({"presence_accuracy": accuracy}, per_class)
