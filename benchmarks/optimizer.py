"""Measures SRFT-GaLore's projectors and other packages' over all matrices that a model's optimizer projects.

    python benchmarks/optimizer.py --threads 2 --output FILE.json --markdown FILE.md --plot FILE.png

For every method: how long a refresh of all projections takes, how long a step between refreshes, what the
optimizer's state holds, and how much of a gradient's energy is captured relative to the SVD, on spectra
σᵢ = 1/i and i^-1/2 and on the model's own gradients. Runs are interleaved: each round takes every method
once over all matrices, figures are medians over rounds, ratios are taken within rounds. For a warm start
the former gradient is √(1 - d²) · G + d · G', where G' has G's singular values and unrelated singular
vectors.
Other optimizers (galore-torch, pytorch-optimizer, apollo-torch) are measured where they are installed.
"""

from __future__ import annotations

import argparse
import datetime
import importlib
import importlib.metadata
import importlib.util
import statistics
import sys
import types
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModel

from liver_landmark import LiverLandmarkImageProcessor
from liver_landmark.curves import get_protocol, rasterize_landmarks
from liver_landmark.optim import SRFTGaLoreAdamW, compute_basis, galore_param_groups
from liver_landmark.optim.basis import find_basis
from liver_landmark.synthetic.anatomy import build_patient
from liver_landmark.synthetic.domains import get_domain
from liver_landmark.synthetic.render import render_frame
from liver_landmark.utils.atomic_files import atomic_path, write_json
from shared import (
    MIB,
    add_threads,
    environment,
    interleave,
    markdown_table,
    median_ratio,
    new_parser,
    positive_int,
    seconds_of,
    state_bytes,
)

Shape = tuple[int, int]
# (gradient, rank, seed, former basis or None) -> basis
Compute = Callable[[torch.Tensor, int, int, torch.Tensor | None], torch.Tensor]
Parameters = list[torch.nn.Parameter]

# Singular values σᵢ = i^-exponent. Refreshes are timed on the first of them.
SPECTRA = {"i^-1/2": 0.5, "1/i": 1.0}
TIMED = "i^-1/2"
QUICK_MATRICES = 6
ADAMW = "adamw"
# Steps are short beside refreshes, and vary more.
STEPS_PER_ROUND = 5
# More steps than any run takes: after the first one, nothing is refreshed.
NEVER = 10**9
# What the machine alone does to the longest of as many steps.
UNREFRESHED = {"update_proj_gap": NEVER, "stagger": False}
# Equal work for all: APOLLO and GaLore leave the decay out where it is 0.
SETTINGS = {"lr": 1e-5, "weight_decay": 0.01}
# The targets speak of SAM 2.1 Large's attention (matrices, their entries) at this rank.
TARGET_LIST = (96, 68_553_216)
TARGET_RANK = 128
# Other packages: distribution -> the module of it that is measured.
PEERS = {
    "galore-torch": "galore_torch.adamw",
    "pytorch-optimizer": "pytorch_optimizer.optimizer.galore",
    "apollo-torch": "apollo_torch.apollo",
}
# What the packages' own __init__ imports for optimizers that are not measured (8-bit ones).
UNNEEDED = ("bitsandbytes",)


# Matrices: a configuration's shapes, matrices of known spectra, real gradients.


def projected_shapes(folder: Path, quick: bool) -> dict[str, Shape]:
    """Shapes of the matrices that the model's optimizer projects by default, by name, in its order.

    `quick` keeps the smallest few. Nothing is allocated: the model is built on the meta device.
    """
    with torch.device("meta"):
        model = AutoModel.from_config(AutoConfig.from_pretrained(folder))
    shapes = {name: tuple(weight.shape) for name, weight in galore_param_groups(model)[0]["params"]}
    if quick:
        smallest = sorted(shapes, key=lambda name: (shapes[name][0] * shapes[name][1], name))
        shapes = {name: shape for name, shape in shapes.items() if name in smallest[:QUICK_MATRICES]}
    return shapes


def synthetic_matrix(shape: Shape, exponent: float, seed: int = 0) -> torch.Tensor:
    """A float32 matrix (m, n) with singular values i^-exponent and uniformly random singular vectors."""
    generator = torch.Generator().manual_seed(seed)
    left, right = (torch.linalg.qr(torch.randn(size, min(shape), generator=generator)).Q for size in shape)
    values = torch.arange(1, min(shape) + 1, dtype=torch.float32) ** -exponent
    return (left * values) @ right.T


def drifted(matrix: torch.Tensor, drift: float, seed: int) -> torch.Tensor:
    """√(1 - d²) · G + d · G', where G' has G's singular values and unrelated singular vectors.

    Args:
        matrix: G (m, n).
        drift: d, by which the result differs from G: 0.1 is 10 %, 1 a wholly different matrix.
        seed: Of G' = Π₁ G Π₂, with random permutations and signs Π.
    """
    generator = torch.Generator().manual_seed(seed)
    other = matrix
    for axis, size in enumerate(matrix.shape):
        order = torch.randperm(size, generator=generator).to(matrix.device)
        signs = (torch.randint(0, 2, (size,), generator=generator) * 2 - 1).to(matrix)
        other = other.index_select(axis, order) * (signs if axis else signs.unsqueeze(1))
    return (1 - drift**2) ** 0.5 * matrix + drift * other


