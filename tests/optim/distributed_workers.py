"""What each of the two processes does: `torchrun --nproc-per-node 2 distributed_workers.py FOLDER`.

Every check runs on both, leaves its facts in FOLDER and judges nothing: the tests do.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Callable
from contextlib import nullcontext
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as dcp
from small_network import equal, frames, loss_of, network, optimizer_of, part, states_of, weights_of
from torch import nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, Partial, Replicate, Shard, distribute_tensor
from torch.distributed.tensor.debug import CommDebugMode
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module
from torch.nn.parallel import DistributedDataParallel

from liver_landmark.optim import LayerwiseStepper, SRFTGaLoreAdamW

STEPS = range(16)


class Findings:
    """Where a check leaves what it found."""

    def __init__(self, folder: Path, check: str) -> None:
        self.folder, self.check, self.rank = folder, check, torch.distributed.get_rank()

    def tensors(self, name: str, values: dict[str, torch.Tensor]) -> None:
        torch.save(values, self.folder / f"{self.check}-{name}-{self.rank}.pt")

    def facts(self, **facts: object) -> None:
        facts["world_size"] = torch.distributed.get_world_size()
        (self.folder / f"{self.check}-{self.rank}.json").write_text(json.dumps(facts))


def sharded_network() -> FSDPModule:
    """The network in three units of communication."""
    model = network()
    fully_shard(model[0])
    fully_shard(model[3])
    return fully_shard(model)


def train_sharded(model: nn.Module, optimizer: torch.optim.Optimizer, steps: range) -> None:
    for step in steps:
        loss_of(model, part(frames(step), torch.distributed.get_rank(), 2)).backward()
        optimizer.step()
        optimizer.zero_grad()


def sketched_refreshes(optimizer: SRFTGaLoreAdamW) -> int:
    """Bases found in gradients so far."""
    return sum(int(state["refresh_count"]) for state in optimizer.state.values() if "basis" in state)


def watched_step(optimizer: SRFTGaLoreAdamW) -> dict[str, Any]:
    """A step: how often it communicated, how many bases it found, whether it left all generators alone."""
    before, generators = sketched_refreshes(optimizer), (torch.get_rng_state(), random.getstate())
    with CommDebugMode() as communication:
        optimizer.step()
    return {
        "collectives": communication.get_total_counts(),
        "refreshes": sketched_refreshes(optimizer) - before,
        "untouched": torch.equal(torch.get_rng_state(), generators[0]) and random.getstate() == generators[1],
    }


def sharded(findings: Findings) -> None:
    model = sharded_network()
    optimizer = optimizer_of(model)
    steps = []
    for step in STEPS:
        loss_of(model, part(frames(step), findings.rank, 2)).backward()
        steps.append(watched_step(optimizer))
        optimizer.zero_grad()
    layout, bases = {}, {}
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
        if "basis" in state:
            bases[name] = state["basis"].to_local()
    findings.tensors("bases", bases)
    findings.tensors("weights", weights_of(model))
    findings.tensors("states", states_of(optimizer))
    findings.facts(steps=steps, layout=layout)


def sharded_nonfinite(findings: Findings) -> None:
    """A NaN among the rows of rank 1, at a step with no refresh and at one with."""
    model = sharded_network()
    optimizer = optimizer_of(model, nonfinite="skip")
    steps = []
    for step in STEPS:
        loss_of(model, part(frames(step), findings.rank, 2)).backward()
        poisoned = step in (4, 6)
        if poisoned and findings.rank == 1:
            model[3].weight.grad.to_local()[0, 0] = float("nan")
        weights, states = weights_of(model), states_of(optimizer)
        steps.append(watched_step(optimizer) | {"poisoned": poisoned, "skipped": optimizer.last_step_skipped})
        steps[-1]["unchanged"] = equal(weights_of(model), weights) and equal(states_of(optimizer), states)
        optimizer.zero_grad()
    findings.tensors("weights", weights_of(model))
    findings.facts(steps=steps)


def error_of(call: Callable[[], Any]) -> str:
    """What it says when it refuses; nothing, if it does not."""
    try:
        call()
    except (ValueError, RuntimeError) as error:
        return str(error)
    return ""


def refusal(weight: torch.Tensor, **settings: Any) -> str:
    """What the optimizer says to a weight that it cannot project."""
    group = {"params": [("blocks.0.weight", nn.Parameter(weight))], "rank": 2, **settings}
    return error_of(lambda: SRFTGaLoreAdamW([group]))


def gradient_refusal(mesh: DeviceMesh) -> str:
    """Of a replicated weight whose input is split over the processes: the gradient is a sum not yet done."""
    weight = nn.Parameter(distribute_tensor(torch.ones(4, 6), mesh, [Replicate()]))
    inputs = distribute_tensor(torch.arange(48.0).reshape(8, 6), mesh, [Shard(0)])
    (inputs @ weight.T).square().sum().backward()
    return error_of(SRFTGaLoreAdamW([("blocks.0.weight", weight)]).step)


def sharded_refusals(findings: Findings) -> None:
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


def sharded_checkpoint(findings: Findings) -> None:
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


def data_parallel(findings: Findings) -> None:
    """One pass a step, and two of which only the last one communicates."""
    for passes in (1, 2):
        model = network()
        wrapped, optimizer = DistributedDataParallel(model), optimizer_of(model)
        steps = []
        for step in STEPS:
            for index in range(passes):
                mine = part(frames(step), findings.rank + 2 * index, 2 * passes)
                with nullcontext() if index == passes - 1 else wrapped.no_sync():
                    (loss_of(wrapped, mine) / passes).backward()
            steps.append(watched_step(optimizer))
            optimizer.zero_grad()
        findings.tensors(f"weights-{passes}", weights_of(model))
        findings.tensors(f"states-{passes}", states_of(optimizer))
    findings.tensors("generator", {"state": torch.get_rng_state()})
    findings.facts(steps=steps)


def _network_with_stepper() -> tuple[torch.nn.Module, LayerwiseStepper]:
    model = network()
    return model, LayerwiseStepper(optimizer_of(model))


# Made when this module is imported: before there is a process group.
_EARLY_MODEL, _EARLY_STEPPER = _network_with_stepper()


def layerwise_data_parallel(findings: Findings) -> None:
    model = network()
    wrapped, optimizer = DistributedDataParallel(model), optimizer_of(model)
    at_construction = error_of(lambda: LayerwiseStepper(optimizer))
    before = weights_of(_EARLY_MODEL)
    wrapped_early = DistributedDataParallel(_EARLY_MODEL)
    findings.facts(
        at_construction=at_construction,
        no_hooks_left=error_of(lambda: loss_of(wrapped, frames(0)).backward()) == "",
        in_backward=error_of(lambda: loss_of(wrapped_early, frames(0)).backward()),
        unchanged=equal(weights_of(_EARLY_MODEL), before),
    )


def _passes(model: torch.nn.Module, step: int, count: int, communicate_last_only: bool) -> None:
    """Backward passes over a step's samples of this process, in `count` parts."""
    mine = part(frames(step), torch.distributed.get_rank(), 2)
    for index in range(count):
        model.set_requires_gradient_sync(not communicate_last_only or index == count - 1)
        (loss_of(model, part(mine, index, count)) / count).backward()


