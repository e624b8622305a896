"""Calibration of presence: evidence to probabilities to an answer, and how far they can be believed.

A class's probability is a logistic function of the logit of its evidence (Platt scaling). Two things keep it
sensible where frames without a landmark are few: the targets are Platt's, (shown + 1) / (shown + 2) and
1 / (absent + 2) instead of 1 and 0, and the slope has a normal prior of mean 1 and deviation 0.3, that is,
the evidence is believed to begin with. The slope is never negative: more evidence never means less.

Source: Platt, Probabilistic outputs for support vector machines and comparisons to regularized likelihood
methods, 1999.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from scipy.optimize import minimize
from scipy.special import expit
from torch import nn
from tqdm.auto import tqdm

from ..data.loading import read_row
from ..model.landmarks_liver_landmark import DEFAULT_LANDMARKS, LandmarkTable
from ..model.presence_liver_landmark import (
    PRESENCE_FEATURES,
    absent_suppressed,
    check_presence_calibration,
    presence_features,
)
from ..utils.atomic_files import atomic_path
from .evaluate import DEFAULT_RESOLUTION
from .truth import check_scorable, dataset_protocol, get_scoring, truth_mask

_COLUMNS = ["image", "label", "landmarks", "width", "height", "frame_id", "patient_id"]


@dataclass(frozen=True)
class PresenceFrames:
    """One row a frame, one column a landmark.

    Attributes:
        features: (N, K, F) float64, `presence_features` of the logits.
        drawn: (N, K) bool, whether the landmark is the likeliest class somewhere.
        shown: (N, K) bool, whether the truth has a pixel of it or more at the scored size.
        patients: (N,) str.
        protocol: By which the truth was drawn.
        names: The K landmarks, in the order of the model's ids.
    """

    features: np.ndarray
    drawn: np.ndarray
    shown: np.ndarray
    patients: np.ndarray
    protocol: str
    names: tuple[str, ...] = DEFAULT_LANDMARKS.names

    def __post_init__(self) -> None:
        shape = (len(self.patients), len(self.names))
        if self.features.shape != (*shape, len(PRESENCE_FEATURES)) or not np.isfinite(self.features).all():
            raise ValueError(f"features must be {(*shape, len(PRESENCE_FEATURES))} finite numbers")
        for name, values in (("drawn", self.drawn), ("shown", self.shown)):
            if values.shape != shape or values.dtype != bool:
                raise ValueError(f"{name} must be {shape} bool, got {values.shape} {values.dtype}")

    def __len__(self) -> int:
        return len(self.patients)

    def select(self, rows: np.ndarray) -> PresenceFrames:
        """Some of the frames, by index or by a mask."""
        return replace(
            self,
            features=self.features[rows],
            drawn=self.drawn[rows],
            shown=self.shown[rows],
            patients=self.patients[rows],
        )


def collect_presence(
    model: nn.Module,
    processor: Any,
    dataset: datasets.Dataset,
    *,
    protocol: str | None = None,
    batch_size: int = 8,
    progress: bool = False,
) -> PresenceFrames:
    """Runs a model over a dataset.

    Args:
        model: In evaluation mode; gives `.logits` (B, C, h, w) for `pixel_values`, whose channels
            `config.landmark_table` names.
        processor: The model's image processor.
        dataset: Rows of the schema.
        protocol: By which the truth is drawn; None: the one that the dataset's `protocol` column names.
        batch_size: Frames in one forward pass.
        progress: Show a progress bar.

    Raises:
        ValueError: an empty dataset, a protocol that is unknown or not one, a frame that cannot be read, a
            landmark of the model that the dataset does not have, or a model in training mode.
    """
    if model.training:
        raise ValueError("the model is in training mode: call eval() first")
    if len(dataset) == 0:
        raise ValueError("the dataset has no frames")
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    scoring = get_scoring(protocol or dataset_protocol(dataset))
    landmarks: LandmarkTable = model.config.landmark_table
    stored = check_scorable(dataset, scoring, landmarks)
    rows = dataset.with_format(None).select_columns(_COLUMNS)
    parameter = next(model.parameters())
    features, drawn, shown, patients = [], [], [], []
    with tqdm(total=len(rows), unit="frame", disable=not progress) as bar:
        for start in range(0, len(rows), batch_size):
            batch = [read_row(rows, index) for index in range(start, min(start + batch_size, len(rows)))]
            inputs = processor(images=[row["image"] for row in batch], return_tensors="pt")
            with torch.inference_mode():
                pixel_values = inputs["pixel_values"].to(parameter.device, parameter.dtype)
                logits = model(pixel_values=pixel_values).logits.float()
                features.append(presence_features(logits).double().cpu().numpy())
                drawn.append(absent_suppressed(logits, None, landmarks.names)[2].cpu().numpy())
            for row in batch:
                try:
                    truth = truth_mask(row, scoring.protocol, DEFAULT_RESOLUTION, stored)
                except ValueError as error:
                    raise ValueError(f"frame {row['frame_id']}: {error}") from error
                shown.append([bool((truth == stored.label2id[name]).any()) for name in landmarks.names])
                patients.append(row["patient_id"])
            bar.update(len(batch))
    return PresenceFrames(
        np.concatenate(features),
        np.concatenate(drawn),
        np.array(shown),
        np.array(patients),
        scoring.name,
        landmarks.names,
    )


# Calibration of presence: from evidence to probabilities, and to an answer.

# With fewer frames of either kind, the best threshold would be that of a few frames.
MIN_FRAMES_FOR_THRESHOLD = 20
_PRIOR_SLOPE = 1.0
# On synthetic frames of 6 patients this gives better probabilities for others than 1 does, on 28 the same.
_PRIOR_PRECISION = 10.0
_FOLDS = 10


def fit_platt(features: np.ndarray, shown: np.ndarray) -> tuple[np.ndarray, float]:
    """Weights and bias of one class's logistic regression.

    Args:
        features: (N, F) floats.
        shown: (N,) bool.

    Returns:
        (F,) weights of at least 0, and the bias.

    Raises:
        ValueError: no frames.
    """
    if len(shown) == 0:
        raise ValueError("there are no frames to calibrate on")
    count_shown, count_absent = int(shown.sum()), int((~shown).sum())
    targets = np.where(shown, (count_shown + 1) / (count_shown + 2), 1 / (count_absent + 2))

    def loss(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        weights, bias = parameters[:-1], parameters[-1]
        logits = features @ weights + bias
        excess = weights - _PRIOR_SLOPE
        value = (np.logaddexp(0, logits) - targets * logits).sum() + _PRIOR_PRECISION / 2 * excess @ excess
        residual = expit(logits) - targets
        return value, np.append(features.T @ residual + _PRIOR_PRECISION * excess, residual.sum())

    count = features.shape[1]
    start = np.append(np.full(count, _PRIOR_SLOPE), 0.0)
    bounds = [(0.0, None)] * count + [(None, None)]
    # Convex; from the identity it is a matter of some ten steps.
    found = minimize(loss, start, jac=True, bounds=bounds, method="L-BFGS-B", options={"ftol": 1e-13})
    return found.x[:-1], float(found.x[-1])


def choose_threshold(probability: np.ndarray, shown: np.ndarray, drawn: np.ndarray) -> tuple[float, str]:
    """The threshold of one class, and why.

    Args:
        probability: (N,) calibrated.
        shown: (N,) bool, the truth.
        drawn: (N,) bool: a landmark that is the likeliest class nowhere is absent whatever its probability.

    Returns:
        The threshold that answers right in most frames, midway between two probabilities or 0, the one
        nearest to 0.5 of equals. With fewer than 20 frames of either kind 0.5, which is that of an exact
        probability; without any of one kind 0, so that nothing is ever left out on no evidence.
    """
    fewest = min(int(shown.sum()), int((~shown).sum()))
    if fewest == 0:
        kind = "absent from no frame" if shown.all() else "shown in no frame"
        return 0.0, f"{kind}: never left out"
    if fewest < MIN_FRAMES_FOR_THRESHOLD:
        kind = "absent from" if int((~shown).sum()) == fewest else "shown in"
        return 0.5, f"{kind} {fewest} frames only: 0.5"
    levels = np.unique(probability)
    candidates = np.append(0.0, (levels[:-1] + levels[1:]) / 2)
    answers = (probability[None] >= candidates[:, None]) & drawn
    right = (answers == shown).sum(axis=1)
    best = candidates[right == right.max()]
    return float(best[np.argmin(abs(best - 0.5))]), "right in most frames"


def fit_calibration(
    frames: PresenceFrames, source: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, str]]:
    """A calibration as the model's configuration holds it, and why each class's threshold is what it is.

    Args:
        frames: Of a split that the model was not trained on.
        source: What it is fitted on, for the configuration: JSON.
    """
    classes, reasons = {}, {}
    for column, name in enumerate(frames.names):
        features, shown = frames.features[:, column], frames.shown[:, column]
        weights, bias = fit_platt(features, shown)
        probability = expit(features @ weights + bias)
        threshold, reasons[name] = choose_threshold(probability, shown, frames.drawn[:, column])
        classes[name] = {"weights": weights.tolist(), "bias": bias, "threshold": threshold}
    calibration = {"features": list(PRESENCE_FEATURES), "classes": classes, "source": dict(source)}
    return check_presence_calibration(calibration, frames.names), reasons


def apply_calibration(
    frames: PresenceFrames, calibration: Mapping[str, Any] | None
) -> tuple[np.ndarray, np.ndarray]:
    """(N, K) probabilities and (N, K) bool answers, as `absent_suppressed` gives them for the logits."""
    if calibration is None:
        return expit(frames.features[..., 0]), frames.drawn
    classes = [calibration["classes"][name] for name in frames.names]
    weights = np.array([fields["weights"] for fields in classes])
    bias = np.array([fields["bias"] for fields in classes])
    probability = expit((frames.features * weights).sum(axis=2) + bias)
    thresholds = np.array([fields["threshold"] for fields in classes])
    return probability, (probability >= thresholds) & frames.drawn


def cross_validate(frames: PresenceFrames) -> tuple[np.ndarray, np.ndarray] | None:
    """As `apply_calibration`, each patient's frames by a calibration that was fitted without them.

    Ten folds of patients, or as many as there are patients; None where there is one patient only.
    """
    patients = np.unique(frames.patients)
    if len(patients) < 2:
        return None
    probability = np.empty(frames.shown.shape)
    answers = np.empty(frames.shown.shape, dtype=bool)
    folds = min(_FOLDS, len(patients))
    for fold in range(folds):
        left_out = np.isin(frames.patients, patients[fold::folds])
        calibration, _ = fit_calibration(frames.select(~left_out), {})
        probability[left_out], answers[left_out] = apply_calibration(frames.select(left_out), calibration)
    return probability, answers


# How far presence probabilities can be believed: calibration error, Brier score, answers, a plot.

BINS = 10
# What figures are given for; DEFINITIONS says what each is.
KINDS = ("uncalibrated", "calibrated", "cross_validated")

DEFINITIONS: Mapping[str, str] = {
    "ece": (
        f"expected calibration error: frames in {BINS} bins of equal width by their probability; the mean "
        "over bins, weighted by their frames, of |share of frames that show it - mean probability|; "
        "pooled: over all pairs of frame and landmark"
    ),
    "brier": "mean of (probability - 1 where the landmark is shown, 0 where not)²",
    "accuracy": "share of frames in which the answer, present or not, is right",
    "uncalibrated": "the mean probability over the 1 % of the frame where the landmark is likeliest; present "
    "is what is drawn",
    "calibrated": "by the calibration fitted on these same frames (or, on held-out frames, on the others)",
    "cross_validated": "each patient's frames by a calibration that was fitted without them",
}

# Told apart in print and by people who do not see red and green apart.
_COLORS = {"uncalibrated": "#ccbb44", "calibrated": "#4477aa", "cross_validated": "#aa3377"}
_MARKERS = {"uncalibrated": "s", "calibrated": "o", "cross_validated": "^"}
_DPI = 110
# What a bin of fewer says is mostly chance: its mark is hollow.
_FEW_FRAMES = 10

# Kind of probability -> (N, K) probabilities and (N, K) bool answers.
Answers = Mapping[str, tuple[np.ndarray, np.ndarray]]


def reliability_bins(probability: np.ndarray, shown: np.ndarray, bins: int = BINS) -> np.ndarray:
    """(bins, 3) floats: frames, sum of their probabilities, how many of them show the landmark.

    Bin i holds i/bins <= probability < (i + 1)/bins, the last one 1 too.

    Raises:
        ValueError: a probability outside of 0..1, or arrays of two lengths.
    """
    probability, shown = np.ravel(probability), np.ravel(shown)
    if probability.shape != shown.shape or not ((probability >= 0) & (probability <= 1)).all():
        raise ValueError("probabilities must be within 0..1, one for each truth")
    index = np.searchsorted(np.arange(1, bins) / bins, probability, side="right")
    return np.stack([np.bincount(index, values, bins) for values in (None, probability, shown)], axis=1)


def expected_calibration_error(probability: np.ndarray, shown: np.ndarray, bins: int = BINS) -> float:
    """Mean over bins of equal width, weighted by frames, of |share shown - mean probability|.

    Source: Guo et al., On calibration of modern neural networks, 2017, of the probability of presence.
    """
    table = reliability_bins(probability, shown, bins)
    return float(abs(table[:, 2] - table[:, 1]).sum() / table[:, 0].sum())


def summarize_reliability(frames: PresenceFrames, answers: Answers) -> dict[str, Any]:
    """`pooled` and `per_class` figures of each kind of probability.

    Args:
        frames: Whose truth the answers are compared with, and whose landmarks are named.
        answers: See `Answers`.
    """
    per_class: dict[str, Any] = {}
    for column, name in enumerate(frames.names):
        truth = frames.shown[:, column]
        per_class[name] = {"frames_shown": int(truth.sum()), "frames_absent": int((~truth).sum())}
        for kind, (probability, present) in answers.items():
            found = present[:, column]
            per_class[name][kind] = {
                **_errors(probability[:, column], truth),
                "accuracy": float((found == truth).mean()),
                "frames_missed": int((truth & ~found).sum()),
                "frames_invented": int((~truth & found).sum()),
            }
    pooled = {
        kind: {
            **_errors(probability, frames.shown),
            "accuracy": float((present == frames.shown).mean()),
        }
        for kind, (probability, present) in answers.items()
    }
    return {"frames": len(frames), "pooled": pooled, "per_class": per_class}


def _errors(probability: np.ndarray, shown: np.ndarray) -> dict[str, float]:
    brier = float(((probability - shown) ** 2).mean())
    return {"ece": expected_calibration_error(probability, shown), "brier": brier}


def plot_reliability(path: Path, frames: PresenceFrames, answers: Answers, title: str) -> None:
    """Writes a PNG: for each landmark and all together, share shown over mean probability, and frames.

    Bins of fewer than ten frames are hollow.

    Args:
        path: File to write, whole or not at all.
        frames: Whose truth the answers are compared with, and whose landmarks are named.
        answers: See `Answers`.
        title: Above all.
    """
    names, count = frames.names, len(frames.names)
    figure = Figure(figsize=(1 + 3 * (count + 1), 5), dpi=_DPI, layout="constrained")
    # A data set may be called anything, formulas too.
    figure.suptitle(f"{title} (hollow: fewer than {_FEW_FRAMES} frames)", parse_math=False)
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, count + 1, sharex=True, sharey="row", height_ratios=(3, 1))
    columns = [[column] for column in range(count)] + [list(range(count))]
    for place, (name, chosen) in enumerate(zip((*names, "all"), columns, strict=True)):
        tables = {
            kind: reliability_bins(probability[:, chosen], frames.shown[:, chosen])
            for kind, (probability, _) in answers.items()
        }
        _draw_panel(axes[0, place], axes[1, place], name, tables)
    axes[0, 0].set_ylabel("share of frames that show it")
    axes[1, 0].set_ylabel("frames")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(answers) + 1, frameon=False)
    with atomic_path(path) as temporary:
        # Without the version of matplotlib in it, the same numbers give the same bytes.
        figure.savefig(temporary, format="png", metadata={"Software": None})


def _draw_panel(upper: Axes, lower: Axes, name: str, tables: Mapping[str, np.ndarray]) -> None:
    upper.set_title(name)
    upper.plot([0, 1], [0, 1], color="#999999", linewidth=1, linestyle="--")
    for order, (kind, table) in enumerate(tables.items()):
        filled = table[:, 0] > 0
        frames, probability, shown = table[filled].T
        place, share, color = probability / frames, shown / frames, _COLORS[kind]
        upper.plot(place, share, linewidth=1, color=color, alpha=0.4)
        few = frames < _FEW_FRAMES
        style = {"linestyle": "none", "marker": _MARKERS[kind], "markersize": 6, "color": color}
        upper.plot(place[~few], share[~few], **style, label=kind.replace("_", "-"))
        upper.plot(place[few], share[few], **style, markerfacecolor="white")
        width = 0.8 / len(table) / len(tables)
        left = (np.arange(len(table)) + 0.1) / len(table) + (order + 0.5) * width
        lower.bar(left, table[:, 0], width=width, color=_COLORS[kind])
    lower.set_yscale("symlog", linthresh=1)
    lower.set_xlabel("probability")
    upper.set_xlim(0, 1)
    upper.set_ylim(-0.03, 1.03)
