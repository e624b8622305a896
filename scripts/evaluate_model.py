"""Scores a trained model: `liver-landmark evaluate`."""

import sys

from liver_landmark.cli import main

if __name__ == "__main__":
    sys.exit(main(["evaluate", *sys.argv[1:]]))
