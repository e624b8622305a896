"""What the model sees in one frame, with its doubts."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F

from ..curves import TracedPolyline, trace_polylines
from ..model.class_map_liver_landmark import upsampled_probabilities
from ..model.landmarks_liver_landmark import LABEL2ID, LANDMARKS


@dataclass(frozen=True)
class FramePrediction:
    """What the model sees in one frame.

    Attributes:
        mask: (H, W) uint8 class ids at the frame's own size. A landmark that is judged not to be in the
            frame has no pixels.
        scores: Landmark name -> confidence: mean probability over the pixels that it was given, 0.0 where it
            was given none (`LiverLandmarkImageProcessor.post_process_semantic_segmentation`).
        presence: Landmark name -> probability that it is in the frame at all.
        present: Names of the landmarks that are: with a calibrated model those whose probability reaches
            their threshold, otherwise those that were given pixels.
        calibrated: Whether `presence` was calibrated (scripts/calibrate.py), so that it can be read as a
            share of frames.
        milliseconds: Stage (preprocess, forward, postprocess) -> wall time; forward is the batch's divided by
            its frames.
        logits: (classes, h, w) float32 at the model's own resolution, of all landmarks, judged present or
            not; after view averaging and smoothing they are log-probabilities.
        variance: (h, w) float32, how much the averaged views differ: the sum over the classes of the variance
            of their probabilities, 0 to 0.75; None without view averaging.
    """

    mask: np.ndarray
    scores: dict[str, float]
    presence: dict[str, float]
    present: tuple[str, ...]
    calibrated: bool
    logits: np.ndarray
    variance: np.ndarray | None = None
    milliseconds: dict[str, float] = field(default_factory=dict)

    @property
    def pixel_counts(self) -> dict[str, int]:
        """Landmark name -> its pixels."""
        return {landmark.name: int(np.count_nonzero(self.mask == landmark.id)) for landmark in LANDMARKS}

    def probabilities(self) -> np.ndarray:
        """(classes, H, W) float32 probabilities at the frame's own size, computed anew at each call."""
        return upsampled_probabilities(torch.from_numpy(self.logits), self.mask.shape).numpy()

    def probability(self, name: str) -> np.ndarray:
        """(H, W) float32 probability of one landmark, by its name."""
        return self.probabilities()[LABEL2ID[name]]

    def variance_map(self) -> np.ndarray | None:
        """(H, W) float32 `variance` at the frame's own size; None without view averaging."""
        if self.variance is None:
            return None
        plane = torch.from_numpy(self.variance)[None, None]
        size = self.mask.shape
        return F.interpolate(plane, size=size, mode="bilinear", align_corners=False)[0, 0].numpy()

    def curves(self, tolerance_px: float = 0.5, *, with_scores: bool = False) -> list[TracedPolyline]:
        """The curves that the mask's strokes follow (`trace_polylines`), in px of the frame.

        Without those that are one point in whole px, as some exchange formats count.

        Args:
            tolerance_px: A point is left out where the polyline stays this near to it.
            with_scores: Give each point the probability across its stroke.

        Raises:
            NoisyMaskError: a mask of so many pieces that they are no strokes.
        """
        if not self.mask.any():
            return []
        scores = self.probabilities() if with_scores else None
        curves = trace_polylines(self.mask, scores=scores, tolerance_px=tolerance_px)
        return [curve for curve in curves if np.ptp(np.rint(curve.points), axis=0).any()]
