"""The console command `liver-landmark`. What takes long to import is imported by the command that runs."""

from .app import main

__all__ = ["main"]