def real_gradients(options: argparse.Namespace, names: Iterable[str]) -> list[torch.Tensor]:
    """The loss's gradients with respect to the named matrices, for one synthetic frame.

    Raises:
        ValueError: a gradient that is zero or not finite: nothing can be said of its spectrum.
    """
    if options.model_weights is None:
        torch.manual_seed(0)
        model = AutoModel.from_config(AutoConfig.from_pretrained(options.model))
    else:
        model = AutoModel.from_pretrained(options.model_weights)
    model = model.float().to(options.device).eval().requires_grad_(False)
    parameters = {name: model.get_parameter(name).requires_grad_() for name in names}
    size_px = options.gradient_size
    frame = render_frame(build_patient(get_domain("a"), seed=0, number=0), 0, size_px, size_px)
    mask = rasterize_landmarks(frame.landmarks, size_px, size_px, get_protocol("synthetic"))
    processor = LiverLandmarkImageProcessor.from_pretrained(options.model_weights or options.model)
    size = {"height": size_px, "width": size_px}
    inputs = processor(images=[frame.image], segmentation_maps=[mask], size=size, return_tensors="pt")
    model(**{key: value.to(options.device) for key, value in inputs.items()}).loss.backward()
    for name, parameter in parameters.items():
        norm = float(parameter.grad.norm())
        if not 0 < norm < float("inf"):
            raise ValueError(f"{name}: the norm of its gradient is {norm}: choose other --model-weights")
    return [parameter.grad.detach() for parameter in parameters.values()]


# Other packages, where they are installed.


def import_peer(module: str) -> types.ModuleType:
    """Imports a module, without its package's `__init__` where only that lacks something unneeded.

    Raises:
        ImportError: the package, or something that the module itself needs, is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name not in UNNEEDED:
            raise
    package = module.split(".")[0]
    bare = types.ModuleType(package)
    bare.__path__ = list(importlib.util.find_spec(package).submodule_search_locations)
    sys.modules[package] = bare
    try:
        return importlib.import_module(module)
    finally:
        # Whoever imports the package later gets the whole of it, or its own error.
        del sys.modules[package]


def find_peers(wanted: Iterable[str]) -> tuple[dict[str, types.ModuleType], dict[str, str]]:
    """The modules of the wanted peers, and of each peer its version or why it cannot be measured."""
    modules, remarks = {}, {}
    for name in wanted:
        try:
            modules[name] = import_peer(PEERS[name])
            remarks[name] = f"version {importlib.metadata.version(name)}"
        except ImportError as error:
            remarks[name] = f"not installed: {error}"
    return modules, remarks


# Refreshes: what they cost, and how much of the gradient the new projections capture.


@dataclass(frozen=True)
class Refresh:
    """A way to get a projection.

    Attributes:
        label: What tables call it.
        compute: Gradient (…, m, n), rank, seed and former basis in; the basis out.
        side: The side that it projects: `longer` gives (long, k), `shorter` (short, k) or its transpose.
        orthonormal: Whether the projection is one in the mathematical sense, so that it captures energy.
        drift: By how much the former gradient differs, for a warm start; None: there is none.
        former_refreshes: Warm starts before the one that is measured, on gradients that drift likewise.
        settings: What SRFTGaLoreAdamW takes to refresh like this, stacks of equal shapes at once; empty for
            what is not this package's own.
        staggered: Whether a run with refreshes spread over steps is measured too.
    """

    label: str
    compute: Compute
    side: str = "longer"
    orthonormal: bool = True
    drift: float | None = None
    former_refreshes: int = 0
    settings: dict[str, Any] = field(default_factory=dict)
    staggered: bool = False


def published_basis(
    gradient: torch.Tensor, rank: int, seed: int, start: torch.Tensor | None = None
) -> torch.Tensor:
    """The published way to an SRFT basis of the longer side, as plainly as it can be written.

    Complex Fourier transform of all columns after random signs, `rank` of its bins, complex QR, the real
    and imaginary parts as interleaved real columns, real QR, the first `rank` columns. It has no warm start.
    """
    matrix = gradient if gradient.shape[0] >= gradient.shape[1] else gradient.T
    generator = torch.Generator().manual_seed(seed)
    size = matrix.shape[1]
    signs = (torch.randint(0, 2, (size,), generator=generator) * 2 - 1).to(matrix)
    bins = torch.randperm(size, generator=generator)[:rank].to(matrix.device)
    spectrum = torch.fft.fft((matrix * signs).to(torch.complex64), dim=1, norm="ortho")
    basis = torch.linalg.qr(spectrum[:, bins]).Q
    interleaved = torch.view_as_real(basis).flatten(start_dim=1)
    return torch.linalg.qr(interleaved).Q[:, :rank]


def _own(
    label: str,
    proj_type: str,
    *,
    power_iterations: int = 0,
    drift: float | None = None,
    former_refreshes: int = 0,
    staggered: bool = False,
) -> Refresh:
    settings: dict[str, Any] = {"proj_type": proj_type, "power_iterations": power_iterations}

    def compute(gradient: torch.Tensor, rank: int, seed: int, start: torch.Tensor | None) -> torch.Tensor:
        if gradient.dim() == 2:
            return compute_basis(gradient, rank, seed=seed, start=start, **settings)
        # As the optimizer does it: a stack of equal shapes at once, every matrix with its own draws.
        columns = gradient if gradient.shape[-2] >= gradient.shape[-1] else gradient.mT
        seeds = [seed + index for index in range(len(gradient))]
        return find_basis(columns, min(rank, *gradient.shape[-2:]), seeds, start=start, **settings)

    warm = {} if drift is None else {"warm_start": True}
    return Refresh(
        label,
        compute,
        drift=drift,
        former_refreshes=former_refreshes,
        settings=settings | warm,
        staggered=staggered,
    )


def _shorter_side(project: Callable[[torch.Tensor, int, str, int], torch.Tensor]) -> Compute:
    """GaLore's `std`: rows are mixed where the matrix is wide, columns where it is tall or square."""

    def compute(gradient: torch.Tensor, rank: int, seed: int, start: torch.Tensor | None) -> torch.Tensor:
        side = "right" if gradient.shape[0] >= gradient.shape[1] else "left"
        return project(gradient, rank, side, seed)

    return compute