def layerwise_sharded(findings: Findings) -> None:
    """Beside the ordinary mode: one pass a step, two, and two of which the last one communicates."""
    modes = {}
    for mode, count, last_only in (("one", 1, False), ("two", 2, False), ("last", 2, True)):
        ordinary, layerwise = sharded_network(), sharded_network()
        optimizer, hooked = optimizer_of(ordinary), optimizer_of(layerwise)
        # Passes that do not communicate call no hooks.
        stepper = LayerwiseStepper(hooked, accumulation_steps=1 if last_only else count)
        norms, expected, kept, collectives = [], [], [], []
        for step in STEPS:
            _passes(ordinary, step, count, last_only)
            gradients = [weight.grad.full_tensor() for weight in ordinary.parameters()]
            expected.append(torch.nn.utils.get_total_norm(gradients).item())
            optimizer.step()
            optimizer.zero_grad()
            _passes(layerwise, step, count, last_only)
            kept.append(sum(weight.grad is not None for weight in layerwise.parameters()))
            collectives.append(watched_step(hooked)["collectives"])
            norms.append(stepper.last_step.grad_norm)
        modes[mode] = {
            "equal": equal(weights_of(layerwise), weights_of(ordinary))
            and equal(states_of(hooked), states_of(optimizer)),
            "norms": norms,
            "expected": expected,
            "kept": kept,
            "collectives": collectives,
        }
    findings.facts(modes=modes)


def layerwise_hybrid(findings: Findings) -> None:
    """Two replicas of one shard, and one replica of two shards, on one mesh of two dimensions each."""
    norms = {}
    for replicas in (2, 1):
        mesh = init_device_mesh("cpu", (replicas, 2 // replicas), mesh_dim_names=("replicas", "shards"))
        model = fully_shard(network(), mesh=mesh)
        stepper = LayerwiseStepper(optimizer_of(model))
        norms[str(replicas)] = []
        for step in STEPS:
            _passes(model, step, 1, communicate_last_only=False)
            stepper.optimizer.step()
            norms[str(replicas)].append(stepper.last_step.grad_norm)
        findings.tensors(f"weights-{replicas}", weights_of(model))
    findings.facts(norms=norms)


CHECKS = (
    sharded,
    sharded_nonfinite,
    sharded_refusals,
    sharded_checkpoint,
    data_parallel,
    layerwise_data_parallel,
    layerwise_sharded,
    layerwise_hybrid,
)


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    # Well before the launcher gives up on us, who would stay behind.
    torch.distributed.init_process_group("gloo", timeout=timedelta(seconds=90))
    # Whatever depended on a global generator would differ between the processes.
    torch.manual_seed(100 + torch.distributed.get_rank())
    for check in CHECKS:
        check(Findings(folder, check.__name__))
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
