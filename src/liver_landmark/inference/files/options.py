"""What a prediction over files is asked to do."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from ...frame_files import FrameLimits
from ..video.limits import VideoLimits

# What `--curves` takes: a file a frame for each, but one for the whole run where CVAT is meant.
CURVE_FORMATS: tuple[str, ...] = ("labelme", "cvat", "p2ilf", "svg")


@dataclass(frozen=True)
class PredictionOptions:
    """Options of a run.

    Attributes:
        batch_size: Frames in one forward pass.
        overlay: Write overlays: a PNG for a picture, an MP4 for a video.
        legend: Name the landmarks in the overlays.
        curves: Formats of `CURVE_FORMATS` to write the curves in.
        save_probabilities: Write the probability of each landmark, and the variance where views are averaged.
        smoothing_s: Time constant of the smoothing of videos (`CausalSmoother`), seconds; None for none.
        num_parts: How many runs share the inputs.
        part_id: Which of them this is, from 0.
        limits: What is refused of a picture before it is decoded.
        video_limits: What is refused of a video.
    """

    batch_size: int = 1
    overlay: bool = True
    legend: bool = True
    curves: tuple[str, ...] = ()
    save_probabilities: bool = False
    smoothing_s: float | None = None
    num_parts: int = 1
    part_id: int = 0
    limits: FrameLimits = field(default_factory=FrameLimits)
    video_limits: VideoLimits = field(default_factory=VideoLimits)

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {self.batch_size}")
        for name in self.curves:
            if name not in CURVE_FORMATS:
                raise ValueError(f"curves: {name!r} is unknown: choose among {', '.join(CURVE_FORMATS)}")
        if self.smoothing_s is not None and not (math.isfinite(self.smoothing_s) and self.smoothing_s > 0):
            raise ValueError(f"smoothing_s must be positive, got {self.smoothing_s}")
        if self.num_parts < 1 or not 0 <= self.part_id < self.num_parts:
            raise ValueError(
                f"part_id must be from 0 to num_parts - 1, got part {self.part_id} of {self.num_parts}"
            )