def refresh_methods(power_iterations: int, peers: Mapping[str, types.ModuleType]) -> dict[str, Refresh]:
    """All ways to refresh, by the name that `--methods` knows them by."""
    power = f"srft, {power_iterations} power iteration{'s' * (power_iterations > 1)}"
    methods = {
        "srft": _own("srft", "srft", staggered=True),
        f"srft_power_{power_iterations}": _own(
            power, "srft", power_iterations=power_iterations, staggered=True
        ),
        "srft_warm_10": _own("srft, warm start, moved by 10 %", "srft", drift=0.1, staggered=True),
        "srft_warm_10_fifth": _own(
            "srft, fifth warm start, moved by 10 %", "srft", drift=0.1, former_refreshes=4
        ),
        "srft_warm_wholly": _own("srft, warm start, moved wholly", "srft", drift=1.0),
        **{name: _own(name, name) for name in ("srft_energy", "srft_oblivious", "gaussian", "svd")},
        "paper": Refresh("the published way", published_basis),
    }
    if "galore-torch" in peers:
        projector = peers["galore-torch"].GaLoreProjector
        galore = _shorter_side(lambda g, k, side, _: projector(k).get_orthogonal_matrix(g, k, type=side))
        methods["galore-torch"] = Refresh("galore-torch", galore, "shorter")
    if "pytorch-optimizer" in peers:
        ported = peers["pytorch-optimizer"].GaLoreProjector
        port = _shorter_side(lambda g, k, side, _: ported(k).get_orthogonal_matrix(g, side))
        methods["pytorch-optimizer"] = Refresh("pytorch-optimizer GaLore", port, "shorter")
    if "apollo-torch" in peers:
        random = peers["apollo-torch"].GradientProjector
        apollo = _shorter_side(
            lambda g, k, side, seed: random(k, seed=seed).get_orthogonal_matrix(g, k, side, seed)
        )
        methods["apollo-torch"] = Refresh("apollo-torch", apollo, "shorter", orthonormal=False)
    return methods


def former_basis(method: Refresh, gradient: torch.Tensor, rank: int, seed: int) -> torch.Tensor | None:
    """The basis that a warm start finds: of gradients that drifted until they became `gradient`."""
    if method.drift is None:
        return None
    past = [gradient]
    for step in range(method.former_refreshes + 1):
        past.append(drifted(past[-1], method.drift, seed=1000 * seed + step))
    basis = None  # the first of them all starts cold
    for former in reversed(past[1:]):
        basis = method.compute(former, rank, seed, basis)
    return basis


def captured_energy(gradient: torch.Tensor, basis: torch.Tensor, side: str) -> float:
    """‖PᵀG‖² / ‖G‖² for an orthonormal basis P of the gradient's longer or shorter side."""
    rows_are_longer = gradient.shape[0] >= gradient.shape[1]
    matrix = gradient if (side == "longer") == rows_are_longer else gradient.T
    if basis.shape[0] != matrix.shape[0]:
        basis = basis.T  # GaLore stores a right projection as k rows
    return float((basis.T @ matrix).double().square().sum() / matrix.double().square().sum())


