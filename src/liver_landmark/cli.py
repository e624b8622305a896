"""The console command `liver-landmark`.

Exit codes: 0 all is done, 1 something failed (each failure is one line on stderr, the rest is done),
2 the command line or the model is wrong and nothing was written, 130 interrupted (what is there is whole).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib.metadata import version

from .cli_data import add_data_commands
from .cli_options import CommandError
from .cli_predict import add_predict_command
from .cli_stream import add_stream_command

# What takes seconds to import is imported by the command that needs it.


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands; a command sets `run`, called with the parsed arguments."""
    parser = argparse.ArgumentParser(
        prog="liver-landmark",
        description="Finds the ridge, silhouette and falciform ligament of the liver in laparoscopic frames.",
        epilog="Exit codes: 0 all is done; 1 something failed, the rest is done; 2 nothing was done.",
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {version('liver-landmark')}")
    commands = parser.add_subparsers(title="commands", dest="command", required=True)
    add_predict_command(commands)
    add_stream_command(commands)
    add_data_commands(commands)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    parsed = build_parser().parse_args(arguments)
    try:
        return parsed.run(parsed)
    except CommandError as error:
        print(f"liver-landmark {parsed.command}: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"liver-landmark {parsed.command}: interrupted", file=sys.stderr)
        return 130  # as shells report it


if __name__ == "__main__":
    sys.exit(main())
