"""The range finder, against the SVD and against the published way with its defects; its sketches."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from liver_landmark.optim import PROJ_TYPES, compute_basis
from liver_landmark.optim.basis import (
    SKETCHED_TYPES,
    draw_seed,
    gaussian_sketch,
    hartley_transform,
    oblivious_basis,
    srft_energy_sketch,
    srft_sketch,
)


def matrix_with_spectrum(rows: int, columns: int, power: float, seed: int = 0) -> torch.Tensor:
    """Random singular vectors, σᵢ = i^power."""
    generator = torch.Generator().manual_seed(seed)
    short = min(rows, columns)
    left = torch.linalg.qr(torch.randn(rows, short, generator=generator)).Q
    right = torch.linalg.qr(torch.randn(columns, short, generator=generator)).Q
    return left * torch.arange(1, short + 1).float().pow(power) @ right.mT


def captured(matrix: torch.Tensor, basis: torch.Tensor) -> float:
    """Energy of the columns' (or, by the basis's size, rows') part, relative to the SVD's."""
    if basis.shape[0] != matrix.shape[0]:
        matrix = matrix.mT
    best = torch.linalg.svdvals(matrix)[: basis.shape[1]].square().sum()
    return ((basis.mT @ matrix).square().sum() / best).item()


def assert_orthonormal(basis: torch.Tensor) -> None:
    identity = torch.eye(basis.shape[-1]).expand(*basis.shape[:-2], -1, -1)
    torch.testing.assert_close(basis.mT @ basis, identity, atol=2e-5, rtol=0)


@settings(max_examples=60, deadline=None)
@given(
    rows=st.integers(1, 24),
    columns=st.integers(1, 24),
    rank=st.integers(1, 30),
    proj_type=st.sampled_from(PROJ_TYPES),
    side=st.sampled_from(["longer", "shorter", "left", "right"]),
    seed=st.integers(0, 2**40),
)
def test_every_basis_is_orthonormal_of_the_chosen_side(rows, columns, rank, proj_type, side, seed) -> None:
    gradient = torch.randn(2, rows, columns, generator=torch.Generator().manual_seed(seed))
    basis = compute_basis(gradient, rank, proj_type, side, seed)
    sizes = {"longer": max(rows, columns), "shorter": min(rows, columns), "left": rows, "right": columns}
    assert basis.shape == (2, sizes[side], min(rank, rows, columns))
    assert_orthonormal(basis)


@pytest.mark.parametrize(("rows", "columns"), [(40, 17), (17, 40), (20, 20), (41, 16)])
@pytest.mark.parametrize("proj_type", SKETCHED_TYPES)
def test_a_matrix_of_low_rank_is_captured_whole(rows: int, columns: int, proj_type: str) -> None:
    generator = torch.Generator().manual_seed(1)
    low = torch.randn(rows, 5, generator=generator) @ torch.randn(5, columns, generator=generator)
    for side, columns_first in (("left", low), ("right", low.mT)):
        basis = compute_basis(low, 6, proj_type, side)
        torch.testing.assert_close(basis @ (basis.mT @ columns_first), columns_first, atol=1e-4, rtol=0)
        assert_orthonormal(basis)


@pytest.mark.parametrize("size", [16, 17])
@pytest.mark.parametrize("proj_type", ["srft", "srft_energy"])
def test_as_many_columns_as_there_are_span_everything(size: int, proj_type: str) -> None:
    """Null or doubled columns (DC, Nyquist, conjugate bins) would leave directions to rounding."""
    matrix = torch.randn(60, size, generator=torch.Generator().manual_seed(2))
    assert captured(matrix, compute_basis(matrix, size, proj_type)) == pytest.approx(1, abs=1e-5)


def test_srft_captures_what_a_gaussian_sketch_does() -> None:
    for power, least in ((-0.5, 0.8), (-1.0, 0.99)):
        for shape in ((576, 192), (192, 576), (192, 192)):
            matrix = matrix_with_spectrum(*shape, power)
            srft = captured(matrix, compute_basis(matrix, 48, "srft"))
            gaussian = captured(matrix, compute_basis(matrix, 48, "gaussian"))
            assert srft > least - 0.02
            assert srft == pytest.approx(gaussian, abs=0.02)
    # Among bins of highest energy, j and n - j come as pairs: taken twice, they would capture less.
    matrix = matrix_with_spectrum(432, 144, -1.0)
    assert captured(matrix, compute_basis(matrix, 64, "srft_energy")) > 0.985


@pytest.mark.parametrize("proj_type", SKETCHED_TYPES)
def test_power_iterations_and_oversampling_come_closer_to_the_svd(proj_type: str) -> None:
    matrix = matrix_with_spectrum(300, 200, -0.5)

    def energy(**settings: int) -> float:
        return captured(matrix, compute_basis(matrix, 40, proj_type, **settings))

    plain = energy()
    assert plain < energy(power_iterations=1) - 0.05
    assert energy(power_iterations=1) < energy(power_iterations=2) < energy(power_iterations=6) <= 1 + 1e-5
    assert energy(power_iterations=6) > 0.99
    # Without the cut, oversampling would change nothing: the first columns of a QR span those of its matrix.
    assert plain < energy(oversampling=8) - 0.003 < energy(oversampling=40) - 0.02


def test_oversampling_keeps_the_leading_directions_of_its_sketch() -> None:
    """Against the SVD of the projection onto a sketch of as many columns."""
    matrix = matrix_with_spectrum(50, 30, -0.5)
    wide = compute_basis(matrix, 14, seed=4)
    expected = torch.linalg.svd(wide @ (wide.mT @ matrix)).U[:, :9]
    basis = compute_basis(matrix, 9, seed=4, oversampling=5)
    torch.testing.assert_close(basis @ basis.mT, expected @ expected.mT, atol=1e-4, rtol=0)


def test_svd_is_the_svd() -> None:
    matrix = torch.randn(20, 30, generator=torch.Generator().manual_seed(0))
    for side, expected in (
        ("left", torch.linalg.svd(matrix).U[:, :4]),
        ("right", torch.linalg.svd(matrix).Vh[:4].mT),
    ):
        basis = compute_basis(matrix, 4, "svd", side)
        torch.testing.assert_close(basis @ basis.mT, expected @ expected.mT, atol=1e-4, rtol=0)


def test_singular_rotation_sorts_within_the_same_span() -> None:
    matrix = matrix_with_spectrum(60, 40, -0.7)
    plain, rotated = compute_basis(matrix, 12), compute_basis(matrix, 12, singular=True)
    torch.testing.assert_close(plain @ plain.mT, rotated @ rotated.mT, atol=1e-5, rtol=0)
    inner = (rotated.mT @ matrix) @ (rotated.mT @ matrix).mT
    energies = inner.diagonal()
    torch.testing.assert_close(inner, energies.diag(), atol=1e-5, rtol=0)
    assert (energies.diff() < 0).all()


def test_a_warm_start_is_a_pass_from_the_former_basis() -> None:
    matrix = matrix_with_spectrum(80, 50, -0.5)
    former = compute_basis(matrix, 10, seed=1)
    expected = torch.linalg.qr(matrix @ matrix.mT @ former).Q
    warm = compute_basis(matrix, 10, seed=2, start=former)
    # Up to the thousandth of random signs that keeps it from going blind.
    torch.testing.assert_close(warm @ warm.mT, expected @ expected.mT, atol=2e-3, rtol=0)
    assert captured(matrix, warm) > captured(matrix, former) + 0.05


def test_oblivious_basis_does_not_look_at_the_gradient() -> None:
    first = compute_basis(torch.ones(30, 20), 5, "srft_oblivious", seed=3)
    assert torch.equal(first, compute_basis(torch.randn(30, 20), 5, "srft_oblivious", seed=3))
    assert not torch.equal(first, compute_basis(torch.ones(30, 20), 5, "srft_oblivious", seed=4))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("proj_type", PROJ_TYPES)
def test_computed_in_float32_whatever_the_dtype(dtype: torch.dtype, proj_type: str) -> None:
    gradient = torch.randn(30, 20, generator=torch.Generator().manual_seed(0)).to(dtype)
    basis = compute_basis(gradient, 5, proj_type)
    assert basis.dtype == torch.float32
    assert torch.equal(basis, compute_basis(gradient.float(), 5, proj_type))


@pytest.mark.parametrize("proj_type", PROJ_TYPES)
def test_a_batch_equals_its_matrices_and_owns_its_storage(proj_type: str) -> None:
    batch = torch.randn(3, 24, 18, generator=torch.Generator().manual_seed(0))
    bases = compute_basis(batch, 5, proj_type)
    for matrix, basis in zip(batch, bases, strict=True):
        torch.testing.assert_close(basis, compute_basis(matrix, 5, proj_type), atol=1e-5, rtol=0)
    assert bases.untyped_storage().nbytes() == bases.numel() * 4


def test_one_factorization_a_basis(monkeypatch: pytest.MonkeyPatch) -> None:
    """A right projection needs no left sketch."""
    shapes = []
    original = torch.linalg.qr

    def counted(matrix: torch.Tensor, *args, **kwargs):
        shapes.append(tuple(matrix.shape))
        return original(matrix, *args, **kwargs)

    monkeypatch.setattr(torch.linalg, "qr", counted)
    compute_basis(torch.randn(40, 20), 6, side="right")
    assert shapes == [(20, 6)]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (dict(rank=0), ValueError, "rank must be an integer of at least 1"),
        (dict(rank=2.0), ValueError, "rank must be an integer of at least 1"),
        (dict(proj_type="std"), ValueError, "proj_type: 'std' is unknown"),
        (dict(side="top"), ValueError, "side: 'top' is unknown"),
        (dict(oversampling=-1), ValueError, "oversampling must be an integer of at least 0"),
        (dict(power_iterations=1, proj_type="svd"), ValueError, "power_iterations means nothing for"),
        (dict(start=torch.eye(5)), ValueError, r"start must be a basis of shape \(6, 2\)"),
        (dict(gradient=torch.ones(6)), ValueError, "gradient must be a matrix"),
        (dict(gradient=torch.ones(6, 0)), ValueError, "gradient must be a matrix"),
        (dict(gradient=torch.ones(6, 4, dtype=torch.complex64)), TypeError, "real floating dtype"),
        (dict(gradient=torch.ones(6, 4, dtype=torch.int64)), TypeError, "real floating dtype"),
        (dict(gradient=torch.ones(6, 4).to_sparse()), TypeError, "gradient must be dense"),
        (dict(gradient=torch.full((6, 4), float("nan"))), ValueError, "gradient is not finite"),
    ],
)
def test_what_cannot_be_is_refused(arguments, error, message) -> None:
    with pytest.raises(error, match=message):
        compute_basis(**({"gradient": torch.ones(6, 4), "rank": 2} | arguments))


SHARPER: list[dict[str, Any]] = [{}, {"power_iterations": 2}, {"oversampling": 3}, {"singular": True}]


@pytest.mark.parametrize("size", [2.0**-130, 2.0**-100, 2.0**60, 2.0**120])
@pytest.mark.parametrize("settings", SHARPER, ids=str)
@pytest.mark.parametrize("proj_type", ["srft", "srft_energy", "gaussian"])
def test_a_basis_does_not_depend_on_the_size_of_the_gradient(size, settings, proj_type) -> None:
    gradient = torch.randn(30, 20, generator=torch.Generator().manual_seed(0)).clamp(-4, 4)
    # No entry so small that the smallest size would round it.
    gradient = torch.where(gradient.abs() < 0.1, 0.1, gradient)
    expected = compute_basis(gradient, 5, proj_type, **settings)
    basis = compute_basis(gradient * size, 5, proj_type, **settings)
    if size > 2.0**-110:
        assert torch.equal(basis, expected)
    else:
        # Denormal numbers have fewer digits.
        torch.testing.assert_close(basis @ basis.T, expected @ expected.T, atol=1e-3, rtol=0)


def test_a_warm_start_with_oversampling_is_the_best_of_old_and_new() -> None:
    """Close to the exact one where the gradient stays, no worse than a cold sketch where it has moved."""
    gradient = matrix_with_spectrum(200, 80, -0.5, seed=3)

    def energy(**settings: Any) -> float:
        return captured(gradient, compute_basis(gradient, 16, **settings))

    exact = torch.linalg.svd(gradient).U[:, :16]
    foreign = torch.linalg.qr(torch.randn(200, 16, generator=torch.Generator().manual_seed(3))).Q
    assert energy(start=exact, oversampling=8) > 0.999
    assert energy(start=foreign, oversampling=8) > energy(start=foreign) + 0.005
    assert energy(start=foreign, oversampling=8) > energy(oversampling=8) + 0.05


SIZES = st.integers(1, 40)


def cas_matrix(size: int) -> torch.Tensor:
    angles = torch.arange(size, dtype=torch.float64).outer(torch.arange(size, dtype=torch.float64))
    angles *= 2 * math.pi / size
    return (angles.cos() + angles.sin()) / math.sqrt(size)


def random_matrix(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@given(size=SIZES)
def test_transform_is_the_product_with_the_hartley_matrix(size: int) -> None:
    matrix = random_matrix(2, 3, size)
    torch.testing.assert_close(hartley_transform(matrix), matrix @ cas_matrix(size))


@given(size=SIZES, data=st.data(), seed=st.integers(0, 2**32 - 1))
def test_the_sketch_is_signs_times_different_columns_of_the_hartley_matrix(size, data, seed) -> None:
    """S = √(q / width) D H R: Sᵀ S = q / width · I; null or doubled columns would show."""
    width = data.draw(st.integers(1, size))
    sketch = srft_sketch(torch.eye(size, dtype=torch.float64), width, [seed])
    torch.testing.assert_close(sketch.mT @ sketch, torch.eye(width, dtype=torch.float64) * size / width)
    candidates = cas_matrix(size).abs().mT
    for column in sketch.mT * math.sqrt(width / size):
        assert ((column.abs() - candidates).abs().amax(dim=1) < 1e-12).any()


def test_the_expected_sketch_keeps_all_energy() -> None:
    """E[S Sᵀ] = I, as every column can be drawn: the mean over many seeds comes close."""
    identity = torch.eye(9, dtype=torch.float64)
    for sketch in (srft_sketch, gaussian_sketch):
        mean = sum((s := sketch(identity, 4, [draw_seed(0, 0, seed)])) @ s.mT for seed in range(4000)) / 4000
        assert (mean - identity).abs().max() < 0.1, sketch.__name__


@pytest.mark.parametrize("sketch", [srft_sketch, srft_energy_sketch, gaussian_sketch])
def test_a_batch_of_sketches_equals_its_matrices_one_by_one(sketch) -> None:
    batch = random_matrix(3, 10, 7)
    shared = sketch(batch, 4, [5])
    own = sketch(batch, 4, [5, 6, 7])
    for index in range(3):
        torch.testing.assert_close(shared[index], sketch(batch[index], 4, [5]))
        torch.testing.assert_close(own[index], sketch(batch[index], 4, [5 + index]))


def test_energy_sketch_takes_the_columns_that_hold_most() -> None:
    matrix = random_matrix(30, 21) * torch.arange(1, 22)
    everything = srft_energy_sketch(matrix, 21, [3])
    energies = everything.square().sum(dim=0)
    assert (energies.diff() <= 1e-9).all()
    torch.testing.assert_close(energies.sum(), matrix.square().sum())
    torch.testing.assert_close(srft_energy_sketch(matrix, 6, [3]), everything[:, :6])


@given(size=SIZES, data=st.data())
def test_oblivious_basis_is_orthonormal_and_the_sketch_of_the_identity(size, data) -> None:
    rank = data.draw(st.integers(1, size))
    basis = oblivious_basis(size, rank, [7], torch.device("cpu"))
    assert basis.dtype == torch.float32
    sketch = srft_sketch(torch.eye(size, dtype=torch.float64), rank, [7]) * math.sqrt(rank / size)
    torch.testing.assert_close(basis.double(), sketch, atol=1e-6, rtol=0)


@settings(max_examples=30)
@given(st.lists(st.tuples(*[st.integers(0, 10**6)] * 3), min_size=2, max_size=200, unique=True))
def test_seeds_of_different_bases_differ(keys) -> None:
    # 200 draws of 32 bits collide with a chance of 5e-6.
    assert len({draw_seed(*key) for key in keys}) == len(keys)
