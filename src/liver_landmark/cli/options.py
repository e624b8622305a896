"""What the commands share: how they end, what they say, and the options that several of them have.

Exit codes of every command:
    0    all is done
    1    something among the inputs failed, or the run did: a frame, a diverging training, a full disk
    2    the options, the model, the dataset or the recipe are wrong, and nothing was written
    130  interrupted; what is there is whole
"""

from __future__ import annotations

import errno
import math
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from typer.core import TyperCommand

EXIT_CODES = (
    "Exit codes: 0 all is done; 1 something among the inputs failed, the rest is done; 2 options, model, "
    "dataset or recipe are wrong and nothing was written; 130 interrupted."
)
# Where the fault is the machine's and not the command line's.
_FAILURES = {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG, errno.ENOMEM}


class CommandError(Exception):
    """The command cannot run as it was called; the message is one line."""

    exit_code = 2
    label = "error"


class RunError(CommandError):
    """The command was called rightly and failed all the same."""

    exit_code = 1


class Interrupted(CommandError):
    """Ctrl-C; the message says how to go on."""

    exit_code = 130
    label = "interrupted"


class Command(TyperCommand):
    """A command that ends by the table of exit codes, whatever it was that ended it."""

    def invoke(self, ctx: typer.Context) -> Any:
        try:
            return super().invoke(ctx)
        except CommandError as error:
            print_error(ctx.command_path, str(error), error.label)
            return error.exit_code
        except ModuleNotFoundError as error:
            if (error.name or "").split(".")[0] == __package__.split(".")[0]:
                raise
            message = f'{error.name} is not installed: pip install "liver-landmark[train]"'
            print_error(ctx.command_path, message)
            return 2
        except KeyboardInterrupt:
            print(f"{ctx.command_path}: interrupted", file=sys.stderr)
            return 130


def print_error(command: str, message: str, label: str = "error") -> None:
    """One line on stderr; in a launch of several processes it says which one it comes from."""
    process = os.environ.get("RANK", "0")
    where = "" if process == "0" else f" [process {process}]"
    print(f"{command}{where}: {label}: {' '.join(message.split())}", file=sys.stderr)


@contextmanager
def one_line_errors(prefix: str = "") -> Iterator[None]:
    """Has a ValueError or OSError end the command in one line, by the table of exit codes."""
    try:
        yield
    except OSError as error:
        kind = RunError if error.errno in _FAILURES else CommandError
        raise kind(f"{prefix}{error}") from error
    except ValueError as error:
        raise CommandError(f"{prefix}{error}") from error


@contextmanager
def full_memory_is_an_error() -> Iterator[None]:
    """Has a full accelerator memory end the command in one line."""
    import torch

    try:
        yield
    except torch.OutOfMemoryError as error:
        raise RunError("the device's memory is full: lower --batch-size, or --device cpu") from error


def announce(what: str) -> None:
    """Says on stderr what is about to take seconds; from one process of a launch only."""
    if os.environ.get("RANK", "0") == "0":
        print(f"{what} …", file=sys.stderr, flush=True)


def say(line: str) -> None:
    """Prints a line, also where nobody reads along any more."""
    try:
        print(line)
    except BrokenPipeError:
        # Who read along has had enough; the results are still wanted.
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115


