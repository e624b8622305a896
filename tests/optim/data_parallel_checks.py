"""DistributedDataParallel, seen from one of two processes."""

from __future__ import annotations

import random
from typing import Any

import torch
from small_network import frames, loss_of, network, optimizer_of, part, states_of, weights_of
from torch.distributed.tensor.debug import CommDebugMode
from torch.nn.parallel import DistributedDataParallel

STEPS = range(16)


def _generators() -> tuple[torch.Tensor, object]:
    return torch.get_rng_state(), random.getstate()


def data_parallel(findings: Any) -> None:
    rank = torch.distributed.get_rank()
    model = network()
    wrapped, optimizer = DistributedDataParallel(model), optimizer_of(model)
    untouched, collectives = [], []
    for step in STEPS:
        loss_of(wrapped, part(frames(step), rank, 2)).backward()
        torch_before, random_before = _generators()
        with CommDebugMode() as communication:
            optimizer.step()
        torch_after, random_after = _generators()
        untouched.append(torch.equal(torch_before, torch_after) and random_before == random_after)
        collectives.append(communication.get_total_counts())
        optimizer.zero_grad()
    findings.tensors("weights", weights_of(model))
    findings.tensors("states", states_of(optimizer))
    findings.tensors("generator", {"state": torch.get_rng_state()})
    findings.facts(untouched=untouched, collectives=collectives)


def data_parallel_accumulated(findings: Any) -> None:
    """Two micro-batches a step on each process; only the second one communicates."""
    rank = torch.distributed.get_rank()
    model = network()
    wrapped, optimizer = DistributedDataParallel(model), optimizer_of(model)
    for step in STEPS:
        with wrapped.no_sync():
            (loss_of(wrapped, part(frames(step), rank, 4)) / 2).backward()
        (loss_of(wrapped, part(frames(step), rank + 2, 4)) / 2).backward()
        optimizer.step()
        optimizer.zero_grad()
    findings.tensors("weights", weights_of(model))
    findings.tensors("states", states_of(optimizer))
    findings.facts()


CHECKS = (data_parallel, data_parallel_accumulated)
