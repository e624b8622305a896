"""`python -m liver_landmark`: the console command, also for `accelerate launch -m liver_landmark train`."""

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())
