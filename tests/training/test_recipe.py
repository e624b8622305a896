"""Recipes: files and command lines to dataclasses, and what is refused."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from liver_landmark.data.augmentation import AugmentationConfig
from liver_landmark.training.recipe import BudgetConfig, parse_recipe, recipe_to_yaml

NEEDED = ["--model.architecture=tiny", "--data.path=d", "--output_dir=o", "--budget.steps=5"]


def shipped_recipes() -> list[Path]:
    return sorted((Path(__file__).parents[2] / "hub_configs" / "training").glob("*.yaml"))


# What a recipe leaves to its command line, besides data and output.
LEFT_TO_THE_COMMAND_LINE = {name: ["--model.init=m"] for name in ("finetune", "finetune_galore")}


def test_there_are_shipped_recipes() -> None:
    assert {path.stem for path in shipped_recipes()} >= {"synthetic_tiny", "paper_l3d", "finetune"}


@pytest.mark.parametrize("path", shipped_recipes(), ids=lambda path: path.stem)
def test_shipped_recipe_parses_and_its_resolved_form_gives_it_back(path: Path, tmp_path: Path) -> None:
    given_too = LEFT_TO_THE_COMMAND_LINE.get(path.stem, [])
    recipe, _ = parse_recipe([f"--config={path}", "--data.path=d", "--output_dir=o", *given_too])
    resolved = tmp_path / "recipe.yaml"
    resolved.write_text(recipe_to_yaml(recipe))
    assert parse_recipe([f"--config={resolved}"])[0] == recipe


def test_paper_recipe_holds_the_papers_settings(repository: Path) -> None:
    path = repository / "hub_configs" / "training" / "paper_l3d.yaml"
    recipe, _ = parse_recipe([f"--config={path}", "--data.path=d", "--output_dir=o"])
    assert (recipe.optimizer.lr, recipe.optimizer.weight_decay) == (5e-5, 3e-5)
    assert recipe.optimizer.name == "srft_galore"
    assert (recipe.optimizer.rank, recipe.optimizer.update_proj_gap, recipe.optimizer.scale) == (128, 50, 1)
    assert (recipe.schedule.name, recipe.schedule.min_lr) == ("cosine", 1e-6)
    assert (recipe.batch_size, recipe.budget.epochs, recipe.data.protocol) == (4, 100, "srft_galore")
    assert (recipe.trainable.vision, recipe.trainable.depth) == ("attention", "attention")


@pytest.mark.parametrize(
    ("name", "optimizer", "vision"),
    [("finetune", "adamw", "all"), ("finetune_galore", "srft_galore", "attention")],
)
def test_finetuning_starts_from_a_model_that_has_to_be_named(
    repository: Path, name: str, optimizer: str, vision: str
) -> None:
    arguments = [f"--config={repository / 'hub_configs' / 'training' / f'{name}.yaml'}", "--output_dir=o"]
    recipe, _ = parse_recipe([*arguments, "--data.path=d", "--model.init=m"])
    assert (recipe.model.init, recipe.model.architecture) == ("m", None)
    assert (recipe.optimizer.name, recipe.trainable.vision) == (optimizer, vision)
    assert recipe.data.protocol is None
    # Every kind of variation is on.
    off = dataclasses.asdict(AugmentationConfig())
    kept = {name for name, value in dataclasses.asdict(recipe.augmentation).items() if value == off[name]}
    assert kept <= {"outside", "smoke_density", "blood_area"}
    for missing, named in (("--data.path=d", "model"), ("--model.init=m", r"data\.path")):
        with pytest.raises(ValueError, match=named):
            parse_recipe([*arguments, missing])


def test_later_files_and_the_command_line_win(tmp_path: Path) -> None:
    first, second = tmp_path / "a.yaml", tmp_path / "b.yaml"
    first.write_text("optimizer: {lr: 0.1, eps: 0.5, weight_decay: 0.2}\nschedule: {min_lr: 0}\n")
    second.write_text("optimizer: {lr: 0.01, eps: 0.25}\n")
    recipe, _ = parse_recipe([*NEEDED, f"--config={first}", f"--config={second}", "--optimizer.eps=1e-3"])
    assert (recipe.optimizer.lr, recipe.optimizer.weight_decay, recipe.optimizer.eps) == (0.01, 0.2, 1e-3)


def test_a_recipe_takes_one_set_or_several_and_labels_as_drawn(tmp_path: Path) -> None:
    one, _ = parse_recipe([*NEEDED, "--data.path=/some/set", "--data.protocol=as_drawn"])
    assert (one.data.path, one.data.paths, one.data.protocol) == ("/some/set", ("/some/set",), "as_drawn")
    several, _ = parse_recipe([*NEEDED, "--data.path", "[/some/set, org/other]"])
    assert several.data.path == ["/some/set", "org/other"]
    assert several.data.paths == ("/some/set", "org/other")
    file = tmp_path / "recipe.yaml"
    file.write_text(recipe_to_yaml(several), encoding="utf-8")
    assert parse_recipe([f"--config={file}"])[0] == several
    assert yaml.safe_load(file.read_text())["data"]["path"] == ["/some/set", "org/other"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [("null", None), (r".*\.qkv", r".*\.qkv"), ("[qkv, attn.proj]", ["qkv", "attn.proj"])],
)
def test_target_modules_are_an_expression_or_names(text: str, expected: str | list[str] | None) -> None:
    recipe, _ = parse_recipe([*NEEDED, f"--optimizer.target_modules={text}"])
    assert recipe.optimizer.target_modules == expected


def test_model_overrides_are_set_one_by_one() -> None:
    recipe, _ = parse_recipe(
        [*NEEDED, "--model.overrides.dice_weight=2", "--model.overrides.norm_type=batch"]
    )
    assert recipe.model.overrides == {"dice_weight": 2, "norm_type": "batch"}


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("optimizer: {lrr: 1}", "lrr"),
        ("batch_sizes: 4", "batch_sizes"),
        ("model: {architecture: tiny, size: 3}", "size"),
        ("augmentation: {mirror: 0.5}", "mirror"),
    ],
)
def test_unknown_field_of_a_file_is_refused_by_name(tmp_path: Path, content: str, named: str) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(content)
    with pytest.raises(ValueError, match=named) as error:
        parse_recipe([*NEEDED, f"--config={path}"])
    assert "\n" not in str(error.value)


# Each is refused by the name of its own field; an abbreviation is an unknown field too.
WRONG = """
--optimizer.lrr=1 --batch_sizes=4 --optimizer.l=1 --optimizer.name=sgdd --optimizer.lr=fast --optimizer.lr=-1
--optimizer.betas=[0.9] --optimizer.betas=[0.9,1.0] --optimizer.rank=0 --optimizer.rank=2.5
--optimizer.update_proj_gap=0 --optimizer.scale=0 --optimizer.side=top --optimizer.proj_type=fft
--optimizer.proj_type=full --optimizer.moment_transfer=carry --trainable.vision=most
--schedule.warmup_fraction=1 --schedule.min_lr=1 --budget.steps=0 --batch_size=0 --batch_size=2.5
--max_grad_norm=0 --mixed_precision=half --seed=-1 --checkpoint.keep_last=0 --validation.resolution=0
--augmentation.rotation=1.5 --augmentation.rotation_degrees=200 --augmentation.color=1
--augmentation.gamma=-1 --augmentation.scale=2 --augmentation.scale_range=[1.2,0.8]
--augmentation.scale_range=[1.2] --augmentation.crop_min_side=0 --augmentation.smoke_density=1
--data.workers=-1 --data.path=null --data.path=[] --model.architecture=null
"""


@pytest.mark.parametrize(
    ("argument", "named"),
    [
        *((argument, argument[2:].split("=")[0]) for argument in WRONG.split()),
        ("--optimizer={proj_type: svd, power_iterations: 1}", "optimizer.power_iterations"),
        ("--optimizer={proj_type: srft_oblivious, singular_basis: true}", "optimizer.singular_basis"),
        ("--budget.steps=null", "budget.steps or budget.epochs"),
        ("--data.protocol=l3d", "protocol 'l3d'"),
        ("--data={path: d, workers: 2, cache: true}", "data.cache"),
        ("--model.init=encoders", "model.vision"),
        ("--model.vision=somewhere", "model.vision"),
        ("--config=missing.yaml", "missing.yaml"),
    ],
)
def test_wrong_value_is_refused_in_one_line_that_names_the_field(argument: str, named: str) -> None:
    with pytest.raises(ValueError, match=named.replace(".", r"\.")) as error:
        parse_recipe([*NEEDED, argument])
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("extra", "resume"),
    [
        ([], "never"),
        (["--resume"], "required"),
        (["--resume", "true"], "required"),
        (["--resume=auto"], "auto"),
        (["--resume=false"], "never"),
        (["--resume=runs/a/last"], "runs/a/last"),
    ],
)
def test_resume_words(extra: list[str], resume: str) -> None:
    assert parse_recipe(NEEDED + extra)[1].resume == resume


def test_missing_output_dir_is_named_and_overwrite_and_resume_exclude_each_other() -> None:
    with pytest.raises(ValueError, match="output_dir"):
        parse_recipe(NEEDED[:2] + NEEDED[3:])
    with pytest.raises(ValueError, match="exclude each other"):
        parse_recipe([*NEEDED, "--overwrite", "--resume"])


def reads_as_list_or_nothing(path: str) -> bool:
    """Whether YAML takes a name, such as `- a` or `# a`, for a list or nothing: `DataConfig.path` says so."""
    try:
        return isinstance(yaml.safe_load(path), list | type(None))
    except yaml.YAMLError:
        return False


@settings(deadline=None, max_examples=20)
@given(
    lr=st.floats(1e-12, 1e6),
    betas=st.tuples(st.floats(0, 0.999), st.floats(0, 0.999)),
    epochs=st.none() | st.floats(0.01, 1e4),
    seed=st.integers(0, 2**32 - 1),
    flip=st.floats(0, 1),
    trackers=st.lists(st.sampled_from(["tensorboard", "wandb"]), max_size=2),
    path=st.text(
        st.characters(categories=["L", "N"], include_characters=" /.-:'#"), min_size=1, max_size=20
    ).filter(lambda path: not reads_as_list_or_nothing(path)),
)
def test_resolved_recipe_gives_itself_back(tmp_path_factory, lr, betas, epochs, seed, flip, trackers, path):
    content = {
        "optimizer": {"lr": lr, "betas": list(betas)},
        "budget": {"epochs": epochs, "steps": 5},
        "seed": seed,
        "augmentation": {"horizontal_flip": flip},
        "trackers": trackers,
        "data": {"path": path},
        "output_dir": path,
    }
    file = tmp_path_factory.mktemp("recipes") / "recipe.yaml"
    file.write_text(yaml.safe_dump(content), encoding="utf-8")
    recipe, _ = parse_recipe(["--model.architecture=tiny", f"--config={file}"])
    assert (recipe.optimizer.lr, recipe.optimizer.betas, recipe.data.path) == (lr, betas, path)
    file.write_text(recipe_to_yaml(recipe), encoding="utf-8")
    assert parse_recipe([f"--config={file}"])[0] == recipe


@given(st.integers(1, 500), st.integers(1, 64), st.integers(1, 50))
def test_epochs_are_as_many_steps_as_see_every_frame_that_often(frames, per_step, epochs) -> None:
    steps = BudgetConfig(epochs=epochs).total_steps(frames, per_step)
    assert (steps - 1) * per_step < epochs * frames <= steps * per_step


def test_the_smaller_budget_ends_the_run() -> None:
    assert BudgetConfig(steps=7, epochs=1).total_steps(100, 10) == 7
    assert BudgetConfig(steps=70, epochs=1).total_steps(100, 10) == 10
