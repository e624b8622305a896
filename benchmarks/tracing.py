"""How near traced curves come to those that the strokes were drawn along, on synthetic frames, and how fast.

    python benchmarks/tracing.py --frames 200 --output outputs/tracing.json
    OMP_NUM_THREADS=1 python benchmarks/tracing.py --speed --frames 30

Landmarks of unshaded synthetic frames are enlarged to 1920x1080, drawn by a protocol and traced again. Frames
whose strokes touch each other or themselves are counted apart: a mask does not say everything there. Beside
it stands plain thinning (scikit-image's skeleton of each class, its pixels as they are).

`--speed` measures processor time instead, of one thread: tracing and overlays of 1920x1080 frames, of masks
as drawn and as a model gives them (64x64 logits made from them, enlarged), beside plain thinning and a blend
of the whole frame in floating point on the same machine.
"""

from __future__ import annotations

import itertools
import json
import time
from collections import defaultdict
from collections.abc import Callable, Iterator

import cv2
import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.spatial import cKDTree
from skimage.morphology import skeletonize

from liver_landmark.curves import Protocol, get_protocol, rasterize_landmarks, trace_polylines
from liver_landmark.inference import draw_overlay
from liver_landmark.model.landmarks_liver_landmark import DEFAULT_LANDMARKS
from liver_landmark.synthetic import build_patient, frame_landmarks, get_domain
from liver_landmark.utils.atomic_files import write_json
from shared import (
    ENLARGED,
    HEIGHT,
    WIDTH,
    add_output,
    enlarged,
    machine_name,
    new_parser,
    positive_int,
    seconds_of,
)

FRAMES_PER_PATIENT = 14


def synthetic_frames(seed: int) -> Iterator[tuple[str, list[dict]]]:
    """(frame id, landmarks in px of 1920x1080) without an end, of both domains in turn."""
    number = 0
    while True:
        for name in ("a", "b"):
            patient = build_patient(get_domain(name), seed, number)
            for frame in range(FRAMES_PER_PATIENT):
                small = frame_landmarks(patient, frame, WIDTH // ENLARGED, HEIGHT // ENLARGED)
                yield f"{patient.patient_id}-{frame:04d}", enlarged(small)
        number += 1


def strokes_touch(landmarks: list[dict], stroke_px: float) -> bool:
    """Whether two strokes share a pixel or have less than two px between them, or one lies on itself."""
    covered = np.zeros((HEIGHT, WIDTH), np.uint8)
    for mark in landmarks:
        if lies_on_itself(mark["points"], stroke_px):
            return True
        stroke = np.zeros_like(covered)
        cv2.polylines(stroke, [np.asarray(mark["points"]).astype(np.int32)], False, 1, round(stroke_px) + 4)
        if (covered & stroke).any():
            return True
        covered |= stroke
    return False


def lies_on_itself(points: np.ndarray, stroke_px: float) -> bool:
    """Whether a curve comes back to within its stroke's width, more than two widths further along."""
    points = densely(points)[::3]
    pairs = cKDTree(points).query_pairs(stroke_px, output_type="ndarray")
    return bool((3 * np.abs(pairs[:, 0] - pairs[:, 1]) > 2 * stroke_px).any())


def densely(points: np.ndarray) -> np.ndarray:
    """(N, 2) points of a polyline, one a px."""
    points = np.asarray(points, dtype=np.float64)
    along = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(points, axis=0).T))])
    at = np.linspace(0.0, along[-1], max(2, round(along[-1])))
    return np.stack([np.interp(at, along, points[:, axis]) for axis in (0, 1)], axis=1)