def best_energy(gradient: torch.Tensor, rank: int) -> float:
    """The most that any rank-k projection captures: the leading singular values' share."""
    energy = torch.linalg.svdvals(gradient).double().square()
    return float(energy[:rank].sum() / energy.sum())


def relative_energies(
    methods: Mapping[str, Refresh], gradients: Iterable[torch.Tensor], rank: int
) -> dict[str, list[float]]:
    """Of every gradient the captured energy relative to the best possible, by method."""
    energies: dict[str, list[float]] = {name: [] for name, m in methods.items() if m.orthonormal}
    if not energies:
        return {}
    for seed, gradient in enumerate(gradients):
        best = best_energy(gradient, rank)
        for name, values in energies.items():
            method = methods[name]
            start = former_basis(method, gradient, rank, seed)
            basis = method.compute(gradient, rank, seed, start)
            values.append(captured_energy(gradient, basis, method.side) / best)
    return energies


def measure_refresh(
    methods: Mapping[str, Refresh],
    matrices: Mapping[Shape, torch.Tensor],
    shapes: list[Shape],
    rank: int,
    rounds: int,
    stacked: bool,
) -> dict[str, list[float]]:
    """Seconds that the refresh of the whole list takes, by method and round.

    Matrices of one shape share their entries. Former bases are made beforehand; stacks are too, as the
    optimizer's are made of gradients that exist.
    """
    device = next(iter(matrices.values())).device.type

    def prepare(method: Refresh) -> Callable[[int], float]:
        starts = {s: former_basis(method, matrix, rank, 0) for s, matrix in matrices.items()}
        work = [(shape, 1) for shape in shapes]  # (shape, how many of it at once)
        if stacked and method.settings:
            work = list(Counter(shapes).items())

        def one(shape: Shape, count: int, seed: int) -> float:
            gradient, start = matrices[shape], starts[shape]
            if count > 1:
                gradient = gradient.expand(count, *shape).contiguous()
                start = None if start is None else start.expand(count, *start.shape).contiguous()
            return seconds_of(lambda: method.compute(gradient, rank, seed, start), device)

        for shape in matrices:  # plans, kernels and allocators warm up
            one(shape, 1, 0)
        return lambda turn: sum(one(*item, turn * len(shapes) + seed) for seed, item in enumerate(work))

    return interleave({name: prepare(method) for name, method in methods.items()}, rounds)


# Steps: what they cost between refreshes and over a cycle of them, and what the state holds.


def stepped_as(name: str, method: Refresh) -> str | None:
    """The optimizer whose steps are the method's. Own projectors that store a basis share one.

    They differ at refreshes only. None: no optimizer refreshes like this.
    """
    if method.settings:
        return name if name == "srft_oblivious" else "srft"
    return name if name in PEERS else None


def build_optimizers(
    names: Iterable[str], peers: Mapping[str, types.ModuleType], parameters: Parameters, rank: int
) -> dict[str, torch.optim.Optimizer]:
    """The optimizers that `stepped_as` names, or `adamw`; they refresh at their first step only."""

    def peer(kind: str, quiet: Mapping[str, Any], **group: Any) -> Callable[[str], torch.optim.Optimizer]:
        groups = [{"params": parameters, "rank": rank, "update_proj_gap": NEVER, "scale": 1.0, **group}]
        return lambda name: getattr(peers[name], kind)(groups, **SETTINGS, **quiet)

    def own(name: str) -> torch.optim.Optimizer:
        return SRFTGaLoreAdamW(parameters, rank=rank, proj_type=name, **UNREFRESHED, **SETTINGS)

    # Two of them warn that transformers' AdamW, which they derive from, is deprecated.
    quiet = {"no_deprecation_warning": True}
    builders: dict[str, Callable[[str], torch.optim.Optimizer]] = {
        "srft": own,
        "srft_oblivious": own,
        "galore-torch": peer("AdamW", quiet, proj_type="std"),
        "pytorch-optimizer": peer("GaLore", {}, projection_type="std"),
        "apollo-torch": peer("AdamW", quiet, proj_type="std", proj="random", scale_type="channel"),
        ADAMW: lambda _: torch.optim.AdamW(parameters, **SETTINGS),
    }
    return {name: builders[name](name) for name in names}


def random_parameters(shapes: list[Shape], device: str = "cpu") -> Parameters:
    """Parameters of these shapes with normal entries, and gradients that are normal too."""
    generator = torch.Generator().manual_seed(0)
    parameters = []
    for shape in shapes:
        parameter = torch.nn.Parameter((0.02 * torch.randn(shape, generator=generator)).to(device))
        parameter.grad = (0.01 * torch.randn(shape, generator=generator)).to(device)
        parameters.append(parameter)
    return parameters


def measure_steps(
    optimizers: Mapping[str, torch.optim.Optimizer], steps: int, device: str = "cpu"
) -> dict[str, list[float]]:
    """Milliseconds of each step between refreshes; each round takes one step with each optimizer.

    The first step, which refreshes, and a second one are taken before.
    """
    measurements = {
        name: (lambda _, optimizer=optimizer: 1000 * seconds_of(optimizer.step, device))
        for name, optimizer in optimizers.items()
    }
    return interleave(measurements, steps, warm_ups=2)


