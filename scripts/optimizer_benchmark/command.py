"""The command line: options in, tables and files out."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch

import liver_landmark  # noqa: F401 - registers the model with the Auto classes
from liver_landmark.utils.atomic_files import atomic_path, write_json

from .measure import measure
from .plot import save_plot, why_no_plot
from .report import as_markdown, as_text, report
from .targets import is_target_setting, judge


def parse_options(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="benchmark_optimizer.py",
        description="Measures projectors and optimizers; see the script's head.",
    )
    add = parser.add_argument
    add("--model", type=Path, default=Path("hub_configs/models/large"), help="folder with a config.json")
    add("--model-weights", type=Path, help="model folder for the real gradients (default: random weights)")
    add("--gradient-size", type=int, default=256, metavar="PX", help="side of the frame they come from")
    add("--rank", type=int, default=128)
    add("--power-iterations", type=int, default=1, help="of the method srft_power_…")
    add("--methods", nargs="+", metavar="NAME", help="measure these only")
    add("--rounds", type=int, default=3, help="of refreshes; steps are taken five times as often")
    add("--stagger-gap", type=int, default=50, metavar="STEPS", help="0: leave the staggered runs out")
    add("--device", choices=("cpu", "cuda"), default="cpu")
    add("--threads", type=int, default=torch.get_num_threads())
    add("--quick", action="store_true", help="only the smallest few matrices")
    add("--output", type=Path, metavar="FILE.json", help="all figures, of each round too")
    add("--markdown", type=Path, metavar="FILE.md")
    add("--plot", type=Path, metavar="FILE.png", help="needs matplotlib")
    options = parser.parse_args(arguments)
    for name in ("gradient_size", "rank", "power_iterations", "rounds", "threads"):
        if getattr(options, name) < 1:
            parser.error(f"--{name.replace('_', '-')}: must be at least 1, got {getattr(options, name)}")
    if options.stagger_gap < 0:
        parser.error(f"--stagger-gap: must be at least 0, got {options.stagger_gap}")
    if not (options.model / "config.json").is_file():
        parser.error(f"--model: {options.model} holds no config.json")
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: no CUDA device is available to torch")
    return options


def main(arguments: list[str] | None = None) -> int:
    """Measures, prints and writes; 1 and one line where an option cannot be followed."""
    options = parse_options(arguments)
    torch.set_num_threads(options.threads)
    try:
        figures = measure(options)
    except (ValueError, OSError) as error:
        print(f"benchmark_optimizer.py: {error}", file=sys.stderr)
        return 1
    targets = judge(figures)
    figures["targets"] = [target.as_row() for target in targets] if is_target_setting(figures) else []
    print(report(figures, targets, as_text), end="")
    if options.output:
        write_json(options.output, figures)
    if options.markdown:
        with atomic_path(options.markdown) as temporary:
            temporary.write_text(report(figures, targets, as_markdown))
    if options.plot:
        reason = why_no_plot(figures)
        if reason is None:
            save_plot(figures, options.plot)
        else:
            print(reason, file=sys.stderr)
    return 0
