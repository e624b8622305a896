"""Recipe files and command lines -> `Recipe`, and back."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import yaml
from jsonargparse import ActionConfigFile, ArgumentError, ArgumentParser

from ..utils.hub_configs import recipe_file
from .recipe import Recipe


@dataclass(frozen=True)
class RunOptions:
    """What is asked of one call of the script, and is no part of the recipe.

    Attributes:
        resume: `never`; `required`: go on from `last`; `auto`: go on from `last` if there is one; or
            the folder of a checkpoint of the same run.
        overwrite: Delete the run that output_dir holds and start anew.
    """

    resume: str = "never"
    overwrite: bool = False


class _RecipeFile(ActionConfigFile):
    """A recipe by its path or by the name of one that comes with the package."""

    def __call__(self, parser: Any, cfg: Any, values: Any, option_string: str | None = None) -> None:
        # A colon makes it YAML instead of a file's name, which jsonargparse takes as well.
        try:
            path = values if ":" in values else str(recipe_file(values))
        except ValueError as error:
            raise ValueError(f"--config: {error}") from error
        super().__call__(parser, cfg, path, option_string)


def build_parser() -> ArgumentParser:
    """The parser of `liver-landmark train`: every field of the recipe is an option."""
    parser = ArgumentParser(
        prog="liver-landmark train",
        exit_on_error=False,
        # An abbreviated field name in a saved command would change its meaning with a new field.
        allow_abbrev=False,
        description="Trains a liver landmark model by a recipe; every field of it can be set here too.",
    )
    parser.add_argument(
        "--config", action=_RecipeFile, help="a recipe: a YAML file, or a name such as synthetic_tiny"
    )
    parser.add_class_arguments(Recipe)
    parser.add_argument(
        "--resume",
        nargs="?",
        const="true",
        default="false",
        metavar="true|auto|FOLDER",
        help="go on from the last checkpoint (auto: if there is one), or from that checkpoint's folder",
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="delete the run that output_dir holds and start anew"
    )
    return parser


_RESUME_WORDS = {"true": "required", "false": "never", "auto": "auto"}


def parse_recipe(arguments: Sequence[str]) -> tuple[Recipe, RunOptions]:
    """Reads a command line, and the recipe files that it names, later ones over earlier ones.

    Raises:
        ValueError: in one line that names the field: unknown, of the wrong type, missing, or with a
            value that cannot be.
    """
    parser = build_parser()
    try:
        parsed = parser.parse_args(list(arguments))
        built = parser.instantiate(parsed)
    except ArgumentError as error:
        raise ValueError(" ".join(str(error).split())) from error
    fields = {field.name: built[field.name] for field in dataclasses.fields(Recipe)}
    options = RunOptions(_RESUME_WORDS.get(built.resume, built.resume), built.overwrite)
    if options.overwrite and options.resume != "never":
        raise ValueError("--overwrite and --resume exclude each other")
    return Recipe(**fields), options


def recipe_to_dict(recipe: Recipe) -> dict[str, Any]:
    """The recipe as plain dicts, lists, numbers and strings, as YAML and JSON hold them."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(entry) for key, entry in value.items()}
        return [plain(entry) for entry in value] if isinstance(value, list | tuple) else value

    return plain(dataclasses.asdict(recipe))


def recipe_to_yaml(recipe: Recipe) -> str:
    """The recipe as a file that `--config` reads back to an equal recipe."""
    return yaml.safe_dump(recipe_to_dict(recipe), sort_keys=False)
