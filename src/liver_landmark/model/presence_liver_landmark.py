"""Is a landmark in the frame at all? A probability for each, calibrated where the model has a calibration.

Logits always have a likeliest place for a landmark, shown or not. What tells the two apart is how likely that
place is: the *evidence* for a landmark is its mean probability over the 1 % of the frame where it is
likeliest, about the area of one stroke. A calibration turns the evidence into a probability (Platt scaling, a
logistic regression on its logit) and names the threshold below which the landmark is taken to be absent.

A calibration is a dict as JSON holds it, the field `presence_calibration` of the model's configuration;
`liver-landmark calibrate` makes it:

    {"features": ["top"],
     "classes": {"ridge": {"weights": [1.1], "bias": 0.4, "threshold": 0.5}, …},   every landmark of the model
     "source": {"dataset": …, "split": …, "frames": …, …}}

Source of the scaling: Platt, Probabilistic outputs for support vector machines, 1999.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

# "top": the logit of the evidence. A calibration names the features that it was made for.
PRESENCE_FEATURES: tuple[str, ...] = ("top",)
# About the area of one stroke. On synthetic frames 0.2 % tells absent from shown worse, and 0.5 to 2 % alike.
TOP_SHARE = 0.01

# Keeps logits of probabilities finite in float32.
_PROBABILITY_MARGIN = 1e-6
# How far, in logits, the plane of an absent landmark lies under everything else: a probability of 2e-22.
_SUPPRESSED_BY = 50.0


def presence_features(logits: Tensor) -> Tensor:
    """What tells whether a landmark is in the frame.

    Args:
        logits: (B, C, h, w) logits or log-probabilities, class 0 the background.

    Returns:
        (B, C - 1, 1) float32, landmarks in the order of their ids: the logit of the evidence.

    Raises:
        ValueError: logits of another shape, or not all finite.
    """
    if logits.ndim != 4 or logits.shape[1] < 2 or logits.shape[2:].numel() == 0:
        raise ValueError(
            f"logits: expected (B, C, h, w) with at least two classes, got {tuple(logits.shape)}"
        )
    logits = logits.float()
    if not torch.isfinite(logits).all():
        raise ValueError("logits: not all values are finite")
    probabilities = logits.softmax(dim=1)[:, 1:].flatten(2)
    count = max(1, round(TOP_SHARE * probabilities.shape[2]))
    evidence = probabilities.topk(count, dim=2, sorted=False).values.mean(dim=2)
    return torch.logit(evidence, eps=_PROBABILITY_MARGIN)[..., None]


def presence_probability(
    logits: Tensor, calibration: Mapping[str, Any] | None, names: Sequence[str]
) -> Tensor:
    """Probability that each landmark is in the frame.

    Args:
        logits: (B, C, h, w) logits or log-probabilities.
        calibration: Of the model's configuration; None gives the evidence itself, which is not calibrated.
        names: The model's C - 1 landmarks in the order of their ids (`LandmarkTable.names`).

    Returns:
        (B, C - 1) float32 within 0..1, landmarks in the order of `names`.

    Raises:
        ValueError: logits of another shape or not finite, or a calibration that cannot be.
    """
    features = presence_features(logits)
    if features.shape[1] != len(names):
        raise ValueError(f"logits: {features.shape[1]} landmarks, but {len(names)} names: {', '.join(names)}")
    if calibration is None:
        return features[..., 0].sigmoid()
    classes = _classes(calibration, names)
    weights = features.new_tensor([fields["weights"] for fields in classes])
    bias = features.new_tensor([fields["bias"] for fields in classes])
    return ((features * weights).sum(dim=2) + bias).sigmoid()


def absent_suppressed(
    logits: Tensor, calibration: Mapping[str, Any] | None, names: Sequence[str]
) -> tuple[Tensor, Tensor, Tensor]:
    """Leaves landmarks that are not in the frame out of the logits, so that no pixel goes to them.

    A landmark is present where its probability reaches its threshold and it is the likeliest class
    somewhere. The plane of one that is absent is set far below all other values, and its pixels go to the
    next best class. Without a calibration the logits stay as they are, and present is what is
    the likeliest class somewhere.

    Args:
        logits: (B, C, h, w) logits or log-probabilities.
        calibration: Of the model's configuration, or None.
        names: The model's C - 1 landmarks in the order of their ids.

    Returns:
        The logits, of the same type and finite; presence (B, C - 1) float32 as `presence_probability`;
        present (B, C - 1) bool.

    Raises:
        ValueError: as `presence_probability`.
    """
    presence = presence_probability(logits, calibration, names)
    drawn = _drawn(logits)
    if calibration is None:
        return logits, presence, drawn
    thresholds = presence.new_tensor([fields["threshold"] for fields in _classes(calibration, names)])
    present = (presence >= thresholds) & drawn
    absent = torch.zeros(logits.shape[:2], dtype=torch.bool, device=logits.device)
    absent[:, 1:] = ~present
    floor = logits.flatten(1).amin(dim=1) - _SUPPRESSED_BY
    return torch.where(absent[..., None, None], floor[:, None, None, None], logits), presence, present


def _drawn(logits: Tensor) -> Tensor:
    """(B, C - 1) bool: which landmarks `logits.argmax(dim=1)` holds, on a CPU several times faster."""
    wins = logits == logits.amax(dim=1, keepdim=True)
    drawn, taken = [], torch.zeros_like(wins[:, 0])
    for class_id in range(logits.shape[1]):
        # Of equals the first one.
        drawn.append((wins[:, class_id] & ~taken).flatten(1).any(dim=1))
        taken |= wins[:, class_id]
    return torch.stack(drawn[1:], dim=1)


def check_presence_calibration(calibration: Any, names: Sequence[str]) -> dict[str, Any] | None:
    """The calibration of a model with these landmarks as plain JSON, or None.

    Raises:
        ValueError: a field that cannot be; the line names it.
    """
    name = "presence_calibration"
    if calibration is None:
        return None
    if not isinstance(calibration, Mapping) or set(calibration) != {"features", "classes", "source"}:
        raise ValueError(f"{name} must have the fields features, classes and source, got {calibration!r:.80}")
    if calibration["features"] not in (list(PRESENCE_FEATURES), PRESENCE_FEATURES):
        raise ValueError(
            f"{name}.features must be {list(PRESENCE_FEATURES)}, got {calibration['features']!r:.80}: "
            "calibrate the model anew"
        )
    classes = calibration["classes"]
    if not isinstance(classes, Mapping) or set(classes) != set(names):
        raise ValueError(f"{name}.classes must be {', '.join(names)}, got {classes!r:.80}")
    for landmark, fields in classes.items():
        where = f"{name}.classes.{landmark}"
        if not isinstance(fields, Mapping) or set(fields) != {"weights", "bias", "threshold"}:
            raise ValueError(f"{where} must have the fields weights, bias and threshold, got {fields!r:.80}")
        weights = fields["weights"]
        if not isinstance(weights, list | tuple) or len(weights) != len(PRESENCE_FEATURES):
            raise ValueError(
                f"{where}.weights must be {len(PRESENCE_FEATURES)} number(s), got {weights!r:.80}"
            )
        for field, value in (*(("weights", weight) for weight in weights), ("bias", fields["bias"])):
            if not _is_number(value):
                raise ValueError(f"{where}.{field}: must be finite, got {value!r:.80}")
        if not _is_number(fields["threshold"]) or not 0 <= fields["threshold"] <= 1:
            raise ValueError(f"{where}.threshold must be within 0..1, got {fields['threshold']!r:.80}")
    if not isinstance(calibration["source"], Mapping):
        raise ValueError(f"{name}.source must be a mapping, got {calibration['source']!r:.80}")
    try:
        return json.loads(json.dumps(calibration, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name}.source cannot be JSON: {error}") from error


def _classes(calibration: Mapping[str, Any], names: Sequence[str]) -> list[dict[str, Any]]:
    checked = check_presence_calibration(calibration, names)
    return [checked["classes"][name] for name in names]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


__all__ = [
    "PRESENCE_FEATURES",
    "TOP_SHARE",
    "absent_suppressed",
    "check_presence_calibration",
    "presence_features",
    "presence_probability",
]