def measure_staggered(
    parameters: Parameters, rank: int, gap: int, settings: Mapping[str, Any], device: str = "cpu"
) -> dict[str, Any]:
    """How evenly the refreshes are spread over two cycles of `gap` steps, after the first step.

    Returns:
        `step_ms` in order, their `median_ms` and `max_ms`; `max_over_median`; and `repeated_max_ms`, the
        largest over a cycle's positions of the quicker one of the two cycles: equal work is done at both,
        so that a disturbance of the machine does not count.
    """
    group = {"update_proj_gap": gap, "stagger": True} | settings
    optimizer = SRFTGaLoreAdamW(parameters, rank=rank, **group, **SETTINGS)
    first_ms, *step_ms = (1000 * seconds_of(optimizer.step, device) for _ in range(2 * gap + 1))
    median_ms = statistics.median(step_ms)
    repeated_max_ms = max(map(min, step_ms[:gap], step_ms[gap:]))
    return {
        "gap": gap,
        "first_step_ms": first_ms,
        "median_ms": median_ms,
        "max_ms": max(step_ms),
        "max_over_median": max(step_ms) / median_ms,
        "repeated_max_ms": repeated_max_ms,
        "repeated_max_over_median": repeated_max_ms / median_ms,
        "step_ms": step_ms,
    }


# One run: all measurements, gathered into the figures that are judged and written.


def _tell(progress: str) -> None:
    print(f"measuring {progress} …", file=sys.stderr, flush=True)


def measure_energies(
    methods: Mapping[str, Refresh], shapes: Mapping[str, Shape], options: argparse.Namespace
) -> dict[str, dict[str, dict[str, float]]]:
    """Spectrum -> method -> mean and minimum over the matrices of the energy relative to the SVD's.

    Of a synthetic spectrum, one matrix stands for all of its shape.
    """

    def summaries(matrices: Iterable[torch.Tensor], weights: list[int]) -> dict[str, dict[str, float]]:
        return {
            name: {"mean": statistics.fmean(ratios, weights), "minimum": min(ratios)}
            for name, ratios in relative_energies(methods, matrices, options.rank).items()
        }

    counts = Counter(shapes.values())
    energies = {}
    for spectrum, exponent in SPECTRA.items():
        _tell(f"energy on {spectrum}")
        matrices = (synthetic_matrix(shape, exponent).to(options.device) for shape in counts)
        energies[spectrum] = summaries(matrices, list(counts.values()))
    _tell("energy on the model's gradients")
    energies["gradient"] = summaries(real_gradients(options, shapes), [1] * len(shapes))
    return energies


