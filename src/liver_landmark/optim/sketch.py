"""Random sketches of a matrix's columns: the real subsampled randomized Fourier transform, and a Gaussian.

A sketch of A (p × q) is Y = A S (p × width) with a random S (q × width), E[S Sᵀ] = I: its columns are
random mixtures of A's, so that their span comes close to that of A's leading left singular vectors
(Halko, Martinsson, Tropp, SIAM Review 53(2), 2011, sections 4.1 and 4.6; Woolfe, Liberty, Rokhlin, Tygert,
ACHA 25(3), 2008).

The Fourier sketch is S = √(q / width) · D H R: D random signs, H the unitary *Hartley* matrix with entries
cas(2π i j / q) / √q, cas = cos + sin, and R a choice of `width` of its q columns. H is the real relative
of the Fourier matrix: Re - Im of bin j is its column j, Re + Im its column q - j, so that a real FFT
gives all q columns, none of them null and no two spanning the same direction.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

Seeds = Sequence[int]

_MASK_64 = 2**64 - 1


def draw_seed(seed: int, ordinal: int, refresh: int) -> int:
    """The seed of one basis: the same on every rank and after every resume, unrelated for others.

    Args:
        seed: The optimizer's.
        ordinal: The parameter's position among the optimizer's parameters.
        refresh: How many bases that parameter has had.

    Returns:
        A mixture of the three (SplitMix64's finaliser, Steele, Lea, Flood 2014), 32 bits: PyTorch's CPU
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
    columns at random: where energy lies in a few neighbouring ones, neighbouring frequencies would be
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
