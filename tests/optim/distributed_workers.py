"""Two processes do what one does: `torchrun --nproc-per-node 2 distributed_workers.py FOLDER`.

Every check runs on both; the first that fails ends both. FOLDER holds a file for each that has passed.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from contextlib import nullcontext
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint as dcp
from small_network import equal, frames, loss_of, network, optimizer_of, part, states_of, train, weights_of
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
from torch.nn.utils import get_total_norm

from liver_landmark.optim import LayerwiseStepper, SRFTGaLoreAdamW

STEPS = range(16)
FOLDER = Path(sys.argv[1])
Trained = tuple[nn.Module, SRFTGaLoreAdamW]


def of_both(value: Any) -> list[Any]:
    """The values of rank 0 and rank 1."""
    values = [None, None]
    torch.distributed.all_gather_object(values, value)
    return values


def assert_close(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> None:
    """Gradients differ by float64 rounding; bases, which are float32, by theirs."""
    assert ours.keys() == theirs.keys()
    for name, expected in theirs.items():
        torch.testing.assert_close(
            ours[name], expected, rtol=1e-6, atol=1e-7, msg=lambda text, name=name: f"{name}: {text}"
        )


def one_process(side: str = "longer", without: tuple[int, ...] = ()) -> Trained:
    """What one process makes of whole batches."""
    model = network()
    optimizer = optimizer_of(model, side)
    for step in STEPS:
        if step not in without:
            train(model, optimizer, range(step, step + 1))
    return model, optimizer


def assert_same(ours: Trained, theirs: Trained, close: bool = False) -> None:
    """Weights and states, bit for bit if not `close`."""
    for kind, which in ((weights_of, 0), (states_of, 1)):
        if close:
            assert_close(kind(ours[which]), kind(theirs[which]))
        else:
            assert equal(kind(ours[which]), kind(theirs[which])), kind.__name__


def sharded_network() -> FSDPModule:
    """The network in three units of communication."""
    model = network()
    fully_shard(model[0])
    fully_shard(model[3])
    return fully_shard(model)


def mine(step: int) -> tuple[torch.Tensor, ...]:
    """This process's half of a step's samples."""
    return part(frames(step), torch.distributed.get_rank(), 2)


def train_sharded(model: nn.Module, optimizer: torch.optim.Optimizer, steps: range) -> None:
    for step in steps:
        loss_of(model, mine(step)).backward()
        optimizer.step()
        optimizer.zero_grad()


def sketched_refreshes(optimizer: SRFTGaLoreAdamW) -> int:
    """Bases found in gradients so far."""
    return sum(int(state["refresh_count"]) for state in optimizer.state.values() if "basis" in state)


def watched_step(optimizer: SRFTGaLoreAdamW) -> tuple[int, int]:
    """A step that leaves all generators alone: how often it communicated, how many bases it found."""
    before, generators = sketched_refreshes(optimizer), (torch.get_rng_state(), random.getstate())
    with CommDebugMode() as communication:
        optimizer.step()
    assert torch.equal(torch.get_rng_state(), generators[0])
    assert random.getstate() == generators[1]
    return communication.get_total_counts(), sketched_refreshes(optimizer) - before


def data_parallel() -> None:
    """Replicas do not communicate; one pass a step, and two of which only the last one communicates."""
    assert not torch.equal(*of_both(torch.get_rng_state()))
    for passes in (1, 2):
        model = network()
        wrapped, optimizer = DistributedDataParallel(model), optimizer_of(model)
        for step in STEPS:
            for index in range(passes):
                samples = part(frames(step), torch.distributed.get_rank() + 2 * index, 2 * passes)
                with nullcontext() if index == passes - 1 else wrapped.no_sync():
                    (loss_of(wrapped, samples) / passes).backward()
            assert watched_step(optimizer)[0] == 0
            optimizer.zero_grad()
        assert_same((model, optimizer), one_process(), close=True)
        states = states_of(optimizer)
        assert sum(name.endswith("/basis") for name in states) == 3
        # Without refreshes there would be no bases to compare.
        assert all(states[f"{index}.weight/refresh_count"] >= 4 for index in (0, 3, 6, 8))
        assert equal(*of_both(states))
        assert equal(*of_both(weights_of(model)))


# By name: rows of the shard of each process, as torch.chunk gives them, rows in all, columns of the moments.
LAYOUT = {
    "0.weight": ((4, 3), 7, 3),
    "3.weight": ((7, 6), 13, 4),
    "6.weight": ((15, 15), 30, 5),
    "8.weight": ((1, 0), 1, 1),
}
SKETCHED = ("0.weight", "3.weight", "8.weight")


def sharded() -> None:
    """Weights sharded by rows: moments are sharded as the weight, and refreshes alone communicate."""
    model = sharded_network()
    optimizer = optimizer_of(model)
    collectives, refreshes = [], []
    for step in STEPS:
        loss_of(model, mine(step)).backward()
        counts = watched_step(optimizer)
        collectives.append(counts[0])
        refreshes.append(counts[1])
        optimizer.zero_grad()
    # One gathered gradient for each basis found in one; oblivious bases need none.
    assert collectives == refreshes
    assert sum(refreshes) >= 3 * len(SKETCHED)
    assert refreshes.count(0) >= 3
    assert_same((model, optimizer), one_process("right"), close=True)
    bases, rank = {}, torch.distributed.get_rank()
    for name, parameter in model.named_parameters():
        state, by_rows = optimizer.state[parameter], (Shard(0),)
        assert (
            parameter.placements == state["exp_avg"].placements == state["exp_avg_sq"].placements == by_rows
        )
        if name in LAYOUT:
            rows, all_rows, columns = LAYOUT[name]
            assert parameter.to_local().shape[0] == rows[rank]
            for moment in (state["exp_avg"], state["exp_avg_sq"]):
                assert (moment.shape, moment.to_local().shape) == ((all_rows, columns), (rows[rank], columns))
            assert state["refresh_count"] >= 4
        if "basis" in state:
            assert state["basis"].placements == (Replicate(),)
            bases[name] = state["basis"].to_local()
    for name, rows in (("3.bias", (7, 6)), ("8.bias", (1, 0))):
        assert optimizer.state[model.get_parameter(name)]["exp_avg"].to_local().shape == (rows[rank],)
    assert set(bases) == set(SKETCHED)
    assert equal(*of_both(bases))


def sharded_nonfinite() -> None:
    """A NaN in rows of rank 1 alone is skipped on both, for one reduction a step, at a refresh or not."""
    model = sharded_network()
    optimizer = optimizer_of(model, nonfinite="skip")
    for step in STEPS:
        loss_of(model, mine(step)).backward()
        poisoned = step in (4, 6)
        if poisoned and torch.distributed.get_rank() == 1:
            model[3].weight.grad.to_local()[0, 0] = float("nan")
        weights, states = weights_of(model), states_of(optimizer)
        collectives, refreshes = watched_step(optimizer)
        assert collectives == 1 + refreshes
        unchanged = equal(weights_of(model), weights) and equal(states_of(optimizer), states)
        assert optimizer.last_step_skipped == unchanged == poisoned
        optimizer.zero_grad()
    assert_close(weights_of(model), weights_of(one_process("right", without=(4, 6))[0]))


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


def refusals() -> None:
    """Weights sharded by rows or replicated are accepted, other placements refused by name."""
    mesh = init_device_mesh("cpu", (2,))
    values = torch.arange(48.0).reshape(8, 6)
    by_rows = distribute_tensor(values, mesh, [Shard(0)])
    upright = distribute_tensor(values.T.contiguous(), mesh, [Shard(0)])
    image = distribute_tensor(torch.ones(4, 2, 3, 3), mesh, [Shard(0)])
    by_columns = fully_shard(nn.Linear(6, 8), shard_placement_fn=lambda _: Shard(0 if _.dim() == 1 else 1))
    row_wise = parallelize_module(nn.Linear(6, 8), mesh, RowwiseParallel())
    both = init_device_mesh("cpu", (1, 2), mesh_dim_names=("data", "tensor"))
    column_wise = parallelize_module(nn.Linear(6, 8), both["tensor"], ColwiseParallel())
    fully_shard(column_wise, mesh=both["data"])
    for accepted in (
        refusal(by_rows),
        refusal(by_rows, side="right"),
        refusal(distribute_tensor(values, mesh, [Replicate()])),
        refusal(image, matrix_axes=((0,), (1, 2, 3))),
        refusal(by_columns.weight, rank=None),
    ):
        assert accepted == ""
    for refused, reason in (
        (refusal(by_rows, side="left"), "sharded by rows and side 'left'"),
        (refusal(upright, side="shorter"), "sharded by rows and side 'shorter'"),
        (refusal(by_columns.weight), "placed as S(1)"),
        (refusal(row_wise.weight), "placed as S(1)"),
        (refusal(column_wise.weight), "placed as _S(0, 2)"),
        (refusal(DTensor.from_local(values, mesh, [Partial()], run_check=False)), "placed as P(sum)"),
        (gradient_refusal(mesh), "is placed as (Partial(sum),), the weight as (Replicate(),)"),
        (refusal(image, matrix_axes=((1,), (0, 2, 3))), "matrix_axes must take axis 0"),
        (refusal(image, matrix_axes=((1,), (2, 3))), "matrix_axes must take axis 0"),
    ):
        assert refused.removeprefix("the gradient of ").startswith("blocks.0.weight "), refused
        assert reason in refused, refused


def sharded_checkpoint() -> None:
    """Saved after 16 steps, loaded into a fresh optimizer and into one of whole tensors; 20 steps more."""
    model = sharded_network()
    optimizer = optimizer_of(model, side="right")
    train_sharded(model, optimizer, STEPS)
    optimizer.param_groups[0]["lr"] = 3e-3
    saved = {"model": get_model_state_dict(model), "optimizer": get_optimizer_state_dict(model, optimizer)}
    dcp.save(saved, checkpoint_id=FOLDER / "checkpoint")
    # For the one process that takes over from two.
    torch.save([weights_of(model), states_of(optimizer)], FOLDER / f"saved-{torch.distributed.get_rank()}.pt")
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
    assert equal(weights_of(fresh), before)
    dcp.load(state, checkpoint_id=FOLDER / "checkpoint")
    set_model_state_dict(fresh, state["model"])
    set_optimizer_state_dict(fresh, restored, state["optimizer"])
    assert_same((fresh, restored), (model, optimizer))
    assert [group["lr"] for group in restored.param_groups] == [3e-3, 1e-2, 1e-2, 1e-2]
    assert {restored.state[weight]["exp_avg"].placements for weight in fresh.parameters()} == {(Shard(0),)}

    again = sharded_network()
    set_model_state_dict(again, get_model_state_dict(model))
    from_whole = optimizer_of(again, side="right")
    set_optimizer_state_dict(again, from_whole, saved_whole, options=whole)

    refreshes = sketched_refreshes(optimizer)
    for trained in ((model, optimizer), (fresh, restored), (again, from_whole)):
        train_sharded(*trained, range(len(STEPS), len(STEPS) + 20))
        assert_same(trained, (model, optimizer))
    assert sketched_refreshes(optimizer) >= refreshes + 3


# Made when this module is imported: before there is a process group.
EARLY_MODEL = network()
EARLY_STEPPER = LayerwiseStepper(optimizer_of(EARLY_MODEL))


def layerwise_data_parallel() -> None:
    """Refused by name, before and after the process group is there."""
    model = network()
    wrapped, optimizer = DistributedDataParallel(model), optimizer_of(model)
    at_construction = error_of(lambda: LayerwiseStepper(optimizer))
    assert "DistributedDataParallel" in at_construction
    assert "fully_shard" in at_construction
    # No hooks are left.
    loss_of(wrapped, frames(0)).backward()
    before = weights_of(EARLY_MODEL)
    wrapped = DistributedDataParallel(EARLY_MODEL)
    assert error_of(lambda: loss_of(wrapped, frames(0)).backward()) == at_construction
    assert equal(weights_of(EARLY_MODEL), before)


def passes(model: nn.Module, step: int, count: int, communicate_last_only: bool) -> None:
    """Backward passes over a step's samples of this process, in `count` parts."""
    for index in range(count):
        model.set_requires_gradient_sync(not communicate_last_only or index == count - 1)
        (loss_of(model, part(mine(step), index, count)) / count).backward()