def measure_all_steps(
    methods: Mapping[str, Refresh],
    peers: Mapping[str, types.ModuleType],
    parameters: Parameters,
    options: argparse.Namespace,
) -> dict[str, dict[str, Any]]:
    """Optimizer -> the times of its steps and its state in MiB."""
    _tell("steps")
    names = [name for name in dict.fromkeys(stepped_as(*item) for item in methods.items()) if name]
    names += [ADAMW] if ADAMW in options.methods else []
    optimizers = build_optimizers(names, peers, parameters, options.rank)
    times_ms = measure_steps(optimizers, STEPS_PER_ROUND * options.rounds, options.device)
    return {
        name: {
            "step_ms": times_ms[name],
            "step_median_ms": statistics.median(times_ms[name]),
            "state_mib": state_bytes(optimizer) / MIB,
        }
        for name, optimizer in optimizers.items()
    }


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Runs everything and returns the figures: JSON-serializable, times of every round included."""
    device = options.device
    peers, remarks = find_peers(name for name in PEERS if name in options.methods)
    methods = {
        name: method
        for name, method in refresh_methods(options.power_iterations, peers).items()
        if name in options.methods
    }
    shapes = projected_shapes(options.model, options.quick)
    sizes = list(shapes.values())
    batched = device != "cpu"  # as the optimizer does by default
    _tell("refreshes")
    matrices = {shape: synthetic_matrix(shape, SPECTRA[TIMED]).to(device) for shape in dict.fromkeys(sizes)}
    refresh_s = measure_refresh(methods, matrices, sizes, options.rank, options.rounds, batched)
    del matrices
    energies = measure_energies(methods, shapes, options)
    parameters = random_parameters(sizes, device)
    steps = measure_all_steps(methods, peers, parameters, options)
    not_stepped = {"step_ms": None, "step_median_ms": None, "state_mib": None}
    by_method = {
        name: {
            "label": method.label,
            "own": bool(method.settings),
            "refresh_s": refresh_s[name],
            "refresh_median_s": statistics.median(refresh_s[name]),
            "energy": {spectrum: values[name] for spectrum, values in energies.items() if name in values},
            **steps.get(stepped_as(name, method), not_stepped),
        }
        for name, method in methods.items()
    }
    if ADAMW in steps:
        by_method[ADAMW] = {"label": "torch.optim.AdamW", "own": False, "refresh_s": None}
        by_method[ADAMW] |= {"refresh_median_s": None, "energy": {}, **steps[ADAMW]}

    def run_staggered(what: str, settings: Mapping[str, Any]) -> dict[str, Any]:
        _tell(what)
        return measure_staggered(parameters, options.rank, options.stagger_gap, settings, device)

    staggered = {
        name: run_staggered(f"staggered refreshes, {name}", method.settings)
        for name, method in methods.items()
        if method.staggered and options.stagger_gap
    }
    unrefreshed = run_staggered("as many steps without a refresh", UNREFRESHED) if staggered else None
    figures = {
        "model": str(options.model),
        "model_weights": None if options.model_weights is None else str(options.model_weights),
        "matrices": len(sizes),
        "parameters": sum(rows * columns for rows, columns in sizes),
        "rank": options.rank,
        "rounds": options.rounds,
        "gradient_size_px": options.gradient_size,
        "device": device,
        **environment(device),
        "date": datetime.date.today().isoformat(),
        "batched": batched,
        "peers": remarks,
        "spectra": list(energies),
        "methods": by_method,
        "staggered": staggered,
        "unrefreshed": unrefreshed,
    }
    return figures | {"targets": judge(figures)}


# What is asked of the optimizer, and whether the run shows it.


def judge(figures: dict[str, Any]) -> list[dict[str, Any]]:
    """Every target with the run's figure for it; none where the run measured other matrices or ranks.

    Returns:
        Rows of `target`, `bound`, `value` (None: not measured) and `met` (None likewise).
    """
    if (figures["matrices"], figures["parameters"], figures["rank"]) != (*TARGET_LIST, TARGET_RANK):
        return []
    methods = figures["methods"]
    rows = []

    def ratio(key: str, numerator: str, denominator: str) -> float | None:
        rounds = [methods.get(name, {}).get(key) for name in (numerator, denominator)]
        return median_ratio(*rounds) if all(rounds) else None

    def energy(name: str, spectrum: str) -> float | None:
        return methods.get(name, {}).get("energy", {}).get(spectrum, {}).get("mean")

    def target(text: str, sign: str, bound: float, value: float | None) -> None:
        met = None if value is None else (value >= bound if sign == "≥" else value <= bound)
        rows.append({"target": text, "bound": f"{sign} {bound:g}", "value": value, "met": met})

    power = "srft_power_1"
    target("srft: refresh faster than svd, times", "≥", 17, ratio("refresh_s", "svd", "srft"))
    target("srft: faster than the published way, times", "≥", 2, ratio("refresh_s", "paper", "srft"))
    target("srft: energy on i^-1/2, relative to SVD", "≥", 0.82, energy("srft", "i^-1/2"))
    target("srft: energy on 1/i", "≥", 0.99, energy("srft", "1/i"))
    target("1 power iteration: faster than svd, times", "≥", 8, ratio("refresh_s", "svd", power))
    target("1 power iteration: energy on i^-1/2", "≥", 0.96, energy(power, "i^-1/2"))
    # The most energy that one of this package's ways captures at a tenth of the SVD's time or less.
    text, captured = "most energy on i^-1/2 at least 10 times faster than svd", {}
    for name, method in methods.items():
        speed, share = ratio("refresh_s", "svd", name), energy(name, "i^-1/2")
        if method["own"] and name != "svd" and speed is not None and share is not None:
            captured[name] = share if speed >= 10 else 0.0
    best = max(captured, key=captured.__getitem__, default=None)
    if best is not None:
        text += f": {methods[best]['label']}"
    target(text, "≥", 0.99, captured.get(best))
    target("srft: state, MiB", "≤", 106, methods.get("srft", {}).get("state_mib"))
    target("srft_oblivious: state, MiB", "≤", 53, methods.get("srft_oblivious", {}).get("state_mib"))
    target("srft: step / galore-torch's step", "≤", 1, ratio("step_ms", "srft", "galore-torch"))
    if figures["device"] == "cuda":
        text = "srft: step faster than galore-torch's on a GPU, times"
        target(text, "≥", 2, ratio("step_ms", "galore-torch", "srft"))
    for name, run in figures["staggered"].items():
        text = f"{methods[name]['label']}, staggered: longest step / median step"
        target(text, "≤", 1.3, run["max_over_median"])
    return rows


# The figures as a terminal's tables and as a Markdown page. A table is a header and rows of cells.


def _number(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)


def method_table(figures: dict[str, Any]) -> list[list[str]]:
    """One row for each method."""
    svd = figures["methods"].get("svd", {}).get("refresh_s")
    rows = [["method", "refresh, s", "SVD / it", "step, ms", "state, MiB"]]
    rows[0] += [f"energy, {spectrum}" for spectrum in figures["spectra"]]
    for method in figures["methods"].values():
        times = method["refresh_s"]
        energies = [method["energy"].get(spectrum) for spectrum in figures["spectra"]]
        rows.append(
            [
                method["label"],
                _number(method["refresh_median_s"], ".3f"),
                f"{median_ratio(svd, times):.1f}×" if svd and times else "–",
                _number(method["step_median_ms"], ".1f"),
                _number(method["state_mib"], ".1f"),
                *("{mean:.3f} ({minimum:.3f})".format(**e) if e else "–" for e in energies),
            ]
        )
    return rows


def staggered_table(figures: dict[str, Any]) -> list[list[str]]:
    """One row for each staggered run, and one for as many steps without a refresh."""
    header = ["staggered refresh", "gap", "first step, ms", "median, ms", "longest, ms"]
    runs = {figures["methods"][name]["label"]: run for name, run in figures["staggered"].items()}
    runs["no refresh, to compare"] = figures["unrefreshed"]
    rows = [
        [
            label,
            str(run["gap"]),
            *(f"{run[key]:.1f}" for key in ("first_step_ms", "median_ms", "max_ms")),
            f"{run['max_over_median']:.2f} ({run['repeated_max_over_median']:.2f})",
        ]
        for label, run in runs.items()
    ]
    return [[*header, "longest / median (repeated in both cycles)"], *rows]


def target_table(targets: list[dict[str, Any]]) -> list[list[str]]:
    """One row for each target."""
    verdicts = {True: "met", False: "not met", None: "not measured"}
    rows = [[t["target"], t["bound"], _number(t["value"], ".3f"), verdicts[t["met"]]] for t in targets]
    return [["target", "bound", "measured", "verdict"], *rows]


def as_text(table: list[list[str]]) -> str:
    """A table with aligned columns."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = []
    for row in table:
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def report(figures: dict[str, Any], *, markdown: bool) -> str:
    """Everything in words and tables: what was measured and where, and what the figures mean."""

    def form(table: list[list[str]]) -> str:
        return markdown_table(table, "--:") if markdown else as_text(table)

    setting = (
        f"{figures['matrices']} matrices of {figures['model']} ({figures['parameters'] / 1e6:.1f} M "
        f"parameters), float32, rank {figures['rank']}; {figures['device']}: {figures['machine']}, "
        f"{figures['threads']} thread(s), torch {figures['torch']}; {figures['date']}; medians of "
        f"{figures['rounds']} interleaved round(s), ratios taken within rounds."
    )
    notes = [
        "refresh: of all matrices, with σᵢ = i^-1/2; step: of all matrices, between refreshes.",
        "Projectors that store a basis share one measurement of step and state.",
        "state: every storage that the optimizer's state keeps alive, as a whole.",
        "energy: ‖PᵀG‖² / ‖G‖² over the most that any projection of that rank captures; mean over the "
        "matrices (and minimum).",
        f"gradient: the loss's for one synthetic frame of {figures['gradient_size_px']} px, "
        f"{figures['model_weights'] or 'random weights'}.",
        *(f"{peer}: {remark}." for peer, remark in figures["peers"].items()),
    ]
    if figures["batched"]:
        notes.append("This package's refreshes are batched over matrices of one shape.")
    parts = [setting, form(method_table(figures))]
    parts.append("\n".join(("- " if markdown else "") + note for note in notes))
    if figures["staggered"]:
        parts.append(form(staggered_table(figures)))
    if figures["targets"]:
        parts.append(form(target_table(figures["targets"])))
    else:
        parts.append("No targets: they speak of the 96 matrices of hub_configs/models/large at rank 128.")
    return "\n\n".join(parts) + "\n"


