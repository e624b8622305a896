"""Builds a dataset of the project's schema: Parquet that plain `datasets.load_dataset(DIR)` reads.

    python scripts/build_dataset.py synthetic --domain a --patients 40 --frames 800 --size 456x256 \
        --seed 0 --output outputs/data/a
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from pathlib import Path

CARDS = Path(__file__).resolve().parents[1] / "hub_configs" / "datasets"


def parse_size(text: str) -> tuple[int, int]:
    """'456x256' -> (456, 256)."""
    match = re.fullmatch(r"(\d+)x(\d+)", text)
    if not match:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size: write WIDTHxHEIGHT in px, as 456x256")
    return int(match[1]), int(match[2])


def add_synthetic(subcommands: argparse._SubParsersAction) -> None:
    """The subcommand `synthetic`."""
    parser = subcommands.add_parser("synthetic", help="render the synthetic benchmark")
    parser.add_argument(
        "--domain", required=True, choices=["a", "b"], help="a: as trained on; b: another hospital"
    )
    parser.add_argument(
        "--patients", type=int, default=40, help="patients in all splits (default: %(default)s)"
    )
    parser.add_argument(
        "--frames", type=int, default=800, help="frames of all patients (default: %(default)s)"
    )
    parser.add_argument(
        "--size", type=parse_size, default=(456, 256), metavar="WxH", help="px (default: 456x256)"
    )
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    parser.add_argument(
        "--workers", type=int, default=os.cpu_count() or 1, help="processes (default: one per core)"
    )
    parser.set_defaults(run=run_synthetic)


def run_synthetic(arguments: argparse.Namespace) -> bool:
    """Renders the benchmark; False if it is there already."""
    # Imported here so that --help and wrong options answer at once.
    from liver_landmark.data.synthetic import SyntheticRequest, build_synthetic

    width, height = arguments.size
    request = SyntheticRequest(
        arguments.domain, arguments.patients, arguments.frames, width, height, arguments.seed
    )
    card = (CARDS / "synthetic" / "README.md").read_text()
    return build_synthetic(request, arguments.output, card, arguments.workers, arguments.overwrite)


def main(argv: list[str] | None = None) -> int:
    """Runs one subcommand; what is wrong with the request comes out as one line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    subcommands = parser.add_subparsers(required=True, metavar="SET")
    add_synthetic(subcommands)
    for subparser in subcommands.choices.values():
        subparser.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder to write")
        subparser.add_argument("--overwrite", action="store_true", help="replace another dataset in DIR")
    arguments = parser.parse_args(argv)
    try:
        built = arguments.run(arguments)
    except (ValueError, OSError) as error:
        print(f"build_dataset.py: error: {error}", file=sys.stderr)
        return 1
    print(f"{arguments.output}: {'built' if built else 'holds this very dataset already, nothing to do'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
