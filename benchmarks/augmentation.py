"""Times the augmentation of a frame by its parts, beside the decoding of its JPEG, on one thread.

    python benchmarks/augmentation.py --repeats 30 --output FILE.json

The frame is docs/images/frame.jpg at each size, with three curves of 60 points; its label is drawn by
d2gpland. Milliseconds are of processor time: on an idle machine, the clock's. Parts are timed in rounds, so
that a slow spell of the machine affects all of them. OpenCV's warp and kornia's blur are timed beside what is
used.
"""

from __future__ import annotations

import dataclasses
import io
import itertools
import statistics
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import cv2
import kornia
import numpy as np
import torch
from PIL import Image

from liver_landmark import LiverLandmarkImageProcessor
from liver_landmark.curves import get_protocol, rasterize_landmarks
from liver_landmark.data.augmentation import (
    Augmentation,
    AugmentationConfig,
    Geometry,
    LabeledFrame,
    add_noise,
    blur,
    comes_from_frame,
    draw_blood,
    draw_clouds,
    draw_smoke,
    flip_picture,
    lay_over,
    relight,
    transform_landmarks,
    veil_size,
    warp_image,
    warp_mask,
)
from liver_landmark.model.landmarks_liver_landmark import DEFAULT_LANDMARKS
from liver_landmark.synthetic.dataset import encode_jpeg
from liver_landmark.training.recipe import parse_recipe
from liver_landmark.utils.atomic_files import write_json
from shared import add_output, call_ms, machine_name, markdown_table, new_parser, positive_int

REPOSITORY = Path(__file__).resolve().parents[1]
FRAME = REPOSITORY / "docs" / "images" / "frame.jpg"
RECIPE = REPOSITORY / "hub_configs" / "training" / "finetune.yaml"
PROTOCOL = "d2gpland"
SIZES = ((456, 256), (1920, 1080))
DECODE, EVERYTHING = "decode the JPEG", "everything on"
# The costliest frame: nothing is left to chance, but how strong it is.
ALL_ON = AugmentationConfig(
    horizontal_flip=0.5,
    vertical_flip=0.5,
    rotation=1.0,
    rotation_degrees=30,
    scale=1.0,
    crop=1.0,
    brightness=0.3,
    contrast=0.3,
    color=0.2,
    gamma=0.3,
    blur_px=3.0,
    noise=0.05,
    smoke=1.0,
    blood=1.0,
)


def build_frame(width: int, height: int) -> tuple[LabeledFrame, bytes]:
    """The frame and its JPEG."""
    with Image.open(FRAME) as picture:
        image = np.asarray(picture.convert("RGB").resize((width, height), Image.Resampling.BICUBIC))
    part = np.linspace(0.05, 0.95, 60)
    landmarks = [
        {
            "category": name,
            "points": np.stack([part * width, height * ((row + 1) / 4 + 0.05 * np.sin(9 * part))], axis=1),
        }
        for row, name in enumerate(DEFAULT_LANDMARKS.names)
    ]
    mask = rasterize_landmarks(landmarks, width, height, get_protocol(PROTOCOL))
    return LabeledFrame(image, mask, landmarks, PROTOCOL), encode_jpeg(image, "frame")["bytes"]


def kornia_blur(image: np.ndarray, sigma_px: float) -> np.ndarray:
    """kornia's Gaussian of OpenCV's kernel size, from and to 8 bits."""
    side = round(6 * sigma_px + 1) | 1
    planes = torch.tensor(image).permute(2, 0, 1).contiguous().float()[None]
    blurred = kornia.filters.gaussian_blur2d(planes, (side, side), (sigma_px, sigma_px))
    return cv2.merge(list(blurred[0].add_(0.5).to(torch.uint8).numpy()))


