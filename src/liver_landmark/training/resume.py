"""What has to be the same for a run to go on where it stopped."""

from __future__ import annotations

from typing import Any

import datasets

from ..data.loading import dataset_fingerprint
from .parsing import recipe_to_dict
from .recipe import Recipe

# Fields that change neither the weights that a run ends with nor which of them are called best.
# `data.path` is among them because the content of the data is compared, not its place. The budget is
# not: the schedule stretches over the whole of it, so another budget is another run.
FREE_FIELDS = frozenset(
    {
        "output_dir",
        "data.path",
        "data.workers",
        "data.cache",
        "checkpoint.every_steps",
        "checkpoint.keep_last",
        "log_every_steps",
        "trackers",
    }
)


def run_identity(
    recipe: Recipe, splits: dict[str, datasets.Dataset], mixed_precision: str, num_processes: int
) -> dict[str, Any]:
    """Everything that two runs must share to come to the same weights and the same best model.

    Args:
        recipe: The recipe.
        splits: The splits that the run reads, by name.
        mixed_precision: What `launcher` has come down to.
        num_processes: Processes that share each step.
    """
    recipe_fields = recipe_to_dict(recipe)
    recipe_fields["mixed_precision"] = mixed_precision
    return {
        "recipe": recipe_fields,
        "data_sha256": {name: dataset_fingerprint(rows) for name, rows in splits.items()},
        "num_processes": num_processes,
    }


def refuse_other_run(saved: dict[str, Any], now: dict[str, Any]) -> None:
    """Raises a ValueError that names the first field by which `now` differs from the `saved` identity."""
    before, after = _flatten(saved), _flatten(now)
    for name in sorted(before | after):
        field = name.removeprefix("recipe.")
        if field not in FREE_FIELDS and before.get(name) != after.get(name):
            raise ValueError(
                f"--resume: {field} has changed from {before.get(name)} to {after.get(name)}: set it back, "
                "or start a new run (model.init takes a checkpoint's pretrained_model folder)"
            )


def _flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat = {}
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            flat |= _flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
