"""Rows of a synthetic dataset: patients to splits, frames to worker processes, pictures encoded."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import lru_cache
from itertools import groupby
from operator import itemgetter
from typing import Any

import cv2
import numpy as np

from ..curves import PROTOCOLS, rasterize_landmarks
from .anatomy import Patient, build_patient
from .domains import get_domain
from .render import render_frame

# Part of a build's fingerprint: raise it whenever the same request gives other frames.
GENERATOR_VERSION = 4
PROTOCOL = PROTOCOLS["synthetic"]
VALIDATION_SHARE, TEST_SHARE = 0.1, 0.2
_MIN_SIDE_PX, _MAX_SIDE_PX = 64, 4096
_FRAMES_PER_TASK = 32


@dataclass(frozen=True)
class SyntheticRequest:
    """What to build.

    Attributes:
        domain: `a` or `b`.
        patients: Number of patients, at least 3: one for each split.
        frames: Number of frames in all, spread evenly over the patients.
        width: Frame width in px.
        height: Frame height in px.
        seed: Any number from 0.
    """

    domain: str
    patients: int
    frames: int
    width: int
    height: int
    seed: int

    def __post_init__(self) -> None:
        get_domain(self.domain)
        if self.patients < 3:
            raise ValueError(
                f"patients is {self.patients}: train, validation and test need one each, so at least 3"
            )
        if self.frames < self.patients:
            raise ValueError(
                f"frames is {self.frames}: {self.patients} patients need at least one frame each"
            )
        if self.seed < 0:
            raise ValueError(f"seed is {self.seed}: give a number from 0")
        for side in (self.width, self.height):
            if not _MIN_SIDE_PX <= side <= _MAX_SIDE_PX:
                raise ValueError(
                    f"size is {self.width}x{self.height}: sides must lie in {_MIN_SIDE_PX}..{_MAX_SIDE_PX} px"
                )

    def as_json(self) -> dict[str, Any]:
        """The request as JSON values, with the generator's version."""
        return {"set": "synthetic", "generator_version": GENERATOR_VERSION, **asdict(self)}


def split_of_patient(number: int, patients: int) -> str:
    """The split of a patient: the first about 70 % train, the next 10 % validation, the last 20 % test."""
    validation = max(1, round(VALIDATION_SHARE * patients))
    test = max(1, round(TEST_SHARE * patients))
    if number < patients - validation - test:
        return "train"
    return "validation" if number < patients - test else "test"


def frames_of_patient(number: int, patients: int, frames: int) -> int:
    """How many frames a patient has; the first ones have one more where it does not divide."""
    return frames // patients + (number < frames % patients)


def encode_jpeg(rgb: np.ndarray, name: str, quality: int = 92) -> dict[str, Any]:
    """(H, W, 3) uint8 RGB -> a value of an Image column, JPEG."""
    return _encode(name, ".jpg", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])


def encode_png(gray: np.ndarray, name: str) -> dict[str, Any]:
    """(H, W) uint8 or uint16 -> a value of an Image column, PNG, every number kept."""
    return _encode(name, ".png", gray, [cv2.IMWRITE_PNG_COMPRESSION, 4])


def _encode(name: str, suffix: str, picture: np.ndarray, options: list[int]) -> dict[str, Any]:
    done, encoded = cv2.imencode(suffix, picture, options)
    if not done:
        raise ValueError(f"{name}{suffix}: a picture of {picture.dtype} {picture.shape} cannot be encoded")
    return {"bytes": encoded.tobytes(), "path": name + suffix}


def frames_by_split(request: SyntheticRequest) -> dict[str, list[tuple[int, int]]]:
    """All frames of each split, in order, as (patient number, frame number)."""
    frames: dict[str, list[tuple[int, int]]] = {"train": [], "validation": [], "test": []}
    for number in range(request.patients):
        count = frames_of_patient(number, request.patients, request.frames)
        frames[split_of_patient(number, request.patients)] += [(number, frame) for frame in range(count)]
    return frames


def iterate_rows(
    request: SyntheticRequest, workers: int = 1, frames: Iterable[tuple[int, int]] | None = None
) -> Iterator[tuple[int, dict[str, Any]]]:
    """(patient number, row) of frames in order, rendered by `workers` processes.

    Args:
        request: Of which set.
        workers: Processes; their number does not change the rows.
        frames: (patient number, frame number) of each; None: all of the set.
    """
    if frames is None:
        frames = (frame for split in frames_by_split(request).values() for frame in split)
    tasks = [
        (request, number, some[first : first + _FRAMES_PER_TASK])
        for number, of_patient in groupby(frames, key=itemgetter(0))
        for some in [[frame for _, frame in of_patient]]
        for first in range(0, len(some), _FRAMES_PER_TASK)
    ]
    if workers <= 1:
        batches = map(_render_task, tasks)
        yield from (pair for batch in batches for pair in batch)
        return
    # Spawned, not forked: the ray tracer's and OpenCV's threads do not survive a fork.
    with multiprocessing.get_context("spawn").Pool(
        workers, initializer=cv2.setNumThreads, initargs=(1,)
    ) as pool:
        yield from (pair for batch in pool.imap(_render_task, tasks) for pair in batch)


def _render_task(task: tuple[SyntheticRequest, int, list[int]]) -> list[tuple[int, dict[str, Any]]]:
    request, number, frames = task
    patient = _patient(request.domain, request.seed, number)
    return [(number, render_row(patient, frame, request.width, request.height)) for frame in frames]


@lru_cache(maxsize=1)
def _patient(domain: str, seed: int, number: int) -> Patient:
    return build_patient(get_domain(domain), seed, number)


def render_row(patient: Patient, frame: int, width: int, height: int) -> dict[str, Any]:
    """One frame as a row of the schema, pictures encoded."""
    rendered = render_frame(patient, frame, width, height)
    frame_id = f"{patient.patient_id}-{frame:04d}"
    label = rasterize_landmarks(rendered.landmarks, width, height, PROTOCOL)
    camera = rendered.camera
    return {
        "image": encode_jpeg(rendered.image, frame_id),
        "label": encode_png(label, f"{frame_id}_label"),
        "landmarks": [
            {"category": landmark["category"], "points": landmark["points"].tolist()}
            for landmark in rendered.landmarks
        ],
        "depth": encode_png(rendered.depth, f"{frame_id}_depth"),
        "regions": encode_png(rendered.regions, f"{frame_id}_regions"),
        "camera": {"fx": camera.fx, "fy": camera.fy, "cx": camera.cx, "cy": camera.cy, "k": list(camera.k)},
        "patient_id": patient.patient_id,
        "frame_id": frame_id,
        "source": f"synthetic-{patient.domain.name}",
        "width": width,
        "height": height,
        "protocol": PROTOCOL.name,
        "stroke_width": PROTOCOL.native_stroke_width_px(width, height),
    }
