"""What the commands of `liver-landmark` share: how they fail, and types of their options."""

from __future__ import annotations

import argparse
import math
import sys


class CommandError(Exception):
    """The command cannot run; the message is one line."""


def positive_int(text: str) -> int:
    """An argparse type: an integer from 1 on."""
    try:
        value = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no integer") from None
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is less than 1")
    return value


def positive_float(text: str) -> float:
    """An argparse type: a finite number above 0."""
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no number") from None
    if not (math.isfinite(value) and value > 0):
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return value


def quiet_libraries() -> None:
    """Leaves the terminal to the command: no reports that it words itself, no bars off a terminal."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    if not sys.stderr.isatty():
        logging.disable_progress_bar()
