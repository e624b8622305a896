"""Builds a dataset of the project's schema: Parquet that plain `datasets.load_dataset(DIR)` reads.

    python scripts/build_dataset.py l3d RAW --output outputs/data/l3d
    python scripts/build_dataset.py p2ilf RAW --output outputs/data/p2ilf
    python scripts/build_dataset.py llsd RAW --test-only --output outputs/data/llsd
    python scripts/build_dataset.py custom RAW --format labelme --label-map falciform=ligament --output DIR
    python scripts/build_dataset.py synthetic --domain a --patients 40 --frames 800 --size 456x256 \
        --seed 0 --output outputs/data/a

Frames of RAW that cannot be read are left out and named on stderr and in DIR/report.json; --strict stops at
the first. A build that was interrupted or killed goes on where it was when it is started again.
Exit codes: 0 built, 1 not built (or not pushed), 2 wrong options, 130 interrupted.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

# What takes seconds to import is imported by what needs it, so that --help and wrong options answer at once.
if TYPE_CHECKING:
    from liver_landmark.data.build import RawRequest
    from liver_landmark.data.readers import Problem

NOTHING_TO_DO = "holds this very dataset already, nothing to do"
CARDS = Path(__file__).resolve().parents[1] / "hub_configs" / "datasets"


def parse_size(text: str) -> tuple[int, int]:
    """'456x256' -> (456, 256)."""
    match = re.fullmatch(r"(\d+)x(\d+)", text)
    if not match:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size: write WIDTHxHEIGHT in px, as 456x256")
    return int(match[1]), int(match[2])


def parse_workers(text: str) -> int:
    """'2' -> 2."""
    if not re.fullmatch(r"[0-9]+", text) or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of workers: write 1 or more")
    return int(text)


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
        "--workers", type=parse_workers, default=os.cpu_count() or 1, help="processes (default: one per core)"
    )
    parser.set_defaults(run=run_synthetic)


def run_synthetic(arguments: argparse.Namespace) -> str:
    """Renders the benchmark; what was done, in words."""
    from liver_landmark.data.build import build_synthetic
    from liver_landmark.synthetic import SyntheticRequest

    width, height = arguments.size
    request = SyntheticRequest(
        arguments.domain, arguments.patients, arguments.frames, width, height, arguments.seed
    )
    card = (CARDS / "synthetic" / "README.md").read_text(encoding="utf-8")
    built = build_synthetic(request, arguments.output, card, arguments.workers, arguments.overwrite)
    return "built" if built else NOTHING_TO_DO


def names(text: str) -> tuple[str, ...]:
    """'A,B' -> ('A', 'B')."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


def add_raw(
    subcommands: argparse._SubParsersAction, name: str, summary: str, *, drawn_splits: bool = True
) -> argparse.ArgumentParser:
    """A subcommand that reads a raw folder, with the options that all of them have."""
    protocols = {
        "l3d": "d2gpland",
        "p2ilf": "p2ilf",
        "llsd": "as_drawn, the mask itself",
        "custom": "synthetic, 30 px at 1920 px of width",
    }
    parser = subcommands.add_parser(name, help=summary, description=summary)
    parser.add_argument("raw", type=Path, metavar="RAW", help="folder of the raw set")
    parser.add_argument(
        "--protocol", help=f"how the stored label is drawn (default: {protocols[name]}); polylines stay"
    )
    parser.add_argument("--strict", action="store_true", help="stop at the first problem, leaving nothing")
    parser.add_argument(
        "--workers",
        type=parse_workers,
        default=os.cpu_count() or 1,
        help="threads (default: one per core, at most 8)",
    )
    parser.set_defaults(run=run_raw, set_name=name)
    if drawn_splits:
        splits = parser.add_argument_group(
            "splits", "by patient; drawn from the patients' names unless train, val and test folders decide"
        )
        splits.add_argument("--split-seed", type=int, default=0, help="of the draw (default: %(default)s)")
        splits.add_argument("--validation-patients", type=names, default=(), metavar="A,B")
        splits.add_argument(
            "--test-patients", type=names, default=(), metavar="C", help="all that are not named train"
        )
        splits.add_argument("--test-only", action="store_true", help="every patient is for testing")
    return parser


