"""Trains a model by a recipe: `liver-landmark train` for `accelerate launch scripts/train.py ...`."""

import sys

from liver_landmark.cli import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
