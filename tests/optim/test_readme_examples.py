"""The README's examples of the optimizer alone run as they are written."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from liver_landmark.optim import SRFTGaLoreAdamW
from training_runs import forget_accelerate

# Lines, the imports and the breaks within a call included.
LONGEST = 15


@pytest.fixture(autouse=True)
def fresh_accelerate() -> Iterator[None]:
    forget_accelerate()
    yield
    forget_accelerate()


def examples(repository: Path) -> list[str]:
    text = (repository / "README.md").read_text(encoding="utf-8")
    section = text.split("### Only the optimizer\n")[1].split("\n### ")[0]
    return re.findall(r"```python\n(.*?)```", section, flags=re.DOTALL)


def test_there_are_two_short_examples(repository: Path) -> None:
    plain, trainer = examples(repository)
    assert "Trainer" not in plain
    assert "optimizer_cls_and_kwargs" in trainer
    assert all(len(example.strip().splitlines()) <= LONGEST for example in (plain, trainer))


@pytest.mark.filterwarnings("ignore:'pin_memory'")  # Trainer's default, where there is no GPU
@pytest.mark.parametrize("index", [0, 1])
def test_example_runs_as_written_and_projects_weights(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, index: int
) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    exec(compile(examples(repository)[index], f"README.md, example {index}", "exec"), names)
    optimizer = names["optimizer"] if index == 0 else names["trainer"].optimizer.optimizer
    assert type(optimizer) is SRFTGaLoreAdamW
    projected, rest = optimizer.param_groups
    assert all("basis" in optimizer.state[weight] for weight in projected["params"])
    assert all("basis" not in state for state in map(optimizer.state.get, rest["params"]))
    assert {int(optimizer.state[weight]["step"]) for weight in projected["params"]} == {3}
