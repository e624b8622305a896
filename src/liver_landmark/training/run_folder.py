"""The folder that a training run writes: which checkpoints it holds, which is the last, the best.

    <output_dir>/
        checkpoints/
            step-000400/            see checkpoints.py
            step-000600/
        last -> checkpoints/step-000600
        best -> .best-a             model, processor, recipe.yaml, run.json
        metrics.jsonl               one record a line
        run.json                    recipe, data fingerprints, versions, outcome
        tensorboard/                if that tracker is asked for

Checkpoints and the best model are complete or absent, the links and files old or new, whenever the
run is killed. `best` is a link so that a better model replaces it in one rename.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..atomic_files import new_folder, point_link, remove_folder, remove_leftovers

# The next best model is written beside the one that `best` points to.
_BEST_NAMES = (".best-a", ".best-b")
_STEP_NAME = re.compile(r"step-(\d{6,})")


class RunFolder:
    """The paths of one run."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.checkpoints = self.path / "checkpoints"
        self.last = self.path / "last"
        self.best = self.path / "best"
        self.metrics = self.path / "metrics.jsonl"
        self.run_record = self.path / "run.json"
        self.tensorboard = self.path / "tensorboard"

    def holds_run(self) -> bool:
        """Whether a run has begun here."""
        return any(path.exists() for path in (self.checkpoints, self.metrics, self.run_record))

    def delete_run(self) -> None:
        """Deletes what a run has written here, and nothing else."""
        for link in (self.last, self.best):
            link.unlink(missing_ok=True)
        for folder in (self.checkpoints, self.tensorboard, *(self.path / name for name in _BEST_NAMES)):
            if folder.exists():
                shutil.rmtree(folder)
        for file in (self.metrics, self.run_record):
            file.unlink(missing_ok=True)

    def remove_leftovers(self) -> None:
        """Deletes what a killed run left behind half-written or no longer pointed to."""
        for folder in (self.path, self.checkpoints):
            if folder.is_dir():
                remove_leftovers(folder)
        self._remove_unused_best()

    def steps(self) -> dict[int, Path]:
        """Optimizer step -> folder of every complete checkpoint, ascending."""
        found = {}
        if self.checkpoints.is_dir():
            for folder in self.checkpoints.iterdir():
                match = _STEP_NAME.fullmatch(folder.name)
                if match:
                    found[int(match[1])] = folder
        return dict(sorted(found.items()))

    def find_checkpoint(self, resume: str) -> Path | None:
        """The checkpoint to go on from.

        Args:
            resume: `never`, `required`, `auto` or a checkpoint's folder, as in `RunOptions`.

        Raises:
            ValueError: there is none where one is required, or it is no checkpoint of this run.
        """
        if resume == "never":
            return None
        steps = self.steps()
        if resume in ("required", "auto"):
            if self.last.exists():
                return self.checkpoints / self.last.resolve().name
            # Killed between the first checkpoint's rename and its link's.
            if steps:
                return list(steps.values())[-1]
            if resume == "auto":
                return None
            raise ValueError(f"--resume: {self.path} holds no checkpoint; leave --resume out, or say auto")
        asked = Path(resume).resolve()
        for folder in steps.values():
            if folder.resolve() == asked:
                return folder
        raise ValueError(
            f"--resume: {resume} is no checkpoint of {self.path}; "
            "to start another run from its weights, set model.init to its pretrained_model folder"
        )

    @contextmanager
    def new_checkpoint(self, step: int, keep_last: int) -> Iterator[Path]:
        """Yields the folder to fill with step's checkpoint; then `last` points to it and old ones go."""
        target = self.checkpoints / f"step-{step:06d}"
        with new_folder(target) as temporary:
            yield temporary
        point_link(self.last, target)
        for folder in list(self.steps().values())[:-keep_last]:
            remove_folder(folder)

    @contextmanager
    def new_best(self) -> Iterator[Path]:
        """Yields the folder to fill with a better model; then `best` points to it and the old one goes."""
        first, second = (self.path / name for name in _BEST_NAMES)
        target = second if self.best.resolve() == first.resolve() else first
        if target.exists():
            remove_folder(target)
        with new_folder(target) as temporary:
            yield temporary
        point_link(self.best, target)
        self._remove_unused_best()

    def _remove_unused_best(self) -> None:
        for name in _BEST_NAMES:
            folder = self.path / name
            if folder.exists() and folder.resolve() != self.best.resolve():
                remove_folder(folder)

    def go_back_to(self, step: int) -> None:
        """Drops checkpoints of later steps, which the run is about to write again."""
        steps = self.steps()
        point_link(self.last, steps[step])
        for later, folder in steps.items():
            if later > step:
                remove_folder(folder)
