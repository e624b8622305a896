"""Whole runs, of one set and of several: what they write, and that a resumed one ends as the whole one."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from huggingface_hub import ModelCard
from PIL import Image
from safetensors.torch import load_file
from transformers import AutoImageProcessor, AutoModel

import training_runs
from liver_landmark.curves import get_protocol, rasterize_landmarks
from liver_landmark.data.loading import dataset_fingerprint, load_landmark_dataset
from liver_landmark.evaluation import evaluate_model
from liver_landmark.training.loop import train
from liver_landmark.training.recipe import parse_recipe, without_local_paths
from liver_landmark.training.run_folder import read_run_state
from tiny_datasets import HEIGHT, WIDTH, make_dataset, polylines, schema_row
from training_runs import prepare, read_metrics, run


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory: pytest.TempPathFactory, arguments) -> Path:
    """An uninterrupted run of six steps; tests only read it."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    run(arguments(folder, checkpoint__keep_last=3))
    return folder


def training_state(checkpoint: Path) -> dict[str, torch.Tensor]:
    """Every tensor of a checkpoint, by name."""
    tensors = {
        f"model.{k}": v for k, v in load_file(checkpoint / "pretrained_model/model.safetensors").items()
    }
    optimizer = torch.load(checkpoint / "training_state/optimizer.pt", weights_only=True)
    for index, state in optimizer["state"].items():
        tensors |= {f"optimizer.{index}.{name}": value for name, value in state.items()}
    rng = load_file(checkpoint / "training_state/rng_states.safetensors")
    return tensors | {f"rng.{name}": value for name, value in rng.items()}


def assert_equal_runs(one: Path, other: Path) -> None:
    """Same losses, same validations, same weights, optimizer and generators, same best model."""
    assert read_metrics(one) == read_metrics(other)
    ours, theirs = training_state(one / "last"), training_state(other / "last")
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        assert torch.equal(tensor, theirs[name]), name
    best, other_best = (load_file(folder / "best" / "model.safetensors") for folder in (one, other))
    assert all(torch.equal(tensor, other_best[name]) for name, tensor in best.items())
    assert not list(other.glob(".*"))


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_layout(whole_run: Path) -> None:
    assert names_in(whole_run) == {"checkpoints", "last", "best", "metrics.jsonl", "run.json"}
    assert os.readlink(whole_run / "last") == "checkpoints/step-000006"
    assert names_in(whole_run / "checkpoints") == {f"step-00000{step}" for step in (2, 4, 6)}
    assert names_in(whole_run / "last") == {"pretrained_model", "training_state"}


def test_metrics_are_one_record_a_step_and_a_validation_every_three(whole_run: Path) -> None:
    records = read_metrics(whole_run)
    steps = [record for record in records if "loss" in record]
    assert [record["step"] for record in steps] == [1, 2, 3, 4, 5, 6]
    # Four frames a step, ten frames an epoch.
    assert [record["epoch"] for record in steps] == pytest.approx([0.4, 0.8, 1.2, 1.6, 2.0, 2.4])
    assert all(record["grad_norm"] > 0 for record in steps)
    # Warm-up is 20 % of six steps: one; then the cosine falls.
    rates = [record["lr"] for record in steps]
    assert rates[0] == rates[1] == 1e-3
    assert rates[1:] == sorted(rates[1:], reverse=True)
    validations = [record for record in records if "validation" in record]
    assert [record["step"] for record in validations] == [3, 6]
    assert set(validations[0]["validation"]["per_class"]) == {"ridge", "silhouette", "ligament"}


def test_best_loads_with_its_processor_and_scores_what_was_recorded(whole_run, dataset_folder) -> None:
    record = json.loads((whole_run / "run.json").read_text())
    validations = {r["step"]: r["validation"]["dsc"] for r in read_metrics(whole_run) if "validation" in r}
    assert record["best"]["dsc"] == max(validations.values()) == validations[record["best"]["step"]]
    model = AutoModel.from_pretrained(whole_run / "best", trust_remote_code=True)
    processor = AutoImageProcessor.from_pretrained(whole_run / "best", trust_remote_code=True)
    rows = load_landmark_dataset(dataset_folder, "validation")
    evaluation = evaluate_model(model, processor, rows, resolution=128, distances=False)
    assert evaluation.metrics["dsc"] == pytest.approx(record["best"]["dsc"], abs=1e-6)


