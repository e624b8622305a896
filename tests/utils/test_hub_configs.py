"""Names of the configurations that travel with the package."""

from __future__ import annotations

from pathlib import Path

import pytest

from liver_landmark.utils import hub_configs


def test_every_file_of_the_repository_has_a_name(repository: Path) -> None:
    """A file that no name leads to would travel for nothing."""
    places = [hub_configs.config_path(name) for name in hub_configs.all_config_names()]
    for path in (repository / "hub_configs").rglob("*"):
        if path.is_file():
            assert path in places or path.parent in places, path


@pytest.mark.parametrize(
    ("find", "name", "found"),
    [
        (hub_configs.preset_folder, "synthetic-tiny", "models/synthetic-tiny"),
        (hub_configs.recipe_file, "finetune", "training/finetune.yaml"),
        (hub_configs.config_path, "accelerate/cpu", "accelerate/cpu.yaml"),
        (hub_configs.config_path, "datasets/l3d", "datasets/l3d"),
    ],
)
def test_names_lead_to_the_repository(find, name: str, found: str, repository: Path) -> None:
    assert find(name) == repository / "hub_configs" / found


def test_a_path_comes_before_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "finetune").touch()
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / "config.json").touch()
    monkeypatch.chdir(tmp_path)
    assert hub_configs.recipe_file("finetune") == Path("finetune")
    assert hub_configs.preset_folder("tiny") == Path("tiny")


@pytest.mark.parametrize(
    ("find", "name", "message"),
    [
        (hub_configs.preset_folder, "tinny", "'tinny' is no folder with a config.json and no model preset"),
        (hub_configs.recipe_file, "../secrets", "no file and no recipe (there are: finetune, "),
        (hub_configs.config_path, "accelerate/../training", "choose one of models/base-plus, "),
        (hub_configs.config_path, "cpu", "'cpu' is unknown"),
        (hub_configs.dataset_card, "cholec", "'datasets/cholec' is unknown"),
    ],
)
def test_what_there_is_is_listed_where_a_name_is_unknown(find, name: str, message: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        find(name)
    assert message in str(caught.value)
