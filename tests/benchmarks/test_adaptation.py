"""benchmarks/adaptation.py on a tiny model: what it trains, chooses, scores, and takes up again."""

from __future__ import annotations

import importlib.util
import itertools
import json
import shutil
from collections import Counter
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file
from torch import nn

import adaptation
from liver_landmark.data.loading import load_landmark_dataset
from liver_landmark.evaluation import evaluate_model
from liver_landmark.training.models import build_model
from liver_landmark.training.recipe import ModelConfig
from tiny_datasets import make_dataset, polylines, save_model, schema_row, tiny_processor
from training_runs import run as train_by_library

RESOLUTION = 64
CLASSES = ("ridge", "silhouette", "ligament")


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    root = tmp_path_factory.mktemp("adaptation")
    save_model(root / "model", 64)
    (root / "data").mkdir()
    for split, first, count in (("train", 0, 6), ("validation", 10, 2), ("test", 20, 3)):
        rows = [
            schema_row(f"{split}-{index}", polylines(index), patient_id=f"{split}{index}")
            for index in range(first, first + count)
        ]
        make_dataset(rows).to_parquet(root / "data" / f"{split}-00000-of-00001.parquet")
    # The tiny model's gradients are small: they are to be clipped all the same.
    fields = yaml.safe_load(adaptation.RECIPE.read_text()) | {"max_grad_norm": 0.001}
    (root / "recipe.yaml").write_text(yaml.safe_dump(fields))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(adaptation, "RECIPE", root / "recipe.yaml")
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", root / "cache")
        yield root


def call(sources: Path, output: Path, *options: str) -> int:
    arguments = ["--model", str(sources / "model"), "--dataset", str(sources / "data")]
    arguments += ["--output", str(output), "--steps", "3", "--eval-resolution", str(RESOLUTION)]
    return adaptation.main([*arguments, *options])


GRID = ("--methods", "srft,adamw,svd", "--seeds", "2", "--lrs", "adamw=0.03,1e30,0.003", "--lrs", "svd=0.02")
GRID += ("--lrs", "srft=0.01")


@pytest.fixture(scope="module")
def finished(sources, tmp_path_factory):
    output = tmp_path_factory.mktemp("finished")
    assert call(sources, output, *GRID) == 0
    return output


def lines(output: Path) -> list[dict]:
    files = sorted(output.glob("runs*.jsonl"))
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]


def outcomes(output: Path) -> set[str]:
    """All that is recorded and does not hang on the clock."""
    return {
        json.dumps({key: value for key, value in line.items() if "per_step" not in key})
        for line in lines(output)
    }


def weights_of(sources: Path, output: Path, method: str, lr: float, seed: int) -> tuple[nn.Module, Path]:
    """The adapted model, put together by hand."""
    (path,) = (output / "weights").glob(f"{method}-{lr}-{seed}-*.safetensors")
    model, _ = build_model(ModelConfig(init=str(sources / "model")))
    result = model.load_state_dict(load_file(path), strict=False)
    assert not result.unexpected_keys
    return model, path


def test_runs_are_those_of_the_protocol(finished):
    found = lines(finished)
    runs = Counter((line["method"], line["lr"], line["seed"], line["test"] is not None) for line in found)
    tried = [x for x in found if x["method"] == "adamw" and x["seed"] == 0 and x["validation"]]
    best = max(tried, key=lambda line: line["validation"]["dsc"])["lr"]
    expected = {("adamw", lr, 0, False) for lr in (0.03, 1e30, 0.003)} | {("unadapted", None, 0, True)}
    expected |= {("adamw", best, 0, True), ("adamw", best, 1, False), ("adamw", best, 1, True)}
    for method, lr in (("srft", 0.01), ("svd", 0.02)):
        expected |= {(method, lr, seed, tested) for seed in (0, 1) for tested in (False, True)}
    assert runs == Counter(expected)


def test_scores_are_those_of_the_weights_that_were_kept(sources, finished):
    for line in lines(finished):
        if line["test"] is None or line["method"] == "adamw":
            continue
        if line["method"] == "unadapted":
            model, _ = build_model(ModelConfig(init=str(sources / "model")))
        else:
            model, _ = weights_of(sources, finished, line["method"], line["lr"], line["seed"])
        model = model.to(memory_format=torch.channels_last)
        for split in ("validation", "test"):
            rows = load_landmark_dataset(sources / "data", split)
            metrics = evaluate_model(model, tiny_processor(64), rows, resolution=RESOLUTION).metrics
            assert line[split]["dsc"] == pytest.approx(metrics["dsc"], abs=1e-3)
            by_class = {name: metrics["per_class"][name]["dsc"] for name in CLASSES}
            assert line[split]["per_class"] == pytest.approx(by_class, abs=1e-3)