def test_best_can_be_given_away(whole_run: Path, arguments, dataset_folder: Path, tmp_path: Path) -> None:
    """A copy of the folder is whole, readable by others, and tells nothing of this machine."""
    given = shutil.copytree(whole_run / "best", tmp_path / "given", symlinks=True)
    assert {path.name for path in given.iterdir() if path.suffix != ".py"} == {
        "README.md",
        "config.json",
        "model.safetensors",
        "preprocessor_config.json",
        "recipe.yaml",
        "run.json",
    }
    umask = os.umask(0)
    os.umask(umask)
    for path in (whole_run / "best", *(whole_run / "best").iterdir(), *(whole_run / "last").rglob("*")):
        assert path.stat().st_mode & 0o777 == (0o777 if path.is_dir() else 0o666) & ~umask, path
    for path in given.iterdir():
        assert str(dataset_folder.parent).encode() not in path.read_bytes(), path
        assert str(whole_run.parent).encode() not in path.read_bytes(), path
    recipe, _ = parse_recipe([f"--config={given / 'recipe.yaml'}"])
    original, _ = parse_recipe(arguments(whole_run, checkpoint__keep_last=3))
    assert recipe == without_local_paths(original)
    assert (recipe.data.path, recipe.output_dir) == (dataset_folder.name, whole_run.name)
    for path in (given / "run.json", whole_run / "run.json"):
        record = json.loads(path.read_text())
        for split in ("train", "validation"):
            fingerprint = dataset_fingerprint(load_landmark_dataset(dataset_folder, split))
            assert record["data_sha256"][split] == fingerprint
        assert record["versions"]["torch"] == torch.__version__
        assert record["num_processes"] == 1
    assert json.loads((whole_run / "run.json").read_text())["status"] == "finished"


def test_the_card_of_the_best_model_is_true(whole_run: Path) -> None:
    card = ModelCard.load(whole_run / "best" / "README.md")
    record = json.loads((whole_run / "best" / "run.json").read_text())
    assert (card.data.license, card.data.library_name) == ("apache-2.0", "transformers")
    assert card.data.pipeline_tag == "image-segmentation"
    scores = record["validation"]
    assert f"DSC {scores['dsc']:.3f}, IoU {scores['iou']:.3f}" in card.text
    assert f"Scored on {scores['frames']} frames" in card.text
    assert "`synthetic` at 128 × 128 px" in card.text
    assert "| trained on | 10 frames of a set that is not public |" in card.text
    assert f"| step | {record['step']} of 6 |" in card.text
    for number, name in enumerate(("background", "ridge", "silhouette", "ligament")):
        dsc = scores["per_class"].get(name, {}).get("dsc")
        assert f"| {number} | {name} | {'–' if dsc is None else f'{dsc:.3f}'} |" in card.text
    for fingerprint in record["data_sha256"].values():
        assert fingerprint in card.text
    [code] = re.findall(r"```python\n(.*?)```", card.text, re.DOTALL)
    names: dict[str, object] = {}
    exec(code.replace("FOLDER", str(whole_run / "best")), names)
    assert names["processor"].size == {"height": 128, "width": 128}


SRFT_GALORE = {
    "optimizer__name": "srft_galore",
    "optimizer__rank": 4,
    "optimizer__update_proj_gap": 2,
    "optimizer__moment_transfer": "rotate",
}


# Whatever a compact recipe asks for beside the defaults.
AVERAGED = {
    "channels_last": True,
    "ema_decay": 0.9,
    "progressive__fraction": 0.5,
    "progressive__scale": 0.75,
    "data__balance": "landmarks",
    "calm__fraction": 0.5,
    "optimizer__encoder_lr_factor": 0.5,
}


