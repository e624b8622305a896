"""Memory of a prediction that runs by itself, against the frames that it has done."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

_STRETCH_FRAMES = 100


def watch_prediction(arguments: list[str], masks: Path, every_s: float = 0.5) -> list[tuple[int, float]]:
    """Runs `liver-landmark predict` in a process of its own.

    Args:
        arguments: Of the command, after `predict`.
        masks: Folder where the video's masks will lie, one a frame.
        every_s: Seconds between samples.

    Returns:
        (frames done, resident MiB) in order.

    Raises:
        RuntimeError: the command failed.
    """
    command = [sys.executable, "-m", "liver_landmark.cli", "predict", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    samples: list[tuple[int, float]] = []
    while process.poll() is None:
        resident = _resident_mib(process.pid)
        if resident is not None:
            samples.append((sum(1 for _ in masks.iterdir()) if masks.is_dir() else 0, resident))
        time.sleep(every_s)
    errors = process.stderr.read()
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}: {errors[-500:]}")
    return samples


def _resident_mib(pid: int) -> float | None:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return None
    for line in status.splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return None


def summary(samples: list[tuple[int, float]], early_frame: int) -> dict[str, float]:
    """Resident MiB about `early_frame` and later.

    What lies between the stages comes and goes from one moment to the next; what grows would show in the
    highest values of stretches of 100 frames: `change` is the largest difference of one from the early one's.
    """
    highest: dict[int, float] = {}
    for done, mib in samples:
        stretch = done // _STRETCH_FRAMES
        highest[stretch] = max(highest.get(stretch, 0.0), mib)
    first = early_frame // _STRETCH_FRAMES
    last = max(highest)
    if first not in highest or first == last:
        raise RuntimeError(f"no sample about frame {early_frame}, or none after it: the run was too short")
    after = [mib for stretch, mib in highest.items() if stretch >= first]
    return {
        "early": round(highest[first], 1),
        "end": round(highest[last], 1),
        "highest": round(max(after), 1),
        "lowest_moment": round(min(mib for done, mib in samples if done >= early_frame), 1),
        "change": round(max(abs(mib - highest[first]) for mib in after), 1),
        "frames": max(done for done, _ in samples),
    }
