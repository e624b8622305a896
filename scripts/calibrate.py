"""Calibrates a trained model: `liver-landmark calibrate`."""

import sys

from liver_landmark.cli import main

if __name__ == "__main__":
    sys.exit(main(["calibrate", *sys.argv[1:]]))
