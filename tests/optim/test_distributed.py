"""Two processes do what one does: replicas, weights sharded by rows, and checkpoints of both."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch import nn
from torch.distributed.checkpoint.state_dict import (
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)

from liver_landmark.optim import SRFTGaLoreAdamW
from optim.small_network import equal, frames, loss_of, network, optimizer_of, states_of, train, weights_of
from optim.two_processes import checkpoint_of, found, tensors

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
            ours[name], expected, rtol=1e-6, atol=1e-7, msg=lambda text, name=name: f"{name}: {text}"
        )


@pytest.mark.parametrize("passes", [1, 2])
def test_two_processes_equal_one_and_each_other_bit_for_bit(passes: int, alone) -> None:
    found("data_parallel")
    for kind, expected in zip(("weights", "states"), alone, strict=True):
        first, second = tensors("data_parallel", f"{kind}-{passes}")
        assert_close(first, expected)
        assert equal(first, second)
    assert sum(name.endswith("/basis") for name in first) == 3


def test_global_generators_differ_and_stay_as_they_are_and_replicas_do_not_communicate() -> None:
    assert not equal(*tensors("data_parallel", "generator"))
    for check in ("data_parallel", "sharded"):
        for fact in found(check):
            assert [step["untouched"] for step in fact["steps"]] == [True] * len(STEPS)
    for fact in found("data_parallel"):
        assert all(step["collectives"] == 0 for step in fact["steps"])


# Of 7, 13, 30 and 1 rows, as torch.chunk gives them to two processes.
ROWS = {"0.weight": (4, 3), "3.weight": (7, 6), "6.weight": (15, 15), "8.weight": (1, 0)}
MOMENTS = {"0.weight": (7, 3), "3.weight": (13, 4), "6.weight": (30, 5), "8.weight": (1, 1)}
SKETCHED = ("0.weight", "3.weight", "8.weight")


def test_two_sharded_processes_equal_one_and_share_their_bases_bit_for_bit() -> None:
    model = network()
    optimizer = optimizer_of(model, side="right")
    train(model, optimizer, STEPS)
    found("sharded")
    expected = states_of(optimizer)
    assert all(expected[f"{name}/refresh_count"] >= 4 for name in ROWS)
    for rank in range(2):
        assert_close(tensors("sharded", "weights")[rank], weights_of(model))
        assert_close(tensors("sharded", "states")[rank], expected)
    first, second = tensors("sharded", "bases")
    assert set(first) == set(SKETCHED)
    assert equal(first, second)


@pytest.mark.parametrize("name", ROWS)
def test_moments_are_sharded_as_the_weight(name: str) -> None:
    for rank, fact in enumerate(found("sharded")):
        layout = fact["layout"][name]
        assert layout["placements"] == "(Shard(dim=0),)"
        assert layout["rows"] == ROWS[name][rank]
        for moment in layout["moments"]:
            rows, rank_columns = MOMENTS[name]
            assert moment == ["(Shard(dim=0),)", layout["rows"], rank_columns, rows, rank_columns]
        assert layout["basis"] == ("(Replicate(),)" if name in SKETCHED else None)


def test_moments_of_plain_weights_are_sharded_too() -> None:
    for rank, fact in enumerate(found("sharded")):
        assert fact["layout"]["3.bias"]["moments"] == [["(Shard(dim=0),)", (7, 6)[rank], 13]] * 2
        assert fact["layout"]["8.bias"]["moments"] == [["(Shard(dim=0),)", (1, 0)[rank], 1]] * 2


def test_processes_communicate_at_refreshes_only() -> None:
    for fact in found("sharded"):
        refreshes = [step["refreshes"] for step in fact["steps"]]
        # One gathered gradient for each basis found in one; oblivious bases need none.
        assert [step["collectives"] for step in fact["steps"]] == refreshes
        assert sum(refreshes) >= 3 * len(SKETCHED)
        assert refreshes.count(0) >= 3


def test_nan_on_one_rank_is_skipped_on_both_for_one_reduction_a_step() -> None:
    for fact in found("sharded_nonfinite"):
        assert sum(step["poisoned"] for step in fact["steps"]) == 2
        for step in fact["steps"]:
            assert step["skipped"] == step["unchanged"] == step["poisoned"]
            assert step["collectives"] == 1 + step["refreshes"]
    model = network()
    optimizer = optimizer_of(model, side="right")
    for step in STEPS:
        if step not in (4, 6):
            loss_of(model, frames(step)).backward()
            optimizer.step()
            optimizer.zero_grad()
    for weights in tensors("sharded_nonfinite", "weights"):
        assert_close(weights, weights_of(model))


@pytest.mark.parametrize(
    ("case", "reason"),
    [
        ("left", "sharded by rows and side 'left'"),
        ("shorter_is_left", "sharded by rows and side 'shorter'"),
        ("columns", "placed as S(1)"),
        ("tensor_parallel", "placed as S(1)"),
        ("tensor_and_data_parallel", "placed as _S(0, 2)"),
        ("partial", "placed as P(sum)"),
        ("gradient", "is placed as (Partial(sum),), the weight as (Replicate(),)"),
        ("rows_not_first", "matrix_axes must take axis 0"),
        ("rows_of_a_batch", "matrix_axes must take axis 0"),
    ],
)
def test_other_placements_than_by_rows_or_replicated_are_refused_by_name(case: str, reason: str) -> None:
    for fact in found("sharded_refusals"):
        assert fact["accepted"] == [""] * 5
        assert fact[case].removeprefix("the gradient of ").startswith("blocks.0.weight ")
        assert reason in fact[case]


# torch.distributed.checkpoint says that one process is one process.
pytestmark = pytest.mark.filterwarnings("ignore:torch.distributed is disabled")


def state_of(model: nn.Module, optimizer: SRFTGaLoreAdamW) -> dict[str, Any]:
    return {"model": get_model_state_dict(model), "optimizer": get_optimizer_state_dict(model, optimizer)}


def load(folder: Path, side: str) -> tuple[nn.Module, SRFTGaLoreAdamW]:
    """A fresh network and optimizer that have taken over a checkpoint."""
    model = network()
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(0.5)
    optimizer = optimizer_of(model, side)
    before = weights_of(model)
    # A step with gradients and a learning rate of zero makes the state that is then loaded into.
    state = state_of(model, optimizer)
    assert equal(weights_of(model), before)
    assert all(optimizer.state[weight] for weight in model.parameters())
    dcp.load(state, checkpoint_id=folder)
    set_model_state_dict(model, state["model"])
    set_optimizer_state_dict(model, optimizer, state["optimizer"])
    return model, optimizer


def test_optimizer_restored_from_a_distributed_checkpoint_goes_on_bit_for_bit(tmp_path: Path) -> None:
    model = network()
    optimizer = optimizer_of(model)
    train(model, optimizer, range(16))
    optimizer.param_groups[0]["lr"] = 3e-3
    dcp.save(state_of(model, optimizer), checkpoint_id=tmp_path)
    saved, refreshes = states_of(optimizer), refresh_counts(optimizer)
    other, restored = load(tmp_path, "longer")
    assert equal(states_of(restored), saved)
    for group, its in zip(restored.param_groups, optimizer.param_groups, strict=True):
        assert group | {"params": []} == its | {"params": []}
    for each, its in ((model, optimizer), (other, restored)):
        train(each, its, range(10, 30))
    assert all(now > before for now, before in zip(refresh_counts(optimizer), refreshes, strict=True))
    assert equal(weights_of(other), weights_of(model))
    assert equal(states_of(restored), states_of(optimizer))
    # Once more into the same optimizer: `load` refuses keys that the checkpoint has not, and so a group must
    # not gain any by being restored.
    state = state_of(other, restored)
    dcp.load(state, checkpoint_id=tmp_path)
    set_optimizer_state_dict(other, restored, state["optimizer"])
    assert equal(states_of(restored), saved)


def refresh_counts(optimizer: SRFTGaLoreAdamW) -> list[torch.Tensor]:
    return [count for name, count in states_of(optimizer).items() if name.endswith("/refresh_count")]


def test_sharded_optimizer_goes_on_bit_for_bit() -> None:
    for fact in found("sharded_checkpoint"):
        assert fact["unchanged"]
        assert fact["loaded"]
        assert fact["lr"] == [3e-3, 1e-2, 1e-2, 1e-2]
        assert set(fact["placements"]) == {"(Shard(dim=0),)"}
        assert fact["refreshes"] >= 3
        assert fact["equals"] == {"sharded": True, "whole": True}


def test_one_process_takes_over_from_two() -> None:
    found("sharded_checkpoint")
    model, optimizer = load(checkpoint_of("sharded_checkpoint"), "right")
    assert equal(weights_of(model), tensors("sharded_checkpoint", "weights")[0])
    assert equal(states_of(optimizer), tensors("sharded_checkpoint", "states")[0])
