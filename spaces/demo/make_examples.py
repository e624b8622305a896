"""Renders the example frames:  python spaces/demo/make_examples.py

Frames of the synthetic benchmark, of patients that no split of the quick start has; needs the extra `train`.
"""

from __future__ import annotations

import sys

import numpy as np
from demo_examples import FOLDER
from PIL import Image

from liver_landmark.synthetic import build_patient, get_domain, render_frame
from liver_landmark.utils.atomic_files import new_folder

WIDTH, HEIGHT = 960, 540
# Domain, patient, frame; the seed is the benchmark's no more than its patients are.
SEED = 20_000
CHOSEN = (("a", 3, 0), ("a", 5, 1), ("b", 3, 0), ("b", 6, 2))


def render(domain: str, patient: int, frame: int) -> np.ndarray:
    """(HEIGHT, WIDTH, 3) uint8 RGB."""
    return render_frame(build_patient(get_domain(domain), SEED, patient), frame, WIDTH, HEIGHT).image


def main() -> int:
    """Writes examples/ beside this file; 1 where it is there already."""
    if FOLDER.exists():
        print(f"error: {FOLDER} is there already: remove it to render again", file=sys.stderr)
        return 1
    with new_folder(FOLDER) as folder:
        for domain, patient, frame in CHOSEN:
            path = folder / f"rendered_{domain}{patient}_{frame}.jpg"
            Image.fromarray(render(domain, patient, frame)).save(path, quality=90)
    print(f"{len(CHOSEN)} frames in {FOLDER}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
