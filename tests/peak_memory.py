"""The most memory that a program has taken, measured within it."""

from __future__ import annotations

from pathlib import Path

import pytest

# To be put in front of a program that a test starts. Not `ru_maxrss`: on Linux that begins with what the
# process had that started it, which here is pytest after all tests before.
PEAK_MIB = """
def peak_mib():
    with open("/proc/self/status", encoding="ascii") as status:
        return next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmHWM"))
"""

needs_proc = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
