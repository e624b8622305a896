"""The range finder: an orthonormal basis of the subspace that holds most of a gradient's energy.

For A (p × q) and its rank-k basis P (p × k), the captured energy is ‖PᵀA‖² / ‖A‖²; the leading left
singular vectors maximise it. GaLore (arXiv 2403.03507) computes them by an SVD, O(p q min(p, q)) and
sequential at heart; SRFT-GaLore (arXiv 2511.03163) takes P = orth(Y) of a randomized Fourier sketch
Y = A D F R, O(p q log q + p k²). What improves on that, after Halko, Martinsson, Tropp (2011):

- power iterations: Y ← A orth(Aᵀ Y) weighs a singular value σ by σ² more each time; two products with A,
  4 p q k operations. (Algorithm 4.4 without its orthonormalisation of Y before Aᵀ, which costs a third more
  and matters only for directions with less than a thousandth of the largest singular value.);
- oversampling: k + extra columns, cut back to the k leading left singular vectors of A's projection onto
  them by the small eigenproblem of (QᵀA)(QᵀA)ᵀ. Without that cut it would mean nothing: the first k
  columns of QR(Y) span the first k columns of Y, however many follow;
- a warm start: Y = A orth(Aᵀ P_old), one power iteration that starts from the former basis. With
  oversampling it is joined by as many fresh sketch columns before the cut.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from .sketch import (
    Seeds,
    add_sparse_signs,
    draw_seed,
    gaussian_sketch,
    oblivious_basis,
    srft_energy_sketch,
    srft_sketch,
)

_SKETCHES: dict[str, Callable[[torch.Tensor, int, Seeds], torch.Tensor]] = {
    "srft": srft_sketch,
    "srft_energy": srft_energy_sketch,
    "gaussian": gaussian_sketch,
}
SKETCHED_TYPES = tuple(_SKETCHES)
# Of a warm start's basis, what is random: enough to be found, too little to cost energy.
_BLIND_SPOT = 1e-3
PROJ_TYPES = (*_SKETCHES, "srft_oblivious", "svd")
SIDES = ("longer", "shorter", "left", "right")


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


def check_projection(proj_type: str, side: str, oversampling: int, power_iterations: int) -> None:
    """Raises a ValueError that names the first of the four that cannot be."""
    if not isinstance(proj_type, str) or proj_type not in PROJ_TYPES:
        raise ValueError(f"proj_type: {proj_type!r} is unknown: choose one of {', '.join(PROJ_TYPES)}")
    if not isinstance(side, str) or side not in SIDES:
        raise ValueError(f"side: {side!r} is unknown: choose one of {', '.join(SIDES)}")
    for name, value in (("oversampling", oversampling), ("power_iterations", power_iterations)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise ValueError(f"{name} must be an integer of at least 0, got {value!r}")
        if value and proj_type not in SKETCHED_TYPES:
            raise ValueError(
                f"{name} means nothing for proj_type {proj_type}: set it to 0, or choose one of "
                f"{', '.join(SKETCHED_TYPES)}"
            )


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