def compare(truth: list[np.ndarray], traced: list[np.ndarray]) -> dict[str, list[float]]:
    """Distances in px between the curves of one class in one frame.

    `to_truth` and `to_traced` from every px of the one side to the nearest of the other; `ends` between the
    ends of curves that belong together (those of least mean distance), in the direction that fits better;
    `backward` the share of a traced curve along which it runs against its truth.
    """
    dense_truth, dense_traced = [densely(curve) for curve in truth], [densely(curve) for curve in traced]
    distances: dict[str, list[float]] = {
        "to_truth": cKDTree(np.vstack(dense_truth)).query(np.vstack(dense_traced))[0].tolist(),
        "to_traced": cKDTree(np.vstack(dense_traced)).query(np.vstack(dense_truth))[0].tolist(),
        "ends": [],
        "backward": [],
    }
    cost = np.array([[cKDTree(t).query(p)[0].mean() for p in dense_traced] for t in dense_truth])
    for row, column in zip(*linear_sum_assignment(cost), strict=True):
        a, b = dense_truth[row], dense_traced[column]
        both = [[np.hypot(*(a[0] - b[i])), np.hypot(*(a[-1] - b[j]))] for i, j in ((0, -1), (-1, 0))]
        distances["ends"] += min(both, key=max)
        steps = np.diff(cKDTree(a).query(b)[1])
        forward, back = (steps > 0).sum(), (steps < 0).sum()
        distances["backward"].append(float(min(forward, back) / max(forward + back, 1)))
    return distances


def thinned_classes(mask: np.ndarray) -> dict[str, np.ndarray]:
    """(N, 2) px of each class's skeleton as scikit-image gives it."""
    return {
        name: np.argwhere(skeletonize(mask == DEFAULT_LANDMARKS.label2id[name]))[:, ::-1]
        for name in DEFAULT_LANDMARKS.names
    }


def measure(frames: list[tuple[str, list[dict]]], protocol: Protocol) -> dict[str, object]:
    """Traces the frames; what came out, over all of their curves."""
    pooled: dict[str, list[float]] = {"to_truth": [], "to_traced": [], "ends": [], "backward": []}
    thinned_hausdorff, hausdorff, wrong_counts = [], [], []
    tracing_ms, thinning_ms = [], []
    curves = 0
    for frame_id, landmarks in frames:
        mask = rasterize_landmarks(landmarks, WIDTH, HEIGHT, protocol)
        start = time.perf_counter()
        traced = trace_polylines(mask)
        tracing_ms.append((time.perf_counter() - start) * 1e3)
        start = time.perf_counter()
        thinned = thinned_classes(mask)
        thinning_ms.append((time.perf_counter() - start) * 1e3)
        for name in DEFAULT_LANDMARKS.names:
            true = [np.asarray(mark["points"]) for mark in landmarks if mark["category"] == name]
            found = [curve.points for curve in traced if curve.category == name]
            curves += len(true)
            if len(true) != len(found):
                wrong_counts.append(f"{frame_id} {name}: {len(found)} for {len(true)}")
            if not true or not found:
                continue
            distances = compare(true, found)
            for key, values in distances.items():
                pooled[key] += values
            hausdorff.append(max(*distances["to_truth"], *distances["to_traced"]))
            dense = np.vstack([densely(curve) for curve in true])
            there, back = cKDTree(dense).query(thinned[name])[0], cKDTree(thinned[name]).query(dense)[0]
            thinned_hausdorff.append(max(there.max(), back.max()))
    return {
        "frames": len(frames),
        "curves": curves,
        "classes_with_another_number_of_curves": wrong_counts,
        "traced_to_truth_px": _spread(pooled["to_truth"]),
        "truth_to_traced_px": _spread(pooled["to_traced"]),
        "ends_px": _spread(pooled["ends"]),
        "curves_out_of_order": int(sum(share > 0.02 for share in pooled["backward"])),
        "hausdorff_px": _spread(hausdorff),
        "plain_thinning_hausdorff_px": _spread(thinned_hausdorff),
        "tracing_ms": round(float(np.median(tracing_ms)), 1),
        "plain_thinning_ms": round(float(np.median(thinning_ms)), 1),
    }


def _spread(values: list[float]) -> dict[str, float]:
    found = {"mean": np.mean(values), "p95": np.percentile(values, 95), "max": np.max(values)}
    return {name: round(float(value), 3) for name, value in found.items()}


def run(count: int, protocol: Protocol, seed: int) -> dict[str, object]:
    """`count` frames whose strokes lie apart, and as many whose strokes touch, as they come."""
    stroke_px = protocol.stroke_width_px(WIDTH, HEIGHT)
    apart: list[tuple[str, list[dict]]] = []
    touching: list[tuple[str, list[dict]]] = []
    for frame_id, landmarks in synthetic_frames(seed):
        if not landmarks:
            continue
        group = touching if strokes_touch(landmarks, stroke_px) else apart
        if len(group) < count:
            group.append((frame_id, landmarks))
        if len(apart) == len(touching) == count:
            break
    return {
        "size": f"{WIDTH}x{HEIGHT}",
        "protocol": protocol.name,
        "stroke_px": stroke_px,
        "seed": seed,
        "machine": machine_name(),
        "strokes_apart": measure(apart, protocol),
        "strokes_touching": measure(touching, protocol),
    }


