"""Builds a dataset: `liver-landmark data build`."""

import sys

from liver_landmark.cli import main

if __name__ == "__main__":
    sys.exit(main(["data", "build", *sys.argv[1:]]))