@pytest.mark.parametrize(
    "fields",
    [{}, {"channels_last": True}, SRFT_GALORE, AVERAGED],
    ids=["default", "channels_last", "srft_galore", "averaged"],
)
def test_resumed_run_equals_the_uninterrupted_one(tmp_path, arguments, whole_run, fields) -> None:
    """In the middle of an epoch, with accumulation, dropout, drop path and augmentation on."""
    if fields:
        whole_run = tmp_path / "whole"
        run(arguments(whole_run, checkpoint__keep_last=3, **fields))
    folder = tmp_path / "run"
    # Step 5 has been done and logged, but is not in the last checkpoint.
    stopped = prepare(arguments(folder, **fields))
    stop_before_step(stopped, 6)
    with pytest.raises(KeyboardInterrupt):
        train(stopped)
    assert read_metrics(folder)[-1]["step"] == 5
    assert read_run_state(folder / "last").step == 4
    run([*arguments(folder, **fields), "--resume"])
    assert_equal_runs(whole_run, folder)
    before, after = (refresh_counts(folder / "checkpoints" / f"step-00000{step}") for step in (4, 6))
    # Five blocks of qkv and proj; four layers of q, k, v and o.
    assert len(after) == (5 * 2 + 4 * 4 if fields is SRFT_GALORE else 0)
    assert all(earlier < later for earlier, later in zip(before, after, strict=True))


def refresh_counts(checkpoint: Path) -> list[int]:
    """How often each projected weight's basis has been refreshed."""
    state = training_state(checkpoint)
    return [int(tensor) for name, tensor in state.items() if name.endswith(".refresh_count")]


def stop_before_step(current, step: int) -> None:
    """Makes the run end, as ctrl-C does, when it asks for the batches of that step."""
    batches = iter(current.loader)
    accumulation = current.recipe.gradient_accumulation_steps

    class Stopping:
        def __iter__(self):
            for _ in range(accumulation * (step - 1)):
                yield next(batches)
            raise KeyboardInterrupt

    current.loader = Stopping()


def test_resumed_from_an_earlier_checkpoint_the_run_comes_to_the_same_end(tmp_path, arguments, whole_run):
    folder = tmp_path / "run"
    shutil.copytree(whole_run, folder, symlinks=True)
    first = folder / "checkpoints" / "step-000002"
    run([*arguments(folder, checkpoint__keep_last=3), f"--resume={first}"])
    assert_equal_runs(whole_run, folder)


def test_the_seed_decides_the_run_and_auto_starts_where_there_is_nothing_to_resume(
    tmp_path: Path, arguments, whole_run: Path
) -> None:
    record = run([*arguments(tmp_path / "other", seed=1, budget__steps=1), "--resume=auto"])
    assert (record["step"], record["status"]) == (1, "finished")
    assert read_metrics(tmp_path / "other")[0]["loss"] != read_metrics(whole_run)[0]["loss"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("optimizer.lr", 1e-4),
        ("seed", 3),
        ("budget.steps", 9),
        ("batch_size", 1),
        ("augmentation.rotation", 0.25),
        ("trainable.vision", "attention"),
        ("mixed_precision", "bf16"),
        ("model.overrides", {"dice_weight": 2.0}),
    ],
)
def test_resume_refuses_another_run_by_the_fields_name(tmp_path, arguments, whole_run, field, value) -> None:
    shutil.copytree(whole_run, tmp_path / "run", symlinks=True)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ValueError, match=rf"--resume: {field.replace('.', '[.]')}\b.* has changed") as error:
        prepare([*arguments(tmp_path / "run", **{field.replace(".", "__"): value}), "--resume"])
    assert "\n" not in str(error.value)
    assert sorted(tmp_path.rglob("*")) == before


def test_resume_refuses_other_data_and_takes_the_same_elsewhere(
    tmp_path: Path, arguments, whole_run: Path, dataset_folder: Path
) -> None:
    shutil.copytree(whole_run, tmp_path / "run", symlinks=True)
    other = training_runs.write_dataset(tmp_path / "other", train_frames=11)
    with pytest.raises(ValueError, match=r"--resume: data_sha256\.train has changed"):
        prepare([*arguments(tmp_path / "run", data__path=str(other)), "--resume"])
    shutil.copytree(dataset_folder, tmp_path / "moved")
    moved = arguments(tmp_path / "run", data__path=str(tmp_path / "moved"), data__cache=True)
    assert run([*moved, "--resume=auto"])["step"] == 6
    # It was finished, and stays as it is.
    assert_equal_runs(whole_run, tmp_path / "run")


