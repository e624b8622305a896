"""The learning rate against the closed form and torch's own cosine."""

from __future__ import annotations

import math

import pytest
import torch

from liver_landmark.training.optimizers import build_schedule
from liver_landmark.training.recipe import ScheduleConfig


def rates(config: ScheduleConfig, peak: float, total_steps: int) -> list[float]:
    """The rate that each optimizer step uses."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=peak)
    schedule = build_schedule(optimizer, config, peak, total_steps)
    used = []
    for _ in range(total_steps):
        used.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return used


def test_cosine_with_warmup_is_the_closed_form() -> None:
    used = rates(ScheduleConfig(warmup_fraction=0.2, min_lr=1e-4), 1e-2, 50)
    assert used[:10] == pytest.approx([1e-2 * (step + 1) / 10 for step in range(10)])
    cosine = [1e-4 + (1e-2 - 1e-4) * (1 + math.cos(math.pi * step / 39)) / 2 for step in range(40)]
    assert used[10:] == pytest.approx(cosine)
    assert used[-1] == pytest.approx(1e-4, rel=1e-9)


def test_cosine_is_torchs_cosine() -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=5e-5)
    reference = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=29, eta_min=1e-6)
    expected = []
    for _ in range(30):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        reference.step()
    assert rates(ScheduleConfig(min_lr=1e-6), 5e-5, 30) == pytest.approx(expected)


def test_constant_stays_at_the_peak_after_warmup() -> None:
    used = rates(ScheduleConfig(name="constant", warmup_fraction=0.5), 1.0, 8)
    assert used == pytest.approx([0.25, 0.5, 0.75, 1, 1, 1, 1, 1])


@pytest.mark.parametrize("total_steps", [1, 2, 3])
def test_short_runs_have_positive_rates(total_steps: int) -> None:
    used = rates(ScheduleConfig(warmup_fraction=0.05, min_lr=1e-5), 1e-3, total_steps)
    assert used[0] == pytest.approx(1e-3)
    assert min(used) >= 1e-5 - 1e-12
