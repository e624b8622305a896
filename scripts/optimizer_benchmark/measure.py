"""All measurements of one run, gathered into the figures that are written and judged."""

from __future__ import annotations

import argparse
import datetime
import platform
import statistics
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from .matrices import SPECTRA, Shape, projected_shapes, real_gradients, synthetic_matrix
from .peers import PEERS, find_peers
from .refresh import Refresh, measure_refresh, refresh_methods, relative_energies
from .steps import UNREFRESHED, measure_staggered, measure_steps, random_parameters, state_bytes, steppers

# Refreshes are timed on this spectrum.
TIMED = "i^-1/2"
ADAMW = "adamw"
# Steps are short beside refreshes, and vary more.
STEPS_PER_ROUND = 5
MIB = 2**20


def machine_name(device: torch.device) -> str:
    """The processor's model, as the system names it."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _tell(progress: str) -> None:
    print(f"measuring {progress} …", file=sys.stderr, flush=True)


def select_methods(
    options: argparse.Namespace,
) -> tuple[dict[str, Refresh], dict[str, Any], dict[str, str], list[str]]:
    """The refresh methods and peers of this run, remarks on the peers, and all names that are measured.

    Raises:
        ValueError: a name that no method has.
    """
    every = [*refresh_methods(options.power_iterations, {}), *PEERS, ADAMW]
    wanted = options.methods or every
    unknown = [name for name in wanted if name not in every]
    if unknown:
        raise ValueError(f"--methods: {unknown[0]!r} is unknown: choose from {', '.join(every)}")
    peers, remarks = find_peers(name for name in PEERS if name in wanted)
    methods = refresh_methods(options.power_iterations, peers)
    methods = {name: method for name, method in methods.items() if name in wanted}
    return methods, peers, remarks, [*methods, *([ADAMW] if ADAMW in wanted else [])]


def _summary(ratios: list[float], weights: list[int]) -> dict[str, float]:
    mean = sum(ratio * weight for ratio, weight in zip(ratios, weights, strict=True)) / sum(weights)
    return {"mean": mean, "minimum": min(ratios)}


def measure_energies(
    methods: Mapping[str, Refresh], shapes: Mapping[str, Shape], options: argparse.Namespace
) -> dict[str, dict[str, dict[str, float]]]:
    """Spectrum -> method -> mean and minimum over the matrices of the energy relative to the SVD's.

    Of a synthetic spectrum, one matrix stands for all of its shape.
    """
    device = torch.device(options.device)
    counts = Counter(shapes.values())
    energies = {}
    for spectrum, exponent in SPECTRA.items():
        _tell(f"energy on {spectrum}")
        matrices = (synthetic_matrix(shape, exponent).to(device) for shape in counts)
        ratios = relative_energies(methods, matrices, options.rank)
        energies[spectrum] = {n: _summary(values, list(counts.values())) for n, values in ratios.items()}
    _tell("energy on the model's gradients")
    gradients = real_gradients(
        options.model, options.model_weights, options.gradient_size, list(shapes), device
    )
    ratios = relative_energies(methods, gradients, options.rank)
    energies["gradient"] = {n: _summary(values, [1] * len(values)) for n, values in ratios.items()}
    return energies


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Runs everything and returns the figures: JSON-serializable, times of every round included."""
    device = torch.device(options.device)
    methods, peers, remarks, names = select_methods(options)
    shapes = projected_shapes(options.model, options.quick)
    sizes = list(shapes.values())
    batched = device.type != "cpu"  # as the optimizer does by default
    _tell("refreshes")
    matrices = {shape: synthetic_matrix(shape, SPECTRA[TIMED]).to(device) for shape in dict.fromkeys(sizes)}
    refresh_s = measure_refresh(methods, matrices, sizes, options.rank, options.rounds, batched)
    del matrices
    energies = measure_energies(methods, shapes, options)

    _tell("steps")
    parameters = random_parameters(sizes, device)
    built = {
        name: (stepper, stepper.build(parameters, options.rank))
        for name, stepper in steppers(methods, peers, ADAMW in names).items()
    }
    optimizers = {name: optimizer for name, (_, optimizer) in built.items()}
    times_ms = measure_steps(optimizers, STEPS_PER_ROUND * options.rounds, device)
    steps = {
        method: {"step_ms": times_ms[name], "state_mib": state_bytes(optimizer) / MIB}
        for name, (stepper, optimizer) in built.items()
        for method in stepper.methods
    }
    del built, optimizers
    staggered = {}
    for name, method in methods.items():
        if method.staggered and options.stagger_gap:
            _tell(f"staggered refreshes, {name}")
            staggered[name] = measure_staggered(
                parameters, options.rank, options.stagger_gap, method.settings, device
            )
    if staggered:
        _tell("as many steps without a refresh")
        control = measure_staggered(parameters, options.rank, options.stagger_gap, UNREFRESHED, device)
    return {
        "model": str(options.model),
        "model_weights": None if options.model_weights is None else str(options.model_weights),
        "matrices": len(sizes),
        "parameters": sum(rows * columns for rows, columns in sizes),
        "rank": options.rank,
        "rounds": options.rounds,
        "gradient_size_px": options.gradient_size,
        "device": device.type,
        "machine": machine_name(device),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "date": datetime.date.today().isoformat(),
        "batched": batched,
        "peers": remarks,
        "spectra": list(energies),
        "methods": {
            name: _method_figures(name, methods.get(name), refresh_s, energies, steps) for name in names
        },
        "staggered": staggered,
        "unrefreshed": control if staggered else None,
    }


def _method_figures(
    name: str,
    method: Refresh | None,
    refresh_s: Mapping[str, list[float]],
    energies: Mapping[str, Mapping[str, dict[str, float]]],
    steps: Mapping[str, dict[str, Any]],
) -> dict[str, Any]:
    step = steps.get(name, {"step_ms": None, "state_mib": None})
    times = refresh_s.get(name)
    return {
        "label": "torch.optim.AdamW" if method is None else method.label,
        "own": method is not None and bool(method.settings),
        "refresh_s": times,
        "refresh_median_s": None if times is None else statistics.median(times),
        "energy": {spectrum: values[name] for spectrum, values in energies.items() if name in values},
        "step_ms": step["step_ms"],
        "step_median_ms": None if step["step_ms"] is None else statistics.median(step["step_ms"]),
        "state_mib": step["state_mib"],
    }
