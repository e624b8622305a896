"""Random sketches against the explicit matrices that they stand for."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from liver_landmark.optim.basis import (
    draw_seed,
    gaussian_sketch,
    hartley_transform,
    oblivious_basis,
    srft_energy_sketch,
    srft_sketch,
)

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
def test_the_sketching_matrix_has_orthogonal_columns_of_the_right_length(size, data, seed) -> None:
    """S = √(q / width) D H R: Sᵀ S = q / width · I; null or doubled columns would show."""
    width = data.draw(st.integers(1, size))
    sketch = srft_sketch(torch.eye(size, dtype=torch.float64), width, [seed])
    torch.testing.assert_close(sketch.mT @ sketch, torch.eye(width, dtype=torch.float64) * size / width)


@given(size=SIZES, data=st.data(), seed=st.integers(0, 2**32 - 1))
def test_the_sketching_matrix_is_signs_times_columns_of_the_hartley_matrix(size, data, seed) -> None:
    width = data.draw(st.integers(1, size))
    sketch = srft_sketch(torch.eye(size, dtype=torch.float64), width, [seed]) * math.sqrt(width / size)
    candidates = cas_matrix(size).abs().mT
    for column in sketch.mT:
        assert ((column.abs() - candidates).abs().amax(dim=1) < 1e-12).any()


def test_the_expected_sketch_keeps_all_energy() -> None:
    """E[S Sᵀ] = I, for both sketches: the mean over many seeds comes close."""
    identity = torch.eye(9, dtype=torch.float64)
    for sketch in (srft_sketch, gaussian_sketch):
        mean = sum((s := sketch(identity, 4, [draw_seed(0, 0, seed)])) @ s.mT for seed in range(4000)) / 4000
        assert (mean - identity).abs().max() < 0.1, sketch.__name__


@pytest.mark.parametrize("size", [12, 13])
def test_every_column_can_be_drawn(size: int) -> None:
    """All q real columns take part: the rfft's q / 2 + 1 bins alone would leave half of them out."""
    candidates = cas_matrix(size).abs().mT
    drawn = set()
    for seed in range(400):
        column = srft_sketch(torch.eye(size, dtype=torch.float64), 1, [seed])[:, 0] / math.sqrt(size)
        matches = (column.abs() - candidates).abs().amax(dim=1) < 1e-12
        drawn |= set(matches.nonzero()[:, 0].tolist())
    assert drawn == set(range(size))


@pytest.mark.parametrize("sketch", [srft_sketch, srft_energy_sketch, gaussian_sketch])
def test_a_batch_equals_its_matrices_one_by_one(sketch) -> None:
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


def test_no_global_generator_is_read_or_moved() -> None:
    matrix = random_matrix(8, 6)
    results = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        results.append([s(matrix, 3, [0]) for s in (srft_sketch, srft_energy_sketch, gaussian_sketch)])
        assert torch.equal(torch.get_rng_state(), before)
    for first, second in zip(*results, strict=True):
        assert torch.equal(first, second)
