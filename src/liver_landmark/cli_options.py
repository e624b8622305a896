"""What the commands of `liver-landmark` share: how they fail, and types of their options."""

from __future__ import annotations

import argparse


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