def add_raw_sets(subcommands: argparse._SubParsersAction) -> None:
    """The subcommands l3d, p2ilf, llsd and custom."""
    parser = add_raw(subcommands, "l3d", "read L3D or L3D-2K as published", drawn_splits=False)
    parser.add_argument(
        "--edition",
        choices=["l3d", "l3d-2k"],
        default="l3d",
        help="l3d checks the published splits, with l3d-2k folders decide (default: %(default)s)",
    )
    parser.add_argument("--no-depth", action="store_true", help="leave depth maps out")

    add_raw(subcommands, "p2ilf", "read the P2ILF challenge's frames and contours")

    parser = add_raw(subcommands, "llsd", "read LLSD, or any folders of frames and color masks")
    parser.add_argument("--frames", default="images", metavar="NAME", help="frame folders (default: images)")
    parser.add_argument("--masks", metavar="NAME", help="mask folders (default: masks_gt or masks_original)")
    parser.add_argument("--mask-suffix", metavar="TEXT", help="what a mask's name has behind its frame's")
    parser.add_argument(
        "--palette",
        metavar="COLORS",
        help="masks_gt, masks_original, p2ilf, or ridge=#ff0000,silhouette=#ffff00,ligament=#0000ff "
        "(default: by the mask folder's name)",
    )
    add_own(parser, "llsd")

    parser = add_raw(subcommands, "custom", "read own frames, annotated with labelme or CVAT")
    parser.add_argument("--format", required=True, choices=["labelme", "cvat"])
    parser.add_argument(
        "--label-map",
        action="append",
        default=[],
        metavar="LABEL=CLASS",
        help="what a label means: ridge, silhouette, ligament or ignore; repeat it, or give a JSON file",
    )
    parser.add_argument(
        "--annotations", type=Path, metavar="FILE", help="CVAT's XML (default: annotations.xml)"
    )
    add_own(parser, "custom")


def add_own(parser: argparse.ArgumentParser, source: str) -> None:
    """Options of sets that are laid out freely."""
    parser.add_argument(
        "--patient-pattern",
        metavar="REGEX",
        help="finds the patient in a frame's path below RAW, with one group (default: the folder's name)",
    )
    parser.add_argument(
        "--source", default=source, metavar="NAME", help="of the `source` column (default: %(default)s)"
    )


def raw_request(arguments: argparse.Namespace) -> RawRequest:
    """The request that the options of a raw set's subcommand state."""
    from liver_landmark.data.build import RawRequest
    from liver_landmark.data.readers import CustomOptions, L3dOptions, MaskOptions, SplitOptions

    name, splits = arguments.set_name, SplitOptions()
    if name == "l3d":
        options = L3dOptions(arguments.edition, depth=not arguments.no_depth)
    else:
        splits = SplitOptions(
            arguments.split_seed, arguments.validation_patients, arguments.test_patients, arguments.test_only
        )
        options = None
    if name == "llsd":
        options = MaskOptions(
            arguments.frames,
            arguments.masks,
            arguments.mask_suffix,
            arguments.palette,
            arguments.patient_pattern,
            arguments.source,
        )
    elif name == "custom":
        options = CustomOptions(
            arguments.format,
            tuple(arguments.label_map),
            arguments.annotations,
            arguments.patient_pattern,
            arguments.source,
        )
    return RawRequest(name, arguments.raw, options, splits, arguments.protocol)


def run_raw(arguments: argparse.Namespace) -> str:
    """Builds a raw set; what was done, in words."""
    from tqdm import tqdm

    from liver_landmark.data.build import build_raw_set

    def left_out(problem: Problem) -> None:
        tqdm.write(f"left out: {problem}", file=sys.stderr)

    result = build_raw_set(
        raw_request(arguments),
        arguments.output,
        (CARDS / arguments.set_name / "README.md").read_text(encoding="utf-8"),
        workers=arguments.workers,
        overwrite=arguments.overwrite,
        strict=arguments.strict,
        on_problem=left_out,
    )
    counts = ", ".join(f"{frames} {split}" for split, frames in result.frames.items())
    told = f"{counts}; {result.left_out} frames left out, {result.problems} problems in report.json"
    return f"{'built' if result.built else NOTHING_TO_DO}: {told}"


def main(argv: list[str] | None = None) -> int:
    """Runs one subcommand; what is wrong with the request comes out as one line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    subcommands = parser.add_subparsers(required=True, metavar="SET")
    add_raw_sets(subcommands)
    add_synthetic(subcommands)
    for subparser in subcommands.choices.values():
        subparser.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder to write")
        subparser.add_argument("--overwrite", action="store_true", help="replace another dataset in DIR")
        subparser.add_argument("--push-to-hub", metavar="ID", help="upload the set, as USER/NAME, private")
        subparser.add_argument("--public", action="store_true", help="a repository made for it is public")
    arguments = parser.parse_args(argv)
    if arguments.public and not arguments.push_to_hub:
        parser.error("--public is for --push-to-hub")
    try:
        return run(arguments)
    except (ValueError, OSError) as error:
        print(f"build_dataset.py: error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; the same command goes on with the shards that are finished", file=sys.stderr)
        return 130


def run(arguments: argparse.Namespace) -> int:
    """Builds and, if asked for, uploads."""
    if arguments.push_to_hub:
        from liver_landmark.data.build import check_repo_id, publish

        check_repo_id(arguments.push_to_hub)
    print(f"{arguments.output}: {arguments.run(arguments)}", flush=True)
    if arguments.push_to_hub:
        address = publish(arguments.output, arguments.push_to_hub, public=arguments.public)
        print(f"{arguments.output}: pushed to {address}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