def layerwise_sharded() -> None:
    """Beside the ordinary mode: one pass a step, two, and two of which the last one communicates."""
    for count, last_only in ((1, False), (2, False), (2, True)):
        ordinary, layerwise = sharded_network(), sharded_network()
        optimizer, hooked = optimizer_of(ordinary), optimizer_of(layerwise)
        # Passes that do not communicate call no hooks.
        stepper = LayerwiseStepper(hooked, accumulation_steps=1 if last_only else count)
        for step in STEPS:
            passes(ordinary, step, count, last_only)
            norm = get_total_norm([weight.grad.full_tensor() for weight in ordinary.parameters()]).item()
            optimizer.step()
            optimizer.zero_grad()
            passes(layerwise, step, count, last_only)
            assert all(weight.grad is None for weight in layerwise.parameters())
            # The norm of the whole gradient; refreshes have communicated in the backward pass.
            assert watched_step(hooked)[0] == 1
            assert stepper.last_step.grad_norm == pytest.approx(norm, rel=1e-12)
        assert_same((layerwise, hooked), (ordinary, optimizer))


def layerwise_hybrid() -> None:
    """Two replicas of one shard, and one replica of two shards, on one mesh of two dimensions each."""
    for replicas in (2, 1):
        mesh = init_device_mesh("cpu", (replicas, 2 // replicas), mesh_dim_names=("replicas", "shards"))
        model, alone = fully_shard(network(), mesh=mesh), network()
        stepper, optimizer = LayerwiseStepper(optimizer_of(model)), optimizer_of(alone, side="right")
        for step in STEPS:
            passes(model, step, 1, communicate_last_only=False)
            stepper.optimizer.step()
            loss_of(alone, frames(step)).backward()
            norm = get_total_norm([weight.grad for weight in alone.parameters()]).item()
            assert stepper.last_step.grad_norm == pytest.approx(norm, rel=1e-6)
            optimizer.step()
            optimizer.zero_grad()
        assert_close(weights_of(model), weights_of(alone))


CHECKS = (
    data_parallel,
    sharded,
    sharded_nonfinite,
    refusals,
    sharded_checkpoint,
    layerwise_data_parallel,
    layerwise_sharded,
    layerwise_hybrid,
)


def main() -> None:
    torch.set_num_threads(1)
    # Well before the launcher gives up on us, who would stay behind.
    torch.distributed.init_process_group("gloo", timeout=timedelta(seconds=90))
    assert torch.distributed.get_world_size() == 2
    # Whatever depended on a global generator would differ between the processes.
    torch.manual_seed(100 + torch.distributed.get_rank())
    for check in CHECKS:
        check()
        (FOLDER / f"{check.__name__}-{torch.distributed.get_rank()}").touch()
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
