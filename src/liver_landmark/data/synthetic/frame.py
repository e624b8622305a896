"""One frame, from the patient and the frame's number to pictures and polylines."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from .camera import Camera
from .curves import Buffers, View, add_scene, cast_view, extract_landmarks
from .instruments import sample_instruments
from .optics import develop
from .patient import Patient
from .shading import sample_light, shade
from .surfaces import Region
from .views import sample_view

# The depth picture is uint16: this many steps a mm, 0 for no depth (outside of the round view).
DEPTH_STEPS_PER_MM = 100


@dataclass(frozen=True)
class Frame:
    """A rendered frame.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        landmarks: The schema's polylines in px.
        depth: (H, W) uint16, depth along the optical axis in 1 / DEPTH_STEPS_PER_MM mm; 0 is none.
        regions: (H, W) uint8 ids of `Region`.
        camera: The camera.
    """

    image: np.ndarray
    landmarks: list[dict]
    depth: np.ndarray
    regions: np.ndarray
    camera: Camera


def render_frame(patient: Patient, frame: int, width: int, height: int) -> Frame:
    """Renders a patient's frame of that number, the same whichever others are rendered."""
    rng = patient.frame_rng(frame)
    domain = patient.domain
    view, buffers = _look(rng, patient, width, height)
    blood = rng.uniform(0.2, 1.0) if rng.random() < domain.blood_share else 0.0
    radiance = shade(rng, view, buffers, sample_light(rng), blood)
    image = develop(rng, domain, view, radiance, buffers.inside)
    seen = (buffers.region != Region.OUTSIDE) & np.isfinite(buffers.depth)
    depth = np.where(seen, np.minimum(buffers.depth * DEPTH_STEPS_PER_MM + 0.5, 65535), 0).astype(np.uint16)
    return Frame(image, extract_landmarks(view, buffers), depth, buffers.region, view.camera)


def frame_landmarks(patient: Patient, frame: int, width: int, height: int) -> list[dict]:
    """The polylines that `render_frame` gives, in a third of the time: nothing is shaded."""
    return extract_landmarks(*_look(patient.frame_rng(frame), patient, width, height))


def _look(rng: np.random.Generator, patient: Patient, width: int, height: int) -> tuple[View, Buffers]:
    """A camera in the patient, with the instruments of the frame, and what each of its pixels shows."""
    view = sample_view(rng, patient, width, height)
    buffers = cast_view(view)
    count = int(rng.choice(len(patient.domain.instruments), p=patient.domain.instruments))
    tools = sample_instruments(rng, view, buffers, count)
    if tools is not None:
        view = replace(view, scenes=(*view.scenes, tools))
        buffers = add_scene(view, buffers, len(view.scenes) - 1)
    return view, buffers