def quiet_libraries() -> None:
    """Leaves the terminal to the command: no reports that it words itself, no bars off a terminal."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    if not sys.stderr.isatty():
        logging.disable_progress_bar()


def quiet_datasets() -> None:
    """No bars of `datasets` off a terminal."""
    import datasets

    if not sys.stderr.isatty():
        datasets.disable_progress_bars()


@contextmanager
def replaced_folder(output: Path) -> Iterator[Path]:
    """A new folder to fill, which takes the place of `output` when it is complete, and only then."""
    from ..utils.atomic_files import new_folder, remove_folder, replace_folder

    try:
        staged = output.with_name(f".incomplete-new-{output.name}")
        if staged.exists():
            remove_folder(staged)
        with new_folder(staged) as folder:
            yield folder
        replace_folder(staged, output)
    except OSError as error:
        raise RunError(f"output {output} cannot be written: {error}") from error


def check_replaceable(
    output: Path, overwrite: bool, what: str, is_former: Callable[[set[str]], bool]
) -> None:
    """Refuses an output that cannot be made, or holds anything but an older result of the same kind.

    Args:
        output: The folder that the command will write.
        overwrite: Whether an older result may be replaced.
        what: The kind of result, as messages call it: `an evaluation`.
        is_former: Whether a folder with files of these names is an older result.
    """
    if not output.exists():
        above = next(folder for folder in output.parents if folder.exists())
        if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
            raise CommandError(f"output {output} cannot be made: {above} is no folder that can be written to")
        return
    if not output.is_dir():
        raise CommandError(f"output {output} exists and is no folder")
    names = {path.name for path in output.iterdir()}
    if not names:
        return
    if not is_former(names):
        raise CommandError(f"output {output} holds something else than {what}: choose another folder")
    if not overwrite:
        raise CommandError(
            f"output {output} holds {what} already: pass --overwrite, or choose another folder"
        )


# Values that are checked when the command line is read. Typer calls them for absent options too.


def positive(value: float | None) -> float | None:
    """Refuses what is not a finite number above 0."""
    if value is not None and not (math.isfinite(value) and value > 0):
        raise typer.BadParameter(f"{value} is not above 0")
    return value


def finite(value: float | None) -> float | None:
    """Refuses infinity and nan."""
    if value is not None and not math.isfinite(value):
        raise typer.BadParameter(f"{value} is not a finite number")
    return value


def known_protocol(name: str | None) -> str | None:
    """Refuses a labeling protocol that does not exist."""
    if name is not None:
        from ..curves.rasterize import check_label_protocol

        try:
            check_label_protocol(name)
        except ValueError as error:
            raise typer.BadParameter(str(error)) from None
    return name


def parse_size(text: str, option: str) -> tuple[int, int]:
    """'456x256' -> (456, 256)."""
    width, _, height = text.lower().partition("x")
    if not all(side.isascii() and side.isdecimal() and int(side) > 0 for side in (width, height)):
        raise typer.BadParameter(
            f"{text!r} is not a size: write WIDTHxHEIGHT in px, such as 1920x1080", param_hint=option
        )
    return int(width), int(height)


def comma_separated(text: str) -> tuple[str, ...]:
    """'A, B,A' -> ('A', 'B')."""
    return tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))


# Panels of the help.
DEVICE_PANEL = "Device and speed"
OUTPUT_PANEL = "Output"
DATA_PANEL = "Data"

Split = Literal["train", "validation", "test"]
Dtype = Literal["float32", "bfloat16", "float16"]

ModelOption = Annotated[
    str, typer.Option("--model", metavar="MODEL", help="Folder of a trained model, or a Hub id.")
]
DatasetOption = Annotated[
    str,
    typer.Option(
        "--dataset",
        metavar="DATASET",
        help="Folder or Hub id of a dataset of the schema.",
        rich_help_panel=DATA_PANEL,
    ),
]
DatasetArgument = Annotated[
    str, typer.Argument(metavar="DATASET", help="Folder of a dataset, or a Hub id.", show_default=False)
]
DeviceOption = Annotated[
    str | None,
    typer.Option(
        "--device",
        metavar="DEVICE",
        help="cpu, cuda, cuda:1 or mps. Default: an accelerator where there is one.",
        rich_help_panel=DEVICE_PANEL,
    ),
]
DtypeOption = Annotated[
    Dtype, typer.Option("--dtype", help="Precision of the forward pass.", rich_help_panel=DEVICE_PANEL)
]
BatchSizeOption = Annotated[
    int,
    typer.Option("--batch-size", min=1, help="Frames in one forward pass.", rich_help_panel=DEVICE_PANEL),
]
