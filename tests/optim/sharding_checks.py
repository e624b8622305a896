"""Weights sharded by rows (`fully_shard`), seen from one of two processes."""

from __future__ import annotations

import random
from typing import Any

import torch
from small_network import (
    equal,
    frames,
    loss_of,
    network,
    optimizer_of,
    part,
    states_of,
    weights_of,
)
from torch import nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, Partial, Replicate, Shard, distribute_tensor
from torch.distributed.tensor.debug import CommDebugMode
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

from liver_landmark.optim import SRFTGaLoreAdamW

STEPS = range(16)


def sharded_network() -> FSDPModule:
    """The network in three units of communication."""
    model = network()
    fully_shard(model[0])
    fully_shard(model[3])
    return fully_shard(model)


def train_sharded(model: nn.Module, optimizer: torch.optim.Optimizer, steps: range) -> None:
    rank = torch.distributed.get_rank()
    for step in steps:
        loss_of(model, part(frames(step), rank, 2)).backward()
        optimizer.step()
        optimizer.zero_grad()


def sketched_refreshes(optimizer: SRFTGaLoreAdamW) -> int:
    """Bases found in gradients so far."""
    return sum(int(state["refresh_count"]) for state in optimizer.state.values() if "basis" in state)


def sharded(findings: Any) -> None:
    rank = torch.distributed.get_rank()
    model = sharded_network()
    optimizer = optimizer_of(model)
    collectives, refreshes, untouched = [], [], []
    for step in STEPS:
        loss_of(model, part(frames(step), rank, 2)).backward()
        before, generators = sketched_refreshes(optimizer), (torch.get_rng_state(), random.getstate())
        with CommDebugMode() as communication:
            optimizer.step()
        collectives.append(communication.get_total_counts())
        refreshes.append(sketched_refreshes(optimizer) - before)
        untouched.append(
            torch.equal(torch.get_rng_state(), generators[0]) and random.getstate() == generators[1]
        )
        optimizer.zero_grad()
    layout = {}
    for name, parameter in model.named_parameters():
        state = optimizer.state[parameter]
        layout[name] = {
            "placements": str(parameter.placements),
            "rows": parameter.to_local().shape[0],
            "moments": [
                [str(state[key].placements), *state[key].to_local().shape, *state[key].shape]
                for key in ("exp_avg", "exp_avg_sq")
            ],
            "basis": str(state["basis"].placements) if "basis" in state else None,
        }
    bases = {
        name: state["basis"].to_local() for name, state in named_states(model, optimizer) if "basis" in state
    }
    findings.tensors("bases", bases)
    findings.tensors("weights", weights_of(model))
    findings.tensors("states", states_of(optimizer))
    findings.facts(collectives=collectives, refreshes=refreshes, untouched=untouched, layout=layout)


def named_states(model: nn.Module, optimizer: SRFTGaLoreAdamW) -> list[tuple[str, dict[str, Any]]]:
    return [(name, optimizer.state[parameter]) for name, parameter in model.named_parameters()]


def sharded_nonfinite(findings: Any) -> None:
    """A NaN among the rows of rank 1, at a step with no refresh and at one with."""
    rank = torch.distributed.get_rank()
    model = sharded_network()
    optimizer = optimizer_of(model, nonfinite="skip")
    steps = []
    for step in STEPS:
        loss_of(model, part(frames(step), rank, 2)).backward()
        poisoned = step in (4, 6)
        if poisoned and rank == 1:
            model[3].weight.grad.to_local()[0, 0] = float("nan")
        weights, states = weights_of(model), states_of(optimizer)
        refreshes = sketched_refreshes(optimizer)
        with CommDebugMode() as communication:
            optimizer.step()
        steps.append(
            {
                "poisoned": poisoned,
                "skipped": optimizer.last_step_skipped,
                "unchanged": equal(weights_of(model), weights) and equal(states_of(optimizer), states),
                "collectives": communication.get_total_counts(),
                "refreshes": sketched_refreshes(optimizer) - refreshes,
            }
        )
        optimizer.zero_grad()
    findings.tensors("weights", weights_of(model))
    findings.facts(steps=steps)


def refusal(weight: torch.Tensor, **settings: Any) -> str:
    """What the optimizer says to a weight that it cannot project; nothing, if it can."""
    try:
        SRFTGaLoreAdamW([{"params": [("blocks.0.weight", nn.Parameter(weight))], "rank": 2, **settings}])
    except ValueError as error:
        return str(error)
    return ""


def gradient_refusal(mesh: DeviceMesh) -> str:
    """Of a replicated weight whose input is split over the processes: the gradient is a sum not yet done."""
    weight = nn.Parameter(distribute_tensor(torch.ones(4, 6), mesh, [Replicate()]))
    inputs = distribute_tensor(torch.arange(48.0).reshape(8, 6), mesh, [Shard(0)])
    (inputs @ weight.T).square().sum().backward()
    try:
        SRFTGaLoreAdamW([("blocks.0.weight", weight)]).step()
    except ValueError as error:
        return str(error)
    return ""


def sharded_refusals(findings: Any) -> None:
    mesh = init_device_mesh("cpu", (2,))
    values = torch.arange(48.0).reshape(8, 6)
    by_rows = distribute_tensor(values, mesh, [Shard(0)])
    image = distribute_tensor(torch.ones(4, 2, 3, 3), mesh, [Shard(0)])
    by_columns = fully_shard(nn.Linear(6, 8), shard_placement_fn=lambda _: Shard(0 if _.dim() == 1 else 1))
    row_wise = parallelize_module(nn.Linear(6, 8), mesh, RowwiseParallel())
    both = init_device_mesh("cpu", (1, 2), mesh_dim_names=("data", "tensor"))
    column_wise = parallelize_module(nn.Linear(6, 8), both["tensor"], ColwiseParallel())
    fully_shard(column_wise, mesh=both["data"])
    findings.facts(
        accepted=[
            refusal(by_rows),
            refusal(by_rows, side="right"),
            refusal(distribute_tensor(values, mesh, [Replicate()])),
            refusal(image, matrix_axes=((0,), (1, 2, 3))),
            refusal(by_columns.weight, rank=None),
        ],
        left=refusal(by_rows, side="left"),
        shorter_is_left=refusal(distribute_tensor(values.T.contiguous(), mesh, [Shard(0)]), side="shorter"),
        columns=refusal(by_columns.weight),
        tensor_parallel=refusal(row_wise.weight),
        tensor_and_data_parallel=refusal(column_wise.weight),
        partial=refusal(DTensor.from_local(values, mesh, [Partial()], run_check=False)),
        gradient=gradient_refusal(mesh),
        rows_not_first=refusal(image, matrix_axes=((1,), (0, 2, 3))),
        rows_of_a_batch=refusal(image, matrix_axes=((1,), (2, 3))),
    )


CHECKS = (sharded, sharded_nonfinite, sharded_refusals)
