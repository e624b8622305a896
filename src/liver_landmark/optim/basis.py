"""The range finder: a random sketch of a gradient, and an orthonormal basis of most of its energy.

A sketch of A (p × q) is Y = A S (p × width) with a random S (q × width), E[S Sᵀ] = I: its columns are
random mixtures of A's, so that their span comes close to that of A's leading left singular vectors
(Halko, Martinsson, Tropp, SIAM Review 53(2), 2011, sections 4.1 and 4.6; Woolfe, Liberty, Rokhlin, Tygert,
ACHA 25(3), 2008).

The Fourier sketch is S = √(q / width) · D H R: D random signs, H the unitary *Hartley* matrix with entries
cas(2π i j / q) / √q, cas = cos + sin, and R a choice of `width` of its q columns. H is the real relative
of the Fourier matrix: Re - Im of bin j is its column j, Re + Im its column q - j, so that a real FFT
gives all q columns, none of them null and no two spanning the same direction.

For A (p × q) and its rank-k basis P (p × k), the captured energy is ‖PᵀA‖² / ‖A‖²; the leading left
singular vectors maximize it. GaLore (arXiv 2403.03507) computes them by an SVD, O(p q min(p, q)) and
sequential at heart; SRFT-GaLore (arXiv 2511.03163) takes P = orth(Y) of a randomized Fourier sketch
Y = A D F R, O(p q log q + p k²). What improves on that, after Halko, Martinsson, Tropp (2011):

- power iterations: Y ← A orth(Aᵀ Y) weighs a singular value σ by σ² more each time; two products with A,
  4 p q k operations. (Algorithm 4.4 without its orthonormalization of Y before Aᵀ, which costs a third more
  and matters only for directions with less than a thousandth of the largest singular value.)
- oversampling: k + extra columns, cut back to the k leading left singular vectors of A's projection onto
  them by the small eigenproblem of (QᵀA)(QᵀA)ᵀ. Without that cut it would mean nothing: the first k
  columns of QR(Y) span the first k columns of Y, however many follow;
- a warm start: Y = A orth(Aᵀ P_old), one power iteration that starts from the former basis. With
  oversampling it is joined by as many fresh sketch columns before the cut.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch

from .param_groups import SKETCHED_TYPES, check_projection

Seeds = Sequence[int]

# Of a warm start's basis, what is random: enough to be found, too little to cost energy.
_BLIND_SPOT = 1e-3


def compute_basis(
    gradient: torch.Tensor,
    rank: int,
    proj_type: str = "srft",
    side: str = "longer",
    seed: int = 0,
    oversampling: int = 0,
    power_iterations: int = 0,
    *,
    start: torch.Tensor | None = None,
    singular: bool = False,
) -> torch.Tensor:
    """Orthonormal basis of one gradient's chosen side: what SRFT-GaLore projects onto.

    A function of its arguments alone: no global random state is read or moved. Cost and sources as
    `find_basis`.

    Args:
        gradient: G (…, m, n), real, of any floating dtype; all matrices of a batch share the random draws.
        rank: k, at least 1; clipped to min(m, n).
        proj_type: `srft`, `srft_energy`, `gaussian` (sketches), `srft_oblivious` (of G only the shape
            matters) or `svd` (GaLore).
        side: `longer`, `shorter`, `left` (m) or `right` (n); see `resolve_side`.
        seed: Of the random draws.
        oversampling: Extra columns of the sketch; see `find_basis`.
        power_iterations: Further passes over G.
        start: A former basis of that side, in place of the sketch: a warm start.
        singular: Rotate the basis to singular-like directions.

    Returns:
        float32 (…, long, k): computed in float32 whatever the gradient's dtype.

    Raises:
        TypeError: a complex, sparse or integer gradient.
        ValueError: an argument out of its range, or a gradient that is not finite.
    """
    check_projection(proj_type, side, oversampling, power_iterations)
    if gradient.layout != torch.strided or not gradient.is_floating_point():
        raise TypeError(
            f"gradient must be dense, of a real floating dtype, got {gradient.dtype} {gradient.layout}"
        )
    if gradient.dim() < 2 or 0 in gradient.shape:
        raise ValueError(
            f"gradient must be a matrix, or a batch of matrices, with entries, got {tuple(gradient.shape)}"
        )
    if isinstance(rank, bool) or not isinstance(rank, int) or rank < 1:
        raise ValueError(f"rank must be an integer of at least 1, got {rank!r}")
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise ValueError(f"seed must be an integer of at least 0, got {seed!r}")
    matrix = gradient.detach().float()
    if not torch.isfinite(largest_entry(matrix)).all():
        raise ValueError("gradient is not finite: its NaN or infinite entries would fill the whole basis")
    if resolve_side(side, *gradient.shape[-2:]) == "right":
        matrix = matrix.mT
    rank = min(rank, *matrix.shape[-2:])
    if start is not None:
        if proj_type not in SKETCHED_TYPES:
            raise ValueError(f"start means nothing for proj_type {proj_type}: leave it out")
        if start.shape != (*matrix.shape[:-1], rank):
            raise ValueError(
                f"start must be a basis of shape {(*matrix.shape[:-1], rank)}, got {tuple(start.shape)}"
            )
        start = start.detach().to(matrix)
    return find_basis(
        matrix,
        rank,
        [draw_seed(seed, 0, 0)],
        proj_type=proj_type,
        oversampling=oversampling,
        power_iterations=power_iterations,
        start=start,
        singular=singular,
    )


def resolve_side(side: str, rows: int, columns: int) -> str:
    """`left` (P is rows × k, projected: PᵀG) or `right` (P is columns × k, projected: G P).

    `longer` stores least, k · (long + 2 · short) numbers with Adam's moments; `shorter` is GaLore's `std`,
    k · (short + 2 · long). A square matrix has its longer side on the left.
    """
    if side == "longer":
        return "left" if rows >= columns else "right"
    if side == "shorter":
        return "right" if rows >= columns else "left"
    return side


def orthonormalize(matrix: torch.Tensor) -> torch.Tensor:
    """Orthonormal columns that span those of (…, p, k ≤ p), by Householder QR: unconditionally stable.

    Cholesky QR loses its orthogonality where the columns are nearly dependent, as a sketch of a fast
    decaying spectrum is, and done twice, as would be safe, it is slower on a CPU.
    """
    return torch.linalg.qr(matrix).Q


def _leading(basis: torch.Tensor, projected: torch.Tensor, rank: int) -> torch.Tensor:
    """Rotates Q (…, p, l) to the left singular vectors of Q QᵀA, `projected` = QᵀA, and keeps `rank`."""
    _, vectors = torch.linalg.eigh(projected @ projected.mT)
    return basis @ vectors[..., -rank:].flip(-1)


def find_basis(
    matrix: torch.Tensor,
    rank: int,
    seeds: Seeds,
    *,
    proj_type: str = "srft",
    oversampling: int = 0,
    power_iterations: int = 0,
    start: torch.Tensor | None = None,
    singular: bool = False,
) -> torch.Tensor:
    """An orthonormal basis of `rank` columns for the column space of a finite matrix.

    O(p q log q + p k²) for the Fourier sketches, 4 p q k more for each pass over A, O(p q min(p, q)) for
    `svd`; sources in this module's head.

    Args:
        matrix: A (…, p, q), float32 or float64.
        rank: k, 1 to min(p, q).
        seeds: One for all matrices of a batch, or one for each.
        proj_type: One of `PROJ_TYPES`.
        oversampling: Extra columns of the sketch, cut away at the end; as many as A allows.
        power_iterations: Further passes over A and Aᵀ.
        start: A former basis (…, p, k): instead of the sketch, the first pass starts there.
        singular: Rotate the basis within its span to the left singular vectors of P PᵀA, so that its
            columns are sorted by the energy that they hold. Oversampling and `svd` imply it.

    Returns:
        (…, p, k), in the matrix's dtype, with storage of its own.
    """
    if proj_type == "svd":
        return torch.linalg.svd(matrix, full_matrices=False).U[..., :rank].clone()
    if proj_type == "srft_oblivious":
        basis = oblivious_basis(matrix.shape[-2], rank, seeds, matrix.device).to(matrix.dtype)
        return basis.expand(*matrix.shape[:-2], -1, -1).contiguous()
    matrix = matrix * _power_of_two_to_one(largest_entry(matrix))
    if start is None:
        width = min(rank + oversampling, *matrix.shape[-2:])
        sketch = _SKETCHES[proj_type](matrix, width, seeds)
    else:
        # The signs find what the former basis is blind to: without them, a gradient that has moved out of
        # its reach would never be found again.
        start = add_sparse_signs(start, _BLIND_SPOT, seeds)
        sketch = matrix @ orthonormalize(matrix.mT @ start)
        width = min(oversampling, min(matrix.shape[-2:]) - rank)
        if width:
            sketch = torch.cat([sketch, _SKETCHES[proj_type](matrix, width, seeds)], dim=-1)
    for _ in range(power_iterations):
        sketch = matrix @ orthonormalize(matrix.mT @ sketch)
    basis = orthonormalize(sketch)
    if singular or basis.shape[-1] > rank:
        basis = _leading(basis, basis.mT @ matrix, rank)
    return basis.contiguous()


def largest_entry(matrix: torch.Tensor) -> torch.Tensor:
    """The largest magnitude of each matrix of (…, p, q): (…, 1, 1); NaN where there is one."""
    dims = (-2, -1)
    return torch.maximum(matrix.amax(dims, keepdim=True), -matrix.amin(dims, keepdim=True))


def _power_of_two_to_one(peak: torch.Tensor) -> torch.Tensor:
    """Brings `peak` between 1/2 and 1, exactly; then no product of the matrix overflows or vanishes."""
    bound = {torch.float32: 126, torch.float64: 1022}[peak.dtype]
    exponent = torch.where(torch.isfinite(peak), -torch.frexp(peak).exponent, 0).clamp(-bound, bound)
    return torch.ldexp(torch.ones_like(peak), exponent)


# Random sketches of a matrix's columns, and what they draw.

_MASK_64 = 2**64 - 1


def draw_seed(seed: int, ordinal: int, refresh: int) -> int:
    """The seed of one basis: the same on every rank and after every resume, unrelated for others.

    Args:
        seed: The optimizer's.
        ordinal: The parameter's position among the optimizer's parameters.
        refresh: How many bases that parameter has had.

    Returns:
        A mixture of the three (SplitMix64's finalizer, Steele, Lea, Flood 2014), 32 bits: PyTorch's CPU
        generator uses no more of its seed.
    """
    state = 0
    for part in (seed, ordinal, refresh):
        state = (state + part + 0x9E3779B97F4A7C15) & _MASK_64
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _MASK_64
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & _MASK_64
        state ^= state >> 31
    return state >> 32


def _generators(seeds: Seeds) -> list[torch.Generator]:
    # On the CPU whatever the device, so that a checkpoint goes on alike on another one.
    return [torch.Generator("cpu").manual_seed(seed) for seed in seeds]


def _per_matrix(drawn: list[torch.Tensor], device: torch.device) -> torch.Tensor:
    """(…) for one seed, which all matrices of a batch then share; (batch, …) for several."""
    stacked = drawn[0] if len(drawn) == 1 else torch.stack(drawn)
    return stacked.to(device)


def _signs(size: int, generator: torch.Generator) -> torch.Tensor:
    drawn = torch.randint(0, 2, (size,), generator=generator, dtype=torch.int8, device="cpu")
    return drawn.mul_(2).sub_(1)


def _columns(size: int, width: int, generator: torch.Generator) -> torch.Tensor:
    """`width` different ones of `size`, ascending: the order changes nothing but the memory's locality."""
    return torch.randperm(size, generator=generator, device="cpu")[:width].sort().values


def _mirror(columns: torch.Tensor, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The real FFT's bins that the Hartley columns are made of, and the sign of their imaginary parts."""
    return torch.minimum(columns, size - columns), torch.where(2 * columns <= size, -1.0, 1.0)


def _select(matrix: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
    """Columns of (…, p, q): `columns` (width) for all matrices, or (batch, width) for each its own."""
    if columns.dim() == 1:
        return matrix.index_select(-1, columns)
    return matrix.gather(-1, columns.unsqueeze(-2).expand(*matrix.shape[:-1], -1))


def hartley_transform(matrix: torch.Tensor) -> torch.Tensor:
    """Every row of (…, p, q), multiplied by the unitary Hartley matrix: (…, p, q), O(p q log q)."""
    size = matrix.shape[-1]
    columns = torch.arange(size, device=matrix.device)
    spectrum = torch.fft.rfft(matrix, norm="ortho")
    bins, imaginary_signs = _mirror(columns, size)
    return spectrum.real[..., bins] + imaginary_signs.to(matrix.dtype) * spectrum.imag[..., bins]


def srft_sketch(matrix: torch.Tensor, width: int, seeds: Seeds) -> torch.Tensor:
    """Y = √(q / width) · A D H R with uniformly chosen columns.

    Args:
        matrix: A (…, p, q), real, float32 or float64.
        width: Columns of the sketch, 1 to q.
        seeds: One, or one for each matrix of a batch (batch, p, q).

    Returns:
        (…, p, width). O(p q log q).
    """
    size = matrix.shape[-1]
    generators = _generators(seeds)
    signs = _per_matrix([_signs(size, generator) for generator in generators], matrix.device)
    columns = _per_matrix([_columns(size, width, generator) for generator in generators], matrix.device)
    signs = signs.to(matrix.dtype) * math.sqrt(size / width)
    spectrum = torch.fft.rfft(matrix * signs.unsqueeze(-2), norm="ortho")
    bins, imaginary_signs = _mirror(columns, size)
    selected = _select(spectrum, bins)
    imaginary_signs = imaginary_signs.to(matrix.dtype).unsqueeze(-2)
    return torch.addcmul(selected.real, imaginary_signs, selected.imag)


def srft_energy_sketch(matrix: torch.Tensor, width: int, seeds: Seeds) -> torch.Tensor:
    """Y = A Q D H R with the `width` columns of A Q D H that hold most energy; shapes as `srft_sketch`.

    Each of the q real columns competes by itself. (Of complex bins, j and q - j have equal energy and
    span the same two real directions: a choice among them takes every direction twice.) Q permutes A's
    columns at random: where energy lies in a few neighboring ones, neighboring frequencies would be
    nearly parallel, and the choice would take the same direction again and again. O(p q log q).
    """
    size = matrix.shape[-1]
    generators = _generators(seeds)
    signs = _per_matrix([_signs(size, generator) for generator in generators], matrix.device)
    orders = [torch.randperm(size, generator=generator, device="cpu") for generator in generators]
    shuffled = _select(matrix, _per_matrix(orders, matrix.device))
    transformed = hartley_transform(shuffled * signs.to(matrix.dtype).unsqueeze(-2))
    energy = transformed.square().sum(dim=-2)
    # Stable, so that equal energies are ordered alike everywhere.
    columns = energy.sort(dim=-1, descending=True, stable=True).indices[..., :width]
    return transformed.gather(-1, columns.unsqueeze(-2).expand(*transformed.shape[:-1], -1))


def gaussian_sketch(matrix: torch.Tensor, width: int, seeds: Seeds) -> torch.Tensor:
    """Y = A Ω with independent normal entries of variance 1 / width: O(p q width).

    Shapes as `srft_sketch`.
    """
    shape = (matrix.shape[-1], width)
    normal = [
        torch.randn(shape, generator=generator, dtype=torch.float32, device="cpu")
        for generator in _generators(seeds)
    ]
    return matrix @ (_per_matrix(normal, matrix.device).to(matrix.dtype) / math.sqrt(width))


def oblivious_basis(size: int, rank: int, seeds: Seeds, device: torch.device) -> torch.Tensor:
    """D H R itself, for the figure's Y = Π G: `rank` orthonormal columns that no gradient has decided.

    Returns:
        float32 (size, rank), or (batch, size, rank) for several seeds. O(size · rank).
    """
    angles = torch.arange(size, dtype=torch.float64, device="cpu") * (2 * math.pi / size)
    cas = ((angles.cos() + angles.sin()) / math.sqrt(size)).float().to(device)
    rows = torch.arange(size, device=device)
    generators = _generators(seeds)
    signs = _per_matrix([_signs(size, generator) for generator in generators], device).float()
    columns = _per_matrix([_columns(size, rank, generator) for generator in generators], device)
    phases = rows.unsqueeze(-1) * columns.unsqueeze(-2) % size
    return cas[phases] * signs.unsqueeze(-1)


def add_sparse_signs(basis: torch.Tensor, size: float, seeds: Seeds) -> torch.Tensor:
    """P + size · S, with one random sign in each row of S: no direction of the space is left out. O(p)."""
    rows, columns = basis.shape[-2:]
    signs = _per_matrix([_signs(rows, generator) for generator in _generators(seeds)], basis.device)
    places = torch.arange(rows, device=basis.device) % columns
    entries = (size * signs.to(basis.dtype)).unsqueeze(-1)
    return basis.scatter_add(
        -1, places.unsqueeze(-1).expand(*basis.shape[:-1], 1), entries.expand(*basis.shape[:-1], 1)
    )


# By the names of `param_groups.SKETCHED_TYPES`, which is imported without torch.
_SKETCHES: dict[str, Callable[[torch.Tensor, int, Seeds], torch.Tensor]] = {
    "srft": srft_sketch,
    "srft_energy": srft_energy_sketch,
    "gaussian": gaussian_sketch,
}