def test_run_is_not_overwritten_unless_asked(tmp_path: Path, arguments, whole_run: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(whole_run, folder, symlinks=True)
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="holds a run already"):
        prepare(arguments(folder))
    run([*arguments(folder, budget__steps=1), "--overwrite"])
    assert [record["step"] for record in read_metrics(folder)] == [1, 1]
    assert os.readlink(folder / "last") == "checkpoints/step-000001"
    assert (folder / "notes.txt").read_text() == "mine"


def test_best_is_the_best_and_not_the_last(tmp_path, arguments, monkeypatch) -> None:
    scores = iter([0.2, 0.7, 0.7, 0.4])

    class Scored:
        def __init__(self) -> None:
            self.metrics = {"dsc": next(scores), "iou": 0.1, "per_class": {}, "frames": 4, "definitions": {}}
            self.metrics |= {"protocol": "synthetic", "resolution": 128}

    monkeypatch.setattr("liver_landmark.training.loop.evaluate_model", lambda *args, **options: Scored())
    folder = tmp_path / "run"
    settings = {"validation__every_steps": 1, "checkpoint__every_steps": 1, "checkpoint__keep_last": 4}
    run(arguments(folder, budget__steps=4, **settings))
    assert json.loads((folder / "run.json").read_text())["best"] == {"step": 2, "dsc": 0.7}
    assert read_run_state(folder / "last").best == {"step": 2, "dsc": 0.7}
    assert json.loads((folder / "best" / "run.json").read_text())["step"] == 2
    best = load_file(folder / "best" / "model.safetensors")
    of_step_2 = load_file(folder / "checkpoints/step-000002/pretrained_model/model.safetensors")
    assert all(torch.equal(tensor, of_step_2[name]) for name, tensor in best.items())


def test_the_average_is_what_is_validated_and_kept(tmp_path: Path, arguments, monkeypatch) -> None:
    """Against the definition; early on the average keeps (1 + steps) / (10 + steps) of itself."""
    current = prepare(arguments(tmp_path / "run", budget__steps=4, validation__every_steps=4, ema_decay=0.3))
    name = "decoder.classifier.weight"
    weight = current.model.state_dict()[name]
    expected, seen = weight.clone().double(), []
    follow = current.average.update_parameters

    def watched(model) -> None:
        nonlocal expected
        keep = min(0.3, (2 + len(seen)) / (11 + len(seen)))
        expected = keep * expected + (1 - keep) * weight.double()
        seen.append(weight.clone())
        follow(model)

    monkeypatch.setattr(current.average, "update_parameters", watched)
    train(current)
    assert len(seen) == 4
    best = load_file(tmp_path / "run" / "best" / "model.safetensors")[name]
    torch.testing.assert_close(best.double(), expected, rtol=1e-5, atol=1e-7)
    assert not torch.allclose(best, weight)
    # A checkpoint goes on from the weights themselves.
    last = load_file(tmp_path / "run" / "last" / "pretrained_model" / "model.safetensors")[name]
    assert torch.equal(last, weight)


def test_frames_vary_less_in_the_last_part_of_the_run(tmp_path: Path, arguments) -> None:
    settings = {"calm__fraction": 0.25, "calm__strength": 0.2, "gradient_accumulation_steps": 1}
    # 30 steps of two frames, of ten in an epoch: the last quarter begins with the 46th frame, in epoch 4.
    current = prepare(arguments(tmp_path / "run", budget__steps=30, **settings))
    augmentation = current.loader.dataset.augmentation
    assert augmentation.calm_from_epoch == 4
    assert augmentation.calm == augmentation.config.scaled(0.2)
    without = prepare(arguments(tmp_path / "other")).loader.dataset.augmentation
    assert without.calm == without.config


