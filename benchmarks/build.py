"""How long an L3D-shaped set takes to build, and in how much memory; against decoding its frames alone.

python benchmarks/build.py --frames 1152 --output outputs/build_benchmark
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np

from liver_landmark.data.readers.l3d import published_split
from liver_landmark.model.landmarks_liver_landmark import DEFAULT_LANDMARKS
from liver_landmark.utils.frame_files import read_frame
from shared import HEIGHT, MIB, WIDTH, new_parser, positive_int, process_mib

FRAMES_PER_PATIENT = 30
SPLIT_FOLDERS = {"test": "Test", "validation": "Val", "train": "Train"}
BUILD_SCRIPT = Path(__file__).resolve().parents[1] / "scripts" / "build_dataset.py"


def write_raw_set(raw: Path, frames: int, width: int, height: int, depth: bool, seed: int) -> None:
    """An L3D-shaped set: JPEG frames that compress as laparoscopic ones do, and labelme JSON beside them."""
    rng = np.random.default_rng(seed)
    # Patients of every split among the first ones.
    patients = [18, 21, *(number for number in range(1, 63) if number not in (18, 21))]
    textures = [_texture(rng, width, height) for _ in range(8)]
    draws = rng.integers(0, 2**31, frames)

    def write(index: int) -> None:
        patient = patients[index // FRAMES_PER_PATIENT]
        folder = raw / SPLIT_FOLDERS[published_split(patient)]
        stem = f"Patient_{patient}_{index:05d}"
        frame_rng = np.random.default_rng(draws[index])
        shift = frame_rng.integers(0, min(width, height), 2)
        frame = np.roll(textures[index % len(textures)], shift, axis=(0, 1))
        cv2.imwrite(str(folder / "images" / f"{stem}.jpg"), frame, [cv2.IMWRITE_JPEG_QUALITY, 90])
        (folder / "labels" / f"{stem}.json").write_text(
            json.dumps(_label(frame_rng, stem, width, height)), encoding="utf-8"
        )
        if depth:
            values = cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY).astype(np.uint16) * 257
            cv2.imwrite(str(folder / "depth_AdelaiDepth" / f"{stem}.png"), values)

    for name in SPLIT_FOLDERS.values():
        for part in ("images", "labels", *(["depth_AdelaiDepth"] if depth else [])):
            (raw / name / part).mkdir(parents=True)
    with ThreadPoolExecutor() as pool:
        list(pool.map(write, range(frames)))


def _texture(rng: np.random.Generator, width: int, height: int) -> np.ndarray:
    """(H, W, 3) uint8: soft blobs of several sizes and a little noise."""
    picture = np.zeros((height, width, 3), np.float32)
    for cells in (4, 16, 64, 256):
        coarse = rng.normal(0, 40 / np.sqrt(cells / 4), (cells, cells, 3)).astype(np.float32)
        picture += cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.clip(picture + 110 + rng.normal(0, 4, picture.shape), 0, 255).astype(np.uint8)


def _label(rng: np.random.Generator, stem: str, width: int, height: int) -> dict[str, object]:
    shapes = []
    for place, name in enumerate(DEFAULT_LANDMARKS.names):
        x = np.linspace(0.1, 0.9, 60) * width
        y = (0.25 + 0.25 * place) * height + np.cumsum(rng.normal(0, 4, 60))
        points = np.stack([x, y.clip(0, height - 1)], axis=-1).tolist()
        shapes.append({"label": name, "points": points, "shape_type": "linestrip"})
    return {"shapes": shapes, "imagePath": f"{stem}.jpg", "imageHeight": height, "imageWidth": width}


def decode_all(raw: Path, workers: int) -> float:
    """Seconds that reading and decoding all frames alone take: what no build can go below."""
    files = sorted(raw.glob("*/images/*.jpg"))
    read_frame(files[0])
    start = time.perf_counter()
    with ThreadPoolExecutor(workers) as pool:
        # The frames themselves are not kept.
        sum(pool.map(lambda file: read_frame(file).size, files))
    return time.perf_counter() - start


def build(raw: Path, output: Path, workers: int) -> tuple[float, float]:
    """Builds the set in a process of its own; its seconds, start included, and its peak memory in MiB."""
    command = [sys.executable, str(BUILD_SCRIPT), "l3d", str(raw), "--output", str(output), "--overwrite"]
    start, peak_mib = time.perf_counter(), 0.0
    process = subprocess.Popen([*command, "--workers", str(workers)])
    while process.poll() is None:
        # Not getrusage: to Linux, a child's peak includes the process that it was forked from.
        peak_mib = max(peak_mib, process_mib(process.pid, "VmHWM") or 0.0)
        time.sleep(0.02)
    seconds = time.perf_counter() - start
    if process.returncode:
        raise SystemExit(process.returncode)
    return seconds, peak_mib


def main(arguments: list[str] | None = None) -> int:
    """Writes a raw set, builds it, and prints what that took as JSON."""
    parser = new_parser(__doc__)
    parser.add_argument(
        "--frames", type=positive_int, default=1152, help="at most 1860 (default: %(default)s)"
    )
    parser.add_argument("--width", type=positive_int, default=WIDTH, help="px (default: %(default)s)")
    parser.add_argument("--height", type=positive_int, default=HEIGHT, help="px (default: %(default)s)")
    parser.add_argument("--depth", action="store_true", help="with 16-bit depth maps")
    parser.add_argument(
        "--workers", type=positive_int, default=os.cpu_count() or 1, help="threads (default: cores)"
    )
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="new folder to work in")
    options = parser.parse_args(arguments)
    if options.output.exists():
        parser.error(f"{options.output} exists: give a new folder")
    if not 61 <= options.frames <= 62 * FRAMES_PER_PATIENT:
        parser.error("--frames: 61 to 1860, so that every split has some")
    raw, built = options.output / "raw", options.output / "built"
    write_raw_set(raw, options.frames, options.width, options.height, options.depth, options.seed)
    floor_s = decode_all(raw, options.workers)
    build_s, peak_mib = build(raw, built, options.workers)
    size = sum(file.stat().st_size for file in built.rglob("*") if file.is_file())
    input_size = sum(file.stat().st_size for file in raw.rglob("*") if file.is_file())
    result = {
        "frames": options.frames,
        "workers": options.workers,
        "build_s": round(build_s, 2),
        "decoding_alone_s": round(floor_s, 3),
        "ratio": round(build_s / floor_s, 2),
        "peak_mib": round(peak_mib),
        "input_mib": round(input_size / MIB),
        "output_mib": round(size / MIB),
    }
    print(json.dumps(result, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
