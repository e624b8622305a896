"""What runs that were killed left half-written among the results of the run that comes after them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from ...atomic_files import partial_target
from .inputs import Source
from .outputs import PartNames
from .options import PredictionOptions
from .outputs import FRAME_FILE, result_files, result_folders


def remove_leftovers(output: Path, sources: Sequence[Source], options: PredictionOptions) -> None:
    """Removes temporary files of this run's own results: other parts of it may be writing theirs just now.

    To be called while the run's journal is open, so that no other run writes the same.

    Args:
        output: Folder of the results.
        sources: The run's inputs.
        options: The run's.
    """
    names = PartNames(options)
    results = {names.predictions, names.run}
    if options.num_parts == 1:
        results.add("cvat.xml")
    for source in sources:
        if source.kind == "picture":
            results.update(result_files(source.name))
            continue
        results.add(f"{source.name}_overlay.mp4")
        for folder in result_folders(source.name):
            for path in _entries(output / folder):
                if FRAME_FILE.fullmatch(partial_target(path.name) or ""):
                    path.unlink()
    for path in _entries(output):
        if partial_target(path.name) in results:
            path.unlink()


def _entries(folder: Path) -> list[Path]:
    """The files of a folder; none where there is no such folder."""
    try:
        with os.scandir(folder) as entries:
            return [Path(entry.path) for entry in entries if entry.is_file(follow_symlinks=False)]
    # A name that is too long, for instance: whoever writes there will say so.
    except OSError:
        return []