def test_adamw_trains_as_the_training_loop_does(sources, finished, tmp_path):
    """Order of frames, augmentation, schedule and clipping, against `liver-landmark train`'s loop."""
    lr = next(line["lr"] for line in lines(finished) if line["method"] == "adamw" and line["seed"] == 1)
    fields = {"model.architecture": "null", "model.init": sources / "model", "data.path": sources / "data"}
    fields |= {"trainable.vision": "attention", "trainable.depth": "none", "trainable.fusion": "false"}
    fields |= {"trainable.decoder": "false", "schedule.min_lr": 0, "budget.steps": 3, "seed": 1}
    fields |= {"optimizer.name": "adamw", "optimizer.lr": lr, "trackers": "[]", "mixed_precision": "fp32"}
    fields |= {"output_dir": tmp_path / "run", "validation.resolution": RESOLUTION}
    arguments = ["--config", str(adaptation.RECIPE), *(f"--{name}={value}" for name, value in fields.items())]
    train_by_library(arguments)
    theirs = load_file(tmp_path / "run" / "last" / "pretrained_model" / "model.safetensors")
    _, path = weights_of(sources, finished, "adamw", lr, 1)
    ours = load_file(path)
    start = load_file(sources / "model" / "model.safetensors")
    assert all(".attn." in name and not name.endswith("bias") for name in ours)
    for name, tensor in theirs.items():
        if name in ours:
            assert not torch.equal(tensor, start[name]), name
            torch.testing.assert_close(ours[name], tensor, rtol=1e-4, atol=1e-6)
        else:
            assert torch.equal(tensor, start[name]), name


def test_the_table_follows_from_the_runs(finished):
    results = json.loads((finished / "results.json").read_text())
    tests = {(x["method"], x["seed"]): x["test"] for x in lines(finished) if x["test"]}
    for method, row in results["methods"].items():
        values = [tests[method, seed]["dsc"] for seed in (0, 1)]
        ligament = [tests[method, seed]["per_class"]["ligament"] for seed in (0, 1)]
        assert row["test_dsc_per_class"]["ligament"]["mean"] == pytest.approx(np.mean(ligament))
        differences = [value - tests["svd", seed]["dsc"] for seed, value in enumerate(values)]
        for key, numbers in (("test_dsc", values), ("test_dsc_minus_reference", differences)):
            expected = {"mean": np.mean(numbers), "sd": np.std(numbers, ddof=1)}
            assert row[key] == pytest.approx(expected)
    adamw, srft = results["methods"]["adamw"], results["methods"]["srft"]
    # Two moments and a step count of every weight.
    assert adamw["state_bytes"] >= 8 * adamw["trained_parameters"]
    assert srft["trained_parameters"] == adamw["trained_parameters"]
    assert srft["state_bytes"] < adamw["state_bytes"]
    assert adamw["validation_dsc_by_lr"]["1e+30"] is None
    assert adamw["lr"] != 1e30
    table = (finished / "table.md").read_text()
    mean, sd = (100 * srft["test_dsc"][key] for key in ("mean", "sd"))
    for part in (f"{mean:.1f} ± {sd:.1f}", "1e+30: –", "--methods srft,adamw,svd"):
        assert part in table


def test_a_second_call_trains_nothing(sources, finished, tmp_path, monkeypatch):
    def never(*arguments):
        raise AssertionError("trained again")

    monkeypatch.setattr(adaptation, "train", never)
    before, table = lines(finished), (finished / "table.md").read_text()
    assert call(sources, finished, *GRID) == 0
    assert lines(finished) == before
    assert (finished / "table.md").read_text() == table
    # Other settings are other runs.
    shutil.copy(finished / "runs.jsonl", tmp_path)
    with pytest.raises(AssertionError, match="trained again"):
        call(sources, tmp_path, *GRID, "--steps", "2")


