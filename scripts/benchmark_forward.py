"""Times the model's forward against its two encoders' own, interleaved, in one process.

    python scripts/benchmark_forward.py --model hub_configs/models/large --repeats 5 --output FILE.json

The encoders are the model's own, called by themselves; what the model adds to them is the resize of the
depth branch's input, the projection, the fusion and the decoder.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModel

import liver_landmark  # noqa: F401 - registers the model with the Auto classes


def build(folder: Path, size_px: int | None) -> tuple[dict[str, Callable[[], object]], int]:
    """The timed calls by name, and the side of the frame in px."""
    config = AutoConfig.from_pretrained(folder)
    size_px = size_px or config.image_size
    torch.manual_seed(0)
    model = AutoModel.from_config(config).eval()
    frame = torch.randn(1, 3, size_px, size_px)
    calls: dict[str, Callable[[], object]] = {"model": lambda: model(frame)}
    vision = model.vision_branch.encoder
    calls["vision_encoder"] = lambda: vision(frame)
    if config.use_depth:
        depth = model.depth_branch.encoder
        depth_frame = torch.randn(1, 3, *model.depth_branch.input_size(size_px, size_px))
        calls["depth_encoder"] = lambda: depth(depth_frame)
    return calls, size_px


def measure(calls: dict[str, Callable[[], object]], repeats: int) -> dict[str, list[float]]:
    """Milliseconds of each call, in rounds, so that a slow spell of the machine meets all of them."""
    times_ms: dict[str, list[float]] = {name: [] for name in calls}
    with torch.inference_mode():
        for turn in range(repeats + 1):
            for name, call in calls.items():
                start = time.perf_counter()
                call()
                if turn:  # the first round warms caches and allocators up
                    times_ms[name].append((time.perf_counter() - start) * 1000)
    return times_ms


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=Path("hub_configs/models/large"))
    parser.add_argument("--size", type=int, help="side of the square frame in px (default: the model's)")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--output", type=Path, help="also write the figures to this JSON file")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)

    calls, size_px = build(options.model, options.size)
    times_ms = measure(calls, options.repeats)
    medians_ms = {name: statistics.median(times) for name, times in times_ms.items()}
    encoders_ms = [
        sum(times) for times in zip(*(t for n, t in times_ms.items() if n != "model"), strict=True)
    ]
    # The ratio of each round, then the median: rounds differ more than calls within one.
    ratio = statistics.median(
        whole / encoders for whole, encoders in zip(times_ms["model"], encoders_ms, strict=True)
    )
    for name, milliseconds in medians_ms.items():
        print(f"{name:<16}{milliseconds:>10.1f} ms")
    print(f"{'encoders':<16}{statistics.median(encoders_ms):>10.1f} ms")
    print(f"model / encoders {ratio:.3f}")
    if options.output:
        figures = {
            "model": str(options.model),
            "size_px": size_px,
            "threads": options.threads,
            "repeats": options.repeats,
            "machine": platform.processor() or platform.machine(),
            "torch": torch.__version__,
            "median_ms": medians_ms,
            "model_over_encoders": ratio,
        }
        options.output.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
