"""Memory that stays where it is while frames come and go."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="it is glibc's memory")

# The module alone: importing torch, as its package does, takes longer than the test.
_START = """
import runpy
import sys
from concurrent.futures import ThreadPoolExecutor
import numpy as np
import psutil
steady = runpy.run_path(sys.argv[1])

def resident_mib():
    return psutil.Process().memory_info().rss / 2**20
"""

# Rounds of as many frames, each of another size and gone before the next: resident MiB after each.
_ALL_GONE = """
steady["keep_memory_steady"]()
before = resident_mib()
for round in range(20):
    with ThreadPoolExecutor(4) as pool:
        rows = 2000 if round % 2 else 1000
        frames = list(pool.map(lambda value: np.full((rows, 2000, 3), value, np.uint8), range(8)))
    del frames
    print(resident_mib() - before)
"""

# Every second of a hundred blocks of so many bytes is kept: resident MiB with all, with those, and trimmed.
_SOME_KEPT = """
steady["keep_memory_steady"]()
before, size = resident_mib(), int(sys.argv[2])
blocks = [np.ones(size, np.uint8) for _ in range(100)]
print(resident_mib() - before)
kept = blocks[::2]
del blocks
print(resident_mib() - before)
steady["trim_memory"]()
print(resident_mib() - before)
"""


def run(repository, program, *arguments):
    """The numbers that a process of its own prints."""
    module = str(repository / "src" / "liver_landmark" / "utils" / "memory.py")
    command = [sys.executable, "-c", _START + program, module, *arguments]
    return [float(line) for line in subprocess.check_output(command, text=True).splitlines()]


def test_memory_of_frames_that_are_gone_is_kept_for_the_next(repository):
    left_mib = run(repository, _ALL_GONE)[2:]
    # Eight frames of 12 MB are 92 MiB, and some more where smaller ones lay between.
    assert min(left_mib) > 85
    assert max(left_mib) < 150
    assert max(left_mib) - min(left_mib) < 10


@pytest.mark.parametrize("size", [2**19, 2**21])
def test_memory_between_frames_that_are_kept_is_given_back_when_it_is_trimmed(repository, size):
    all_mib, kept_mib, trimmed_mib = run(repository, _SOME_KEPT, str(size))
    expected_mib = 100 * size / 2**20
    assert all_mib == pytest.approx(expected_mib, rel=0.1)
    assert kept_mib == pytest.approx(expected_mib, rel=0.1)
    assert trimmed_mib == pytest.approx(expected_mib / 2, rel=0.1)
