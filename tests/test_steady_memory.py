"""Memory that stays where it is while frames come and go."""

from __future__ import annotations

import subprocess
import sys

import pytest

# Rounds of as many frames, each of another size and gone before the next: resident MiB after each.
_PROGRAM = """
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
import numpy as np
from liver_landmark.steady_memory import keep_memory_steady

def resident_mib():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS"))

if sys.argv[1] == "steady":
    keep_memory_steady()
before = resident_mib()
for round in range(20):
    with ThreadPoolExecutor(4) as pool:
        rows = 2000 if round % 2 else 1000
        frames = list(pool.map(lambda value: np.full((rows, 2000, 3), value, np.uint8), range(8)))
    del frames
    print(resident_mib() - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc")
def test_memory_of_frames_that_are_gone_is_kept_for_the_next():
    output = subprocess.check_output([sys.executable, "-c", _PROGRAM, "steady"], text=True)
    left_mib = [float(line) for line in output.splitlines()][2:]
    # Eight frames of 12 MB are 92 MiB, and some more where smaller ones lay between.
    assert min(left_mib) > 85
    assert max(left_mib) < 150
    assert max(left_mib) - min(left_mib) < 10