def test_stopped_hard_and_shared_by_two_it_ends_the_same(sources, finished, tmp_path, monkeypatch):
    real, calls = adaptation.train, []

    def stopped(*arguments):
        calls.append(arguments)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(adaptation, "train", stopped)
        assert call(sources, tmp_path, *GRID, "--part", "1/2") == 130
    with (tmp_path / "runs-1.jsonl").open("a") as file:
        file.write('{"settings": "cut o')
    assert call(sources, tmp_path, *GRID, "--part", "2/2") == 0
    assert call(sources, tmp_path, *GRID, "--part", "1/2") == 0
    assert {path.name for path in tmp_path.glob("*.jsonl")} == {"runs-1.jsonl", "runs-2.jsonl"}
    assert outcomes(tmp_path) == outcomes(finished)
    assert len(lines(tmp_path)) == len(lines(finished))


def test_lora_trains_adapters_of_the_same_layers(sources, finished, tmp_path):
    pytest.importorskip("peft")
    assert call(sources, tmp_path, "--methods", "lora", "--seeds", "1", "--lrs", "lora=0.01") == 0
    (path,) = (tmp_path / "weights").iterdir()
    adapters, start = load_file(path), load_file(sources / "model" / "model.safetensors")
    _, projected = weights_of(sources, finished, "srft", 0.01, 0)
    layers = {name.removesuffix(".weight") for name in load_file(projected)}
    assert adapters.keys() == {f"{layer}.lora_{part}.default.weight" for layer in layers for part in "AB"}
    for layer in layers:
        rows, columns = start[f"{layer}.weight"].shape
        assert adapters[f"{layer}.lora_A.default.weight"].shape == (12, columns)
        assert adapters[f"{layer}.lora_B.default.weight"].shape == (rows, 12)
        # B starts at zero.
        assert adapters[f"{layer}.lora_B.default.weight"].any()


def test_the_choice_looks_at_validation_on_seed_0_only_and_parts_share_the_methods():
    def run_of(validation: float | None, test: float | None) -> dict:
        scores = [
            dsc and {"dsc": dsc, "per_class": dict.fromkeys(CLASSES, dsc)} for dsc in (validation, test)
        ]
        sizes = dict.fromkeys(("seconds_per_step", "optimizer_ms_per_step", "state_bytes"), 1.0)
        return sizes | {"trained_parameters": 1, "validation": scores[0], "test": scores[1]}

    runs = {
        (0.1, 0): run_of(0.5, 0.9),
        (0.3, 0): run_of(0.6, 0.2),
        (1.0, 0): run_of(None, None),
        (0.3, 1): run_of(0.1, 0.4),
        (0.1, 1): run_of(0.9, 0.9),
    }
    assert adaptation.best_lr(runs) == 0.3
    summary = adaptation.summarize(runs, 3, {})
    assert summary["seeds"] == [0, 1]
    assert summary["test_dsc"]["mean"] == pytest.approx(0.3)
    assert summary["test_dsc_minus_reference"] == {"mean": None, "sd": None}
    assert not summary["lr_at_an_edge"]
    del runs[1.0, 0]
    assert adaptation.summarize(runs, 3, {})["lr_at_an_edge"]
    assert adaptation.best_lr({(1.0, 0): run_of(None, None)}) is None
    names = ["unadapted", "srft", "svd", "adamw", "lora"]
    shares = [adaptation.own_share(names, f"{index}/3")[0] for index in (1, 2, 3)]
    assert sorted(itertools.chain(*shares)) == sorted(names)
    assert adaptation.own_share(names, None) == (names, None)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--methods", "srft,magic"), "--methods: 'magic' is unknown"),
        (("--methods", "srft", "--lrs", "svd=1,2,3"), "--lrs svd=1,2,3: 'svd' is none of the methods srft"),
        (("--lrs", "svd=fast"), "--lrs svd=fast: expected METHOD=A,B,C with numbers"),
        (("--lrs", "svd=0"), "--lrs svd=0: learning rates must be positive"),
        (("--part", "3/2"), "--part 3/2: expected I/N with I from 1 to N"),
        (("--model", "nowhere"), "nowhere"),
        (("--dataset", "nowhere"), "dataset nowhere"),
        (("--report-only",), "holds no runs of this model, these data and these settings"),
    ],
)
def test_errors_are_one_line(sources, tmp_path, capsys, options, message):
    assert call(sources, tmp_path, "--methods", "srft,svd", *options) == 2
    error = capsys.readouterr().err
    assert error.startswith("adaptation.py: error: ")
    assert error.count("\n") == 1
    assert message in error


def test_missing_peft_is_said_before_anything_runs(sources, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert call(sources, tmp_path) == 2
    assert "method lora needs peft: pip install peft, or leave it out of --methods" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