def test_frames_are_small_in_the_first_part_of_the_run(tmp_path: Path, arguments) -> None:
    settings = {"progressive__fraction": 0.5, "progressive__scale": 0.7, "gradient_accumulation_steps": 1}
    current = prepare(arguments(tmp_path / "run", budget__steps=4, **settings))
    sizes = []
    current.model.register_forward_pre_hook(
        lambda model, _, inputs: (
            sizes.append(tuple(inputs["pixel_values"].shape[-2:])) if model.training else None
        ),
        with_kwargs=True,
    )
    train(current)
    # 0.7 x 128 px is nearest to 96, of the multiples of 32.
    assert sizes == [(96, 96), (96, 96), (128, 128), (128, 128)]


CURVE = {"decoder_type": "curve", "decoder_hidden_size": 16, "num_curves": 4, "decoder_num_layers": 1}


@pytest.mark.parametrize("overrides", [CURVE, {"depth_target": "both"}], ids=["curves", "depth"])
def test_a_model_gets_the_truth_that_it_learns_from(tmp_path: Path, arguments, overrides: dict) -> None:
    current = prepare(arguments(tmp_path / "run", budget__steps=1, model__overrides=overrides))
    given = []
    current.model.register_forward_pre_hook(
        lambda model, _, inputs: given.append(inputs) if model.training else None, with_kwargs=True
    )
    train(current)
    if "decoder_type" in overrides:
        frame = given[0]["landmarks"][0]
        assert {line["category"] for line in frame} <= {1, 2, 3}
        assert all(0 <= float(line["points"].min()) <= float(line["points"].max()) <= 1 for line in frame)
    else:
        # The set has no depth: nothing is known.
        assert given[0]["depth_labels"].shape == given[0]["labels"].shape
        assert not given[0]["depth_labels"].any()


def test_a_run_of_an_earlier_version_goes_on(tmp_path: Path, arguments, whole_run: Path) -> None:
    """Its checkpoint does not know the fields that were added since, which then had their defaults."""
    folder = tmp_path / "run"
    shutil.copytree(whole_run, folder, symlinks=True)
    path = folder / "checkpoints" / "step-000004" / "training_state" / "state.json"
    state = json.loads(path.read_text())
    for name in ("ema_decay", "progressive"):
        del state["identity"]["recipe"][name]
    for section, name in (("data", "balance"), ("optimizer", "encoder_lr_factor")):
        del state["identity"]["recipe"][section][name]
    path.write_text(json.dumps(state))
    resumed = [*arguments(folder, checkpoint__keep_last=3), f"--resume={path.parent.parent}"]
    run(resumed)
    assert_equal_runs(whole_run, folder)
    with pytest.raises(ValueError, match=r"ema_decay has changed from None to 0.5"):
        prepare([*arguments(folder, ema_decay=0.5), "--resume"])


def test_an_encoder_of_one_size_is_told_apart_before_the_run(tmp_path: Path, arguments) -> None:
    hiera = {"model_type": "hiera", "embed_dim": 8, "depths": [1, 1, 1, 1], "num_heads": [1, 2, 4, 8]}
    model = {"vision_config": hiera | {"image_size": [64, 64]}, "use_depth": False, "backbone_channels": 16}
    with pytest.raises(ValueError, match=r"image processor's size: .* resize to 64x64"):
        prepare(arguments(tmp_path / "run", model__overrides=model))
    model["vision_config"] = hiera | {"image_size": [128, 128]}
    with pytest.raises(ValueError, match=r"progressive\.fraction must be 0"):
        prepare(arguments(tmp_path / "run", model__overrides=model, progressive__fraction=0.5))
    assert not (tmp_path / "run").exists()


def test_only_what_the_recipe_names_changes(tmp_path: Path, arguments) -> None:
    fields = {"trainable.vision": "attention", "trainable.depth": "none", "trainable.decoder": False}
    settings = {name.replace(".", "__"): value for name, value in fields.items()}
    current = prepare(arguments(tmp_path / "run", budget__steps=3, **settings))
    before = {name: tensor.clone() for name, tensor in current.model.state_dict().items()}
    train(current)
    changed = {
        name for name, tensor in current.model.state_dict().items() if not torch.equal(tensor, before[name])
    }
    trained = {name for name, parameter in current.model.named_parameters() if parameter.requires_grad}
    assert changed == trained
    assert any(name.startswith("fusion.") for name in changed)


