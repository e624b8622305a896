"""One frame of a patient, and the frames of a smooth camera flight through one, with exact landmarks."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace

import cv2
import numpy as np

from .anatomy import Patient
from .domains import Domain
from .geometry import Camera, Region, look_at
from .landmarks import Buffers, View, add_scene, cast_view, extract_landmarks
from .shading import Light, develop, sample_light, shade
from .viewpoints import sample_instruments, sample_view

# The depth picture is uint16: this many steps a mm, 0 for no depth (outside of the round view).
DEPTH_STEPS_PER_MM = 100

# Apart from the streams of patients and of their single frames.
_PATH_STREAM = 2
# How far the camera sways about its first view: degrees about the point looked at, share of the distance,
# degrees of roll, share of the distance that the point looked at wanders across and along the frame.
_SWAY = {"azimuth": 7.0, "elevation": 4.0, "distance": 0.1, "roll": 4.0, "across": 0.07, "along": 0.05}
# Periods of the two waves that each sway is the sum of, in frames: 7 to 18 s at 25 frames a second.
_PERIODS = ((180.0, 280.0), (280.0, 450.0))
_NEAREST_MM = 10.0
_TRIAL_WIDTH = 96
_TRIALS = 6


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


# Flights: frames of a video along a smooth camera path.


@dataclass(frozen=True)
class _Path:
    """Where the camera is at every moment: a first view, and waves of each kind of sway about it.

    Attributes:
        view: The first view, instruments included.
        pivot: (3,) the point that it looks at, mm.
        amplitudes: Kind of sway -> (2,) amplitudes of its waves.
        periods: Kind of sway -> (2,) periods in frames.
        phases: Kind of sway -> (2,) phases, radians.
    """

    view: View
    pivot: np.ndarray
    amplitudes: dict[str, np.ndarray]
    periods: dict[str, np.ndarray]
    phases: dict[str, np.ndarray]

    def view_at(self, frame: int) -> View:
        """The view of that frame."""
        return self.swayed({kind: self._wave(kind, frame) for kind in _SWAY})

    def _wave(self, kind: str, frame: int) -> float:
        turns = 2 * np.pi * frame / self.periods[kind] + self.phases[kind]
        return float((self.amplitudes[kind] * np.sin(turns)).sum())

    def swayed(self, sway: dict[str, float]) -> View:
        """The first view with its camera moved by `sway`, in the units of `_SWAY`."""
        camera = self.view.camera
        x, y, z = camera.position - self.pivot
        distance = np.sqrt(x * x + y * y + z * z)
        azimuth = np.arctan2(x, -z) + np.deg2rad(sway["azimuth"])
        elevation = np.arcsin(-y / distance) + np.deg2rad(sway["elevation"])
        toward = np.array(
            [np.sin(azimuth) * np.cos(elevation), -np.sin(elevation), -np.cos(azimuth) * np.cos(elevation)]
        )
        level = look_at(camera.position, self.pivot, 0.0)
        roll = np.arctan2(camera.rotation[0] @ level[1], camera.rotation[0] @ level[0])
        target = self.pivot + distance * (
            sway["across"] * camera.rotation[0] + sway["along"] * camera.rotation[1]
        )
        position = self.pivot + distance * (1 + sway["distance"]) * toward
        rotation = look_at(position, target, float(roll + np.deg2rad(sway["roll"])))
        return replace(self.view, camera=replace(camera, rotation=rotation, position=position))


def render_path(patient: Patient, frames: int, width: int, height: int, seed: int = 0) -> Iterator[Frame]:
    """Renders the frames of a video in which the camera sways about one view, one at a time.

    Instruments, lamp, blood, smoke and the video processor's settings stay as they are; the sensor's noise
    is another one in each frame. A frame depends on its number and not on how many there are.

    Args:
        patient: Who is shown.
        frames: How many frames; a sway takes 180 to 450 of them.
        width: Frame width in px.
        height: Frame height in px.
        seed: Another number gives another view and another way, from 0.

    Returns:
        `Frame`s whose landmarks are exact for each, in order, rendered as they are taken.

    Raises:
        ValueError: no frame asked for, or a negative seed.
    """
    if frames < 1:
        raise ValueError(f"frames is {frames}: give a number from 1")
    if seed < 0:
        raise ValueError(f"seed is {seed}: give a number from 0")
    return _render(patient, frames, width, height, seed)


def _render(patient: Patient, frames: int, width: int, height: int, seed: int) -> Iterator[Frame]:
    rng = _generator(patient, seed, 0)
    path = _sample_path(rng, patient, width, height)
    light = sample_light(rng)
    blood = rng.uniform(0.2, 1.0) if rng.random() < patient.domain.blood_share else 0.0
    noise_level = 2.0 * rng.uniform(*patient.domain.noise)
    noiseless = replace(patient.domain, noise=(0.0, 0.0))
    for frame in range(frames):
        yield _render_one(
            path.view_at(frame),
            light,
            blood,
            # From the same state in each frame: blood, smoke and settings are drawn alike.
            _generator(patient, seed, 1),
            noiseless,
            _generator(patient, seed, 2, frame),
            noise_level,
        )


def _render_one(
    view: View,
    light: Light,
    blood: float,
    look_rng: np.random.Generator,
    noiseless: Domain,
    noise_rng: np.random.Generator,
    noise_level: float,
) -> Frame:
    buffers = cast_view(view)
    radiance = shade(look_rng, view, buffers, light, blood)
    image = develop(look_rng, noiseless, view, radiance, buffers.inside)
    noise = cv2.GaussianBlur(noise_rng.standard_normal(image.shape, dtype=np.float32), (0, 0), 0.6)
    noisy = image + 255 * noise_level * noise * buffers.inside[..., None]
    seen = (buffers.region != Region.OUTSIDE) & np.isfinite(buffers.depth)
    depth = np.where(seen, np.minimum(buffers.depth * DEPTH_STEPS_PER_MM + 0.5, 65535), 0).astype(np.uint16)
    return Frame(
        np.clip(noisy + 0.5, 0, 255).astype(np.uint8),
        extract_landmarks(view, buffers),
        depth,
        buffers.region,
        view.camera,
    )


def _generator(patient: Patient, seed: int, *stream: int) -> np.random.Generator:
    key = (patient.domain.index, patient.number, _PATH_STREAM, seed, *stream)
    return np.random.default_rng(np.random.SeedSequence(patient.seed, spawn_key=key))


def _sample_path(rng: np.random.Generator, patient: Patient, width: int, height: int) -> _Path:
    """A view with its instruments, and waves about it that keep the camera out of the tissue."""
    view = sample_view(rng, patient, width, height)
    buffers = cast_view(view)
    # On the optical axis, as far as half of what is seen.
    distance = float(np.median(buffers.depth[np.isfinite(buffers.depth)]))
    pivot = view.camera.position + distance * view.camera.rotation[2]
    count = int(rng.choice(len(patient.domain.instruments), p=patient.domain.instruments))
    tools = sample_instruments(rng, view, buffers, count)
    if tools is not None:
        view = replace(view, scenes=(*view.scenes, tools))
    shares = {kind: rng.uniform(0.3, 0.7) for kind in _SWAY}
    periods = {kind: np.array([rng.uniform(*period) for period in _PERIODS]) for kind in _SWAY}
    phases = {kind: rng.uniform(0, 2 * np.pi, 2) for kind in _SWAY}
    for trial in range(_TRIALS):
        reach = {kind: full * 0.5**trial for kind, full in _SWAY.items()}
        amplitudes = {kind: reach[kind] * np.array([shares[kind], 1 - shares[kind]]) for kind in _SWAY}
        path = _Path(view, pivot, amplitudes, periods, phases)
        if _stays_clear(path, reach):
            break
    return path


def _stays_clear(path: _Path, reach: dict[str, float]) -> bool:
    """Whether nothing comes too near at the corners of what the camera can sway to."""
    for signs in itertools.product((-1, 1), repeat=3):
        moved = dict(zip(("azimuth", "elevation", "distance"), signs, strict=True))
        view = path.swayed({kind: moved.get(kind, 0) * reach[kind] for kind in _SWAY})
        height = max(16, round(_TRIAL_WIDTH * view.camera.height / view.camera.width))
        camera = view.camera.resized(_TRIAL_WIDTH, height)
        # Along rays of depth 1, so that distances are depths.
        rays = camera.directions(camera.pixel_grid().reshape(-1, 2)) @ camera.rotation
        nearest = min(scene.cast(camera.position, rays).distance.min() for scene in view.scenes)
        if nearest < _NEAREST_MM:
            return False
    return True
