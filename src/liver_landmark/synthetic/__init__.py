"""The synthetic benchmark: a procedural renderer of laparoscopic liver frames with exact landmarks."""

from .anatomy import Patient, build_patient
from .dataset import SyntheticRequest, iterate_rows, render_row, split_of_patient
from .domains import DOMAINS, Domain, get_domain
from .geometry import Region
from .render import DEPTH_STEPS_PER_MM, Frame, frame_landmarks, render_frame

__all__ = [
    "DEPTH_STEPS_PER_MM",
    "DOMAINS",
    "Domain",
    "Frame",
    "Patient",
    "Region",
    "SyntheticRequest",
    "build_patient",
    "frame_landmarks",
    "get_domain",
    "iterate_rows",
    "render_frame",
    "render_row",
    "split_of_patient",
]