def test_tensorboard_gets_the_curves_and_a_checkpoint_the_weights_in_float32(tmp_path: Path, arguments):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder = tmp_path / "run"
    current = prepare(arguments(folder, budget__steps=3, mixed_precision="bf16", trackers=["tensorboard"]))
    train(current)
    losses = {}
    for file in (folder / "tensorboard").rglob("events*"):
        events = EventAccumulator(str(file))
        events.Reload()
        if "train/loss" in events.Tags()["scalars"]:
            losses = {event.step: event.value for event in events.Scalars("train/loss")}
            assert events.Scalars("validation/dsc")[0].step == 3
    expected = {r["step"]: r["loss"] for r in read_metrics(folder) if "loss" in r}
    assert losses == pytest.approx(expected, rel=1e-6)
    checkpoint = folder / "last" / "pretrained_model"
    dtypes = {tensor.dtype for tensor in load_file(checkpoint / "model.safetensors").values()}
    assert dtypes == {torch.float32}
    saved = AutoModel.from_pretrained(checkpoint).state_dict()
    for name, tensor in current.model.state_dict().items():
        assert torch.equal(saved[name], tensor), name


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"trackers": ["paper"]}, "trackers: 'paper' is unknown"),
        ({"trackers": ["wandb"]}, "trackers: wandb is not installed"),
        ({"optimizer__name": "srft_galore", "optimizer__target_modules": "qkw"}, "target_modules: 'qkw'"),
        ({"model__architecture": "huge"}, "model.architecture: 'huge'"),
        ({"model__overrides": {"dice": 1}}, "model.overrides.dice"),
        ({"model__init": "missing/folder"}, "missing/folder"),
        ({"data__path": "/missing/data"}, "/missing/data"),
        ({"trainable__vision": "none", "trainable__depth": "none", "trainable__fusion": False,
          "trainable__decoder": False}, "nothing trains"),
    ],
)  # fmt: skip
def test_what_cannot_start_writes_nothing(tmp_path: Path, arguments, fields: dict, message: str) -> None:
    with pytest.raises((ValueError, OSError), match=message.replace(".", r"\.")):
        prepare(arguments(tmp_path / "run", **fields))
    assert list(tmp_path.iterdir()) == []


# Below the smallest run that validates.
QUICK = {"budget__steps": 1, "gradient_accumulation_steps": 1, "validation__every_steps": 1}


def write_set(folder: Path, source: str, protocol: str = "synthetic", **fields: Any) -> Path:
    """Three frames to train on, one to validate on, one to test on; a label with its upper rows ignored."""
    folder.mkdir(parents=True)
    for split, count in (("train", 3), ("validation", 1), ("test", 1)):
        rows = []
        for index in range(count):
            row = schema_row(f"{source}-{split}-{index}", polylines(index), source=source, protocol=protocol)
            picture = np.asarray(row["image"]).copy()
            picture[0, :2, 0] = [sum(map(ord, source)) % 256, sum(map(ord, split)) % 256]
            drawing = get_protocol("toponet" if protocol == "as_drawn" else protocol)
            mask = rasterize_landmarks(row["landmarks"], WIDTH, HEIGHT, drawing)
            mask[:4] = 255
            row |= {"image": Image.fromarray(picture), "label": Image.fromarray(mask)}
            rows.append(row | {"patient_id": f"{split} patient"} | fields)
        make_dataset(rows).to_parquet(folder / f"{split}-00000-of-00001.parquet")
    return folder


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("sets")
    return [str(write_set(folder / name, name)) for name in ("first", "second")]


def only_validation(folder: Path) -> tuple[int, str]:
    """(Frames, protocol) of the run's one validation."""
    [validation] = [r["validation"] for r in read_metrics(folder) if "validation" in r]
    return validation["frames"], validation["protocol"]


