"""Makers of hostile files; `hostile_inputs` writes them all."""
