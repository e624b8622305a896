"""What the benchmarks share: options, the machine in words, timing, memory, and 1080p synthetic landmarks."""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

# Frames of this size are measured; they are rendered at a quarter of it and enlarged.
WIDTH, HEIGHT = 1920, 1080
ENLARGED = 4
MIB = 2**20


def positive_int(text: str) -> int:
    """An argparse type: an integer of at least 1."""
    try:
        value = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not an integer") from None
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {value}")
    return value


def new_parser(doc: str) -> argparse.ArgumentParser:
    """A parser that shows a benchmark's docstring as it is written."""
    return argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)


def add_threads(parser: argparse.ArgumentParser, default: int | None = None) -> None:
    """Adds --threads, by default as many as torch takes."""
    default = default or torch.get_num_threads()
    parser.add_argument(
        "--threads", type=positive_int, default=default, help="of torch; default: %(default)s"
    )


def add_output(parser: argparse.ArgumentParser) -> None:
    """Adds --output FILE.json."""
    parser.add_argument(
        "--output", type=Path, metavar="FILE.json", help="also write the figures to this file"
    )


def machine_name(device: str = "cpu") -> str:
    """The model of the processor, or of the GPU, as the system names it."""
    if device == "cuda":
        return torch.cuda.get_device_name()
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.is_file() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def environment(device: str = "cpu") -> dict[str, Any]:
    """Where figures come from: {"machine", "threads", "torch"}."""
    return {
        "machine": machine_name(device),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }


def seconds_of(
    call: Callable[[], object], device: str = "cpu", clock: Callable[[], float] = time.perf_counter
) -> float:
    """Time that a call takes, including the work that it leaves on a GPU."""
    if device == "cuda":
        torch.cuda.synchronize()
    start = clock()
    call()
    if device == "cuda":
        torch.cuda.synchronize()
    return clock() - start


def interleave(
    measurements: Mapping[str, Callable[[int], float]], rounds: int, warm_ups: int = 0
) -> dict[str, list[float]]:
    """Results of each measurement by round.

    Every round takes all measurements, so that a slow spell of the machine affects all of them. Each gets the
    number of the round, from -`warm_ups`; rounds below 0 are left out of the result.
    """
    results: dict[str, list[float]] = {name: [] for name in measurements}
    for turn in range(-warm_ups, rounds):
        for name, measure in measurements.items():
            value = measure(turn)
            if turn >= 0:
                results[name].append(value)
    return results


def call_ms(
    calls: Mapping[str, Callable[[], object]],
    rounds: int,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Milliseconds of each call by round, after one round that warms up caches and allocators."""
    measurements = {
        name: (lambda _, call=call: 1000 * seconds_of(call, clock=clock)) for name, call in calls.items()
    }
    return interleave(measurements, rounds, warm_ups=1)


def median_ratio(numerators: Sequence[float], denominators: Sequence[float]) -> float:
    """The median over rounds of each round's ratio: rounds differ more than what lies within one."""
    return statistics.median(a / b for a, b in zip(numerators, denominators, strict=True))


def process_mib(pid: int, field: str) -> float | None:
    """Memory of a process in MiB: `VmRSS` now, `VmHWM` at its peak; None when it has ended. Linux only."""
    if not Path("/proc/self/status").is_file():
        raise RuntimeError("the memory of a process is read from /proc, which this system does not have")
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    except (FileNotFoundError, ProcessLookupError):
        return None
    kib = (int(line.split()[1]) for line in status.splitlines() if line.startswith(f"{field}:"))
    return next((value / 1024 for value in kib), None)


def state_bytes(optimizer: torch.optim.Optimizer) -> int:
    """Bytes that the optimizer's state keeps alive.

    Each storage counts once and as a whole, however small the view of it. Tensors are found in containers
    and in the attributes of objects, such as a projector.
    """
    storages = (tensor.untyped_storage() for tensor in _tensors(list(optimizer.state.values()), set()))
    unique = {(storage.device, storage.data_ptr()): storage.nbytes() for storage in storages}
    return sum(unique.values())


def _tensors(value: Any, seen: set[int]) -> Iterator[torch.Tensor]:
    if id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, torch.Tensor):
        yield value
        return
    if isinstance(value, list | tuple):
        parts = value
    else:
        parts = (value if isinstance(value, Mapping) else getattr(value, "__dict__", {})).values()
    for part in list(parts):
        yield from _tensors(part, seen)


def enlarged(landmarks: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Landmarks of a frame that is enlarged ENLARGED times: points in px of the larger frame."""
    return [
        {
            "category": mark["category"],
            "points": (np.asarray(mark["points"], dtype=float) + 0.5) * ENLARGED - 0.5,
        }
        for mark in landmarks
    ]


def markdown_table(rows: Sequence[Sequence[str]], align: str = "---") -> str:
    """A Markdown table of a header and lines; `align` is the rule of the columns after the first."""
    rule = ["---", *([align] * (len(rows[0]) - 1))]
    return "\n".join("| " + " | ".join(row) + " |" for row in (rows[0], rule, *rows[1:]))
