"""The commands of `liver-landmark`, put together."""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from .calibrate import calibrate
from .data import data_app
from .evaluate import evaluate
from .options import EXIT_CODES, Command, one_line_errors, print_error
from .predict import predict
from .stream import stream
from .train import train

PROGRAM = "liver-landmark"

app = typer.Typer(
    help="Finds the ridge, the silhouette and the falciform ligament of the liver in laparoscopic frames.",
    epilog=EXIT_CODES,
    pretty_exceptions_enable=False,
)
_USE, _MAKE = "Use a model", "Make a model"
app.command(cls=Command, rich_help_panel=_USE)(predict)
app.command(cls=Command, rich_help_panel=_USE)(stream)
app.command(
    cls=Command,
    rich_help_panel=_MAKE,
    add_help_option=False,  # the recipe's parser has the help
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
)(train)
app.command(cls=Command, rich_help_panel=_MAKE)(evaluate)
app.command(cls=Command, rich_help_panel=_MAKE)(calibrate)
app.add_typer(data_app, name="data", rich_help_panel=_MAKE)

config_app = typer.Typer(help="Find the configurations that come with the package.")
app.add_typer(config_app, name="config", rich_help_panel=_MAKE)


def _print_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        print(f"{PROGRAM} {version('liver-landmark')}")
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit."),
    ] = False,
) -> None:
    pass


@config_app.command("list", cls=Command)
def list_configs() -> int:
    """List the names of all model presets, training recipes, launch configurations and dataset cards."""
    from ..utils.hub_configs import all_config_names

    print("\n".join(all_config_names()))
    return 0


@config_app.command("path", cls=Command)
def print_config_path(
    name: Annotated[
        str, typer.Argument(metavar="KIND/NAME", help="A name of `config list`, such as accelerate/cpu.")
    ],
) -> int:
    """Print where a configuration lies.

    For what takes a path: accelerate launch --config_file "$(liver-landmark config path accelerate/cpu)" ...
    """
    from ..utils.hub_configs import config_path

    with one_line_errors():
        print(config_path(name))
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code (`options.EXIT_CODES`)."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # Names of files and landmarks that the terminal's encoding does not hold come out as escapes.
        sys.stdout.reconfigure(errors="backslashreplace")
    command = typer.main.get_command(app)
    try:
        code = command.main(
            args=list(sys.argv[1:] if arguments is None else arguments),
            prog_name=PROGRAM,
            standalone_mode=False,
        )
    except typer.TyperException as error:
        # Wrong options; the context knows the command that they were given to.
        context = getattr(error, "ctx", None)
        message = error.format_message().replace("Value error, ", "")  # pydantic's words
        print_error(PROGRAM if context is None else context.command_path, message)
        return 2
    return code or 0
