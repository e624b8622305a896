"""One synthetic patient: an abdomen that all of its frames show."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from . import tissue
from .domains import Domain
from .liver import Liver, build_liver, sample_liver_shape
from .raycast import Scene
from .surfaces import Region, Surface, bumped_normals
from .surroundings import build_surroundings

LIVER_ATLAS = (544, 544)
_PATIENT_STREAM, _FRAME_STREAM = 0, 1


@dataclass(frozen=True)
class Patient:
    """An abdomen. `scene.surfaces[0]` is the liver."""

    patient_id: str
    domain: Domain
    seed: int
    number: int
    liver: Liver
    scene: Scene

    def frame_rng(self, frame: int) -> np.random.Generator:
        """The generator of one frame, the same whichever other frames are made."""
        return _generator(self.seed, self.domain, self.number, _FRAME_STREAM, frame)


def _generator(seed: int, domain: Domain, number: int, *stream: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(domain.index, number, *stream)))


def build_patient(domain: Domain, seed: int, number: int) -> Patient:
    """The patient of that number, the same whichever others are made."""
    rng = _generator(seed, domain, number, _PATIENT_STREAM)
    liver = build_liver(rng, sample_liver_shape(rng, domain))
    parenchyma = tissue.liver_color(rng, domain)
    albedo, relief = tissue.liver_tissue(rng, domain, liver, parenchyma, LIVER_ATLAS)
    normals = bumped_normals(liver.points, relief, LIVER_ATLAS)
    surface = Surface(Region.LIVER, liver.points, normals, albedo, float(rng.uniform(0.5, 1.0)))
    scene = Scene([surface, *build_surroundings(rng, domain, liver, parenchyma)])
    return Patient(f"synthetic-{domain.name}-{number:03d}", domain, seed, number, liver, scene)
