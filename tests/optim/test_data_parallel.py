"""Under DistributedDataParallel two processes do what one does on the same batches, with equal bases."""

from __future__ import annotations

import pytest
import torch

from optim.small_network import (
    equal,
    frames,
    loss_of,
    network,
    optimizer_of,
    part,
    states_of,
    train,
    weights_of,
)
from optim.two_processes import found, tensors

STEPS = range(16)


@pytest.fixture(scope="module")
def alone() -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Weights and states of one process on whole batches."""
    model = network()
    optimizer = optimizer_of(model)
    train(model, optimizer, STEPS)
    states = states_of(optimizer)
    # Without refreshes there would be no bases to compare.
    assert all(states[f"{index}.weight/refresh_count"] >= 4 for index in (0, 3, 6, 8))
    return weights_of(model), states


def assert_close(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> None:
    """Gradients differ by float64 rounding; bases, which are float32, by theirs."""
    assert ours.keys() == theirs.keys()
    for name, expected in theirs.items():
        torch.testing.assert_close(
            ours[name], expected, rtol=1e-6, atol=1e-8, msg=lambda text, name=name: f"{name}: {text}"
        )


@pytest.mark.parametrize("check", ["data_parallel", "data_parallel_accumulated"])
def test_two_processes_equal_one(check: str, alone) -> None:
    found(check)
    weights, states = alone
    for rank in range(2):
        assert_close(tensors(check, "weights")[rank], weights)
        assert_close(tensors(check, "states")[rank], states)


@pytest.mark.parametrize("check", ["data_parallel", "data_parallel_accumulated"])
def test_bases_are_equal_on_both_ranks_bit_for_bit(check: str) -> None:
    found(check)
    first, second = tensors(check, "states")
    assert sum(name.endswith("/basis") for name in first) == 3
    assert equal(first, second)
    assert equal(*tensors(check, "weights"))


def test_global_generators_differ_and_stay_as_they_are() -> None:
    facts = found("data_parallel")
    assert not equal(*tensors("data_parallel", "generator"))
    assert all(all(fact["untouched"]) and len(fact["untouched"]) == len(STEPS) for fact in facts)


def test_replicas_do_not_communicate() -> None:
    assert all(fact["collectives"] == [0] * len(STEPS) for fact in found("data_parallel"))


def test_accumulated_halves_equal_a_batch(alone) -> None:
    model = network()
    optimizer = optimizer_of(model)
    for step in STEPS:
        for index in range(2):
            (loss_of(model, part(frames(step), index, 2)) / 2).backward()
        optimizer.step()
        optimizer.zero_grad()
    assert_close(weights_of(model), alone[0])
    assert_close(states_of(optimizer), alone[1])
