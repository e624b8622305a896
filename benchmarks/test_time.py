"""Does averaging mirrored and scaled views of a frame help? A model over test splits, with and without.

    python benchmarks/test_time.py --model outputs/quickstart/best \\
        --dataset outputs/quickstart/data/a --dataset outputs/quickstart/data/b --output FILE.json

Scores are those of `liver-landmark evaluate`, without distances. The difference to the plain forward is that
of the same frames; its standard error is over patients. Doubt: the probability that a wrong pixel is given
more of it than a right one (the area under the ROC curve, over every eighth pixel of every eighth row), for
the variance of the views and for one minus the largest mean probability.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

import datasets
import numpy as np
import torch
import torch.nn.functional as F
from scipy.stats import rankdata

from liver_landmark.data.loading import load_landmark_dataset, read_row
from liver_landmark.evaluation import DEFAULT_RESOLUTION, MaskPair, summarize_frames
from liver_landmark.evaluation.evaluate import build_metrics
from liver_landmark.evaluation.truth import check_scorable, dataset_protocol, get_scoring, truth_mask
from liver_landmark.inference.predictor import LandmarkPredictor, load_model_and_processor
from liver_landmark.inference.views import AveragedViews
from liver_landmark.model.landmarks_liver_landmark import DEFAULT_LANDMARKS, IGNORE_INDEX
from liver_landmark.model.post_processing_liver_landmark import class_map, upsample
from liver_landmark.utils.atomic_files import write_json
from shared import add_output, environment, markdown_table, new_parser, positive_int

PLAIN = "plain"
SCALES = (1.0, 0.75, 1.25)
SETTINGS: dict[str, AveragedViews | None] = {
    PLAIN: None,
    "mirrored": AveragedViews(),
    "scales 0.75, 1, 1.25": AveragedViews(flip=False, scales=SCALES),
    "mirrored and scales": AveragedViews(scales=SCALES),
}
_METRICS = ("overlap",)
_COLUMNS = ["image", "label", "landmarks", "width", "height", "frame_id", "patient_id"]
_DOUBT_STEP = 8


def score_dataset(model: Any, processor: Any, dataset: datasets.Dataset, resolution: int) -> dict[str, Any]:
    """Setting -> its metrics, ms of the forward passes, rows of frames and pairs of doubt and error.

    The settings take turns at each frame, so that a slow spell of the machine affects all of them.
    """
    scoring = get_scoring(dataset_protocol(dataset))
    predictors = {name: LandmarkPredictor(model, processor, views=views) for name, views in SETTINGS.items()}
    landmarks = model.config.landmark_table
    stored = check_scorable(dataset, scoring, landmarks)
    metrics = build_metrics(_METRICS, landmarks.names)
    found: dict[str, dict[str, list[Any]]] = {
        name: {"frames": [], "milliseconds": [], "wrong": [], "variance": [], "unlikeliness": []}
        for name in SETTINGS
    }
    rows = dataset.with_format(None).select_columns(_COLUMNS)
    for index in range(len(rows)):
        row = read_row(rows, index)
        truth = landmarks.translate(truth_mask(row, scoring.protocol, resolution, stored), stored)
        for name, predictor in predictors.items():
            [output] = predictor.forward([predictor.prepare(row["image"])])
            mask = class_map(output.logits, truth.shape, scoring.prediction_resize).numpy()
            pair = MaskPair(truth, mask, landmarks)
            frame = {"patient_id": row["patient_id"], "truth": "polylines", **pair.pixel_counts()}
            for metric in metrics.values():
                frame |= metric.score(pair)
            found[name]["frames"].append(frame)
            found[name]["milliseconds"].append(output.milliseconds)
            if output.variance is not None:
                _collect_doubt(found[name], output.logits, output.variance, truth, mask)
    for values in found.values():
        evaluation = summarize_frames(
            values["frames"], protocol=scoring.name, resolution=resolution, metric_names=_METRICS
        )
        values["metrics"] = evaluation.metrics
    return found


def _collect_doubt(
    values: dict[str, list[Any]],
    logits: torch.Tensor,
    variance: torch.Tensor,
    truth: np.ndarray,
    mask: np.ndarray,
) -> None:
    """Adds the frame's pixels: whether they are wrong, and the two measures of doubt."""
    part = (slice(None, None, _DOUBT_STEP), slice(None, None, _DOUBT_STEP))
    counted = truth[part] != IGNORE_INDEX
    likeliest = upsample(logits, truth.shape)[(slice(None), *part)].softmax(dim=0).amax(dim=0).numpy()
    spread = F.interpolate(variance[None, None], truth.shape, mode="bilinear")[0, 0].numpy()
    values["wrong"].append((truth != mask)[part][counted])
    values["variance"].append(spread[part][counted])
    values["unlikeliness"].append((1 - likeliest)[counted])