def as_predicted(mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A class map from 64x64 logits, as a small model gives it: blurred, a little noisy, enlarged."""
    logits = np.stack([mask == class_id for class_id in range(DEFAULT_LANDMARKS.num_classes)]).astype(
        np.float32
    )
    small = np.stack([cv2.resize(plane, (64, 64), interpolation=cv2.INTER_AREA) for plane in logits])
    small[0] -= 0.25  # thin strokes cover less than half of most blocks
    small += rng.normal(0, 0.05, small.shape).astype(np.float32)
    large = [cv2.resize(plane, (WIDTH, HEIGHT), interpolation=cv2.INTER_LINEAR) for plane in small]
    return np.argmax(large, axis=0).astype(np.uint8)


def blended(frame: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The plain way to lay colors over a frame: every pixel of it, in floating point."""
    share = np.where((mask > 0) & (mask < DEFAULT_LANDMARKS.num_classes), 0.4, 0.0)[..., None]
    return np.rint((1 - share) * frame + share * DEFAULT_LANDMARKS.palette[mask]).astype(np.uint8)


def cpu_ms(work: Callable[[], object], repeats: int = 5) -> float:
    """Least processor time of a few calls: other work on the machine can only add to it."""
    return 1000 * min(seconds_of(work, clock=time.process_time) for _ in range(repeats))


def run_speed(count: int, protocol: Protocol, seed: int) -> dict[str, object]:
    """Median processor times over `count` frames, milliseconds, one thread."""
    cv2.setNumThreads(1)
    rng = np.random.default_rng(seed)
    frame = rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    spent: dict[str, dict[str, list[float]]] = {kind: defaultdict(list) for kind in ("drawn", "as_predicted")}
    for _, landmarks in itertools.islice((item for item in synthetic_frames(seed) if item[1]), count):
        drawn = rasterize_landmarks(landmarks, WIDTH, HEIGHT, protocol)
        for kind, mask in (("drawn", drawn), ("as_predicted", as_predicted(drawn, rng))):
            curves = trace_polylines(mask)
            works = {
                "tracing": lambda mask=mask: trace_polylines(mask),
                "plain_thinning": lambda mask=mask: [
                    skeletonize(mask == DEFAULT_LANDMARKS.label2id[name]) for name in DEFAULT_LANDMARKS.names
                ],
                "overlay": lambda mask=mask: draw_overlay(frame, mask),
                "overlay_with_curves": lambda mask=mask, curves=curves: draw_overlay(
                    frame, mask, curves=curves
                ),
                "plain_blend": lambda mask=mask: blended(frame, mask),
            }
            for name, work in works.items():
                spent[kind][name + "_ms"].append(cpu_ms(work, 2 if name.startswith("plain") else 5))
            spent[kind]["curves"].append(len(curves))
    return {
        kind: {name: round(float(np.median(values)), 1) for name, values in measured.items()}
        | {
            "thinning_to_tracing": round(
                float(np.median(measured["plain_thinning_ms"]) / np.median(measured["tracing_ms"])), 1
            ),
            "blend_to_overlay": round(
                float(np.median(measured["plain_blend_ms"]) / np.median(measured["overlay_ms"])), 1
            ),
        }
        for kind, measured in spent.items()
    } | {"frames": count, "size": f"{WIDTH}x{HEIGHT}", "machine": machine_name()}


def main() -> None:
    parser = new_parser(__doc__)
    parser.add_argument(
        "--frames", type=positive_int, default=200, help="of each kind (default: %(default)s)"
    )
    parser.add_argument("--protocol", default="d2gpland", help="how strokes are drawn (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--speed", action="store_true", help="measure processor time, not distances")
    add_output(parser)
    options = parser.parse_args()
    measured = run_speed if options.speed else run
    figures = measured(options.frames, get_protocol(options.protocol), options.seed)
    print(json.dumps(figures, indent=2))
    if options.output:
        write_json(options.output, figures)


if __name__ == "__main__":
    main()
