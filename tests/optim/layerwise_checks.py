"""Layer-wise mode in several processes, seen from one of two."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from sharding_checks import sharded_network
from small_network import equal, frames, loss_of, network, optimizer_of, part, states_of, weights_of
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor.debug import CommDebugMode
from torch.nn.parallel import DistributedDataParallel

from liver_landmark.optim import LayerwiseStepper

STEPS = range(16)


def _network_with_stepper() -> tuple[torch.nn.Module, LayerwiseStepper]:
    model = network()
    return model, LayerwiseStepper(optimizer_of(model))


# Made when this module is imported: before there is a process group.
_EARLY_MODEL, _EARLY_STEPPER = _network_with_stepper()


def _error_of(call: Callable[[], Any]) -> str:
    try:
        call()
    except RuntimeError as error:
        return str(error)
    return ""


def layerwise_data_parallel(findings: Any) -> None:
    model = network()
    wrapped, optimizer = DistributedDataParallel(model), optimizer_of(model)
    at_construction = _error_of(lambda: LayerwiseStepper(optimizer))
    before = weights_of(_EARLY_MODEL)
    wrapped_early = DistributedDataParallel(_EARLY_MODEL)
    findings.facts(
        at_construction=at_construction,
        no_hooks_left=_error_of(lambda: loss_of(wrapped, frames(0)).backward()) == "",
        in_backward=_error_of(lambda: loss_of(wrapped_early, frames(0)).backward()),
        unchanged=equal(weights_of(_EARLY_MODEL), before),
    )


def _passes(model: torch.nn.Module, step: int, count: int, communicate_last_only: bool) -> None:
    """Backward passes over a step's samples of this process, in `count` parts."""
    mine = part(frames(step), torch.distributed.get_rank(), 2)
    for index in range(count):
        model.set_requires_gradient_sync(not communicate_last_only or index == count - 1)
        (loss_of(model, part(mine, index, count)) / count).backward()


def layerwise_sharded(findings: Any) -> None:
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
            with CommDebugMode() as communication:
                hooked.step()
            collectives.append(communication.get_total_counts())
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


def layerwise_hybrid(findings: Any) -> None:
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


CHECKS = (layerwise_data_parallel, layerwise_sharded, layerwise_hybrid)
