"""Calibration of presence: from evidence to probabilities, and to an answer.

A class's probability is a logistic function of the logit of its evidence (Platt scaling). Two things keep it
sensible where frames without a landmark are few: the targets are Platt's, (shown + 1) / (shown + 2) and
1 / (absent + 2) instead of 1 and 0, and the slope has a normal prior of mean 1 and deviation 0.3, that is,
the evidence is believed to begin with. The slope is never negative: more evidence never means less.

Source: Platt, Probabilistic outputs for support vector machines and comparisons to regularized likelihood
methods, 1999.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit

from ..model.landmarks_liver_landmark import LANDMARK_NAMES
from ..model.presence_liver_landmark import PRESENCE_FEATURES, check_presence_calibration
from .presence_frames import PresenceFrames

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
    for column, name in enumerate(LANDMARK_NAMES):
        features, shown = frames.features[:, column], frames.shown[:, column]
        weights, bias = fit_platt(features, shown)
        probability = expit(features @ weights + bias)
        threshold, reasons[name] = choose_threshold(probability, shown, frames.drawn[:, column])
        classes[name] = {"weights": weights.tolist(), "bias": bias, "threshold": threshold}
    calibration = {"features": list(PRESENCE_FEATURES), "classes": classes, "source": dict(source)}
    return check_presence_calibration(calibration), reasons


def apply_calibration(
    frames: PresenceFrames, calibration: Mapping[str, Any] | None
) -> tuple[np.ndarray, np.ndarray]:
    """(N, 3) probabilities and (N, 3) bool answers, as `absent_suppressed` gives them for the logits."""
    if calibration is None:
        return expit(frames.features[..., 0]), frames.drawn
    classes = [calibration["classes"][name] for name in LANDMARK_NAMES]
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
