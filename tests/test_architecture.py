"""The layout that docs/architecture.md draws: how many modules, which arrows between packages, no circles."""

from __future__ import annotations

import ast
import re
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import numpy as np
import pytest
import torch

from liver_landmark.evaluation import evaluate
from liver_landmark.evaluation.metrics import MaskPair
from liver_landmark.model import modeling_liver_landmark as modeling
from tiny_models import tiny_model

PACKAGE = Path(__file__).resolve().parents[1] / "src" / "liver_landmark"
# 95, and three siblings in model/ that are looked for by name: EfficientNet-Lite and two large decoders.
MOST_MODULES, MOST_LINES = 98, 800
# A package may import those of its own row and of the rows below it.
ROWS = (
    {"cli", "__main__"},
    {"training", "inference", "streaming", "evaluation", "data"},
    {"synthetic", "baselines", "curves", "model"},
    {"utils"},
)
# It stands alone: torch and its own modules.
ALONE = "optim"


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


MODULES = {module_name(path): path for path in PACKAGE.rglob("*.py")}


def imports_of(name: str) -> set[str]:
    """The package's modules that a module names in its imports, those within functions included."""
    path, found = MODULES[name], set()
    package = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
        if isinstance(node, ast.Import):
            targets = [(alias.name.split("."), []) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level:
            base = package[: len(package) - node.level + 1]
            targets = [(["liver_landmark", *base, *(node.module or "").split(".")], node.names)]
        elif isinstance(node, ast.ImportFrom):
            targets = [(node.module.split("."), node.names)]
        else:
            continue
        for parts, aliases in targets:
            if parts[0] != "liver_landmark":
                continue
            module = ".".join(part for part in parts[1:] if part)
            for submodule in [".".join(filter(None, (module, alias.name))) for alias in aliases]:
                found.add(submodule if submodule in MODULES else module)
            if not aliases:
                found.add(module)
    return found & set(MODULES)


GRAPH = {name: imports_of(name) - {name} for name in MODULES}


def row_of(name: str) -> int:
    return next(number for number, row in enumerate(ROWS) if name.split(".")[0] in row)


def test_there_are_no_more_modules_than_a_newcomer_can_keep_in_mind():
    modules = [name for name, path in MODULES.items() if path.name != "__init__.py"]
    assert len(modules) <= MOST_MODULES


@pytest.mark.parametrize("name", sorted(MODULES))
def test_a_module_is_of_a_size_that_is_read_in_one_go(name):
    lines = len(MODULES[name].read_text(encoding="utf-8").splitlines())
    assert lines <= MOST_LINES


def test_no_module_imports_itself_by_way_of_others():
    # A package's face only hands names on: who imports it depends on what it names.
    try:
        TopologicalSorter(GRAPH).prepare()
    except CycleError as error:
        pytest.fail(f"import circle: {' -> '.join(error.args[1])}")


def test_no_arrow_runs_upward():
    upward = []
    for name, targets in GRAPH.items():
        if not name or name.split(".")[0] == ALONE:
            continue
        for target in targets:
            if target and target.split(".")[0] != ALONE and row_of(target) < row_of(name):
                upward.append(f"{name} -> {target}")
    assert not upward


def test_the_optimizer_and_the_model_stand_alone():
    for name, targets in GRAPH.items():
        package = name.split(".")[0]
        if package in (ALONE, "model"):
            assert {target.split(".")[0] for target in targets} <= {package}, name


def test_modules_say_what_is_inside_without_their_folder():
    vague = re.compile(r"(^|\.)(run|files|step|misc|helpers|common|core|base|utils_.*|resume)$")
    assert not [name for name in MODULES if vague.search(name) and MODULES[name].name != "__init__.py"]


# Files that the worked examples add.
EXAMPLES = {"evaluation/stroke_area.py", "model/decoder_sum_liver_landmark.py"}
ROOT = PACKAGE.parents[1]


@pytest.mark.parametrize(
    "page",
    [
        "README.md",
        "CONTRIBUTING.md",
        *sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("docs/**/*.md")),
    ],
)
def test_the_files_that_a_page_names_are_there(page):
    text, page = (ROOT / page).read_text(encoding="utf-8"), ROOT / page
    links = re.findall(r"\]\((?!https?:)([^)#]+)", text)
    assert not [link for link in links if not (page.parent / link).exists()]
    folders = "|".join(sorted({name.split(".")[0] for name in MODULES if "." in name}))
    modules = set(re.findall(rf"`((?:{folders})/[\w/]+\.py)", text)) - EXAMPLES
    assert not [name for name in modules if not (PACKAGE / name).exists()]
    files = re.findall(r"(?<![\w./-])((?:scripts|benchmarks|tests|spaces)/[\w/-]+\.(?:py|sh))", text)
    assert not [name for name in files if not (ROOT / name).exists()]


def worked_examples() -> dict[str, str]:
    """The code of each worked example in docs/architecture.md, by its title."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    titled = re.split(r"^### Worked example: (.*)$", text, flags=re.MULTILINE)[1:]
    return {
        title: "\n".join(re.findall(r"^```python\n(.*?)^```$", section, re.MULTILINE | re.DOTALL))
        for title, section in zip(titled[::2], titled[1::2], strict=True)
    }


def test_the_worked_example_of_a_metric_is_computed_from_masks(monkeypatch):
    monkeypatch.setattr(evaluate, "METRICS", dict(evaluate.METRICS))
    exec(worked_examples()["a metric"], {})
    [metric] = evaluate.build_metrics(["stroke_area"], ["ridge", "silhouette", "ligament"]).values()
    truth, prediction = np.zeros((2, 8, 8), np.uint8)
    truth[0], prediction[:2], prediction[7] = 1, 1, 3
    summary = metric.summarize([metric.score(MaskPair(truth, prediction))])
    assert summary.per_class["ridge"] == {"area_ratio": 2.0}
    assert summary.per_class["ligament"] == {"area_ratio": None}
    assert summary.pooled == {"area_ratio": 2.0}


def test_the_worked_example_of_a_decoder_trains(monkeypatch):
    monkeypatch.setattr(modeling, "DECODERS", dict(modeling.DECODERS))
    exec(worked_examples()["a decoder"], {})
    model = tiny_model(decoder_type="sum")
    frames = torch.randn(1, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    outputs = model(frames, labels=torch.ones(1, 32, 32, dtype=torch.long))
    assert outputs.logits.shape == (1, 4, 32, 32)
    outputs.loss.backward()
    assert all(weight.grad.abs().sum() > 0 for weight in model.decoder.parameters())
