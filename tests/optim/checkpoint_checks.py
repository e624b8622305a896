"""torch.distributed.checkpoint with sharded weights, seen from one of two processes."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed.checkpoint as dcp
from sharding_checks import STEPS, sharded_network, sketched_refreshes, train_sharded
from small_network import equal, optimizer_of, states_of, weights_of
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)


def sharded_checkpoint(findings: Any) -> None:
    """Saved after 10 steps, loaded into a fresh optimizer and into one of whole tensors; 20 steps more."""
    folder = findings.folder / "sharded_checkpoint"
    model = sharded_network()
    optimizer = optimizer_of(model, side="right")
    train_sharded(model, optimizer, STEPS)
    optimizer.param_groups[0]["lr"] = 3e-3
    saved = {"model": get_model_state_dict(model), "optimizer": get_optimizer_state_dict(model, optimizer)}
    dcp.save(saved, checkpoint_id=folder)
    findings.tensors("weights", weights_of(model))
    findings.tensors("states", states_of(optimizer))
    whole = StateDictOptions(full_state_dict=True)
    saved_whole = get_optimizer_state_dict(model, optimizer, options=whole)

    fresh = sharded_network()
    with torch.no_grad():
        for weight in fresh.parameters():
            weight.to_local().mul_(0.5)
    restored = optimizer_of(fresh, side="right")
    before = weights_of(fresh)
    # Makes the state by a step with gradients and a learning rate of zero.
    state = {"model": get_model_state_dict(fresh), "optimizer": get_optimizer_state_dict(fresh, restored)}
    unchanged = equal(weights_of(fresh), before)
    dcp.load(state, checkpoint_id=folder)
    set_model_state_dict(fresh, state["model"])
    set_optimizer_state_dict(fresh, restored, state["optimizer"])
    loaded = equal(weights_of(fresh), weights_of(model)) and equal(states_of(restored), states_of(optimizer))

    again = sharded_network()
    set_model_state_dict(again, get_model_state_dict(model))
    from_whole = optimizer_of(again, side="right")
    set_optimizer_state_dict(again, from_whole, saved_whole, options=whole)

    refreshes = sketched_refreshes(optimizer)
    later = range(len(STEPS), len(STEPS) + 20)
    train_sharded(model, optimizer, later)
    equals = {}
    for name, other, resumed in (("sharded", fresh, restored), ("whole", again, from_whole)):
        train_sharded(other, resumed, later)
        equals[name] = equal(weights_of(other), weights_of(model)) and equal(
            states_of(resumed), states_of(optimizer)
        )
    findings.facts(
        unchanged=unchanged,
        loaded=loaded,
        equals=equals,
        refreshes=sketched_refreshes(optimizer) - refreshes,
        lr=[group["lr"] for group in restored.param_groups],
        placements=[str(restored.state[weight]["exp_avg"].placements) for weight in fresh.parameters()],
    )


CHECKS = (sharded_checkpoint,)