def area_under_roc(doubt: np.ndarray, wrong: np.ndarray) -> float:
    """The probability that a wrong pixel has more doubt than a right one, ties counted half."""
    positives = int(wrong.sum())
    ranks = rankdata(doubt)
    return float(
        (ranks[wrong].sum() - positives * (positives + 1) / 2) / (positives * (len(wrong) - positives))
    )


def summarize(found: dict[str, Any]) -> dict[str, dict[str, float | None]]:
    """Setting -> the figures of its line in the table."""
    lines = {}
    plain = found[PLAIN]["frames"]
    for name, values in found.items():
        metrics = values["metrics"]
        line: dict[str, float | None] = {"dsc": metrics["dsc"]}
        if name != PLAIN:
            by_patient: dict[str, list[float]] = {}
            for frame, reference in zip(values["frames"], plain, strict=True):
                by_patient.setdefault(frame["patient_id"], []).append(frame["dsc"] - reference["dsc"])
            means = [statistics.fmean(differences) for differences in by_patient.values()]
            line["difference"] = metrics["dsc"] - found[PLAIN]["metrics"]["dsc"]
            line["standard_error"] = statistics.stdev(means) / len(means) ** 0.5 if len(means) > 1 else None
        line |= {
            f"dsc_{landmark}": metrics["per_class"][landmark]["dsc"] for landmark in DEFAULT_LANDMARKS.names
        }
        line["forward_ms"] = statistics.median(values["milliseconds"])
        if values["wrong"]:
            wrong = np.concatenate(values["wrong"])
            for doubt in ("variance", "unlikeliness"):
                line[f"roc_{doubt}"] = area_under_roc(np.concatenate(values[doubt]), wrong)
        lines[name] = line
    return lines


def format_table(lines: dict[str, dict[str, float | None]]) -> str:
    """The figures as a Markdown table."""
    titles = ["", "pooled DSC", "difference", *(f"{name} DSC" for name in DEFAULT_LANDMARKS.names)]
    rows = [[*titles, "forward, ms", "ROC: variance", "ROC: 1 - probability"]]
    for name, line in lines.items():
        difference = ""
        if name != PLAIN:
            difference = f"{line['difference']:+.4f}"
            if line["standard_error"] is not None:
                difference += f" ± {line['standard_error']:.4f}"
        cells = [name, f"{line['dsc']:.4f}", difference]
        for landmark in DEFAULT_LANDMARKS.names:
            value = line[f"dsc_{landmark}"]
            cells.append("" if value is None else f"{value:.3f}")
        cells.append(f"{line['forward_ms']:.0f}")
        cells += [f"{line[key]:.3f}" if key in line else "" for key in ("roc_variance", "roc_unlikeliness")]
        rows.append(cells)
    return markdown_table(rows)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = new_parser(__doc__)
    parser.add_argument("--model", required=True, help="folder of a trained model, or a Hub id")
    parser.add_argument("--dataset", required=True, action="append", help="may be given several times")
    parser.add_argument("--split", default="test")
    parser.add_argument("--max-frames", type=positive_int, help="the first frames of the split only")
    parser.add_argument("--resolution", type=positive_int, default=DEFAULT_RESOLUTION)
    add_output(parser)
    options = parser.parse_args(arguments)
    model, processor = load_model_and_processor(options.model)
    figures: dict[str, Any] = {**environment(), "datasets": {}}
    for name in options.dataset:
        dataset = load_landmark_dataset(name, split=options.split)
        if options.max_frames is not None:
            dataset = dataset.select(range(min(options.max_frames, len(dataset))))
        lines = summarize(score_dataset(model, processor, dataset, options.resolution))
        patients = len(dataset.unique("patient_id"))
        figures["datasets"][name] = {"frames": len(dataset), "patients": patients, "settings": lines}
        print(f"{name}, {options.split}: {len(dataset)} frames of {patients} patients\n")
        print(format_table(lines) + "\n")
    if options.output is not None:
        write_json(options.output, figures)


if __name__ == "__main__":
    main()
