"""Times the model's forward against its two encoders' own, interleaved, in one process.

    python benchmarks/forward.py --model hub_configs/models/large --repeats 5 --output FILE.json

The encoders are the model's own, called by themselves; what the model adds to them is the resize of the
depth branch's input, the projection, the fusion and the decoder.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModel

import liver_landmark  # noqa: F401 - registers the model with the Auto classes
from liver_landmark.utils.atomic_files import write_json
from shared import (
    add_output,
    add_threads,
    call_ms,
    environment,
    median_ratio,
    new_parser,
    positive_int,
)


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


def main() -> None:
    parser = new_parser(__doc__)
    parser.add_argument("--model", type=Path, default=Path("hub_configs/models/large"))
    parser.add_argument(
        "--size", type=positive_int, help="side of the square frame in px (default: the model's)"
    )
    parser.add_argument("--repeats", type=positive_int, default=5, help="default: %(default)s")
    add_threads(parser)
    add_output(parser)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)

    calls, size_px = build(options.model, options.size)
    with torch.inference_mode():
        times_ms = call_ms(calls, options.repeats)
    medians_ms = {name: statistics.median(times) for name, times in times_ms.items()}
    whole_ms = times_ms.pop("model")
    encoders_ms = [sum(times) for times in zip(*times_ms.values(), strict=True)]
    ratio = median_ratio(whole_ms, encoders_ms)
    for name, milliseconds in medians_ms.items():
        print(f"{name:<16}{milliseconds:>10.1f} ms")
    print(f"{'encoders':<16}{statistics.median(encoders_ms):>10.1f} ms")
    print(f"model / encoders {ratio:.3f}")
    if options.output:
        figures = {
            "model": str(options.model),
            "size_px": size_px,
            "repeats": options.repeats,
            **environment(),
            "median_ms": medians_ms,
            "model_over_encoders": ratio,
        }
        write_json(options.output, figures)


if __name__ == "__main__":
    main()
