"""How far presence probabilities can be believed: calibration error, Brier score, answers, a plot."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ..atomic_files import atomic_path
from ..model.landmarks_liver_landmark import LANDMARK_NAMES

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

# Kind of probability -> (N, 3) probabilities and (N, 3) bool answers.
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


def summarize_reliability(shown: np.ndarray, answers: Answers) -> dict[str, Any]:
    """`pooled` and `per_class` figures of each kind of probability.

    Args:
        shown: (N, 3) bool truth, landmarks in the order of LANDMARK_NAMES.
        answers: See `Answers`.
    """
    per_class: dict[str, Any] = {}
    for column, name in enumerate(LANDMARK_NAMES):
        truth = shown[:, column]
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
        kind: {**_errors(probability, shown), "accuracy": float((present == shown).mean())}
        for kind, (probability, present) in answers.items()
    }
    return {"frames": len(shown), "pooled": pooled, "per_class": per_class}


def _errors(probability: np.ndarray, shown: np.ndarray) -> dict[str, float]:
    brier = float(((probability - shown) ** 2).mean())
    return {"ece": expected_calibration_error(probability, shown), "brier": brier}


def plot_reliability(path: Path, shown: np.ndarray, answers: Answers, title: str) -> None:
    """Writes a PNG: for each landmark and all together, share shown over mean probability, and frames.

    Bins of fewer than ten frames are hollow.

    Args:
        path: File to write, whole or not at all.
        shown: (N, 3) bool truth.
        answers: See `Answers`.
        title: Above all.
    """
    figure = Figure(figsize=(13, 5), dpi=_DPI, layout="constrained")
    # A data set may be called anything, formulas too.
    figure.suptitle(f"{title} (hollow: fewer than {_FEW_FRAMES} frames)", parse_math=False)
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, len(LANDMARK_NAMES) + 1, sharex=True, sharey="row", height_ratios=(3, 1))
    columns = [[column] for column in range(len(LANDMARK_NAMES))] + [list(range(len(LANDMARK_NAMES)))]
    for place, (name, chosen) in enumerate(zip((*LANDMARK_NAMES, "all"), columns, strict=True)):
        tables = {
            kind: reliability_bins(probability[:, chosen], shown[:, chosen])
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
