"""Two processes do what one does: replicas, weights sharded by rows, and checkpoints of both."""

from __future__ import annotations

import os
import subprocess
import sys
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

# torch.distributed.checkpoint says that one process is one process.
pytestmark = pytest.mark.filterwarnings("ignore:torch.distributed is disabled")


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """(The folder with what passed, what the processes said) of distributed_workers.py, started once."""
    folder = tmp_path_factory.mktemp("two_processes")
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
    command += [str(Path(__file__).with_name("distributed_workers.py")), str(folder)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    result = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    return folder, result.stderr


@pytest.mark.parametrize(
    "check",
    [
        "data_parallel",
        "sharded",
        "sharded_nonfinite",
        "refusals",
        "sharded_checkpoint",
        "layerwise_data_parallel",
        "layerwise_sharded",
        "layerwise_hybrid",
    ],
)
def test_two_processes(check: str, two_processes: tuple[Path, str]) -> None:
    """What each one checks stands in distributed_workers.py, in this order."""
    folder, said = two_processes
    assert all((folder / f"{check}-{rank}").exists() for rank in range(2)), said[-6000:]


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


def test_one_process_takes_over_from_two(two_processes: tuple[Path, str]) -> None:
    folder, _ = two_processes
    model, optimizer = load(folder / "checkpoint", "right")
    for rank in range(2):
        weights, states = torch.load(folder / f"saved-{rank}.pt", weights_only=True)
        assert equal(weights_of(model), weights)
        assert equal(states_of(optimizer), states)
