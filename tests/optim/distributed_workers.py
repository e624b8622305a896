"""What each of the two processes does: `torchrun --nproc-per-node 2 distributed_workers.py FOLDER`.

Every check runs on both, leaves its facts in FOLDER and judges nothing: the tests do.
"""

from __future__ import annotations

import json
import sys
from datetime import timedelta
from pathlib import Path

import checkpoint_checks
import data_parallel_checks
import layerwise_checks
import sharding_checks
import torch


class Findings:
    """Where a check leaves what it found."""

    def __init__(self, folder: Path, check: str) -> None:
        self.folder, self.check, self.rank = folder, check, torch.distributed.get_rank()

    def tensors(self, name: str, values: dict[str, torch.Tensor]) -> None:
        torch.save(values, self.folder / f"{self.check}-{name}-{self.rank}.pt")

    def facts(self, **facts: object) -> None:
        facts["world_size"] = torch.distributed.get_world_size()
        (self.folder / f"{self.check}-{self.rank}.json").write_text(json.dumps(facts))


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    # Well before the launcher gives up on us, who would stay behind.
    torch.distributed.init_process_group("gloo", timeout=timedelta(seconds=90))
    # Whatever depended on a global generator would differ between the processes.
    torch.manual_seed(100 + torch.distributed.get_rank())
    for module in (data_parallel_checks, sharding_checks, checkpoint_checks, layerwise_checks):
        for check in module.CHECKS:
            check(Findings(folder, check.__name__))
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
