"""A frame's truth and prediction side by side: what every metric is computed from."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ..model.landmarks_liver_landmark import IGNORE_INDEX, LANDMARKS, NUM_CLASSES


@dataclass(frozen=True)
class MaskPair:
    """Truth and prediction of one frame at the scored size.

    Attributes:
        truth: (H, W) uint8 class ids; pixels of value 255 count in no metric.
        prediction: (H, W) uint8 class ids.

    Raises:
        ValueError: shapes differ, an array is not 2-D uint8, or a value is no class id.
    """

    truth: np.ndarray
    prediction: np.ndarray

    def __post_init__(self) -> None:
        for name, mask in (("truth", self.truth), ("prediction", self.prediction)):
            if mask.ndim != 2 or mask.dtype != np.uint8:
                raise ValueError(f"{name} must be (H, W) uint8 class ids, got {mask.shape} {mask.dtype}")
        if self.truth.shape != self.prediction.shape:
            raise ValueError(
                f"truth {self.truth.shape} and prediction {self.prediction.shape} differ in size"
            )
        if self.prediction.size and self.prediction.max() >= NUM_CLASSES:
            raise ValueError(f"prediction holds {self.prediction.max()}, which is no class id")
        wrong = (self.truth >= NUM_CLASSES) & (self.truth != IGNORE_INDEX)
        if wrong.any():
            raise ValueError(f"truth holds {self.truth[wrong].max()}, which is neither a class id nor 255")

    @cached_property
    def confusion(self) -> np.ndarray:
        """(4, 4) int64 pixel counts, [truth, prediction], ignored pixels left out."""
        # In uint8, 255 * 4 + p wraps to 252 + p, behind the 16 codes of real pairs: no masking pass.
        codes = self.truth * np.uint8(NUM_CLASSES) + self.prediction
        counts = np.bincount(codes.ravel(), minlength=NUM_CLASSES**2)
        return counts[: NUM_CLASSES**2].reshape(NUM_CLASSES, NUM_CLASSES)

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
        for landmark in LANDMARKS:
            counts[f"truth_px_{landmark.name}"] = int(self.confusion[landmark.id].sum())
            counts[f"predicted_px_{landmark.name}"] = int(self.confusion[:, landmark.id].sum())
        return counts
