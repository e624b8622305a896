"""The configurations that travel with the package, by name: model presets, recipes, launch files, cards.

The repository keeps them in hub_configs/; the build maps that folder into the package.
"""

from __future__ import annotations

from pathlib import Path

# What stands for a configuration of each kind, and the file that makes a folder one.
_LAYOUT = {
    "models": "*/config.json",
    "training": "*.yaml",
    "accelerate": "*.yaml",
    "datasets": "*/README.md",
}


def hub_configs_folder() -> Path:
    """The folder that holds all of them: in the installed package, or at the root of a checkout."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "hub_configs"
    return installed if installed.is_dir() else package.parents[1] / "hub_configs"


def config_names(kind: str) -> list[str]:
    """Names of one kind (`models`, `training`, `accelerate`, `datasets`), sorted."""
    found = (hub_configs_folder() / kind).glob(_LAYOUT[kind])
    return sorted(path.stem if path.suffix == ".yaml" else path.parent.name for path in found)


def all_config_names() -> list[str]:
    """Every `KIND/NAME` that `config_path` takes."""
    return [f"{kind}/{name}" for kind in _LAYOUT for name in config_names(kind)]


def config_path(kind_and_name: str) -> Path:
    """The path of `KIND/NAME`: a folder for models and cards, a file for recipes and launch configurations.

    Raises:
        ValueError: there is none of that name; the message lists what there is.
    """
    kind, _, name = kind_and_name.partition("/")
    if kind not in _LAYOUT or name not in config_names(kind):
        raise ValueError(f"{kind_and_name!r} is unknown: choose one of {', '.join(all_config_names())}")
    return hub_configs_folder() / kind / (f"{name}.yaml" if _LAYOUT[kind] == "*.yaml" else name)


def preset_folder(name_or_path: str) -> Path:
    """The folder of a model configuration, given by its path or by its name.

    Raises:
        ValueError: it is neither; the message lists the names.
    """
    if (Path(name_or_path) / "config.json").is_file():
        return Path(name_or_path)
    if name_or_path in config_names("models"):
        return config_path(f"models/{name_or_path}")
    raise ValueError(
        f"{name_or_path!r} is no folder with a config.json and no model preset "
        f"(there are: {', '.join(config_names('models'))})"
    )


def recipe_file(name_or_path: str) -> Path:
    """The file of a training recipe, given by its path or by its name.

    Raises:
        ValueError: it is neither; the message lists the names.
    """
    if Path(name_or_path).is_file():
        return Path(name_or_path)
    if name_or_path in config_names("training"):
        return config_path(f"training/{name_or_path}")
    raise ValueError(
        f"{name_or_path!r} is no file and no recipe (there are: {', '.join(config_names('training'))})"
    )


def dataset_card(name: str) -> str:
    """The card template of a data set that `liver-landmark data build` makes, with `$name` placeholders."""
    return (config_path(f"datasets/{name}") / "README.md").read_text(encoding="utf-8")
