"""torch.distributed.checkpoint: whole weights, sharded ones, and from two processes to one."""

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
from optim.small_network import equal, network, optimizer_of, states_of, train, weights_of
from optim.two_processes import checkpoint_of, found, tensors

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


def test_restored_optimizer_goes_on_bit_for_bit(tmp_path: Path) -> None:
    model = network()
    optimizer = optimizer_of(model)
    train(model, optimizer, range(16))
    optimizer.param_groups[0]["lr"] = 3e-3
    dcp.save(state_of(model, optimizer), checkpoint_id=tmp_path)
    other, restored = load(tmp_path, "longer")
    assert equal(states_of(restored), states_of(optimizer))
    for group, saved in zip(restored.param_groups, optimizer.param_groups, strict=True):
        assert group | {"params": []} == saved | {"params": []}
    refreshes = [int(optimizer.state[model[index].weight]["refresh_count"]) for index in (0, 3, 6, 8)]
    for each, its in ((model, optimizer), (other, restored)):
        train(each, its, range(10, 30))
    later = [int(optimizer.state[model[index].weight]["refresh_count"]) for index in (0, 3, 6, 8)]
    assert all(after > before for after, before in zip(later, refreshes, strict=True))
    assert equal(weights_of(other), weights_of(model))
    assert equal(states_of(restored), states_of(optimizer))


def test_a_checkpoint_loads_twice_into_the_same_optimizer(tmp_path: Path) -> None:
    model = network()
    optimizer = optimizer_of(model)
    train(model, optimizer, range(4))
    dcp.save(state_of(model, optimizer), checkpoint_id=tmp_path)
    saved = states_of(optimizer)
    for _ in range(2):
        train(model, optimizer, range(3))
        state = state_of(model, optimizer)
        # Refuses keys that the checkpoint has not: a group must not gain any by being restored.
        dcp.load(state, checkpoint_id=tmp_path)
        set_optimizer_state_dict(model, optimizer, state["optimizer"])
        assert equal(states_of(optimizer), saved)


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
