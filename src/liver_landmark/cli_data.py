"""`liver-landmark data show|check|stats|export`: look at a dataset, check one, count it, take it elsewhere.

They need the extra `train`, which is imported by the command that runs and by nothing before.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .cli_options import CommandError, positive_int

_SPLITS = ("train", "validation", "test")


def add_data_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds `data` with its subcommands to the parser of all commands."""
    parser = commands.add_parser(
        "data",
        help="look at datasets, check, count and export them",
        description='Datasets of this project\'s schema. Needs: pip install "liver-landmark[train]"',
    )
    subcommands = parser.add_subparsers(title="commands", dest="subcommand", required=True)
    _add_show(subcommands)
    _add_check(subcommands)
    _add_stats(subcommands)
    _add_export(subcommands)


def _add_show(subcommands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subcommands.add_parser(
        "show",
        help="contact sheets of its frames",
        description="Writes a contact sheet: each frame plain, and below it with label and polylines.",
    )
    parser.add_argument("dataset", metavar="DIR", help="folder of a dataset, or a Hub id")
    parser.add_argument("--split", choices=_SPLITS, help="default: all splits")
    parser.add_argument(
        "--frames",
        type=positive_int,
        default=24,
        metavar="N",
        help="how many, spread over the patients (default: %(default)s)",
    )
    parser.add_argument("--patient", metavar="P", help="frames of this patient only")
    # No choices: curves/ would have to be imported for them. The loader names them where one is unknown.
    parser.add_argument(
        "--protocol",
        metavar="P",
        help="draw the labels by it: d2gpland, srft_galore, slippa … (default: labels as they are stored)",
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("contact_sheet.png"),
        metavar="SHEET.png",
        help="PNG file to write, numbered where there are several (default: %(default)s)",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace sheets that are there already")
    parser.set_defaults(run=_with_train_extra(_show))


def _add_check(subcommands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subcommands.add_parser(
        "check",
        help="everything that can be wrong with a dataset",
        description=(
            "Reads every picture, polyline and label of dataset folders and prints a line for each problem: "
            "types, sizes, class ids, labels that are not what their protocol draws, patients and pictures "
            "in two splits, metadata left in pictures, counts of the card."
        ),
        epilog="Exit codes: 0 no problem; 1 problems; 2 there is no dataset to check.",
    )
    parser.add_argument("datasets", nargs="+", type=Path, metavar="DIR", help="folder of a dataset")
    parser.set_defaults(run=_with_train_extra(_check))


def _add_stats(subcommands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subcommands.add_parser(
        "stats",
        help="count its frames, classes and curves",
        description="Prints what each split holds, and writes it with plots where --output is given.",
    )
    parser.add_argument("dataset", metavar="DIR", help="folder of a dataset, or a Hub id")
    parser.add_argument(
        "--output", type=Path, metavar="DIR", help="folder for stats.json and the plots (default: none)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--overwrite", action="store_true", help="replace results that are there already")
    parser.set_defaults(run=_with_train_extra(_stats))


def _add_export(subcommands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subcommands.add_parser(
        "export",
        help="frames and annotation files for other tools",
        description=(
            "Writes the frames as they are stored and their polylines: for labelme and CVAT, where they can "
            "be corrected and built anew, for P2ILF's scripts, or as SVG."
        ),
    )
    parser.add_argument("dataset", metavar="DIR", help="folder of a dataset, or a Hub id")
    parser.add_argument("--split", choices=_SPLITS, help="default: all splits")
    # No choices, as for --protocol above.
    parser.add_argument(
        "--format", required=True, metavar="F", help="labelme, cvat, p2ilf-json, p2ilf-xml or svg"
    )
    parser.add_argument("--output", type=Path, required=True, metavar="OUT", help="new or empty folder")
    parser.set_defaults(run=_with_train_extra(_export))


Command = Callable[[argparse.Namespace], int]


def _with_train_extra(command: Command) -> Command:
    """The command, failing in one line where the extra is not installed."""

    def run(arguments: argparse.Namespace) -> int:
        try:
            _quiet_datasets()
            return command(arguments)
        except ModuleNotFoundError as error:
            if (error.name or "").startswith(__package__):
                raise
            raise CommandError(
                f'{error.name} is not installed: pip install "liver-landmark[train]"'
            ) from error

    return run


def _quiet_datasets() -> None:
    """Leaves the terminal to the command: no bars of `datasets` off a terminal."""
    import datasets

    if not sys.stderr.isatty():
        datasets.disable_progress_bars()


def _show(arguments: argparse.Namespace) -> int:
    from .data.show import choose_frames, sheet_paths, write_sheets

    output = arguments.output
    if output.suffix.lower() != ".png":
        raise CommandError(f"--output {output}: sheets are PNG files, call it {output.with_suffix('.png')}")
    with _one_line_errors():
        splits = _load(arguments.dataset, arguments.split, arguments.protocol)
        places = choose_frames(splits, arguments.frames, arguments.patient)
        paths = sheet_paths(output, len(places))
        _check_free(paths, arguments.overwrite)
        output.parent.mkdir(parents=True, exist_ok=True)
        write_sheets(splits, places, paths, progress=sys.stderr.isatty())
    print(f"{len(places)} frames in {', '.join(map(str, paths))}")
    return 0


def _check(arguments: argparse.Namespace) -> int:
    from tqdm import tqdm

    from .data.check import SetCheck

    problems = 0
    for folder in arguments.datasets:
        check = SetCheck(folder)
        with _one_line_errors():
            for problem in check.problems(progress=sys.stderr.isatty()):
                # Through tqdm, which keeps its bar below the lines.
                tqdm.write(str(problem), file=sys.stdout)
        counts = check.counts
        frames = ", ".join(f"{count} {split}" for split, count in counts.frames.items()) or "none"
        patients = len(set().union(*counts.patients.values()))
        found = f"{check.found} problem{'s' if check.found != 1 else ''}" if check.found else "no problems"
        print(f"{folder}: {found}; frames: {frames}; patients: {patients}")
        problems += check.found
    return 1 if problems else 0


def _stats(arguments: argparse.Namespace) -> int:
    from .data.statistics import (
        PLOT_FILES,
        STATISTICS_FILE,
        format_statistics,
        split_statistics,
        write_statistics,
    )

    output = arguments.output
    with _one_line_errors():
        if output is not None:
            _check_free([output / name for name in (STATISTICS_FILE, *PLOT_FILES)], arguments.overwrite)
        splits = _load(arguments.dataset, None, None)
        statistics = {
            split: split_statistics(rows, progress=sys.stderr.isatty()) for split, rows in splits.items()
        }
        written = [] if output is None else write_statistics(output, statistics, str(arguments.dataset))
    if arguments.json:
        print(json.dumps({split: found.summary for split, found in statistics.items()}, indent=2))
    else:
        print(format_statistics(statistics))
        if written:
            print(f"written: {', '.join(map(str, written))}")
    return 0


def _export(arguments: argparse.Namespace) -> int:
    from .data.export import export_set

    with _one_line_errors():
        splits = _load(arguments.dataset, arguments.split, None)
        count = export_set(splits, arguments.output, arguments.format)
    print(f"{count} frames in {arguments.output}")
    return 0


def _load(dataset: str, split: str | None, protocol: str | None) -> dict[str, Any]:
    from .data.loading import load_landmark_dataset

    loaded = load_landmark_dataset(dataset, split, protocol)
    return dict(loaded) if split is None else {split: loaded}


def _check_free(paths: Sequence[Path], overwrite: bool) -> None:
    for path in paths:
        if path.exists() and not (overwrite and path.is_file()):
            way_out = "pass --overwrite, or choose" if path.is_file() else "choose"
            raise CommandError(f"{path} is there already: {way_out} another --output")


@contextmanager
def _one_line_errors() -> Iterator[None]:
    try:
        yield
    except (ValueError, OSError) as error:
        raise CommandError(" ".join(str(error).split())) from error