def test_a_run_reads_every_set_and_is_resumed_with_the_same_sets_only(tmp_path, arguments, sets) -> None:
    folder = tmp_path / "run"
    current = prepare(arguments(folder, data__path=sets, **QUICK))
    assert current.num_frames == 6
    mixed = load_landmark_dataset(sets)
    fingerprints = {split: dataset_fingerprint(mixed[split]) for split in ("train", "validation")}
    assert current.identity["data_sha256"] == fingerprints
    train(current)
    assert only_validation(folder) == (2, "synthetic")
    for other in (sets[:1], sets[::-1]):
        with pytest.raises(ValueError, match=r"--resume: data_sha256\.train has changed"):
            prepare([*arguments(folder, data__path=other, **QUICK), "--resume"])
    assert prepare([*arguments(folder, data__path=sets, **QUICK), "--resume"]).step == 1


def test_a_set_of_which_a_test_frame_is_trained_on_is_refused(tmp_path, arguments, sets) -> None:
    leak = write_set(tmp_path / "sets" / "leak", "first", patient_id="test patient")
    for split in ("validation", "test"):
        (leak / f"{split}-00000-of-00001.parquet").unlink()
    with pytest.raises(ValueError, match="cannot be mixed: patient 'test patient' of source 'first'"):
        prepare(arguments(tmp_path / "run", data__path=[sets[0], str(leak)], **QUICK))
    assert not (tmp_path / "run").exists()


def test_a_patient_of_both_splits_of_one_set_is_refused(tmp_path: Path, arguments) -> None:
    leak = write_set(tmp_path / "leak", "leak", patient_id="one patient")
    with pytest.raises(ValueError, match="'one patient' of source 'leak' is in train and in validation"):
        prepare(arguments(tmp_path / "run", data__path=str(leak), **QUICK))


def test_splits_of_two_protocols_need_one_that_is_named(tmp_path: Path, arguments) -> None:
    mixed, other = (write_set(tmp_path / name, "s", name) for name in ("synthetic", "slippa"))
    name = "validation-00000-of-00001.parquet"
    (other / name).replace(mixed / name)
    of_both = arguments(tmp_path / "run", data__path=str(mixed), **QUICK)
    with pytest.raises(ValueError, match=r"data\.protocol must be set: .* train by synthetic .* by slippa"):
        prepare(of_both)
    assert prepare([*of_both, "--data.protocol=toponet"]).num_frames == 3


def test_sets_of_several_protocols_need_one_that_is_named(tmp_path: Path, arguments, sets: list[str]) -> None:
    wide = str(write_set(tmp_path / "sets" / "wide", "wide", "as_drawn"))
    mixture = arguments(tmp_path / "run", data__path=[sets[0], wide], **QUICK)
    message = r"data\.protocol must be set: dataset .*first, .*wide, train: .* holds as_drawn, synthetic"
    with pytest.raises(ValueError, match=message):
        prepare(mixture)
    current = prepare([*mixture, "--data.protocol=srft_galore"])
    mask = current.loader.dataset[0, 4].mask
    assert set(np.unique(mask)) <= {0, 1, 2, 3, 255}
    train(current)
    assert only_validation(tmp_path / "run") == (2, "srft_galore")


@pytest.mark.parametrize("protocol", [None, "as_drawn"])
def test_a_run_learns_and_is_validated_by_labels_as_drawn(tmp_path, arguments, protocol) -> None:
    drawn = write_set(tmp_path / "drawn", "drawn", "as_drawn")
    fields = {"data__path": str(drawn), "data__protocol": protocol, **QUICK}
    current = prepare(arguments(tmp_path / "run", augmentation__rotation=0, **fields))
    mask = current.loader.dataset[0, 2].mask
    stored = np.asarray(load_landmark_dataset(drawn, "train")[2]["label"])
    # Mirrored or not: no protocol is that wide in a frame of this size.
    assert (mask == stored).all() or (mask == stored[:, ::-1]).all()
    train(current)
    assert only_validation(tmp_path / "run") == (1, "as_drawn")
