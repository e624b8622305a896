"""`transformers.Trainer` with the optimizer, and the README's examples as they are written."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import Trainer, TrainingArguments

from liver_landmark.optim import SRFTGaLoreAdamW, galore_param_groups
from optim.small_network import equal, states_of
from training_runs import forget_accelerate

STEPS, GAP = 12, 4


@pytest.fixture(autouse=True)
def fresh_accelerate() -> Iterator[None]:
    forget_accelerate()
    yield
    forget_accelerate()


class Regression(nn.Module):
    """Two layers with dropout between, as Trainer calls models: loss and logits from named inputs."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.hidden, self.out = nn.Linear(8, 24), nn.Linear(24, 2)
            self.dropout = nn.Dropout(0.2)

    def forward(self, features: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        logits = self.out(self.dropout(torch.tanh(self.hidden(features))))
        return {"loss": (logits - labels).square().mean(), "logits": logits}


def examples() -> list[dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(1)
    features = torch.randn(40, 8, generator=generator)
    labels = features @ torch.randn(8, 2, generator=generator)
    return [{"features": row, "labels": label} for row, label in zip(features, labels, strict=True)]


def mean_loss(model: nn.Module) -> float:
    columns = {name: torch.stack([row[name] for row in examples()]) for name in ("features", "labels")}
    with torch.no_grad():
        return model.eval()(**columns)["loss"].item()


def trainer_for(folder: Path) -> Trainer:
    model = Regression()
    groups = galore_param_groups(model, ["hidden"], rank=2, update_proj_gap=GAP, moment_transfer="rotate")
    return Trainer(
        model,
        TrainingArguments(
            str(folder),
            max_steps=STEPS,
            save_steps=STEPS // 2,
            per_device_train_batch_size=4,
            logging_steps=1,
            report_to="none",
            use_cpu=True,
            disable_tqdm=True,
        ),
        train_dataset=examples(),
        optimizer_cls_and_kwargs=(SRFTGaLoreAdamW, {"params": groups, "lr": 0.02}),
    )


def test_trainer_trains_and_a_resumed_run_equals_the_uninterrupted_one(tmp_path: Path) -> None:
    whole = trainer_for(tmp_path / "run")
    before = {name: tensor.clone() for name, tensor in whole.model.state_dict().items()}
    loss_before = mean_loss(whole.model)
    whole.train()
    losses = [record["loss"] for record in whole.state.log_history if "loss" in record]
    assert len(losses) == STEPS
    assert mean_loss(whole.model) < 0.8 * loss_before
    assert not any(torch.equal(tensor, before[name]) for name, tensor in whole.model.state_dict().items())
    optimizer = whole.optimizer.optimizer
    assert type(optimizer) is SRFTGaLoreAdamW
    assert optimizer.state[whole.model.hidden.weight]["exp_avg"].shape == (2, 8)
    forget_accelerate()

    torch.manual_seed(99)
    resumed = trainer_for(tmp_path / "run")
    resumed.train(resume_from_checkpoint=str(tmp_path / "run" / f"checkpoint-{STEPS // 2}"))
    assert resumed.state.global_step == STEPS
    assert [record["loss"] for record in resumed.state.log_history if "loss" in record] == losses
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(tensor, resumed.model.state_dict()[name]), name
    assert equal(states_of(optimizer), states_of(resumed.optimizer.optimizer))
    # Both halves refreshed.
    saved = torch.load(tmp_path / "run" / f"checkpoint-{STEPS // 2}" / "optimizer.pt", weights_only=True)
    half, end = (
        int(state[0]["refresh_count"]) for state in (saved["state"], optimizer.state_dict()["state"])
    )
    assert 1 < half < end


# Lines, the imports and the breaks within a call included.
LONGEST = 15


def readme_examples(repository: Path) -> list[str]:
    text = (repository / "README.md").read_text(encoding="utf-8")
    section = text.split("### Only the optimizer\n")[1].split("\n### ")[0]
    return re.findall(r"```python\n(.*?)```", section, flags=re.DOTALL)


@pytest.mark.filterwarnings("ignore:'pin_memory'")  # Trainer's default, where there is no GPU
@pytest.mark.parametrize("index", [0, 1])
def test_example_runs_as_written_and_projects_weights(repository, tmp_path, monkeypatch, index) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    plain, trainer = readme_examples(repository)
    assert ("Trainer" in plain, "optimizer_cls_and_kwargs" in trainer) == (False, True)
    example = (plain, trainer)[index]
    assert len(example.strip().splitlines()) <= LONGEST
    exec(compile(example, f"README.md, example {index}", "exec"), names)
    optimizer = names["optimizer"] if index == 0 else names["trainer"].optimizer.optimizer
    assert type(optimizer) is SRFTGaLoreAdamW
    projected, rest = optimizer.param_groups
    assert all("basis" in optimizer.state[weight] for weight in projected["params"])
    assert all("basis" not in state for state in map(optimizer.state.get, rest["params"]))
    assert {int(optimizer.state[weight]["step"]) for weight in projected["params"]} == {3}