def build_calls(width: int, height: int) -> dict[str, Callable[[], object]]:
    """The timed calls by name."""
    frame, jpeg = build_frame(width, height)
    image, mask = frame.image, frame.mask
    matrix = Geometry(True, False, 12.0, 1.1, 0.85, 0.3, 0.6).matrix(width, height)
    flip = Geometry(flip_x=True)
    moved = transform_landmarks(frame.landmarks, matrix, width, height)
    size = veil_size(width, height)
    rng = np.random.default_rng(0)
    recipe, _ = parse_recipe([f"--config={RECIPE}", "--data.path=-", "--output_dir=-", "--model.init=-"])
    rows = itertools.count()
    sigma_px = 2.0 * height / 1080
    processor = LiverLandmarkImageProcessor()

    def occlude() -> np.ndarray:
        blood_clouds, smoke_clouds = draw_clouds(size, [rng, rng])
        return lay_over(image, [draw_blood(blood_clouds, 0.05, rng), draw_smoke(smoke_clouds, 0.5, rng)])

    def whole(config: AugmentationConfig) -> Callable[[], object]:
        augmentation = Augmentation(config, seed=0)
        return lambda: augmentation(frame, 0, next(rows))

    return {
        DECODE: lambda: np.asarray(Image.open(io.BytesIO(jpeg)).convert("RGB")),
        "flip alone: image and mask": lambda: (flip_picture(image, flip), flip_picture(mask, flip)),
        "warp the image": lambda: warp_image(image, matrix),
        "warp the mask (drawn by hand)": lambda: warp_mask(mask, matrix, 0),
        "move and clip the polylines": lambda: transform_landmarks(frame.landmarks, matrix, width, height),
        "draw the mask anew": lambda: rasterize_landmarks(moved, width, height, get_protocol(PROTOCOL)),
        "what comes from outside": lambda: comes_from_frame(matrix, width, height),
        "smoke and blood": occlude,
        "brightness, contrast, color, gamma": lambda: relight(image, np.array([1.1, 1.0, 0.9]), 1.1, 0.9),
        "blur": lambda: blur(image, 2.0),
        "noise": lambda: add_noise(image, 0.03, rng),
        EVERYTHING: whole(ALL_ON),
        "everything but geometry": whole(
            dataclasses.replace(ALL_ON, horizontal_flip=0, vertical_flip=0, rotation=0, scale=0, crop=0)
        ),
        "finetune.yaml, on average": whole(recipe.augmentation),
        "the image processor, afterward": lambda: processor(
            images=[image], segmentation_maps=[mask], return_tensors="pt"
        ),
        "beside: OpenCV's warp of the image": lambda: cv2.warpAffine(image, matrix[:2], (width, height)),
        "beside: kornia's blur": lambda: kornia_blur(image, max(sigma_px, 0.3)),
    }


def central_ms(name: str, times_ms: list[float]) -> float:
    """The median; the mean where frames differ in what is drawn for them."""
    return statistics.fmean(times_ms) if name.endswith("on average") else statistics.median(times_ms)


def table(results: dict[str, dict[str, float]]) -> str:
    """Milliseconds, and how many decodings that is, by size."""
    rows = [["", *(title for size in results for title in (f"{size}, ms", "decodings"))]]
    for name in next(iter(results.values())):
        cells = [(f"{ms[name]:.1f}", f"{ms[name] / ms[DECODE]:.2f}") for ms in results.values()]
        rows.append([name, *itertools.chain(*cells)])
    return markdown_table(rows)


def main(arguments: list[str] | None = None) -> None:
    parser = new_parser(__doc__)
    parser.add_argument("--repeats", type=positive_int, default=30, help="default: %(default)s")
    add_output(parser)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    cv2.setNumThreads(1)

    results = {}
    for width, height in SIZES:
        times_ms = call_ms(build_calls(width, height), options.repeats, time.process_time)
        results[f"{width}×{height}"] = {name: central_ms(name, times) for name, times in times_ms.items()}
    print(table(results))
    if options.output:
        figures = {
            "repeats": options.repeats,
            "machine": machine_name(),
            "versions": {
                name: version(name) for name in ("torch", "kornia", "opencv-python-headless", "numpy")
            },
            "ms": results,
        }
        write_json(options.output, figures)


if __name__ == "__main__":
    main()
