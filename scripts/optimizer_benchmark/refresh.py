"""What a refresh of all projections costs, and how much of the gradient the new ones capture."""

from __future__ import annotations

import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from liver_landmark.optim import compute_basis
from liver_landmark.optim.basis import find_basis

from .matrices import Shape, drifted
from .timing import interleave, seconds_of

# (gradient, rank, seed, former basis or None) -> basis
Compute = Callable[[torch.Tensor, int, int, torch.Tensor | None], torch.Tensor]


@dataclass(frozen=True)
class Refresh:
    """A way to get a projection.

    Attributes:
        label: What tables call it.
        compute: Gradient (…, m, n), rank, seed and former basis in; the basis out.
        side: The side that it projects: `longer` gives (long, k), `shorter` (short, k) or its transpose.
        orthonormal: Whether the projection is one in the mathematical sense, so that it captures energy.
        batched: Whether gradients of one shape can be stacked.
        drift: By how much the former gradient differs, for a warm start; None: there is none.
        former_refreshes: Warm starts before the one that is measured, on gradients that drift likewise.
        settings: What SRFTGaLoreAdamW takes to refresh like this; empty for what is not its own.
        staggered: Whether a run with refreshes spread over steps is measured too.
    """

    label: str
    compute: Compute
    side: str = "longer"
    orthonormal: bool = True
    batched: bool = False
    drift: float | None = None
    former_refreshes: int = 0
    settings: dict[str, Any] = field(default_factory=dict)
    staggered: bool = False


def published_basis(gradient: torch.Tensor, rank: int, seed: int) -> torch.Tensor:
    """The published way to an SRFT basis of the longer side, as plainly as it can be written.

    Complex Fourier transform of all columns after random signs, `rank` of its bins, complex QR, the real
    and imaginary parts as interleaved real columns, real QR, the first `rank` columns.
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
    drift: float | None = None,
    former_refreshes: int = 0,
    staggered: bool = False,
    **settings: Any,
) -> Refresh:
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
        batched=True,
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
    plural = "s" if power_iterations > 1 else ""
    methods = {
        "srft": _own("srft", proj_type="srft", staggered=True),
        f"srft_power_{power_iterations}": _own(
            f"srft, {power_iterations} power iteration{plural}",
            proj_type="srft",
            power_iterations=power_iterations,
            staggered=True,
        ),
        "srft_warm_10": _own("srft, warm start, moved by 10 %", 0.1, proj_type="srft", staggered=True),
        "srft_warm_10_fifth": _own("srft, fifth warm start, moved by 10 %", 0.1, 4, proj_type="srft"),
        "srft_warm_wholly": _own("srft, warm start, moved wholly", 1.0, proj_type="srft"),
        "srft_energy": _own("srft_energy", proj_type="srft_energy"),
        "srft_oblivious": _own("srft_oblivious", proj_type="srft_oblivious"),
        "gaussian": _own("gaussian", proj_type="gaussian"),
        "svd": _own("svd", proj_type="svd"),
        "paper": Refresh("the published way", lambda g, rank, seed, _: published_basis(g, rank, seed)),
    }
    if "galore-torch" in peers:
        projector = peers["galore-torch"].GaLoreProjector

        def galore(gradient: torch.Tensor, rank: int, side: str, seed: int) -> torch.Tensor:
            return projector(rank).get_orthogonal_matrix(gradient, rank, type=side)

        methods["galore-torch"] = Refresh("galore-torch", _shorter_side(galore), "shorter")
    if "pytorch-optimizer" in peers:
        ported = peers["pytorch-optimizer"].GaLoreProjector

        def port(gradient: torch.Tensor, rank: int, side: str, seed: int) -> torch.Tensor:
            return ported(rank).get_orthogonal_matrix(gradient, side)

        methods["pytorch-optimizer"] = Refresh("pytorch-optimizer GaLore", _shorter_side(port), "shorter")
    if "apollo-torch" in peers:
        random = peers["apollo-torch"].GradientProjector

        def apollo(gradient: torch.Tensor, rank: int, side: str, seed: int) -> torch.Tensor:
            return random(rank, seed=seed).get_orthogonal_matrix(gradient, rank, side, seed)

        methods["apollo-torch"] = Refresh("apollo-torch", _shorter_side(apollo), "shorter", orthonormal=False)
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


def _work(method: Refresh, shapes: list[Shape], stacked: bool) -> Iterator[tuple[Shape, int]]:
    """(shape, how many of it at once), in the order of the list."""
    if stacked and method.batched:
        yield from ((shape, shapes.count(shape)) for shape in dict.fromkeys(shapes))
    else:
        yield from ((shape, 1) for shape in shapes)


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
    device = next(iter(matrices.values())).device

    def prepare(method: Refresh) -> Callable[[int], float]:
        starts = {s: former_basis(method, matrix, rank, 0) for s, matrix in matrices.items()}

        def one(shape: Shape, count: int, seed: int) -> float:
            gradient, start = matrices[shape], starts[shape]
            if count > 1:
                gradient = gradient.expand(count, *shape).contiguous()
                start = None if start is None else start.expand(count, *start.shape).contiguous()
            return seconds_of(lambda: method.compute(gradient, rank, seed, start), device)

        for shape in matrices:  # plans, kernels and allocators warm up
            one(shape, 1, 0)

        def whole_list(turn: int) -> float:
            work = _work(method, shapes, stacked)
            return sum(one(*item, turn * len(shapes) + seed) for seed, item in enumerate(work))

        return whole_list

    return interleave({name: prepare(method) for name, method in methods.items()}, rounds)