# A picture of what the methods cost and capture. Needs matplotlib.


def save_plot(figures: dict[str, Any], path: Path) -> None:
    """Energy on i^-1/2 against the time of a refresh relative to SVD's: 900 px wide, a dot a method."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    svd = figures["methods"]["svd"]["refresh_s"]
    dots = [
        (median_ratio(method["refresh_s"], svd), method["energy"][TIMED]["mean"], method)
        for method in figures["methods"].values()
        if TIMED in method["energy"]
    ]
    figure, axes = pyplot.subplots(figsize=(9, 5.5), dpi=100)
    for own, color, label in ((True, "#1f5fa8", "this package"), (False, "#c2571a", "others")):
        some = [(time, energy) for time, energy, method in dots if method["own"] == own]
        if some:
            axes.scatter(*zip(*some, strict=True), s=55, color=color, label=label, zorder=3)
    axes.set_xscale("log")
    axes.margins(x=0.25, y=0.15)
    axes.grid(True, which="major", color="#dddddd")
    axes.set_xlabel("time of a refresh relative to SVD's (log)")
    axes.set_ylabel("captured energy relative to SVD's, σᵢ = i^-1/2")
    axes.set_title(
        f"{figures['matrices']} matrices, rank {figures['rank']}, {figures['machine']}", fontsize=11
    )
    axes.legend(loc="lower right")
    figure.tight_layout()
    _label_dots(figure, axes, [(time, energy, method["label"]) for time, energy, method in dots])
    with atomic_path(path) as temporary:
        figure.savefig(temporary)
    pyplot.close(figure)


def _label_dots(figure: Any, axes: Any, dots: list[tuple[float, float, str]]) -> None:
    """Names the dots, each at the nearest place where it covers neither a dot nor another name."""
    from matplotlib.text import Text

    figure.canvas.draw()
    renderer = figure.canvas.get_renderer()
    frame = axes.get_window_extent(renderer)
    centers = [axes.transData.transform(dot[:2]) for dot in dots]
    placed = [axes.get_legend().get_window_extent(renderer)]
    # Points from the dot, nearest first.
    offsets = [
        (x, y, align)
        for distance in range(9, 240, 5)
        for x, align in ((distance, "left"), (-distance, "right"), (0, "center"))
        for y in (0, distance, -distance)
        if x or y
    ]
    style = {"textcoords": "offset points", "va": "center", "fontsize": 10}
    style["arrowprops"] = {"arrowstyle": "-", "color": "#999999", "lw": 0.7, "shrinkA": 1, "shrinkB": 4}
    for time, energy, label in dots:
        for x, y, align in offsets:
            text = axes.annotate(label, (time, energy), xytext=(x, y), ha=align, **style)
            # The name's own box: the annotation's would hold the line to its dot too.
            text.update_positions(renderer)
            box = Text.get_window_extent(text, renderer).padded(3)
            covers = any(box.overlaps(other) for other in placed)
            covers = covers or any(box.padded(4).contains(*center) for center in centers)
            if not covers and frame.contains(box.x0, box.y0) and frame.contains(box.x1, box.y1):
                placed.append(box)
                break
            text.remove()
        else:
            axes.annotate(label, (time, energy), fontsize=10)


# The command line: options in, tables and files out.


def parse_options(arguments: list[str] | None) -> argparse.Namespace:
    """The options; `methods` are the names that are measured."""
    parser = new_parser(__doc__)
    add = parser.add_argument
    add("--model", type=Path, default=Path("hub_configs/models/large"), help="folder with a config.json")
    add("--model-weights", type=Path, help="model folder for the real gradients (default: random weights)")
    add("--gradient-size", type=positive_int, default=256, metavar="PX", help="side of their frame")
    add("--rank", type=positive_int, default=128)
    add("--power-iterations", type=positive_int, default=1, help="of the method srft_power_…")
    add("--methods", nargs="+", metavar="NAME", help="measure these only")
    add("--rounds", type=positive_int, default=3, help="of refreshes; steps are taken five times as often")
    add("--stagger-gap", type=int, default=50, metavar="STEPS", help="0: leave the staggered runs out")
    add("--device", choices=("cpu", "cuda"), default="cpu")
    add_threads(parser)
    add("--quick", action="store_true", help="only the smallest few matrices")
    add("--output", type=Path, metavar="FILE.json", help="all figures, of each round too")
    add("--markdown", type=Path, metavar="FILE.md")
    add("--plot", type=Path, metavar="FILE.png", help="needs matplotlib")
    options = parser.parse_args(arguments)
    every = [*refresh_methods(options.power_iterations, {}), *PEERS, ADAMW]
    options.methods = options.methods or every
    unknown = [name for name in options.methods if name not in every]
    if unknown:
        parser.error(f"--methods: {unknown[0]!r} is unknown: choose from {', '.join(every)}")
    if options.stagger_gap < 0:
        parser.error(f"--stagger-gap: must be at least 0, got {options.stagger_gap}")
    if not (options.model / "config.json").is_file():
        parser.error(f"--model: {options.model} holds no config.json")
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: no CUDA device is available to torch")
    if options.plot and "svd" not in options.methods:
        parser.error("--plot: times are relative to svd's, which --methods leaves out")
    if options.plot and importlib.util.find_spec("matplotlib") is None:
        parser.error("--plot: matplotlib is not installed: pip install matplotlib")
    return options


def main(arguments: list[str] | None = None) -> int:
    """Measures, prints and writes; 1 and one line where the model's weights or gradients are of no use."""
    options = parse_options(arguments)
    torch.set_num_threads(options.threads)
    try:
        figures = measure(options)
    except (ValueError, OSError) as error:
        print(f"optimizer.py: error: {error}", file=sys.stderr)
        return 1
    print(report(figures, markdown=False), end="")
    if options.output:
        write_json(options.output, figures)
    if options.markdown:
        with atomic_path(options.markdown) as temporary:
            temporary.write_text(report(figures, markdown=True), encoding="utf-8")
    if options.plot:
        save_plot(figures, options.plot)
    return 0


if __name__ == "__main__":
    sys.exit(main())
