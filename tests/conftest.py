"""What every test shares: no network, passive threads, and where the optional real frame lies."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

# The same examples in each run, so that no change is accepted or refused by luck; `search` draws others.
# No deadlines: a busy machine is not a defect.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.register_profile("search", print_blob=True, deadline=None)
settings.load_profile("repeatable")

# Set before torch and the Hub client are imported: OpenMP threads that wait actively collapse when
# anything else uses a core, and no test may reach for the network.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# Bit-for-bit comparisons hold for one number of threads: sums are split among them.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the checkout."""
    return REPOSITORY


@pytest.fixture(scope="session")
def p2ilf_sample() -> Path:
    """The P2ILF challenge's public sample: images/, 2D_contours/, camera.json.

    It is not part of this repository: LIVER_LANDMARK_P2ILF_SAMPLE names its folder, else it is looked
    for beside the checkout, and tests that want it are skipped where it is missing.
    """
    default = REPOSITORY.parent / "shared" / "data" / "p2ilf_sample"
    folder = Path(os.environ.get("LIVER_LANDMARK_P2ILF_SAMPLE", default))
    if not folder.is_dir():
        pytest.skip("the P2ILF sample is not there: set LIVER_LANDMARK_P2ILF_SAMPLE to its folder")
    return folder
